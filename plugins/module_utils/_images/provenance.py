# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an image was made: an in-toto statement with SLSA's provenance (private: may change without notice). Pure.

Rules: https://in-toto.io/Statement/v1 and https://slsa.dev/spec/v1.0/provenance. Signed with the image where signing is on; without a signature it says
what the builder claims, which is SLSA's build level 1 at most.
"""

from __future__ import annotations

import datetime
import json
import re
import typing as t
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._images.definition import Base, Image, sources
from ansible_collections.progressive.platform.plugins.module_utils._images.labels import Origin

Json = dict[str, t.Any]

MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://github.com/progressive-platform/progressive.platform/blob/main/docs/images.md#build-type-v1"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+?)(?:\s*;.*)?$((?:\n\s+--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE)


def statement(
    subjects: Mapping[str, str],
    parameters: Json,
    dependencies: Iterable[Json],
    *,
    builder: str,
    versions: Mapping[str, str],
    started: datetime.datetime,
    finished: datetime.datetime,
) -> str:
    """``subjects`` are digests (``sha256:...``) by name, ``parameters`` what was asked for, ``builder`` the address of who built, with ``versions``."""
    document = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": _digest(digest)} for name, digest in subjects.items()],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "resolvedDependencies": list(dependencies),
            },
            "runDetails": {
                "builder": {"id": builder, "version": dict(versions)},
                "metadata": {"startedOn": _time(started), "finishedOn": _time(finished)},
            },
        },
    }
    return json.dumps(document, indent=1) + "\n"


def materials(image: Image, source: Path, origin: Origin, digests: Mapping[str, str]) -> list[Json]:
    """What the image was made of, as SLSA's resource descriptors.

    The sources as git has them and file by file, the bases (``digests`` by reference, as far as they are known; Go's modules by version), and the Python
    packages that the lock allows, each with the checksums of its files.
    """
    found: list[Json] = []
    if origin.revision:
        commit = origin.revision.removesuffix("-dirty")
        found.append({"uri": f"git+{origin.repository or source}@{origin.revision}", "digest": {"gitCommit": commit}})
    for line in sources(source, image.paths):
        path, _mode, checksum = line.rsplit(" ", 2)
        found.append({"name": path, "digest": {"sha256": checksum}})
    for base in image.bases:
        found += _base(base, digests.get(base.reference, ""))
    if image.wheels:
        found += locked((source / image.wheels).read_text(encoding="utf-8"))
    return found


def locked(text: str) -> list[Json]:
    """The packages of a lock of pip's with hashes. One package has a file for each platform, so all of its checksums are named."""
    plain = text.replace(" \\\n", "\n")
    return [
        {"uri": f"pkg:pypi/{match[1].lower()}@{match[2]}", "annotations": {"sha256": re.findall(r"sha256:([0-9a-f]{64})", match[3])}}
        for match in PINNED.finditer(plain)
    ]


def _base(base: Base, digest: str) -> list[Json]:
    known: Json = {"digest": _digest(digest)} if digest else {}
    if base.program:
        modules = base.program.modules or {base.program.package: base.program.version}
        return [{"uri": f"pkg:golang/{path}@{version}"} for path, version in sorted(modules.items())] + [{"name": base.reference, **known}]
    if base.suite:
        return [
            {
                "name": base.reference,
                **known,
                "annotations": {"suite": base.suite, "also": list(base.also), "packages": list(base.packages)},
            }
        ]
    return [{"uri": f"docker://{base.reference}", **known}]


def _digest(text: str) -> dict[str, str]:
    kind, _colon, value = text.partition(":")
    return {kind: value}


def _time(when: datetime.datetime) -> str:
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
