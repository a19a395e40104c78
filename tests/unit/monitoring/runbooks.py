# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages that alerts point to, docs/alerts/<role>.md, made from what the roles say; ``make docs`` writes them, a test compares them."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs/alerts"


def pages() -> dict[str, str]:
    """Texts by role, of production's inventory: its thresholds are the collection's own."""
    # Not above: Ansible finds plugins only once its loader has been set up (below).
    from ansible_collections.progressive.platform.tests.unit.monitoring import gathered

    return {component.name: page(component) for component in gathered.components("production") if component.alerts}


def page(component) -> str:  # type: ignore[no-untyped-def]
    lines = [
        f"# Alerts of {component.name}",
        "",
        f"Made by `make docs` from `roles/{component.name}/templates/monitoring.yaml.j2`, as production's inventory has them. Each is proved by",
        f"`tests/unit/monitoring/alerts/{component.name}.yml`: what makes it fire, and what does not.",
        "",
    ]
    told: set[str] = set()
    for alert in component.alerts:
        if alert["alert"] in told:  # once for every service or job
            continue
        told.add(alert["alert"])
        patience = f" after {alert['for']}" if alert["for"] else " at once"
        lines += [
            f"## {alert['alert']}",
            "",
            f"*{alert['severity']}*{patience}: {alert['summary']}",
            "",
            f"**What it means.** {alert['means']}",
            "",
            f"**What to do.** {alert['do']}",
            "",
            "```promql",
            textwrap.dedent(alert["expr"]).strip(),
            "```",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader()
    PAGES.mkdir(exist_ok=True)
    for role, text in pages().items():
        (PAGES / f"{role}.md").write_text(text, encoding="utf-8")
        print(f"docs/alerts/{role}.md")
