# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the check of kind postgresql says about each fault, by name: nothing that is broken is green."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.postgresql import half_done, misled, problems_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Archive, Link, Observation, Slot
from ansible_collections.progressive.platform.tests.unit.postgresql import views

member, silent, observation, facts = views.member, views.silent, views.observation, views.facts

OPTIONS: dict[str, Any] = {"members": 3, "synchronous": True, "lag": 1024, "delay": 30.0}


def behind(lag: int = 0, delay: float = 0.0, sync: str = "sync") -> Observation:
    links = (Link("postgres-1", "streaming", sync, lag, delay), Link("postgres-2", "streaming", "async", 0, 0.0))
    return observation(facts=facts(links=links))


FAULTS = [
    ("a pod too few", dataclasses.replace(observation(), members=observation().members[:2]), "2 PostgreSQL pods instead of 3"),
    ("silent", observation(silent(2)), "postgres-2: Patroni does not answer"),
    ("all silent", observation(silent(0), silent(1), silent(2)), "no member answers"),
    ("no primary", observation(member(0, role="replica", replication="")), "no member is primary"),
    ("two primaries", observation(member(1, role="primary", replication="")), "postgres-0, postgres-1 both run as primary"),
    ("split view", observation(member(2, leader="postgres-1")), "postgres-2 takes postgres-1 for the primary, not postgres-0"),
    ("another cluster's data", observation(member(2, system="77")), "2 different clusters"),
    ("running and not streaming", observation(member(2, replication="in archive recovery")), "postgres-2 does not stream"),
    ("starting", observation(member(2, state="starting", replication="")), "it is starting"),
    ("old timeline", observation(member(2, timeline=2)), "postgres-2 is on timeline 2, the primary on 3"),
    ("far behind", behind(lag=4096), "postgres-1 is 4096 bytes behind"),
    ("late", behind(delay=90.0), "applies what it gets 90 s late"),
    ("no synchronous standby", behind(sync="async"), "no standby is synchronous"),
    ("restart pending", observation(member(1, pending=("max_connections",))), "waits for a restart that max_connections take"),
    ("older template", observation(member(1, target_update="outdated")), "postgres-1 runs an older template"),
    ("API server away", observation(member(0, failsafe=True, silence=45.0)), "has not reached the API server for 45 s"),
    ("paused", observation(member(0, paused=True)), "Patroni is paused"),
    ("slot lost", observation(facts=facts(slots=(Slot("postgres_2", "physical", False, 0, "lost"),))), "postgres_2 has lost WAL"),
    (
        "slot nobody reads",
        observation(facts=facts(slots=(Slot("gone", "physical", False, 2**30, "extended"),))),
        "gone holds back 1024 MiB",
    ),
    (
        "archive",
        observation(facts=facts(archive=Archive("on", 5, 3, 600.0, 5.0))),
        "archive of WAL fails (3 failures, the last success was 10 min ago)",
    ),
    ("no SQL", observation(facts=None, facts_problem="too many clients"), "does not answer to SQL: too many clients"),
]


def test_nothing_is_wrong_with_a_healthy_cluster() -> None:
    slots = (Slot("postgres_1", "physical", True, 0, "reserved"), Slot("postgres_2", "physical", False, 4096, "reserved"))
    assert problems_of(observation(facts=facts(slots=slots, archive=Archive("on", 5, 3, 5.0, 600.0))), OPTIONS) == []


@pytest.mark.parametrize(("seen", "words"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_fault_is_named(seen: Observation, words: str) -> None:
    problems = problems_of(seen, OPTIONS)
    assert words in "; ".join(problems)


def test_without_synchronous_commits_nobody_misses_a_standby() -> None:
    assert problems_of(behind(sync="async"), {**OPTIONS, "synchronous": False}) == []


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        ({"10.0.0.1"}, ""),
        (set(), "leads to nobody"),
        ({"10.0.0.2"}, "leads to postgres-1 (10.0.0.2)"),
        ({"10.0.0.1", "10.9.9.9"}, "leads to no member (10.9.9.9), postgres-0 (10.0.0.1)"),
    ],
)
def test_where_the_writers_service_leads(addresses: set[str], words: str) -> None:
    said = "; ".join(misled(observation(), "postgres-primary", addresses))
    assert (words in said) if words else said == ""


class Kept:
    """An API server that has one Secret."""

    def __init__(self, *keys: str) -> None:
        metadata = {"managedFields": [{"time": "2026-11-23T10:00:00Z"}, {"time": "2026-11-23T12:00:00Z"}]}
        self.secret = {"metadata": metadata, "data": dict.fromkeys(keys, "bmV2ZXItc2hvd24=")}

    def find(self, path: str) -> dict[str, Any] | None:
        return self.secret if path.endswith("/secrets/postgres-users") else None


@pytest.mark.parametrize(
    ("keys", "minutes", "words"),
    [
        (("shop", "next-shop"), 20, "Secret postgres-users has held the next passwords for 20 min: a rotation was interrupted"),
        (("shop", "next-shop"), 3, ""),
        (("shop", "former-shop"), 600, ""),
        (("shop",), 600, ""),
    ],
)
def test_a_rotation_that_went_no_further(keys: tuple[str, ...], minutes: int, words: str) -> None:
    """One that is under way is nothing, and neither are former passwords that somebody keeps on purpose."""
    options: dict[str, Any] = {"namespace": "x", "secrets": ["postgres-users", "gone"], "rotation_within": 900.0}
    now = datetime.datetime(2026, 11, 23, 12, 0, tzinfo=datetime.UTC) + datetime.timedelta(minutes=minutes)
    said = half_done(Kept(*keys), options, now)
    assert [words in text for text in said] == ([True] if words else []) and "never-shown" not in str(said)
