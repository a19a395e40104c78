# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.backups import HOUR, backups, judge
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC).timestamp()


def ago(hours: float) -> str:
    return datetime.datetime.fromtimestamp(NOW - hours * HOUR, datetime.UTC).isoformat()


@pytest.mark.parametrize(
    ("kind", "note", "since", "said", "problem"),
    [
        ("backup", {"recovery_point": ago(5)}, 1e9, "last backup 5 h ago", ""),
        ("backup", {"recovery_point": ago(27)}, 1e9, "last backup 27 h ago", "the last backup is 27 h old, at most 26 h is wanted"),
        ("backup", None, 3 * HOUR, "no backup yet, the cluster is 3 h old", ""),
        ("backup", None, 30 * HOUR, "no backup", "there has never been a backup; run playbooks/backup.yml"),
        ("backup", None, None, "no backup", "there has never been a backup"),
        ("backup", {}, 1e9, "unreadable note of a backup", "the note of the last backup cannot be read"),
        ("drill", {"at": ago(3), "rpo_seconds": 7300, "rto_seconds": 130, "ok": True}, 1e9, "last drill 3 h ago, RPO 2 h, RTO 2 min", ""),
        (
            "drill",
            {"at": ago(3), "ok": False, "problem": "1 of 5 keys"},
            1e9,
            "last drill 3 h ago",
            "the last drill, 3 h ago, failed: 1 of 5 keys",
        ),
    ],
)
def test_judgement(kind: str, note: dict[str, t.Any] | None, since: float | None, said: str, problem: str) -> None:
    seen, wrong = judge(kind, note, "at" if kind == "drill" else "recovery_point", 26 * HOUR, NOW, since)
    assert seen.startswith(said) and wrong.startswith(problem) and bool(wrong) == bool(problem)


class Objects:
    """A cluster that holds these ConfigMaps."""

    def __init__(self, **notes: str) -> None:
        self.maps: dict[str, t.Any] = {f"cache-{name}": {"data": {"note": note}} for name, note in notes.items()}
        self.maps["cache-marker"] = {"metadata": {"creationTimestamp": ago(100).replace("+00:00", "Z")}}

    def find(self, _kind: str, _namespace: str, name: str) -> t.Any:
        return self.maps.get(name)

    def now(self) -> float:
        return NOW


def test_both_are_looked_at_and_what_is_switched_off_is_not() -> None:
    options = {"namespace": "shop", "record": "cache", "maximum_age": 26.0, "drill_maximum_age": 200.0}
    scene = Scene(t.cast(t.Any, Objects(backup=f'{{"recovery_point": "{ago(1)}"}}')), FakeClock())
    finding = backups(options, scene, 1e9)
    assert finding.ok and finding.observed == "last backup 60 min ago; no drill yet, the cluster is 4 days old"
    assert not backups({**options, "drill_maximum_age": 90.0}, scene, 1e9).ok
    assert backups({**options, "drill_maximum_age": 0.0}, scene, 1e9).observed == "last backup 60 min ago"
    broken = Scene(t.cast(t.Any, Objects(backup="{", drill="[]")), FakeClock())
    assert [text.partition(";")[0] for text in backups(options, broken, 1e9).details["problems"]] == [
        "the note of the last backup cannot be read",
        "the note of the last drill cannot be read",
    ]
