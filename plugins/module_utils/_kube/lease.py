# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Lease of the API server, which one at a time holds (private: may change without notice).

The rules are those of client-go's leader election: it is taken when nobody holds it, or when it has stood still for its holder's duration by our own clock (two
clocks need not agree), and written with the resourceVersion that was read, so that of two takers the server refuses one.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from datetime import UTC, datetime

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, quote
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

Json = dict[str, t.Any]

DURATION = 15
"""Seconds: a holder that has not renewed for this long is dead."""


class Lease:
    """The Lease ``namespace/name``; ``identity`` is who we are, unique among all who want it. Raises ApiError where the server does not answer as it should."""

    def __init__(
        self, client: Client, namespace: str, name: str, identity: str, clock: Clock, labels: Mapping[str, str] | None = None
    ) -> None:
        self.client = client
        self.clock = clock
        self.namespace, self.name, self.identity = namespace, name, identity
        self.labels = dict(labels or {})
        self.spec: Json = {}  # as it was seen last: whose it is
        self.renewed = 0.0  # when we wrote it last
        self._written: Json | None = None
        self._seen, self._seen_at = "", 0.0  # a resourceVersion, and since when it has stood still
        self._folder = quote("apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases")

    @property
    def holder(self) -> str:
        return self.spec.get("holderIdentity") or ""

    def take(self) -> bool:
        """Takes it, or renews our own; False while another holds it, or was quicker."""
        there = self._look()
        if there is None:
            metadata = {"name": self.name, "namespace": self.namespace, "labels": self.labels}
            there = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
            return self._write("POST", self._folder, there, self._ours())
        version, now = there["metadata"]["resourceVersion"], self.clock.now()
        if version != self._seen:
            self._seen, self._seen_at = version, now
        if self.holder not in ("", self.identity) and now - self._seen_at <= float(self.spec.get("leaseDurationSeconds") or DURATION):
            return False
        return self._write("PUT", f"{self._folder}/{self.name}", there, self._ours())

    def renew(self) -> bool:
        """For who must know that nobody had it in between: False when somebody has written it since we did."""
        if self._written is None:
            return True
        if self._write("PUT", f"{self._folder}/{self.name}", self._written, self._ours()):
            return True
        self._look()
        return False

    def release(self) -> None:
        """Lets another have it at once, if it is ours."""
        there = self._look()
        if there is not None and self.holder == self.identity:
            self._write("PUT", f"{self._folder}/{self.name}", there, {**self.spec, "holderIdentity": "", "leaseDurationSeconds": 1})

    def _look(self) -> Json | None:
        there: Json | None = self.client.find(f"{self._folder}/{self.name}")
        self.spec = (there or {}).get("spec") or {}
        return there

    def _ours(self) -> Json:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        mine = {"holderIdentity": self.identity, "leaseDurationSeconds": DURATION, "renewTime": now}
        if self.holder != self.identity:
            before = self.spec.get("leaseTransitions")
            mine |= {"acquireTime": now, "leaseTransitions": 0 if not self.spec else int(before or 0) + 1}
        return {**self.spec, **mine}

    def _write(self, method: str, path: str, there: Json, spec: Json) -> bool:
        try:
            self._written = self.client.request(method, path, {**there, "spec": spec})[2]
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        self.spec, self.renewed = spec, self.clock.now()
        return True
