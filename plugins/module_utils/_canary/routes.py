# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Weights of a route, in both kinds of it: HTTPRoute and VirtualService (private: may change without notice).

Their lists are atomic to server-side apply: who sets a weight owns the whole list. So the list is taken over as it is, with other weights, by a field
manager of its own, to which the gateway's set yields (``progressive.platform/yields``) until it is given back.
"""

from __future__ import annotations

import copy
import typing as t
from collections.abc import Iterator

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Json = dict[str, t.Any]

MANAGER = "progressive.platform.canary"
KINDS = {"HTTPRoute": ("gateway.networking.k8s.io/v1", "rules"), "VirtualService": ("networking.istio.io/v1", "http")}


def weight(route: Json, stable: str, canary: str) -> int:
    """The canary's weight in percent; of several places that send to both, the largest."""
    found = [round(100 * two / (one + two)) if one + two else 0 for one, two in _weights(route, stable, canary)]
    if not found:
        raise PlatformError(
            f"{route['kind']} {route['metadata']['name']} has no place that sends to both {stable} and {canary}. "
            "Give the route a canary in gateway_routes and run site.yml."
        )
    return max(found)


def weighted(route: Json, stable: str, canary: str, percent: int) -> Json:
    """What is applied so that the canary gets so many percent: the route's list and its name, nothing else."""
    api_version, field = KINDS[route["kind"]]
    entries = copy.deepcopy(route["spec"][field])
    for one, two in _pairs(entries, route["kind"], stable, canary):
        one["weight"], two["weight"] = 100 - percent, percent
    metadata = {key: route["metadata"][key] for key in ("name", "namespace")}
    return {"apiVersion": api_version, "kind": route["kind"], "metadata": metadata, "spec": {field: entries}}


def given_back(route: Json, to: str) -> list[Json] | None:
    """``managedFields`` in which the list belongs to manager ``to`` again; None when it is not the canary's."""
    field = f"f:{KINDS[route['kind']][1]}"
    entries = copy.deepcopy(route["metadata"].get("managedFields") or [])
    mine = [entry for entry in entries if entry.get("manager") == MANAGER and entry.get("operation") == "Apply"]
    theirs = next((entry for entry in entries if entry.get("manager") == to and entry.get("operation") == "Apply"), None)
    if not mine:
        return None
    if theirs is None:
        raise PlatformError(
            f"{route['kind']} {route['metadata']['name']} was not applied by {to}: run site.yml before it is given back to it."
        )
    theirs["fieldsV1"].setdefault("f:spec", {})[field] = {}
    return [entry for entry in entries if entry not in mine]


def _weights(route: Json, stable: str, canary: str) -> Iterator[tuple[int, int]]:
    for one, two in _pairs(route["spec"].get(KINDS[route["kind"]][1]) or [], route["kind"], stable, canary):
        yield int(one.get("weight", 1)), int(two.get("weight", 1))


def _pairs(entries: list[Json], kind: str, stable: str, canary: str) -> Iterator[tuple[Json, Json]]:
    for entry in entries:
        targets = entry.get("backendRefs" if kind == "HTTPRoute" else "route") or []
        named = {_target(target, kind): target for target in targets}
        if stable in named and canary in named:
            yield named[stable], named[canary]


def _target(target: Json, kind: str) -> str:
    return str(target["name"]) if kind == "HTTPRoute" else str(target["destination"]["host"]).partition(".")[0]
