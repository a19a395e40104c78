# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the local cluster has on the machine, also after everything was killed: found and removed by what we recorded or named.

Namespaces and the mounts in them end with a node's last process, so no list of them is kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local import nodes
from ansible_collections.progressive.platform.plugins.module_utils._local.layout import BRIDGE, CONTROL_PLANE_GROUP, Cluster
from ansible_collections.progressive.platform.plugins.module_utils._local.processes import Processes

MOUNTS = Path("/proc/self/mounts")


def mounted_below(directory: Path, mounts: str) -> list[str]:
    """Mount points below ``directory`` in the text of /proc/mounts, the deepest first; blanks are written as \\040 there."""
    points = [line.split(" ")[1].encode().decode("unicode_escape") for line in mounts.splitlines() if line.count(" ") >= 3]
    return sorted((point for point in points if point.startswith(f"{directory}/")), reverse=True)


def foreign(cluster: Cluster, processes: Processes) -> Path | None:
    """The cache of another local cluster that runs on this machine; a machine bears one, and ours must not harm it."""
    for pid in processes.cgroups.processes(CONTROL_PLANE_GROUP):
        with contextlib.suppress(OSError):
            program = Path(os.readlink(f"/proc/{pid}/exe"))
            if program.name.startswith("kubernetes-") and program.parent != cluster.paths.binaries.resolve():
                return program.parent.parent
    return None


def survey(cluster: Cluster, processes: Processes) -> list[str]:
    """Everything of the cluster that is on the machine, for a person; empty when there is nothing."""
    found = [f"process {record.name} ({record.pid})" for record in processes.records().values() if processes.alive(record)]
    found += [f"process {pid}" for pid in sorted(processes.cgroups.processes())]
    found += [f"device {name}" for name in [*nodes.cables(), BRIDGE] if (nodes.DEVICES / name).exists()]
    found += [f"iptables rule {' '.join(rule)}" for rule in nodes.FORWARD_RULES if rule not in nodes.missing_rules()]
    found += [f"control group {path}" for path in processes.cgroups.tops()]
    found += [f"mount {point}" for point in mounted_below(cluster.paths.run, MOUNTS.read_text(encoding="utf-8"))]
    if cluster.paths.run.exists():
        found.append(f"directory {cluster.paths.run}")
    return found


def remove(cluster: Cluster, processes: Processes) -> list[str]:
    """Remove all of it; what was removed. Nobody needs the state any more, so nobody gets long to save it."""
    removed = [f"process {name}" for name in processes.stop(processes.records().values(), grace=0.5)]
    if killed := processes.cgroups.kill():
        removed.append(f"{killed} more processes of nodes and pods")
    removed += nodes.remove_network()
    removed += [f"control group {path}" for path in processes.cgroups.tops()]
    processes.cgroups.remove()
    for point in mounted_below(cluster.paths.run, MOUNTS.read_text(encoding="utf-8")):
        with contextlib.suppress(OSError):
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True, timeout=30)
            removed.append(f"mount {point}")
    removed += nodes.remove_mountpoints(cluster)
    if cluster.paths.run.exists():
        remove_tree(cluster.paths.run)
        removed.append(f"directory {cluster.paths.run}")
    return removed


def remove_tree(path: Path, timeout: float = 10.0) -> None:
    """Remove a directory from which the last mounts of a dying namespace may only just be going."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
