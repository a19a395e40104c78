# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # What a module that takes backups is told beside the storage.
    TAKE = r"""
options:
  backup_name:
    description:
      - Name under which the backups are kept in O(storage), O(name) without it.
      - Whatever has backups in one storage needs a name of its own.
    type: str
  keep:
    description: Number of complete backups to keep; older ones are removed after a successful run, unless O(keep_days) keeps them. V(0) keeps all.
    type: int
    default: 0
  keep_days:
    description: Days for which backups are kept in any case. With V(0) only O(keep) counts. The newest is never removed.
    type: float
    default: 0.0
  timeout:
    description: Longest time for all of it, in seconds.
    type: float
    default: 3600.0
"""

    # And one that restores them, beside what it says of O(mode) and O(overwrite) itself.
    RESTORE = r"""
options:
  backup:
    description: ID of the backup, or V(latest).
    type: str
    default: latest
  backup_name:
    description: Name under which the backup was kept, O(name) without it; that of another one to restore its backup here.
    type: str
  timeout:
    description: Longest time for all of it, in seconds.
    type: float
    default: 3600.0
"""
