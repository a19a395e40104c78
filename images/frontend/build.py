# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes public/ from site/: assets named by their content, so that browsers may keep them for ever, and a .gz beside every file."""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """The file and its compressed twin, which nginx's gzip_static sends; no time inside, so a rebuild gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, mtime=0))


def build(site: Path, public: Path) -> None:
    """Pages name their assets as ``assets/<file>``; the reference gets the new name."""
    renamed: dict[str, str] = {}
    for asset in sorted((site / "assets").iterdir()):
        content = asset.read_bytes()
        name = f"assets/{asset.stem}.{hashlib.sha256(content).hexdigest()[:12]}{asset.suffix}"
        renamed[f"assets/{asset.name}"] = name
        write(public / name, content)
    for page in sorted(site.glob("*.html")):
        text = page.read_text(encoding="utf-8")
        for old, new in renamed.items():
            text = text.replace(old, new)
        write(public / page.name, text.encode())


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
