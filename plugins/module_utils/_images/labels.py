# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image says of itself: labels by the names of the OCI image specification (private: may change without notice).

Rules: https://github.com/opencontainers/image-spec/blob/main/annotations.md. Title and licence stand in the Containerfiles.
"""

from __future__ import annotations

import datetime
import json
import os
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._images.definition import SOURCE, Image
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

PREFIX = "org.opencontainers.image"
# The hash that an image's own tag has, so that a release's tag (images_tag) can be held against the sources.
CONTENT = "platform.progressive.content"


@dataclass(frozen=True)
class Origin:
    """Where sources come from: the ``repository``'s address, the commit that touched them last, and its time in seconds since 1970.

    Each is empty, or 0, where nobody knows: outside of a git checkout, as in an installed collection.
    """

    repository: str = ""
    revision: str = ""
    created: int = 0

    @property
    def time(self) -> str:
        """RFC 3339, as OCI wants it; empty when unknown."""
        return datetime.datetime.fromtimestamp(self.created, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if self.created else ""


def look(image: Image, source: Path, repository: str = "", environment: Mapping[str, str] | None = None) -> Origin:
    """The origin of an image's sources; ``SOURCE_DATE_EPOCH`` of the environment (reproducible-builds.org) goes before the commit's time.

    Sources with changes that are not committed have ``-dirty`` behind the commit, as git describe says it.
    """
    revision, created = "", 0
    try:
        paths = [str((source / path).resolve()) for path in image.paths]
        revision, _space, when = call(["git", "-C", str(source), "log", "-1", "--format=%H %ct", "--", *paths]).strip().partition(" ")
        created = int(when or 0)
        if revision and call(["git", "-C", str(source), "status", "--porcelain", "--", *paths]).strip():
            revision += "-dirty"
    except PlatformError:  # no git, no checkout, or somebody else's
        pass
    given = (os.environ if environment is None else environment).get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdigit():
        raise PlatformError(
            f"SOURCE_DATE_EPOCH is {given!r}; whole seconds since 1970 are wanted. Correct it or take it out of the environment."
        )
    return Origin(repository or (own_repository() if source == SOURCE else ""), revision, int(given) if given else created)


def own_repository(root: Path = SOURCE.parent) -> str:
    """The address of the collection's repository, from galaxy.yml of a checkout or MANIFEST.json of an installed one; empty without either."""
    import yaml  # comes with Ansible on the controller

    try:
        if (root / "galaxy.yml").is_file():
            found: t.Any = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))
        else:
            found = json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"]
        return str(found.get("repository") or "")
    except (OSError, ValueError, KeyError, AttributeError, yaml.YAMLError):
        return ""


def labels(image: Image, origin: Origin, base: str = "") -> dict[str, str]:
    """Labels of an image, those that are known; ``base`` is the reference that its last stage starts from."""
    known = {
        f"{PREFIX}.version": image.reference.rpartition(":")[2],
        f"{PREFIX}.source": origin.repository,
        f"{PREFIX}.revision": origin.revision,
        f"{PREFIX}.created": origin.time,
        f"{PREFIX}.base.name": base,
        CONTENT: image.content,
    }
    return {name: value for name, value in known.items() if value}
