# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  name:
    description: Name of the cluster; with O(pods) the last backup and drill are remembered in ConfigMaps C(<name>-backup) and C(<name>-drill).
    type: str
    default: postgres
  provider:
    description:
      - What takes the backups and keeps the archive of WAL. V(pgbackrest) needs pgBackRest on the host the module runs on.
      - V(basebackup) needs nothing but PostgreSQL's own programs, and a C(pg_receivewal) with the slot C(archive) that fills
        C(postgresql-wal/<backup_name>) in O(storage.path). It keeps its backups in O(storage), which is for it alone and always a O(storage.path).
    type: str
    choices: [pgbackrest, basebackup]
    default: pgbackrest
  backup_name:
    description: Name under which the backups are kept; pgBackRest's stanza. Each cluster needs one of its own.
    type: str
    default: main
  config:
    description: pgBackRest's configuration on the host the module runs on. It says where the repository is, and for a backup where the servers are.
    type: path
    default: /etc/pgbackrest/pgbackrest.conf
  binaries:
    description: Folder of PostgreSQL's own programs. Without it the newest of the usual places is taken.
    type: path
  user:
    description: User that PostgreSQL's programs run as where the module itself runs as root, which they refuse.
    type: str
    default: postgres
  timeout:
    description: Longest time for all of it, in seconds.
    type: float
    default: 3600.0
"""
