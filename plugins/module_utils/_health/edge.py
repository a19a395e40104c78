# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a gateway: every route leads to a backend, what is closed is closed, port 80 only redirects (private: may change without notice)."""

from __future__ import annotations

import base64
import http.client
import ssl
import typing as t
from collections.abc import Mapping

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Endpoint
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._health.services import every_pod
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import forward
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

# Envoy says with it how long the backend took, so an answer that has it is the backend's.
FROM_BACKEND = "x-envoy-upstream-service-time"
# A limit says with it how many requests it takes at once, on every answer that it has counted.
LIMIT, LIMITED = "x-ratelimit-limit", 429


class Reply(t.NamedTuple):
    """What the gateway answered; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]

    @property
    def from_backend(self) -> bool:
        return FROM_BACKEND in self.headers


def edge(options: Options, scene: Scene, until: float) -> Finding:
    """Every pod of the gateway serves every path over TLS (closed ones refuse who has no token), and redirects plain text."""
    trust = trusted(scene, options)
    plain, secure = (scene.cluster.endpoints(options["namespace"], options["service"], name)[0].port for name in ("80", "443"))

    def ask(at: Endpoint) -> str:
        problems = []
        for path in options["paths"]:
            reply = request(scene, at._replace(port=secure), options["host"], path, until, trust)
            burst = int(options["limits"].get(path, 0))
            problems.append(limit_problem(path, reply, burst))
            if not (burst and reply.status == LIMITED):  # that it is in force is seen, and nothing of what is behind it
                problems.append(path_problem(path, reply, closed=bool(options["open"]) and not is_open(path, options["open"])))
        for host in options["guarded"]:
            problems.append(guard_problem(host, request(scene, at._replace(port=secure), host, "/", until, trust)))
        redirect = request(scene, at._replace(port=plain), options["host"], "/", until)
        problems.append(redirect_problem(redirect, options["host"]))
        return "; ".join(problem for problem in problems if problem)

    limited = ", ".join(f"{path} {burst}" for path, burst in sorted(options["limits"].items()))
    expected = "every route leads to a backend, port 80 to https" + (f", requests at once: {limited}" if limited else "")
    expected += f", nobody without a sign-in to {', '.join(options['guarded'])}" if options["guarded"] else ""
    return every_pod(expected, {**options, "port": "443"}, scene, ask)


def trusted(scene: Scene, options: Options) -> ssl.SSLContext:
    """TLS as a client of the host speaks it; by the authority in a Secret where there is one."""
    if not options["authority"]:
        return ssl.create_default_context()
    namespace, _slash, name = options["authority"].rpartition("/")
    secret = scene.cluster.find("Secret", namespace or options["namespace"], name)
    certificate = ((secret or {}).get("data") or {}).get("ca.crt")
    if not certificate:
        raise PlatformError(f"Secret {namespace or options['namespace']}/{name} has no ca.crt to trust the gateway by")
    return ssl.create_default_context(cadata=base64.b64decode(certificate).decode())


def request(scene: Scene, at: Endpoint, host: str, path: str, until: float, trust: ssl.SSLContext | None = None) -> Reply:
    """One GET to a pod of the gateway for the host, with TLS where ``trust`` says by whom."""
    left = max(0.1, until - scene.clock.now())
    sock = forward(scene.cluster.client, at.namespace, at.pod, at.port, timeout=min(left, 10.0))
    connection = http.client.HTTPConnection(host)
    try:
        sock.settimeout(left)
        connection.sock = trust.wrap_socket(sock, server_hostname=host) if trust else sock
        connection.request("GET", path, headers={"connection": "close"})
        response = connection.getresponse()
        response.read()
        return Reply(response.status, {key.lower(): value for key, value in response.getheaders()})
    except ssl.SSLCertVerificationError as error:
        raise PlatformError(f"its certificate is not good for {host}: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        raise PlatformError(f"GET {path} for {host} on port {at.port} failed: {sock.failure or error or type(error).__name__}") from error
    finally:
        connection.close()
        sock.close()


def is_open(path: str, patterns: t.Iterable[str]) -> bool:
    """As AuthorizationPolicy compares: exactly, or by a prefix or suffix where the pattern has a star."""
    return any(
        path == pattern
        or (pattern.endswith("*") and path.startswith(pattern[:-1]))
        or (pattern.startswith("*") and path.endswith(pattern[1:]))
        for pattern in patterns
    )


def path_problem(path: str, reply: Reply, closed: bool) -> str:
    if closed and reply.from_backend:
        return f"{path} was let through to a backend without a token"
    if closed:
        return "" if reply.status == 403 else f"{path} answered {reply.status} to who has no token; 403 is wanted"
    if not reply.from_backend:
        return f"{path} leads to no backend: the gateway itself answered {reply.status}"
    return f"{path}: the backend answered {reply.status}" if reply.status in (502, 503, 504) else ""


def guard_problem(host: str, reply: Reply) -> str:
    """Who has not signed in is asked to, or sent to who asks."""
    if reply.status in (302, 401, 403) and reply.from_backend:
        return ""
    if reply.from_backend and reply.status < 500:
        return f"{host} answered {reply.status} to who has not signed in; a guard's 302, 401 or 403 is wanted"
    return f"{host}: no guard answers, the gateway said {reply.status}"


def limit_problem(path: str, reply: Reply, burst: int) -> str:
    """The limit that is wanted (0: none is asked for) is the one that the gateway says it has."""
    seen = reply.headers.get(LIMIT, "").partition(",")[0]
    if not burst or seen == str(burst):
        return ""
    return f"{path}: a limit of {burst} requests at once is wanted, and the gateway has {f'one of {seen}' if seen else 'none'}"


def redirect_problem(reply: Reply, host: str) -> str:
    """A person on port 80 is sent to https, and gets nothing else."""
    place = reply.headers.get("location", "")
    if reply.status in (301, 308) and place.startswith(f"https://{host}"):
        return ""
    return f"port 80 answered {reply.status}{f' to {place}' if place else ''}; a redirect to https://{host} is wanted"
