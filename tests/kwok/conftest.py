# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two control planes for the tests of this folder; they need no cluster of this machine and are no part of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.tests.kwok import lab


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[lab.Cluster, lab.Cluster]]:
    if reason := lab.missing():
        pytest.skip(reason)
    with lab.clusters(tmp_path_factory.mktemp("large"), ["one", "two"]) as made:
        yield made[0], made[1]


@pytest.fixture(scope="module")
def inventory(two: tuple[lab.Cluster, lab.Cluster]) -> Path:
    """Both, and two whose clusters cannot be had: at ``away`` nothing listens, ``denied`` does not know the token."""
    one, other = two
    folder = one.folder.parent
    hosts = {
        "one": one.kubeconfig,
        "away": one.write_kubeconfig(folder / "away", port=lab.free_ports(1)[0]),
        "denied": one.write_kubeconfig(folder / "denied", token="of-yesterday"),
        "two": other.kubeconfig,
    }
    return lab.inventory(folder, hosts, lab.variables())
