# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who we are to which API server: from options, a kubeconfig, or the pod we run in (private: may change without notice).

Credentials that stand in the kubeconfig (certificates, tokens, a password) are read here, because importing the
``kubernetes`` package costs 0.3-0.5 s a task. So is a pod's own token. Everything that has to be obtained first (exec plugins, auth
providers, several merged files) goes through that package's own loader.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
import threading
import time
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._run import Params, PlatformError

try:
    import yaml
except ImportError:  # pragma: no cover - ansible-core itself needs PyYAML; only sanity's import test lacks it
    yaml = None  # type: ignore[assignment]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0  # how long a pod's token is used before it is read again; the kubelet renews it long before it ends
# The keys of a kubeconfig user that hold a credential and not a way to get one.
STATIC_USER = frozenset(
    {
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
        "token",
        "tokenFile",
        "username",
        "password",
    }
)


@dataclass(frozen=True)
class Access:
    """One API server and the right to talk to it.

    ``server`` is its URL; ``headers`` gives the authorization headers of this moment (exec plugins refresh them);
    ``origin`` tells people where all this was taken from; ``proxy`` is the URL of a HTTP proxy or "".
    """

    server: str
    origin: str
    tls: ssl.SSLContext | None = None
    tls_server_name: str = ""
    proxy: str = ""
    namespace: str = "default"
    headers: Callable[[], dict[str, str]] = field(default=dict)

    def __str__(self) -> str:
        return f"{self.server} ({self.origin})"


def access(params: Params, environment: Mapping[str, str] | None = None) -> Access:
    """The access that the options ask for: ``host``, else a kubeconfig, else the pod's own service account.

    Raises PlatformError when nothing usable is found; the message names every place that was looked at.
    """
    env = os.environ if environment is None else environment
    if params.get("host"):
        return _from_options(params)
    named = params.get("kubeconfig")
    given = named or env.get("KUBECONFIG", "")
    files = [os.path.expanduser(part) for part in given.split(os.pathsep) if part]
    if not files:
        usual = os.path.expanduser("~/.kube/config")
        if not os.path.exists(usual) and env.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
            return _from_pod(env, SERVICE_ACCOUNT)
        files = [usual]
    source = "the kubeconfig option" if named else "KUBECONFIG" if given else "its usual place"
    present = [file for file in files if os.path.exists(file)]
    if not present:
        raise PlatformError(
            f"No kubeconfig: {os.pathsep.join(files)} (from {source}) does not exist. "
            "Set the kubeconfig option or KUBECONFIG, or make a local cluster and its kubeconfig with `make up`."
        )
    if len(present) > 1:
        return _from_loader(os.pathsep.join(present), params.get("context"), f"kubeconfig {os.pathsep.join(present)}")
    return _from_file(present[0], params.get("context"))


def _from_options(params: Params) -> Access:
    host = str(params["host"]).rstrip("/")
    token = params.get("api_key")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Access(
        server=host if "://" in host else f"https://{host}",
        origin="options host and api_key",
        tls=_tls(params.get("ca_cert"), None, None, params.get("validate_certs", True)),
        headers=lambda: headers,
    )


def _from_pod(env: Mapping[str, str], folder: Path) -> Access:
    """The service account of the pod we run in; its token is renewed by the kubelet, and so read again."""
    host, port = env["KUBERNETES_SERVICE_HOST"], env.get("KUBERNETES_SERVICE_PORT", "443")
    token: dict[str, t.Any] = {"value": "", "until": 0.0}

    def headers() -> dict[str, str]:
        now = time.monotonic()
        if now >= token["until"]:
            token.update(value=(folder / "token").read_text(encoding="utf-8").strip(), until=now + TOKEN_SECONDS)
        return {"authorization": f"Bearer {token['value']}"}

    space = folder / "namespace"
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        origin="the pod's service account",
        tls=_tls(str(folder / "ca.crt"), None, None, True),
        namespace=space.read_text(encoding="utf-8").strip() if space.exists() else "default",
        headers=headers,
    )


def _from_file(file: str, wanted: str | None) -> Access:
    try:
        config = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlatformError(
            f"The kubeconfig {file} cannot be read: {error}. Check it with `kubectl --kubeconfig {file} config view`."
        ) from error
    if not isinstance(config, dict):
        raise PlatformError(f"The kubeconfig {file} is not a mapping. Check it with `kubectl --kubeconfig {file} config view`.")
    name = wanted or config.get("current-context")
    contexts = {entry["name"]: entry.get("context") or {} for entry in config.get("contexts") or []}
    if name not in contexts:
        seen = f"no context {name!r}" if name else "no current-context"
        have = ", ".join(sorted(contexts)) or "none"
        raise PlatformError(
            f"The kubeconfig {file} has {seen}; it has: {have}. List them with `kubectl --kubeconfig {file} config get-contexts`."
        )
    origin = f"kubeconfig {file}, context {name}"
    context = contexts[name]
    cluster = _entry(config, "clusters", "cluster", context.get("cluster"), origin)
    user = _entry(config, "users", "user", context.get("user"), origin) if context.get("user") else {}
    if not set(user) <= STATIC_USER:
        return _from_loader(file, name, origin, context.get("namespace"), user)
    base = os.path.dirname(os.path.abspath(file))
    headers = _static_headers(user, base)
    try:
        tls = _tls(
            _material(cluster, "certificate-authority", base),
            _material(user, "client-certificate", base),
            _material(user, "client-key", base),
            not cluster.get("insecure-skip-tls-verify", False),
        )
    except (OSError, ValueError, binascii.Error) as error:  # ssl.SSLError is an OSError
        raise PlatformError(f"The certificates of {origin} cannot be used: {error}. Get a fresh kubeconfig.") from error
    return Access(
        server=str(cluster.get("server", "")).rstrip("/"),
        origin=origin,
        tls=tls,
        tls_server_name=cluster.get("tls-server-name", ""),
        proxy=cluster.get("proxy-url", ""),
        namespace=context.get("namespace") or "default",
        headers=lambda: headers,
    )


def _entry(config: Mapping[str, t.Any], section: str, key: str, name: str | None, origin: str) -> dict[str, t.Any]:
    for entry in config.get(section) or []:
        if entry.get("name") == name:
            return entry.get(key) or {}
    raise PlatformError(f"{origin} names the {key} {name!r}, which the file does not define. Get a fresh kubeconfig.")


def _static_headers(user: Mapping[str, t.Any], base: str) -> dict[str, str]:
    """A token wins over a password, as in client-go; ``tokenFile`` wins over ``token``."""
    token = user.get("token")
    if user.get("tokenFile"):
        token = Path(base, user["tokenFile"]).read_text(encoding="utf-8").strip()
    if token:
        return {"authorization": f"Bearer {token}"}
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}"
        return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}


def _material(section: Mapping[str, t.Any], key: str, base: str) -> str | bytes | None:
    """A certificate or key: the bytes of ``<key>-data``, or the path ``<key>`` relative to the kubeconfig."""
    if section.get(f"{key}-data"):
        return base64.b64decode(section[f"{key}-data"], validate=True)
    return os.path.join(base, section[key]) if section.get(key) else None


def _from_loader(
    files: str, context: str | None, origin: str, namespace: str | None = None, user: Mapping[str, t.Any] | None = None
) -> Access:
    try:
        import kubernetes.client
        import kubernetes.config
    except ImportError as error:
        raise PlatformError(
            f"{origin} needs the Python package kubernetes, which is not installed. Run `pip install kubernetes`."
        ) from error
    settings: t.Any = kubernetes.client.Configuration()
    load: t.Any = kubernetes.config  # untyped
    try:
        load.load_kube_config(config_file=files, context=context, client_configuration=settings)
    except Exception as error:  # the loader raises what its plugins raise
        raise PlatformError(f"{origin} cannot be used: {error}. Try `kubectl version` with the same kubeconfig and context.") from error
    lock = threading.Lock()

    def headers() -> dict[str, str]:
        with lock:  # auth_settings runs the plugin again when the credential has expired
            return {item["key"]: item["value"] for item in settings.auth_settings().values() if item["in"] == "header"}

    if user and "exec" in user and not headers() and not settings.cert_file:
        command = user["exec"].get("command", "?")
        raise PlatformError(
            f"{origin}: the exec plugin {command!r} gave no credentials. Run it by hand, or `kubectl version` with this context."
        )
    return Access(
        server=settings.host.rstrip("/"),
        origin=origin,
        tls=_tls(settings.ssl_ca_cert, settings.cert_file, settings.key_file, settings.verify_ssl),
        tls_server_name=settings.tls_server_name or "",
        proxy=settings.proxy or "",
        namespace=namespace or "default",
        headers=headers,
    )


def _tls(ca: str | bytes | None, certificate: str | bytes | None, key: str | bytes | None, verify: bool) -> ssl.SSLContext:
    """A context that trusts only ``ca`` when it is given, and the system's authorities otherwise."""
    trusted: dict[str, t.Any] = {"cadata": ca.decode("ascii")} if isinstance(ca, bytes) else {"cafile": ca}
    context = ssl.create_default_context(**trusted)
    # Python 3.13 refuses certificates without an authority key identifier, which many clusters' own CAs lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        _load_chain(context, certificate, key)
    return context


def _load_chain(context: ssl.SSLContext, certificate: str | bytes, key: str | bytes | None) -> None:
    """OpenSSL's loader takes only paths: inline data goes through a private directory that is gone at once."""
    with tempfile.TemporaryDirectory(prefix="progressive-") as folder:
        paths: list[str | None] = []
        for name, material in (("certificate", certificate), ("key", key)):
            if isinstance(material, bytes):
                path = os.path.join(folder, name)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                    file.write(material)
                paths.append(path)
            else:
                paths.append(material)
        context.load_cert_chain(t.cast(str, paths[0]), paths[1])
