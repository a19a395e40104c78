# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's own import of collections, before any test imports one: without it templates do not find the collection's filters.

Side by side (``pytest -n``) all tests of the one cluster stay in one process, in their order; the others take what is left of the machine.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    cluster = Path(__file__).parent / "cluster"
    for item in items:
        if item.path.is_relative_to(cluster):
            item.add_marker(pytest.mark.xdist_group("cluster"))
