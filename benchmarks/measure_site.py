# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole site on the local platform when nothing is to be done, beside a play with one debug task, which is what Ansible itself costs."""

from __future__ import annotations

from pathlib import Path

from run import ROOT, Lab, Row

NOTHING = "- hosts: all\n  gather_facts: false\n  connection: local\n  tasks:\n    - ansible.builtin.debug:\n"


def measure(lab: Lab) -> list[Row]:
    empty = lab.folder / "debug.yml"
    empty.write_text(NOTHING)
    playbooks = ROOT / "playbooks"
    ways: list[tuple[str, Path, str]] = [
        ("site.yml, unchanged", playbooks / "site.yml", "preflight, everything sent, Redis observed, waited, 24 checks"),
        ("site.yml --check, unchanged", playbooks / "site.yml", "without the checks"),
        ("verify.yml", playbooks / "verify.yml", ""),
        ("local_cluster.yml, healthy", playbooks / "local_cluster.yml", "the second make up"),
        ("images.yml, unchanged", playbooks / "images.yml", ""),
        ("one debug task", empty, "Ansible itself"),
    ]
    rows = []
    for name, playbook, note in ways:
        lab.say(f"site: {name}")
        options = ["--check"] if "--check" in name else []
        command = [lab.bin / "ansible-playbook", playbook, "-i", ROOT / "inventories/local", *options]
        seconds = [
            lab.timed(lambda command=command: lab.command(*command, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg")))
            for _turn in range(lab.repeat)
        ]
        rows.append(Row("the whole site", name, {"again": seconds}, note))
    return rows
