# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which directives of redis.conf a running server takes, and which take a restart (private: may change without notice).

A role must know before any server is asked, because a restart is asked for by the pod template. A test holds the table against real servers: it is what they
answer with "can't set immutable config" or "can't set protected config", and what CONFIG SET does not know.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

IMMUTABLE = frozenset(
    {
        *("aclfile", "always-show-logo", "appenddirname", "appendfilename", "cluster-config-file", "cluster-enabled", "cluster-port"),
        *("daemonize", "databases", "disable-thp", "enable-debug-command", "enable-module-command", "enable-protected-configs"),
        *("io-threads", "io-threads-do-reads", "logfile", "pidfile", "rdbchecksum", "replicaof", "slaveof", "set-proc-title"),
        *(
            "socket-mark-id",
            "supervised",
            "syslog-enabled",
            "syslog-facility",
            "syslog-ident",
            "tcp-backlog",
            "unixsocket",
            "unixsocketperm",
        ),
        *("aof_rewrite_cpulist", "bgsave_cpulist", "bio_cpulist", "server_cpulist"),
        *("aof-rewrite-cpulist", "bgsave-cpulist", "bio-cpulist", "server-cpulist", "unixsocketgroup"),  # as Valkey spells them
    }
)
PROTECTED = frozenset({"dir", "dbfilename"})
FILE_ONLY = frozenset({"include", "loadmodule", "rename-command", "user"})
FIXED = frozenset({"bind", "port", "tls-port"})
"""What a server would take, but pods, Services and policies are made for."""
ELSEWHERE = frozenset({"cluster-node-timeout", "requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"})
"""What the module redis_cluster sets by options of its own, or what holds a secret."""


def restarts(name: str) -> bool:
    return name.lower() in IMMUTABLE | PROTECTED | FILE_ONLY | FIXED


def split(directives: Mapping[str, t.Any]) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """(those that are set live by ``config`` of redis_cluster, those that take a restart)."""
    live = {name: value for name, value in directives.items() if not restarts(name) and name.lower() not in ELSEWHERE}
    return live, {name: value for name, value in directives.items() if restarts(name)}
