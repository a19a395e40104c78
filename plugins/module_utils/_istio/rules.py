# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the variables of the mesh and its edge mean together (private: may change without notice)."""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding, name, suggestion, wrong

Values = Mapping[str, t.Any]

OLDEST = (1, 30)
# Releases that let through what policies forbid (ISTIO-SECURITY-2026-006): paths that are read otherwise than they are compared.
DATABASES, INJECT = ("postgresql", "redis_cluster", "mongodb"), "sidecar.istio.io/inject"
GRPC = 9000  # the port of the agents' Services that speaks it
KNOWN_BAD = re.compile(r"1\.30\.[0-3]")
# UIs that are known by name, and the role that brings each.
UIS = {"grafana": "monitoring", "prometheus": "monitoring", "alertmanager": "monitoring", "jaeger": "tracing", "kiali": "istio"}
# Those that their role brings only where this variable says so.
SWITCHES = {"grafana": "monitoring_grafana", "kiali": "istio_kiali"}
# What a Route's definition says of headers (openshift/api, route/v1): how many, which never, and what a value may be.
ROUTED_HEADERS, HSTS = 20, "strict-transport-security"
UNROUTED = frozenset({"cookie", "proxy", "set-cookie", HSTS})
ROUTED_VALUE = re.compile(
    r"(%(%|(\{[-+]?[QXE](,[-+]?[QXE])*\})?\[(res\.hdr\([0-9A-Za-z-]+\)|ssl_c_der)(,(lower|base64))*\])|[^%\x00-\x1f\x7f]){1,16384}"
)
NO_LIMITS = "The router would not hold it, for a Route has no such field; limit it in the services."
AMBIENT, REVISION, DATAPLANE = "ambient", "istio.io/rev", "istio.io/dataplane-mode"


def istio_rules(values: Values, shared: Values) -> Iterator[Finding]:
    version = str((shared.get("platform_source_files") or {}).get("istioctl", {}).get("version", ""))
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        yield wrong(
            ("catalog_sources", "istioctl", "version"), version, f"{OLDEST[0]}.{OLDEST[1]} or newer", "Older ones get no fixes any more."
        )
    elif KNOWN_BAD.fullmatch(version):
        yield wrong(
            ("catalog_sources", "istioctl", "version"), version, "1.30.4 or newer", "It has holes that are known (ISTIO-SECURITY-2026-006)."
        )
    yield from _scaling("istio_scaling", values["istio_scaling"])
    yield from kiali_rules(values, shared) if values["istio_kiali"] else ()
    yield from ambient_rules(values, shared) if values["istio_mode"] == AMBIENT else sidecar_rules(values, shared)
    databases = [name for name in shared.get("platform_components") or [] if name in DATABASES]
    label, out = (DATAPLANE, "none") if values["istio_mode"] == AMBIENT else (INJECT, "false")
    said = (shared.get("platform_unmeshed_labels") or {}).get(label)
    if shared.get("platform_mesh") and databases and said != out:
        remedy = "Their members find each other by the addresses of pods, and no proxy carries that; they have TLS of their own."
        yield wrong(("platform_unmeshed_labels", label), said, f"{out} where there are databases ({', '.join(databases)})", remedy)
    for place, space in enumerate(shared.get("baseline_namespaces") or []):
        if (
            not values["istio_cni"]
            and values["istio_mode"] != AMBIENT
            and space.get("name") in values["istio_namespaces"]
            and space.get("pod_security", "restricted") != "privileged"
        ):
            remedy = f"Or set baseline_namespaces.{place}.pod_security to privileged: every pod then has to redirect its own traffic."
            yield wrong(("istio_cni",), values["istio_cni"], f"true, for {space['name']} is not privileged", remedy)
    if values["istio_tracing"] and not re.fullmatch(r"[^.]+(\.[^.]+)+", str(values["istio_tracing"].get("service"))):
        wanted = "the collector's Service, with its namespace (otel-collector.tracing.svc.cluster.local)"
        yield wrong(("istio_tracing", "service"), values["istio_tracing"].get("service"), wanted)
    for entry, outside in values["istio_egress"].items():
        for host in (outside or {}).get("hosts") or []:
            if host == "*" or not re.fullmatch(r"(\*\.)?[A-Za-z0-9][-A-Za-z0-9.]*", str(host)):
                yield wrong(
                    ("istio_egress", entry, "hosts"), host, "a DNS name, or *.and the end of one", "One star would let everything out."
                )


def kiali_rules(values: Values, shared: Values) -> Iterator[Finding]:
    path, auth = ("istio_kiali_auth", "strategy"), values["istio_kiali_auth"]
    if auth.get("strategy") not in ("token", "openid"):
        remedy = "Whoever the gateway lets in would see the whole mesh." if auth.get("strategy") == "anonymous" else ""
        yield wrong(path, auth.get("strategy"), "token or openid", remedy)
    elif auth["strategy"] == "openid":
        for option in ("client_id", "issuer_uri"):
            if not (auth.get("openid") or {}).get(option):
                yield wrong(("istio_kiali_auth", "openid", option), None, "what the provider of identities says")
    for option in (*values["istio_namespaces"], values["istio_namespace"]):
        if values["istio_kiali_namespace"] == option:
            remedy = "Its namespace is made, and taken away, with it; and it is not of the mesh."
            yield wrong(("istio_kiali_namespace",), option, "a namespace of its own", remedy)
    if "monitoring" not in (shared.get("platform_components") or []):
        remedy = "Its graph is drawn from Prometheus; one that is there already is platform_prometheus."
        yield wrong(("istio_kiali",), True, "with monitoring among platform_components", remedy, warning=True)


def sidecar_rules(values: Values, shared: Values) -> Iterator[Finding]:
    """A namespace whose pods have proxies of their own is not one of an ambient mesh as well."""
    yield from _one_mode(values, shared)
    for place, space in _meshed(values, shared):
        if (space.get("labels") or {}).get(DATAPLANE) == AMBIENT:
            path = ("baseline_namespaces", str(place), "labels", DATAPLANE)
            yield wrong(
                path, AMBIENT, "nothing where istio_mode is sidecar", "Its pods would have both; set istio_mode to ambient, or remove it."
            )


def ambient_rules(values: Values, shared: Values) -> Iterator[Finding]:
    """What an ambient mesh cannot do, or needs (istio.io, ambient: usage and migration; istiod's own conversion of policies for ztunnel)."""
    yield from _one_mode(values, shared)
    yield from _scaling("istio_waypoint_scaling", values["istio_waypoint_scaling"])
    if not values["istio_cni"]:
        remedy = "Its plugin is what takes pods into the mesh; nothing in a pod could. Set istio_cni, or istio_mode to sidecar."
        yield wrong(("istio_cni",), values["istio_cni"], "true where istio_mode is ambient", remedy)
    if values["istio_outbound"] != "ALLOW_ANY":
        remedy = "ztunnel passes on what it does not know; NetworkPolicies (role baseline) hold what leaves. Leave istio_outbound out."
        yield wrong(("istio_outbound",), values["istio_outbound"], "ALLOW_ANY where istio_mode is ambient", remedy)
    if values["istio_visible"]:
        remedy = "It becomes a Sidecar, which ztunnel and waypoints do not read. Leave it out."
        yield wrong(("istio_visible",), values["istio_visible"], "nothing where istio_mode is ambient", remedy)
    if not values["istio_native_sidecars"]:
        yield wrong(("istio_native_sidecars",), False, "true where istio_mode is ambient", "There are no sidecars. Leave it out.")
    waypoint = str((shared.get("platform_accounts") or {}).get("waypoint") or "")
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", waypoint):
        yield wrong(("platform_accounts", "waypoint"), waypoint or None, "the name of the waypoints' Gateway and account (waypoint)")
    images = shared.get("platform_images") or {}
    others = sorted({"pilot", "proxyv2", "install_cni"} & set(images))
    if others and "ztunnel" not in images:
        remedy = (
            "ztunnel is a Rust program that only Istio's releases have, so where Istio is built from source (inventories/local) there is none. "
            "Name an image of the same release that nodes can pull, or set istio_mode to sidecar."
        )
        yield wrong(("platform_images", "ztunnel"), None, f"an image, as there is one for {', '.join(others)}", remedy)
    for place, space in _meshed(values, shared):
        labels = space.get("labels") or {}
        path = ("baseline_namespaces", str(place), "labels")
        if labels.get(DATAPLANE) != AMBIENT:
            yield wrong(
                (*path, DATAPLANE),
                labels.get(DATAPLANE),
                AMBIENT,
                f"Its pods would not be in the mesh, and {space['name']} is in istio_namespaces.",
            )
        for label in (REVISION, "istio-injection"):
            if labels.get(label):
                remedy = (
                    "It gives every pod a sidecar, which takes the place of ztunnel and knows none of the waypoint's policies. Remove it."
                )
                yield wrong((*path, label), labels[label], "nothing where istio_mode is ambient", remedy)


def _one_mode(values: Values, shared: Values) -> Iterator[Finding]:
    if shared.get("platform_mesh_mode", values["istio_mode"]) != values["istio_mode"]:
        seen, remedy = shared["platform_mesh_mode"], "The other roles would send what this mesh does not read. Set istio_mode alone."
        yield wrong(("platform_mesh_mode",), seen, f"{values['istio_mode']}, as istio_mode says", remedy)


def _meshed(values: Values, shared: Values) -> Iterator[tuple[int, Values]]:
    """Namespaces of the baseline that are in the mesh, with their places in the list."""
    for place, space in enumerate(shared.get("baseline_namespaces") or []):
        if space.get("name") in values["istio_namespaces"]:
            yield place, space


def gateway_rules(values: Values, shared: Values) -> Iterator[Finding]:
    if values["gateway_provider"] == "istio" and not shared.get("platform_mesh"):
        yield wrong(("platform_mesh",), shared.get("platform_mesh"), "true where there is a gateway", "Put istio into platform_components.")
    yield from _scaling("gateway_scaling", values["gateway_scaling"])
    if not values["gateway_hosts"]:
        yield wrong(("gateway_hosts",), values["gateway_hosts"], "at least one host")
    for place, host in enumerate(values["gateway_hosts"]):
        if values["gateway_hosts"].index(host) != place:
            yield wrong(("gateway_hosts", str(place)), host, "another host", "It is there already.")
    if int(values["gateway_tls_renew_before"]) >= int(values["gateway_tls_days"]):
        days = f"less than gateway_tls_days ({values['gateway_tls_days']})"
        yield wrong(("gateway_tls_renew_before",), values["gateway_tls_renew_before"], days, "Every run would issue a certificate.")
    yield from _routes(values["gateway_routes"])
    for host in values["gateway_rate_limits"]:
        if host != "*" and not values["gateway_api"] and values["gateway_provider"] == "istio":
            remedy = (
                "Istio's own API has one table of routes for all hosts, so they are limited together; limit routes, or set gateway_api."
            )
            yield wrong(("gateway_rate_limits", str(host)), host, "* alone where gateway_api is off", remedy)
        elif host != "*" and host not in (known := [*values["gateway_hosts"], *(ui.get("host") for ui in _uis(values).values())]):
            meant = suggestion(str(host), known)
            yield wrong(
                ("gateway_rate_limits", str(host)),
                host,
                f"one of gateway_hosts ({', '.join(known)}), or *",
                f"Did you mean {meant}?" if meant else "It would limit nothing.",
            )
    if values["gateway_provider"] == "nginx":
        yield from _nginx(values, shared)
    if _uis(values):
        yield from _guarded(values)
    if values["gateway_jwt"]:
        yield from _tokens(values["gateway_jwt"], values["gateway_public_paths"])


def _uis(values: Values) -> dict[str, Values]:
    return {name: ui for name, ui in values["gateway_uis"].items() if ui is not None}


def _guarded(values: Values) -> Iterator[Finding]:
    """No page for operators without somebody who asks who it is: what is left open here the whole world would see."""
    if values["gateway_provider"] != "istio":
        allowed = f"nothing where gateway_provider is {values['gateway_provider']}"
        yield wrong(
            ("gateway_uis",), ", ".join(_uis(values)), allowed, "Guards stand behind Istio's gateway alone; kubectl port-forward is left."
        )
    yield from _login(values["gateway_ui_login"], ", ".join(_uis(values)))
    taken = dict.fromkeys(values["gateway_hosts"], "gateway_hosts")
    for entry, ui in _uis(values).items():
        path = ("gateway_uis", entry)
        if ui["host"] in taken:
            yield wrong(
                (*path, "host"), ui["host"], "a host of its own", f"{taken[ui['host']]} has it already; a UI takes every path of its host."
            )
        taken.setdefault(ui["host"], name(path))
        for key in ("service", "namespace") if entry not in UIS else ():
            if not ui.get(key):
                yield wrong((*path, key), None, f"where {entry} is: its {key}", f"Only {', '.join(UIS)} are known by name.")


def _login(login: Values, uis: str) -> Iterator[Finding]:
    issuer, users = login.get("issuer"), login.get("users")
    if bool(issuer) == bool(users):
        remedy = "Without one anybody could look at them. Make the Secret (docs/istio.md says how) and name it, or take the UIs out of gateway_uis."
        seen_ = "both issuer and users" if issuer else None
        yield wrong(("gateway_ui_login",), seen_, f"issuer or users, one of them, for gateway_uis ({uis})", remedy)
        return
    if users:
        for key in ("client", "groups", "domains"):
            if login.get(key):
                yield wrong(
                    ("gateway_ui_login", key), login[key], "nothing where there are users", "It belongs to an issuer; leave it out."
                )
        return
    address = urlsplit(str(issuer))
    if address.scheme != "https" or not address.hostname:
        yield wrong(
            ("gateway_ui_login", "issuer"), issuer, "an address that begins with https://", "Who changes its answers can be anybody."
        )
    if not login.get("client"):
        yield wrong(("gateway_ui_login", "client"), None, "the Secret with client-id and client-secret")
    if not login.get("groups") and not login.get("domains"):
        remedy = 'An issuer may know the whole world; domains: ["*"] says that everybody it knows is meant.'
        yield wrong(("gateway_ui_login", "groups"), None, "whom to let in: groups, or domains of mail addresses", remedy)


def uis_lead_somewhere(uis: Values, components: Iterable[str], values: Mapping[str, Values]) -> Iterator[Finding]:
    """A UI that is known by name is brought by the role that it is of, unless it says where it is; ``values`` are the roles' variables by role."""
    for entry, ui in uis.items():
        if ui is None or entry not in UIS or ui.get("service"):
            continue
        theirs = values.get(UIS[entry], {})
        if UIS[entry] not in components:
            remedy = f"Put {UIS[entry]} there, or say where it is (service and namespace)."
            yield wrong(("gateway_uis", entry), ui.get("host"), f"a UI of platform_components, and {UIS[entry]} is not among them", remedy)
        elif theirs.get("monitoring_provider", "builtin") != "builtin":
            remedy = "An operator's stack names its Services itself: say service, namespace, port, pods and target."
            yield wrong(("gateway_uis", entry, "service"), None, "its Service, where monitoring_provider is operator", remedy)
        elif not theirs.get(SWITCHES.get(entry, ""), True):
            remedy = "Or say which one is meant (service and namespace)."
            yield wrong((SWITCHES[entry],), False, f"true where gateway_uis has {entry}", remedy)


def _nginx(values: Values, shared: Values) -> Iterator[Finding]:
    """What the F5 NGINX Ingress Controller cannot do, or does only as NGINX Plus."""
    if values["gateway_jwt"]:
        remedy = "Its JWT policy is NGINX Plus only. Let services check tokens themselves, or take gateway_provider istio."
        yield wrong(("gateway_jwt",), "tokens are asked for", "nothing where gateway_provider is nginx", remedy)
    limits: list[tuple[tuple[str, ...], t.Any]] = [
        (("gateway_rate_limits", str(host)), rate) for host, rate in values["gateway_rate_limits"].items()
    ]
    limits += [
        (("gateway_routes", name, "rate_limit"), route.get("rate_limit")) for name, route in values["gateway_routes"].items() if route
    ]
    for path, rate in limits:
        if rate and rate.get("unit") == "hour":
            yield wrong((*path, "unit"), "hour", "second or minute where gateway_provider is nginx")
    own = f"{values['gateway_nginx']['namespace']}/{values['gateway_nginx']['account']}"
    edge = (shared.get("platform_accounts") or {}).get("edge")
    if edge != own:
        yield wrong(("platform_accounts", "edge"), edge, own, "The services' policies let only that account in from outside.")


def router_rules(values: Values, shared: Values) -> Iterator[Finding]:
    """What the router of OpenShift cannot do, where the edge is Routes."""
    if values["gateway_provider"] != "route":
        if values["gateway_tls_source"] == "router":
            yield wrong(
                ("gateway_tls_source",),
                "router",
                "authority, cert-manager or secret",
                "Only OpenShift's router has a certificate of its own.",
            )
        return
    if shared["platform_distribution"] != "openshift":
        yield wrong(
            ("gateway_provider",), "route", "istio", "Routes are OpenShift's; set platform_distribution to openshift where it is one."
        )
    if values["gateway_jwt"]:
        yield wrong(
            ("gateway_jwt",),
            "a token",
            "nothing",
            "OpenShift's router checks no tokens; let the application do it, or take Istio's gateway.",
        )
    for place, host in enumerate(values["gateway_hosts"]):
        if str(host).startswith("*"):
            yield wrong(("gateway_hosts", str(place)), host, "a name without a star", "A Route is for one host; name each.")
    if values["gateway_rate_limits"]:
        yield wrong(("gateway_rate_limits",), "limits", "nothing", NO_LIMITS)
    for route, spec in values["gateway_routes"].items():
        if spec is None:
            continue
        path = ("gateway_routes", route)
        if (spec.get("canary") or {}).get("header"):
            remedy = "OpenShift's router shares requests by weight only."
            yield wrong((*path, "canary", "header"), spec["canary"]["header"], "nothing", remedy)
        if int(spec.get("port") or 80) != 80:
            yield wrong(
                (*path, "port"),
                spec["port"],
                "80, or nothing",
                "The router is let to the port of pods that is named http, and speaks HTTP/1.1 there.",
            )
        for limit in ("max_body", "rate_limit"):
            if spec.get(limit):
                yield wrong((*path, limit), spec[limit], "nothing", NO_LIMITS)
        own = spec.get("response_headers") or {}
        yield from _routed_headers((*path, "response_headers"), own, len(set(values["gateway_response_headers"]) - set(own)) if own else 0)
    yield from _routed_headers(("gateway_response_headers",), values["gateway_response_headers"])
    yield from _routed_headers(("gateway_removed_headers",), dict.fromkeys(values["gateway_removed_headers"]), removed=True)


def _routed_headers(path: tuple[str, ...], headers: Values, others: int = 0, removed: bool = False) -> Iterator[Finding]:
    """What a Route's definition says of headers that are set on answers, with so many others, or taken off requests."""
    acted = {header: value for header, value in headers.items() if removed or str(header).lower() != HSTS}
    if len(acted) + others > ROUTED_HEADERS:
        yield wrong(path, f"{len(acted) + others} headers", f"at most {ROUTED_HEADERS} on a Route")
    for header, value in acted.items():
        if str(header).lower() in UNROUTED:
            yield wrong((*path, str(header)), header, f"a header that a Route may touch, none of {', '.join(sorted(UNROUTED))}")
        elif not re.fullmatch(r"[-!#$%&'*+.0-9A-Z^_`a-z|~]{1,255}", str(header)):
            yield wrong((*path, str(header)), header, "the name of a header")
        elif not removed and not ROUTED_VALUE.fullmatch(str(value)):
            yield wrong(
                (*path, str(header)),
                value,
                "a header's value, on a Route in HAProxy's format",
                "A percent sign is written twice; empty it cannot be.",
            )


def routes_lead_somewhere(routes: Values, offered: Iterable[str]) -> Iterator[Finding]:
    """Every Service that a route names is one of the platform's."""
    known = sorted(offered)
    for route, spec in routes.items():
        if spec is None:
            continue
        for path, service in ((("service",), spec.get("service")), (("canary", "service"), (spec.get("canary") or {}).get("service"))):
            if service and service not in known:
                meant = suggestion(service, known)
                remedy = f"Did you mean {meant}?" if meant else "Add the service, or remove the route."
                yield wrong(("gateway_routes", route, *path), service, f"one of the Services {', '.join(known)}", remedy)


def _scaling(variable: str, scaling: Values) -> Iterator[Finding]:
    if int(scaling["min"]) > int(scaling["max"]):
        yield wrong((variable, "min"), scaling["min"], f"at most {variable}.max ({scaling['max']})")


def _routes(routes: Values) -> Iterator[Finding]:
    taken: dict[str, str] = {}
    for route, spec in routes.items():
        if spec is None:
            continue
        path, prefix = ("gateway_routes", route), str(spec["prefix"])
        if not re.fullmatch(r"/|(/[-A-Za-z0-9._~%]+)+", prefix) or ".." in prefix:
            yield wrong((*path, "prefix"), prefix, "a path that begins with a slash and does not end with one")
        if prefix in taken:
            yield wrong(
                (*path, "prefix"), prefix, "a prefix of its own", f"Route {taken[prefix]} has it already, and one would hide the other."
            )
        taken.setdefault(prefix, route)
        timeout, attempt = int(spec["timeout"] if spec.get("timeout") is not None else 30), int(spec.get("attempt_timeout") or 0)
        if timeout and attempt > timeout:
            yield wrong((*path, "attempt_timeout"), attempt, f"at most the whole request's timeout ({timeout})")
        if spec.get("max_body") and int(spec.get("port") or 80) == GRPC:
            remedy = "A body that is held back until it is complete stops a stream; leave it out for gRPC."
            yield wrong((*path, "max_body"), spec["max_body"], "nothing on a route to gRPC", remedy)
        canary = spec.get("canary") or {}
        if canary and not canary.get("service"):
            yield wrong((*path, "canary", "service"), None, "the Service of the canary")
        elif canary and canary["service"] == spec["service"]:
            yield wrong(
                (*path, "canary", "service"),
                canary["service"],
                "another Service than the route's own",
                "A version has a Service of its own.",
            )
        if not 0 <= int(canary.get("weight") or 0) <= 100:
            yield wrong((*path, "canary", "weight"), canary["weight"], "0 to 100 percent")


def _tokens(jwt: Values, public: Iterable[str]) -> Iterator[Finding]:
    if not jwt.get("issuer"):
        yield wrong(("gateway_jwt", "issuer"), None, "who issues the tokens (https://progressive.example.com/auth)")
    keys, address = jwt.get("jwks"), str(jwt.get("jwks_uri") or "")
    if bool(keys) == bool(address):
        yield wrong(("gateway_jwt", "jwks"), "both" if keys else None, "the keys (jwks), or where they are (jwks_uri), one of them")
    elif address and (urlsplit(address).scheme != "https" or not urlsplit(address).hostname):
        yield wrong(
            ("gateway_jwt", "jwks_uri"),
            address,
            "an address that begins with https://",
            "Who changes keys on their way in can sign tokens.",
        )
    elif keys:
        yield from _keys(keys)
    for path in public:
        if path in ("*", "/*"):
            yield Finding(
                name(("gateway_public_paths",)),
                path,
                "paths that shall be open",
                "This opens everything; leave gateway_jwt empty if you mean that.",
            )


def _keys(given: t.Any) -> Iterator[Finding]:
    try:
        keys = (json.loads(given) if isinstance(given, str) else given)["keys"]
        kinds = [str(key["kty"]) for key in keys]
        private = any("d" in key for key in keys)
    except (ValueError, TypeError, KeyError):
        yield Finding(
            "gateway_jwt.jwks", "no JSON Web Key Set", 'public keys as {"keys": [{"kty": "RSA", ...}]}', "Take what the issuer publishes."
        )
        return
    if not kinds or set(kinds) - {"RSA", "EC", "OKP"}:
        yield Finding(
            "gateway_jwt.jwks",
            f"keys of the kinds {', '.join(kinds) or 'none'}",
            "public keys (RSA, EC or OKP)",
            "A secret key would sign as well.",
        )
    if private:
        yield Finding("gateway_jwt.jwks", "a private key", "public keys alone", "Whoever reads this could sign tokens; make new keys.")
