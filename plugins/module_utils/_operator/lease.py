# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One leader at a time, by a Lease of the API server (private: may change without notice).

The rules are those of client-go's leader election: a Lease is taken when its holder has not renewed it for its duration by our own clock
(two clocks need not agree), and written with the resourceVersion that was read, so that of two takers the server refuses one.
"""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

Json = dict[str, t.Any]

DURATION = 15.0  # seconds without a renewal after which another may lead
RENEW = 3.0  # seconds between two renewals, and between two looks of who waits
GIVE_UP = 10.0  # seconds without a successful renewal after which the leader stops: well before another may begin


class Lease:
    """The Lease ``namespace/name``; ``identity`` is who we are, unique among all who want it."""

    def __init__(self, client: Client, namespace: str, name: str, identity: str, clock: Clock | None = None) -> None:
        self.client = client
        self.clock = clock or Clock()
        self.namespace, self.name, self.identity = namespace, name, identity
        self.holder = ""
        self._seen = ""  # the resourceVersion that was seen last, and when
        self._seen_at = 0.0
        self._renewed_at = 0.0

    @property
    def _path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    def try_to_lead(self) -> bool:
        """Takes or renews the Lease; False while another holds it, or the server cannot be asked."""
        try:
            return self._try()
        except ApiError:
            return False

    def lost(self) -> bool:
        """Whether we have not renewed for so long that another may lead soon."""
        return self.clock.now() - self._renewed_at >= GIVE_UP

    def release(self) -> None:
        """Lets another lead at once."""
        try:
            there = self.client.find(f"{self._path}/{self.name}")
            if there and (there.get("spec") or {}).get("holderIdentity") == self.identity:
                self._put(there, {**there["spec"], "holderIdentity": "", "leaseDurationSeconds": 1})
        except ApiError:
            pass  # it ends by itself

    def _try(self) -> bool:
        there = self.client.find(f"{self._path}/{self.name}")
        now = self.clock.now()
        moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        mine = {"holderIdentity": self.identity, "leaseDurationSeconds": int(DURATION), "renewTime": moment}
        if there is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {**mine, "acquireTime": moment, "leaseTransitions": 0},
            }
            self.client.request("POST", self._path, body)
        else:
            spec = there.get("spec") or {}
            if there["metadata"]["resourceVersion"] != self._seen:
                self._seen, self._seen_at = there["metadata"]["resourceVersion"], now
            self.holder = spec.get("holderIdentity") or ""
            if self.holder not in ("", self.identity) and now - self._seen_at < float(spec.get("leaseDurationSeconds") or DURATION):
                return False
            if self.holder != self.identity:
                mine |= {"acquireTime": moment, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
            self._put(there, {**spec, **mine})
        self.holder, self._renewed_at = self.identity, now
        return True

    def _put(self, there: Json, spec: Json) -> None:
        """Refused (409) when somebody else wrote meanwhile."""
        self.client.request("PUT", f"{self._path}/{self.name}", {**there, "spec": spec})
