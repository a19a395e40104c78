# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module postgresql_upgrade_in_place: a cluster in Kubernetes to a newer major version (private: may change without notice).

The StatefulSet has the newer image already; it replaces no pod by itself. The replicas stop, then the primary, whose data are upgraded by a job; it starts as
the primary of what is a new cluster to Patroni, and the others, emptied, copy it. Until the others are emptied nothing is given up.
"""

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube import job
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import quote
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import MEMBERS, opened
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.inplace import Replacing
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Observation
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    **{name: option for name, option in MEMBERS.items() if name not in ("addresses", "password", "rest_password")},
    "name": {"type": "str", "default": "postgres"},
    "scope": {"type": "str", "default": "postgres-primary"},
    "members": {"type": "int", "default": 3},
    "cronjob": {"type": "str", "required": True},
    "overwrite": {"type": "str", "no_log": False},
    "timeout": {"type": "float", "default": 3600.0},
}
ARGUMENTS["pods"] = {**ARGUMENTS["pods"], "required": True}


def run(params: Params, context: Context) -> Result:
    """The module postgresql_upgrade_in_place."""
    if params["members"] < 1 or params["timeout"] <= 0:
        raise PlatformError("members must be at least 1, and timeout must be more than 0.")
    with opened(params, context) as (cluster, client):
        if client is None:
            raise PlatformError("An upgrade in place needs pods.")
        return _Upgrading(params, context, cluster, client).run()


class _Upgrading(Replacing):
    steps: t.ClassVar[tuple[str, ...]] = ("stop", "upgrade", "forget", "first", "empty", "others")
    kind: t.ClassVar[str] = "upgrade"
    title: t.ClassVar[str] = "upgrade in place"

    def _asked(self) -> Json:
        return {}

    def _refusal(self, seen: Observation, token: str) -> str:
        primary = seen.primary
        who = f"primary {primary.target.name}, system identifier {primary.system}" if primary else "no primary answers"
        return (
            f"All members of {self.namespace}/{self.name} ({who}) would stop for as long as the rehearsal's upgrade took, and all but the first give up "
            f"their data, which they copy anew. A rehearsal should have gone before, and a backup. Then say: overwrite: {token}"
        )

    def _stop(self) -> None:
        """The primary last, with everything that was written."""
        seen = self.cluster.observe()
        if self._pods():
            if seen.primary is None or seen.primary.target.name != f"{self.name}-0":
                raise PlatformError(
                    f"{self.name}-0 is to be upgraded and is not the primary. Hand over first: postgresql_cluster with switchover: {self.name}-0"
                )
            self.note["system"] = seen.primary.system
            self.store.keep(self.kind, self.note)
        self._scale(1)
        self._until(lambda: len(self._pods()) <= 1, "the replicas have ended")
        super()._stop()

    def _upgrade(self) -> None:
        given = {name: self.params.get(name) for name in ("kubeconfig", "context", "host", "api_key", "ca_cert", "validate_certs")}
        left = max(self.deadline - self.clock.now(), 1.0)
        asked = {**given, "namespace": self.namespace, "cronjob": self.params["cronjob"], "options": {}, "claims": {}, "timeout": left}
        self.restored = {"former_system": self.note.get("system", ""), **dict(job.run(asked, self.context)["result"])}

    def _empty(self) -> None:
        """The claims of all but the first; they have the former version's data, which nobody can start any more."""
        path = quote("api", "v1", "namespaces", self.namespace, "persistentvolumeclaims")
        first = self._first_claim(self._set())["metadata"]["name"]

        def others() -> list[str]:
            found = self.client.get(path, labelSelector=self.params["pods"]["selector"])
            return [claim["metadata"]["name"] for claim in found["items"] if claim["metadata"]["name"] != first]

        for name in others():
            self.client.request("DELETE", f"{path}{quote(name)}")
        self._until(lambda: not others(), "the others' volumes are gone")
