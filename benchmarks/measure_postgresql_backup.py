# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup and restore of 1 GB on loopback: a real PostgreSQL under Patroni, pgBackRest as the role sets it (zst 3, two processes), and the fallback.

A restore is what the module does: fetch, recover to the end of the archive, become a primary, stop. A drill restores and compares every table besides.
"""

from __future__ import annotations

import shutil
import statistics

from ansible_collections.progressive.platform.plugins.module_utils._run import Result
from ansible_collections.progressive.platform.tests.postgresql import lab as laboratory
from ansible_collections.progressive.platform.tests.postgresql.lab import PASSWORDS, SETTINGS
from ansible_collections.progressive.platform.tests.postgresql.test_backup import Archive, owned, receiving
from run import ROOT, Lab, Row

SIZE = 10**9
# Half of each row is noise that no compression makes less of, as in a database of text and identifiers.
NOISE = " || ".join(["md5(random()::text)"] * 8)
FILL = f"insert into ballast select n, repeat(md5((n % 97)::text), 8), {NOISE} from generate_series(1, {{rows}}) n"
ROWS, AT_ONCE = 1_650_000, 50_000


def measure(lab: Lab) -> list[Row]:
    with laboratory.lab(1) as members:
        archive = Archive(members, owned(members.members[0].folder.parent / "backups"))
        for file in (archive.config, archive.members):
            file.write_text(file.read_text().replace("compress-type=lz4", "compress-type=zst\ncompress-level=3"))
        members.converge(config=SETTINGS)
        lab.say("postgresql_backup: 1 GB is written")
        archive.sql("create table ballast (n int, words text, noise text)")
        for _part in range(ROWS // AT_ONCE):
            archive.sql(FILL.replace("{rows}", str(AT_ONCE)))
        archive.sql("checkpoint")
        bytes_ = int(archive.sql("select sum(pg_database_size(oid)) from pg_database")[0][0])
        assert bytes_ > SIZE * 0.95, bytes_
        laboratory.until(lambda: _archiving(archive), "the server archives")
        rows = [*provider(lab, archive, "pgBackRest", {})]
        with receiving(archive) as given:
            rows += provider(lab, archive, "pg_basebackup", {**given, "replication_password": PASSWORDS["replication"]})
    (ROOT / "docs" / "postgresql_backup.svg").write_text(picture(rows), encoding="utf-8")
    order = list(dict.fromkeys(row.group for row in rows))
    return sorted(rows, key=lambda row: order.index(row.group))


def _archiving(archive: Archive) -> bool:
    archive.lab.converge(config=archive.settings())
    return archive.sql("show archive_mode") == [["on"]]


def provider(lab: Lab, archive: Archive, name: str, given: dict[str, object]) -> list[Row]:
    target = archive.folder / "restored"
    found: dict[str, list[float]] = {"backup": [], "restore": [], "drill": []}
    backup: Result = {}
    for turn in range(lab.repeat):
        lab.say(f"postgresql_backup: {name}, {turn + 1} of {lab.repeat}")
        found["backup"].append(lab.timed(lambda: backup.update(archive.take(keep=1, **given)["backup"])))
        if not given:
            archive.archived()
        found["restore"].append(lab.timed(lambda: archive.put(data=str(target), **_without_password(given))))
        shutil.rmtree(target)
        found["drill"].append(lab.timed(lambda: archive.put(mode="drill", scratch=str(archive.folder), **_without_password(given))))
    megabytes, stored = backup["bytes"] / 1e6, backup["stored_bytes"] / 1e6
    rows = []
    for what, seconds in found.items():
        rate = megabytes / sorted(seconds)[len(seconds) // 2]
        note = f"{megabytes:.0f} MB, {rate:.0f} MB/s" + (f", {stored:.0f} MB stored" if what == "backup" else "")
        lab.say(f"postgresql_backup: {name}, {what}: {note}")
        rows.append(Row(f"{what} of 1 GB", name, {what: seconds}, note))
    return rows


def _without_password(given: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in given.items() if key != "replication_password"}


LEFT, WIDTH, LINE, TOP = 260, 520, 30, 58


def picture(rows: list[Row]) -> str:
    """One bar a measurement, as long as its median."""
    found = [
        (f"{row.name}: {row.group}", statistics.median(next(iter(row.seconds.values()))), row.note.partition(",")[2].strip())
        for row in rows
    ]
    longest, bottom = max(seconds for _name, seconds, _note in found), TOP + LINE * len(found)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 240} {bottom + 16}" font-family="sans-serif" font-size="12">',
        "<title>Backup, restore and drill of 1 GB</title>",
        f'<rect width="{LEFT + WIDTH + 240}" height="{bottom + 16}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="14">Backup, restore to the end of the archive, and drill of 1 GB, in seconds</text>',
        f'<text x="{LEFT}" y="40" fill="#555">one server on loopback, medians; a drill restores and compares every table</text>',
    ]
    for index, (name, seconds, note) in enumerate(found):
        top, long = TOP + LINE * index, WIDTH * seconds / longest
        parts.append(f'<text x="{LEFT - 10}" y="{top + 15}" text-anchor="end">{name}</text>')
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{long:.1f}" height="{LINE - 10}" fill="#1f6fb2"/>')
        parts.append(f'<text x="{LEFT + long + 8:.1f}" y="{top + 15}"><tspan font-weight="bold">{seconds:.0f} s</tspan>  {note}</text>')
    return "\n".join([*parts, "</svg>", ""])
