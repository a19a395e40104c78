# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pages for people behind the edge as it is sent, of either API: UIs behind their guards, and the static frontend (no cluster; see control_plane.py).

The guards are real oauth2-proxies with the arguments of their Deployments; only the files' folder and the UI's address are the test's. The frontend is the
real nginx of the image that `make up` builds, as its user and on its port, in a network namespace of its own. UIs, the application and the issuer of
OpenID Connect are small servers of the test.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.edge import Reply, guard_problem
from ansible_collections.progressive.platform.tests.unit.istio.control_plane import (
    ADDRESS,
    BACKEND,
    CACHE,
    INNER,
    MARKS,
    Document,
    Net,
    Plane,
    control_plane,
    envoy,
    pod,
    slice_of,
    without_tls,
)
from ansible_collections.progressive.platform.tests.unit.istio.test_uis import HOSTS, OIDC, UIS, deployment, example
from ansible_collections.progressive.platform.tests.unit.istio.tokens import Keys
from ansible_collections.progressive.platform.tests.unit.roles import rendering

# `make mesh` does not build it, for no inventory of ours has UIs: -e '{"gateway_uis": ...}' with playbooks/images.yml does, and so does go install.
GUARD = Path(os.environ.get("PROGRESSIVE_OAUTH2_PROXY") or CACHE / "images/programs/oauth2_proxy")
FRONTEND = max((CACHE / "images").glob("frontend-*.tar"), key=lambda image: image.stat().st_mtime, default=None)
# Of "correct horse".
USERS = "operator:$2b$05$gYXgXF8uvYBuzkvdDdmIU.LLJQM2SAMkJJk6iWvNyHsB/qBQ8Xzam\n"
GUARDS = {"grafana": "10.213.7.10", "prometheus": "10.213.7.11"}
BEHIND = {"grafana": 8001, "prometheus": 8002}
WEB = 8080
SENT = {"Gateway", "HTTPRoute", "VirtualService", "EnvoyFilter", "ConfigMap", "Service", "AuthorizationPolicy"}
FORM = ("-d", "username=operator", "--data-urlencode", "password=correct horse", "-d", "rd=/d/1?x=y")

pytestmark = [
    *MARKS,
    pytest.mark.skipif(not GUARD.exists(), reason=f"no oauth2-proxy at {GUARD.name}; PROGRESSIVE_OAUTH2_PROXY names one"),
    pytest.mark.skipif(FRONTEND is None, reason="the frontend's image of make up is not here"),
]


class Answer:
    """What curl got; names of headers in small letters, values as they are."""

    def __init__(self, said: str) -> None:
        head, _blank, self.body = said.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.splitlines() or ["HTTP 0"]
        self.status = int(first.split()[1])
        self.headers = {key.lower(): value for key, _colon, value in (line.partition(": ") for line in lines)}

    @property
    def cookie(self) -> str:
        return self.headers.get("set-cookie", "").partition(";")[0]

    @property
    def told(self) -> Document:
        """What a backend of the test says that it was asked; nothing where another answered."""
        return dict(json.loads(self.body)) if self.body.startswith("{") else {}


class Edge:
    """The gateway, and the network that the frontend is in."""

    def __init__(self, plane: Plane, web: Net) -> None:
        self.plane, self.web = plane, web

    def ask(self, host: str, path: str, *options: str, at: str = f"{ADDRESS}:443") -> Answer:
        return Answer(
            self.plane.net.run("curl", "-s", "-i", "-m", "20", *options, "-H", f"host: {host}", f"http://{at}{path}", check=False)
        )

    def signed_in(self, ui: str) -> str:
        return self.ask(HOSTS[ui], "/oauth2/sign_in", *FORM).cookie

    def start_guard(self, name: str, documents: list[Document], address: str, behind: str) -> None:
        """The container of a guard's Deployment, its files in a folder of the test's."""
        (container,) = deployment(documents, f"edge-ui-{name}")["spec"]["template"]["spec"]["containers"]
        folder = self.plane.net.folder / "guard"
        changed = []
        for argument in container["args"]:
            changed.append(re.sub(r"^--upstream=.*", f"--upstream=http://{behind}", argument).replace("/etc/guard", str(folder)))
        changed = [one.replace("0.0.0.0", address) for one in changed]
        self.plane.net.run("ip", "address", "replace", f"{address}/32", "dev", "lo")
        self.plane.net.start(f"guard-{name}", GUARD, *changed, OAUTH2_PROXY_CLIENT_ID="guard")


@pytest.fixture(scope="module", params=[True, False], ids=["Gateway API", "Istio's own API"])
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    cluster = rendering.Cluster("production", {**UIS, **example(), "gateway_api": request.param})
    namespace = str(cluster.value("catalog", "platform_namespace"))
    gateway = cluster.documents("gateway")
    # Rules about callers of the mesh need its certificates, which nobody hands out here (test_waypoint_envoy.py has them); the edge's own stays.
    wanted = [
        one for one in gateway if one["kind"] in SENT and not (one["kind"] == "AuthorizationPolicy" and "-ui-" in one["metadata"]["name"])
    ]
    wanted += [one for one in cluster.documents("app") if one["kind"] == "Service"]
    for one in wanted:
        one["metadata"].setdefault("namespace", namespace)
    folder: Path = tmp_path_factory.mktemp("uis")
    for file, text in {"key/cookie": "0123456789abcdef0123456789abcdef", "users/htpasswd": USERS}.items():
        (folder / "guard" / file).parent.mkdir(parents=True)
        (folder / "guard" / file).write_text(text)
    (folder / "guard/pages").mkdir()
    (page,) = [
        one["data"]["sign_in.html"] for one in gateway if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "edge-ui-grafana"
    ]
    (folder / "guard/pages/sign_in.html").write_text(page)
    with control_plane(folder) as plane, contextlib.closing(Net(folder)) as web:
        made = Edge(plane, web)
        plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}])
        plane.apply(without_tls(wanted))
        labels = {"app": "edge", "gateway.networking.k8s.io/gateway-name": "edge", "service.istio.io/canonical-name": "edge"}
        ports = [{"name": name, "port": port, "protocol": "TCP"} for name, port in (("http", 80), ("https", 443))]
        if request.param:
            own = {"name": "edge-istio", "namespace": namespace, "labels": {"gateway.networking.k8s.io/gateway-name": "edge"}}
            plane.apply([{"apiVersion": "v1", "kind": "Service", "metadata": own, "spec": {"ports": ports, "selector": {"app": "edge"}}}])
        plane.run_pod(pod(namespace, "edge", labels))
        plane.apply([slice_of(namespace, "edge-istio", "edge", ports)])
        for name, address in GUARDS.items():
            plane.net.start(name, "python3", "-c", BACKEND, name, ADDRESS, BEHIND[name])
            made.start_guard(name, gateway, address, f"{ADDRESS}:{BEHIND[name]}")
            plane.run_pod(pod(namespace, f"guard-{name}", {"app": f"edge-ui-{name}"}), address)
            plane.apply(
                [slice_of(namespace, f"edge-ui-{name}", f"guard-{name}", [{"name": "http", "port": 4180, "protocol": "TCP"}], address)]
            )
        plane.net.start("application", "python3", "-c", BACKEND, "application", ADDRESS, 3000)
        plane.run_pod(pod(namespace, "application", {"app": "progressive-framework-v5"}))
        plane.run_pod(pod(namespace, "frontend", {"app": "frontend"}), INNER)
        http = {"name": "http", "protocol": "TCP"}
        plane.apply([slice_of(namespace, "progressive-framework-v5-service", "application", [http | {"port": 3000}])])
        plane.apply([slice_of(namespace, "frontend-service", "frontend", [http | {"port": WEB}], INNER)])
        envoy(plane, namespace, labels, {})
        serve_frontend(plane.net, web, folder)
        plane.until(lambda: made.ask("api.progressive.example.com", "/health").status == 200, "the frontend through the gateway")
        plane.until(lambda: all(made.ask(HOSTS[name], "/").status == 403 for name in GUARDS), "the guards through the gateway")
        yield made


def serve_frontend(net: Net, web: Net, folder: Path) -> None:
    """The image's files as a root filesystem, its command as its user; istiod has the port that nginx wants, so it is in another namespace."""
    root = folder / "frontend"
    assert FRONTEND is not None
    with tarfile.open(FRONTEND) as image:
        read = image.extractfile
        (manifest,) = json.load(read("manifest.json"))  # type: ignore[arg-type]
        settings = json.load(read(manifest["Config"]))["config"]  # type: ignore[arg-type]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=read(layer)) as files:
                files.extractall(root, filter="tar")
    net.join(web)
    command = " ".join(f"'{word}'" for word in (*settings["Entrypoint"], *settings["Cmd"]))
    # What a runtime gives: devices, /proc, an empty /tmp, an output that the user may open. The shell stays, for everything in its namespace ends with it.
    given = "mount --bind /dev dev && mount -t proc proc proc && mount -t tmpfs tmpfs tmp"
    inside = f'chroot --userspec={settings["User"]} . /bin/sh -c "{command} 2>&1 | cat" & wait'
    web.start("nginx", "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", f"cd {root} && {given} && {inside}")


# ---- UIs --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/", (), 403),
        ("/api/v1/query?query=up", (), 403),
        ("/api/v1/query", ("-H", "accept: application/json"), 401),
        ("/", ("-X", "POST"), 403),
        ("/", ("-H", "cookie: __Host-guard-grafana=eyJ1IjoibWUifQ==|1700000000|AAAA"), 403),
        ("/", ("-H", "x-forwarded-user: me", "-H", "x-forwarded-email: me@example.com", "-H", "x-auth-request-user: me"), 403),
        ("/", ("-H", "x-forwarded-for: 127.0.0.1", "-H", "x-real-ip: 127.0.0.1"), 403),
        ("/", ("-H", "x-forwarded-host: prometheus.example.com", "-H", "x-forwarded-uri: /ping"), 403),
        ("/oauth2/../api", ("--path-as-is",), 403),
        ("/ping/../api", ("--path-as-is",), 403),
        ("/ping/..%2fapi", ("--path-as-is",), 403),
        ("/oauth2/static/..%2f..%2fapi", ("--path-as-is",), 403),
        ("//api", ("--path-as-is",), 403),
        ("/", ("-u", "operator:wrong"), 403),
        ("/", ("-H", "authorization: Bearer x.y.z"), 403),
        ("/oauth2/auth", (), 401),
        ("/oauth2/sign_in", ("-d", "username=operator&password=wrong"), 401),
        ("/oauth2/sign_in", ("-d", "username=&password="), 400),
        ("/oauth2/sign_in", ("-d", "username=nobody&password=correct horse"), 401),
    ],
)
def test_who_has_not_signed_in_sees_nothing(edge: Edge, path: str, options: tuple[str, ...], status: int) -> None:
    answer = edge.ask(HOSTS["grafana"], path, *options)
    assert answer.status == status and "pod" not in answer.told
    assert answer.headers["x-frame-options"] == "DENY"
    if status == 403:
        assert "Sign in" in answer.body and "nobody.invalid" not in answer.body
    asked = edge.plane.net.folder / "grafana.asked"
    assert not asked.exists(), "the UI was never asked"


def test_health_sees_a_guard_by_what_it_answers(edge: Edge) -> None:
    answers = {
        "asks": edge.ask(HOSTS["grafana"], "/"),
        "open": edge.ask(HOSTS["grafana"], "/", "-H", f"cookie: {edge.signed_in('grafana')}"),
    }
    problems = {name: guard_problem("ui", Reply(answer.status, answer.headers)) for name, answer in answers.items()}
    assert problems == {"asks": "", "open": "ui answered 200 to who has not signed in; a guard's 302, 401 or 403 is wanted"}


def test_a_callback_that_nobody_began_signs_nobody_in(edge: Edge) -> None:
    answer = edge.ask(HOSTS["grafana"], "/oauth2/callback?code=1&state=2:/")
    assert answer.status in (403, 500) and not answer.cookie.startswith("__Host-guard-grafana=ey")


def test_who_signs_in_sees_the_ui_and_the_ui_who_it_is(edge: Edge) -> None:
    answer = edge.ask(HOSTS["grafana"], "/oauth2/sign_in", *FORM)
    assert answer.status == 302 and answer.headers["location"] == "/d/1?x=y"
    said = answer.headers["set-cookie"].lower()
    assert said.startswith("__host-guard-grafana=") and all(word in said for word in ("path=/", "secure", "httponly", "samesite=lax"))
    assert "domain=" not in said
    spoofed = ("-H", "x-forwarded-user: root", "-H", "x-forwarded-groups: admins", "-H", "x-forwarded-email: root@example.com")
    spoofed += ("-H", "x-forwarded-access-token: stolen", "-H", "x-forwarded-preferred-username: root")
    seen = edge.ask(HOSTS["grafana"], "/d/1?x=y", "-H", f"cookie: {answer.cookie}", *spoofed, "-H", "x-internal-user: root")
    assert seen.status == 200 and seen.told["pod"] == "grafana" and seen.told["path"] == "/d/1?x=y"
    headers = seen.told["headers"]
    assert headers["host"] == HOSTS["grafana"] and headers["x-forwarded-user"] == "operator"
    unwanted = {"x-forwarded-groups", "x-forwarded-access-token", "x-forwarded-preferred-username", "x-internal-user", "authorization"}
    assert not unwanted & set(headers)
    assert headers.get("x-forwarded-email", "") != "root@example.com"


def test_nobody_is_sent_elsewhere_after_signing_in(edge: Edge) -> None:
    for place in ("https://evil.example/", "//evil.example/", "/\\evil.example", "/%5cevil.example"):
        form = ("-d", "username=operator", "--data-urlencode", "password=correct horse", "--data-urlencode", f"rd={place}")
        location = edge.ask(HOSTS["grafana"], "/oauth2/sign_in", *form).headers["location"]
        assert location in ("/", "/%5cevil.example"), place


def test_a_cookie_of_one_guard_is_nothing_to_another(edge: Edge) -> None:
    cookie = edge.signed_in("grafana")
    assert edge.ask(HOSTS["grafana"], "/", "-H", f"cookie: {cookie}").status == 200
    renamed = cookie.replace("guard-grafana", "guard-prometheus")
    assert edge.ask(HOSTS["prometheus"], "/", "-H", f"cookie: {cookie}").status == 403
    assert edge.ask(HOSTS["prometheus"], "/", "-H", f"cookie: {renamed}").status == 403
    assert edge.ask(HOSTS["grafana"], "/", "-H", f"cookie: {cookie[:-2]}AA").status == 403


def test_a_program_signs_in_with_every_request(edge: Edge) -> None:
    told = edge.ask(HOSTS["prometheus"], "/api/v1/query?query=up", "-u", "operator:correct horse").told
    assert told["pod"] == "prometheus" and told["headers"]["x-forwarded-user"] == "operator"
    assert "authorization" not in told["headers"], "a password is the guard's alone"


def test_hosts_of_uis_lead_nowhere_else_and_others_not_to_them(edge: Edge) -> None:
    assert "pod" not in edge.ask("grafana.example.com.", "/").told and "pod" not in edge.ask("GRAFANA.example.com", "/").told
    assert edge.ask("elsewhere.example.com", "/").status in (403, 404)
    assert edge.ask("api.progressive.example.com", "/api/v1/x").told["pod"] == "application"
    redirect = edge.ask(HOSTS["grafana"], "/x", at=f"{ADDRESS}:80")
    assert redirect.status == 301 and redirect.headers["location"].startswith(f"https://{HOSTS['grafana']}")


def test_a_guard_that_is_away_lets_nobody_in(edge: Edge) -> None:
    """Last of these: it does not come back."""
    cookie = edge.signed_in("prometheus")
    assert edge.ask(HOSTS["prometheus"], "/", "-H", f"cookie: {cookie}").status == 200
    guard = next(one for one in edge.plane.net.programs if "--cookie-name=__Host-guard-prometheus" in one.args)  # type: ignore[operator]
    guard.terminate()
    guard.wait(timeout=20)
    answer = edge.ask(HOSTS["prometheus"], "/", "-H", f"cookie: {cookie}")
    assert answer.status == 503 and "pod" not in answer.told
    assert "no guard answers" in guard_problem("ui", Reply(answer.status, answer.headers))


# ---- an issuer --------------------------------------------------------------------------------------------------------------

# An issuer of OpenID Connect for one person, whose token stands in a file; what it was told is kept for the token's nonce.
ISSUER = """
import http.server, json, sys, urllib.parse
address, port, keys = sys.argv[1], int(sys.argv[2]), sys.argv[3]
base, seen = f"http://{address}:{port}", {}
class Handler(http.server.BaseHTTPRequestHandler):
    def say(self, status, what, **headers):
        self.send_response(status)
        for key, value in {"content-type": "application/json", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(json.dumps(what).encode())
    def do_GET(self):
        path, query = urllib.parse.urlsplit(self.path).path, dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        if path == "/.well-known/openid-configuration":
            self.say(200, {"issuer": base, "authorization_endpoint": base + "/authorize", "token_endpoint": base + "/token", "jwks_uri": base + "/keys",
                           "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"]})
        elif path == "/keys":
            self.say(200, json.loads(keys))
        else:
            self.say(404, {})
    def do_POST(self):
        body = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        with open("issuer.asked", "a") as log:
            print(json.dumps({**body, "authorization": self.headers["authorization"]}), file=log)
        with open("issuer.token") as file:
            self.say(200, {"access_token": "opaque", "token_type": "Bearer", "expires_in": 3600, "id_token": file.read()})
    def log_message(self, *_arguments): pass
http.server.ThreadingHTTPServer((address, port), Handler).serve_forever()
"""
BASE = f"http://{ADDRESS}:8300"


class Issued:
    """A guard that asks an issuer, and the person there."""

    def __init__(self, edge: Edge, keys: Keys, at: str) -> None:
        self.edge, self.keys, self.at = edge, keys, at

    def ask(self, path: str, *options: str) -> Answer:
        return self.edge.ask(HOSTS["grafana"], path, *options, at=self.at)

    def begin(self) -> tuple[dict[str, str], str]:
        """What the guard tells the issuer, and its cookie for the way back."""
        answer = self.ask("/d/1")
        assert answer.status == 302, answer.body
        place = urlsplit(answer.headers["location"])
        assert f"{place.scheme}://{place.netloc}" == BASE and place.path == "/authorize"
        return {key: values[0] for key, values in parse_qs(place.query).items()}, answer.cookie

    def end(self, told: dict[str, str], cookie: str, state: str = "", keys: Keys | None = None, **claims: Any) -> Answer:
        claims = {"iss": BASE, "aud": "guard", "email": "me@example.com", "email_verified": True, "groups": ["operators"], **claims}
        claims.setdefault("nonce", told["nonce"])
        (self.edge.plane.net.folder / "issuer.token").write_text((keys or self.keys).token(**claims))
        query = ("-G", "--data-urlencode", "code=1234", "--data-urlencode", f"state={state or told['state']}")
        return self.ask("/oauth2/callback", *query, "-H", f"cookie: {cookie}")


@pytest.fixture(scope="module")
def issued(edge: Edge) -> Issued:
    keys, net = Keys(), edge.plane.net
    cluster = rendering.Cluster("production", {**UIS, "gateway_ui_login": {**OIDC, "issuer": BASE}})
    (net.folder / "guard/client").mkdir()
    (net.folder / "guard/client/client-secret").write_text("kept between the two")
    net.start("issuer", "python3", "-c", ISSUER, ADDRESS, 8300, json.dumps(keys.jwks))
    edge.plane.until(lambda: edge.ask("x", "/keys", at=f"{ADDRESS}:8300").status == 200, "the issuer")
    edge.start_guard("grafana", cluster.documents("gateway"), "10.213.7.12", f"{ADDRESS}:{BEHIND['grafana']}")
    made = Issued(edge, keys, "10.213.7.12:4180")
    edge.plane.until(lambda: made.ask("/ping").status == 200, "a guard that asks an issuer")
    return made


def test_who_is_sent_to_the_issuer_comes_back_signed_in(issued: Issued) -> None:
    told, cookie = issued.begin()
    assert told["redirect_uri"] == f"https://{HOSTS['grafana']}/oauth2/callback" and told["client_id"] == "guard"
    assert told["code_challenge_method"] == "S256" and "groups" in told["scope"].split()
    answer = issued.end(told, cookie)
    assert answer.status == 302 and answer.headers["location"] == "/d/1", answer.body
    cookies = "; ".join([answer.cookie])
    seen = issued.ask("/d/1", "-H", f"cookie: {cookies}", "-H", "x-forwarded-email: root@example.com", "-H", "x-forwarded-groups: admins")
    headers = seen.told["headers"]
    assert headers["x-forwarded-email"] == "me@example.com" and headers["x-forwarded-groups"] == "operators"
    asked = json.loads((issued.edge.plane.net.folder / "issuer.asked").read_text().splitlines()[-1])
    challenge = hashlib.sha256(asked["code_verifier"].encode()).digest()
    assert challenge.hex() == unencoded(told["code_challenge"]).hex(), "a code that is stolen on its way is worth nothing"


def unencoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    "wrong",
    [
        {"groups": ["others"]},
        {"groups": []},
        {"nonce": "another"},
        {"aud": "another"},
        {"iss": "https://another.example"},
        {"lasts": -600},
        {"algorithm": "none"},
        {"algorithm": "HS256"},
        {"email_verified": False},
        {"keys": Keys()},
        {"state": "another:/d/1"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_nobody_else_does(issued: Issued, wrong: Document) -> None:
    told, cookie = issued.begin()
    answer = issued.end(told, cookie, **wrong)
    assert answer.status in (403, 500), answer.body
    assert issued.ask("/d/1", "-H", f"cookie: {answer.cookie}").status == 302, "what it was given opens nothing"


# ---- the frontend -----------------------------------------------------------------------------------------------------------


def test_pages_are_nginxs_and_requests_of_the_api_the_applications(edge: Edge) -> None:
    page = edge.ask("progressive.example.com", "/")
    assert page.status == 200 and "<!doctype html>" in page.body
    assert edge.ask("progressive.example.com", "/api/v1/items/1").told["pod"] == "application"
    assert edge.ask("progressive.example.com", "/api/v10").body == page.body, "a prefix ends where a part of the path does"
    assert edge.ask("progressive.example.com", "/some/page").body == page.body, "the page itself knows what to show"


def test_assets_never_change_and_pages_are_asked_for_again(edge: Edge) -> None:
    page = edge.ask("progressive.example.com", "/")
    assert page.headers["cache-control"] == "no-cache"
    assets = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.body)
    assert assets
    for asset in assets:
        answer = edge.ask("progressive.example.com", asset)
        assert answer.status == 200 and answer.headers["cache-control"] == "max-age=31536000", asset
    packed = edge.ask("progressive.example.com", assets[0], "-H", "accept-encoding: gzip", "-o", "/dev/null", "-D", "-")
    assert packed.headers["content-encoding"] == "gzip"
    assert edge.ask("progressive.example.com", "/assets/nothing.js").status == 404


def test_the_frontend_says_what_its_pages_may_do(edge: Edge) -> None:
    """The edge's policy of contents would be weaker than what nginx says."""
    page = edge.ask("progressive.example.com", "/").headers
    assert page["content-security-policy"] == "default-src 'self'; frame-ancestors 'none'"
    assert page["x-frame-options"] == "DENY" and page["x-content-type-options"] == "nosniff"
    assert edge.ask("progressive.example.com", "/api/v1/x").headers["content-security-policy"] == "frame-ancestors 'none'"


def test_nginx_is_an_ordinary_user_on_a_port_for_one(edge: Edge) -> None:
    listening = edge.web.run("ss", "-ltnp", f"sport = :{WEB}")
    users = {Path(f"/proc/{number}").stat().st_uid for number in re.findall(r"pid=(\d+)", listening)}
    assert users == {1001}, listening
