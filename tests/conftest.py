# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's own import of collections, before any test imports one: without it templates do not find the collection's filters."""

from __future__ import annotations

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()
