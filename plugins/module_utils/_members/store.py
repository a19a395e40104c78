# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run leaves outside the cluster: a lock and the marker of a formed cluster (private: may change without notice).

For pods both are objects in the pods' namespace: Lease ``<name>-converge`` and ConfigMap ``<name>-marker``, so they hold for every controller. For plain
addresses they are files under ``${XDG_STATE_HOME:-~/.local/state}/progressive-platform/<room>`` of the host the module runs on: they hold for that host only.
"""

from __future__ import annotations

import abc
import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import socket
import typing as t
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, quote
from ansible_collections.progressive.platform.plugins.module_utils._kube.lease import DURATION, Lease
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

LOCK_WITHIN = 30.0
"""Seconds for which a run waits for another to end."""
POLL = 0.25


class Store(t.Protocol):
    def read(self) -> Marker | None: ...

    def write(self, marker: Marker) -> None: ...

    @abc.abstractmethod
    def lock(self, timeout: float) -> contextlib.AbstractContextManager[None]: ...

    def renew(self) -> None: ...

    def note(self, kind: str) -> dict[str, t.Any]:
        """What a backup, a restore or a drill has left here; empty when there was none."""

    def keep(self, kind: str, facts: t.Mapping[str, t.Any]) -> None: ...


def to_json(marker: Marker) -> str:
    fields = {"state": marker.state, "ids": marker.ids, "uids": marker.uids, "volumes": marker.volumes, "settings": marker.settings}
    return json.dumps({key: value for key, value in fields.items() if value}, sort_keys=True, indent=1)


def from_json(text: str, origin: str) -> Marker:
    try:
        fields = json.loads(text)
        volumes = {name: tuple(uids) for name, uids in fields.get("volumes", {}).items()}
        return Marker(fields["state"], fields["ids"], fields.get("uids", {}), volumes, fields.get("settings", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlatformError(
            f"The marker {origin} cannot be read ({error}). It says which cluster was formed here; repair it, or remove it if none was."
        ) from error


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _note(text: str, origin: str) -> dict[str, t.Any]:
    try:
        facts = json.loads(text)
        if isinstance(facts, dict):
            return facts
        raise ValueError("it is no mapping")
    except ValueError as error:
        raise PlatformError(
            f"{origin} cannot be read ({error}). It only remembers a backup, restore or drill: remove it and run again."
        ) from error


class Files:
    """Marker and lock of the members at these addresses; ``room`` is the component's own folder."""

    def __init__(self, room: str, addresses: Sequence[str], clock: Clock) -> None:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        key = hashlib.sha256("\n".join(sorted(addresses)).encode()).hexdigest()[:16]
        self._marker = state / "progressive-platform" / room / f"{key}.json"
        self._clock = clock

    def read(self) -> Marker | None:
        try:
            return from_json(self._marker.read_text(encoding="utf-8"), str(self._marker))
        except FileNotFoundError:
            return None

    def write(self, marker: Marker) -> None:
        """Replace the file in one step, so that a kill leaves the old or the new one."""
        self._replace(self._marker, to_json(marker))

    @contextlib.contextmanager
    def lock(self, timeout: float) -> Iterator[None]:
        """An advisory lock: the kernel drops it with the process."""
        self._marker.parent.mkdir(parents=True, exist_ok=True)
        path = self._marker.with_suffix(".lock")
        deadline = self._clock.now() + timeout
        with path.open("a+", encoding="utf-8") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock.now() >= deadline:
                        file.seek(0)
                        raise PlatformError(
                            f"Another run converges these nodes: {path} is held by {file.read() or 'nobody who says so'}, still after {timeout:g} s. "
                            f"Wait for it; see it with: fuser -v {path}"
                        ) from None
                    self._clock.sleep(POLL)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}")
            file.flush()
            yield

    def renew(self) -> None:
        """The kernel holds the lock."""

    def note(self, kind: str) -> dict[str, t.Any]:
        path = self._marker.with_suffix(f".{kind}.json")
        return _note(path.read_text(encoding="utf-8"), str(path)) if path.exists() else {}

    def keep(self, kind: str, facts: t.Mapping[str, t.Any]) -> None:
        self._replace(self._marker.with_suffix(f".{kind}.json"), json.dumps(facts, indent=1))

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)


class Objects:
    """Marker and lock of the cluster ``name`` in a namespace."""

    def __init__(self, client: Client, namespace: str, name: str, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._marker = f"{name}-marker"
        self._labels = {
            "app.kubernetes.io/part-of": "progressive-platform",
            "app.kubernetes.io/managed-by": "progressive.platform",
            "app.kubernetes.io/name": name,
        }
        holder = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
        self._lease = Lease(client, namespace, f"{name}-converge", holder, clock, self._labels)
        self._holds = False

    def read(self) -> Marker | None:
        found = self._get("api", "v1", "configmaps", self._marker)
        return from_json(found["data"]["marker"], f"ConfigMap {self._namespace}/{self._marker}") if found else None

    def write(self, marker: Marker) -> None:
        self._write(self._marker, {"marker": to_json(marker)})

    def note(self, kind: str) -> dict[str, t.Any]:
        found = self._get("api", "v1", "configmaps", f"{self._name}-{kind}")
        return _note(found.get("data", {}).get("note", ""), f"ConfigMap {self._namespace}/{self._name}-{kind}") if found else {}

    def keep(self, kind: str, facts: t.Mapping[str, t.Any]) -> None:
        self._write(f"{self._name}-{kind}", {"note": json.dumps(facts, indent=1)})

    def _write(self, name: str, data: dict[str, str]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self._namespace, "labels": self._labels},
            "data": data,
        }
        path = quote("api", "v1", "namespaces", self._namespace, "configmaps")
        try:
            self._client.request("PUT", f"{path}/{name}", body)
        except ApiError as error:
            if error.status != 404:
                raise
            self._client.request("POST", path, body)

    @contextlib.contextmanager
    def lock(self, timeout: float) -> Iterator[None]:
        """Take the Lease; a killed run's successor waits until it has stood still for its duration."""
        deadline = self._clock.now() + timeout
        while not self._lease.take():
            if self._clock.now() >= deadline:
                raise PlatformError(
                    f"Another run converges this cluster: Lease {self._namespace}/{self._lease.name} is held by {self._whose()}. "
                    f"Wait for it; see kubectl -n {self._namespace} get lease {self._lease.name} -o yaml"
                )
            self._clock.sleep(POLL)
        self._holds = True
        try:
            yield
        finally:
            if self._holds:
                self._holds = False
                with contextlib.suppress(ApiError):
                    self._lease.release()

    def renew(self) -> None:
        if self._clock.now() - self._lease.renewed > DURATION / 3 and not self._lease.renew():
            raise self._lost()

    def _lost(self) -> PlatformError:
        """Another run took the Lease while this one stood still for longer than it lasts (a suspended machine, an API server that was away)."""
        self._holds = False
        return PlatformError(
            f"Lease {self._namespace}/{self._lease.name} has passed to {self._whose()}: this run had not renewed it for more than {DURATION} s, so it "
            "stops here and leaves the rest to that one. Run it again when the other has ended; what is done already is not done twice."
        )

    def _whose(self) -> str:
        """Holder of the Lease, and since when, by the holder's clock."""
        spec = self._lease.spec
        return f"{self._lease.holder or 'nobody'} (since {spec.get('acquireTime') or 'unknown'}, last heard of at {spec.get('renewTime') or 'unknown'})"

    def _get(self, root: str, version: str, plural: str, name: str) -> dict[str, t.Any] | None:
        path = f"/{root}/{version}{quote('namespaces', self._namespace, plural, name)}"
        return self._client.find(path)
