# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong inventories of monitoring: refused before anything is sent, by the variable's name."""

from __future__ import annotations

import functools
import typing as t

import pytest
from ansible_collections.progressive.platform.tests.unit.preflight.inventories import refused
from ansible_collections.progressive.platform.tests.unit.roles import rendering

COMPONENTS = [*rendering.COMPONENTS, "monitoring"]
FILE = {"url_file": "/etc/monitoring/secrets/duty"}


found = functools.partial(refused, COMPONENTS)


@pytest.mark.parametrize("inventory", rendering.INVENTORIES)
def test_our_inventories_are_well_with_it(inventory: str) -> None:
    assert found(inventory) == []


def duty(**config: t.Any) -> dict[str, t.Any]:
    return {"monitoring_receivers": [{"name": "duty", "webhook_configs": [config or FILE]}], "monitoring_receiver": "duty"}


def test_receivers_with_their_secrets_in_files() -> None:
    assert found(**duty(), monitoring_secret="receivers", monitoring_routes=[{"receiver": "duty", "routes": [{"receiver": "none"}]}]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"monitoring_provider": "prometeus"}, "monitoring_provider"),
        ({"monitoring_receiver": "duty"}, "monitoring_receiver: duty | one of monitoring_receivers: there is none; or none"),
        (
            {**duty(), "monitoring_secret": "x", "monitoring_routes": [{"routes": [{"receiver": "dutty"}]}]},
            "monitoring_routes: dutty | one of monitoring_receivers: duty; or none | Did you mean duty?",
        ),
        (duty(), "monitoring_secret"),
        (
            {"monitoring_receivers": [{"name": "duty", "slack_configs": [{"api_url": "https://hooks.example.com/T/s3cret"}]}]},
            "a secret in the configuration | a file of monitoring_secret | Put it into Secret monitoring_secret and name the file: api_url_file.",
        ),
        ({"monitoring_remote_write": [{"url": "https://far", "basic_auth": {"username": "a", "password": "s3cret"}}]}, "password_file"),
        ({"monitoring_receivers": [{"name": "watchdog"}]}, "watchdog | a name of its own"),
        ({"monitoring_retention": {"time": "fifteen days", "percent": 80}}, "monitoring_retention.time"),
        ({"monitoring_retention": {"time": "15d", "percent": 120}}, "monitoring_retention.percent"),
        ({"monitoring_storage": {"size": "50GB!", "class": ""}}, "monitoring_storage.size"),
        ({"monitoring_interval": 1}, "monitoring_interval"),
        ({"monitoring_pools": ["apps"]}, "monitoring_pools"),
        ({"monitoring_replica": 3}, "monitoring_replica"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, t.Any], words: str) -> None:
    said = found(**changes)
    assert any(words in line for line in said), said
    assert "s3cret" not in str(said)
