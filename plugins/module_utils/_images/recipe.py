# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image's Containerfile does, as far as it decides for which architectures it can be built here (private: may change without notice)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._images.definition import MACHINES, Image, architecture
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

# Where the kernel says whose programs it hands to an emulator (binfmt_misc), a file each.
EMULATORS = Path("/proc/sys/fs/binfmt_misc")


@dataclass
class Stage:
    """One FROM: ``start`` is what follows it, ``needs`` the stages copied from, ``runs`` whether programs of the image are run."""

    start: str
    needs: set[str] = field(default_factory=set)
    runs: bool = False


def stages(text: str) -> dict[str, Stage]:
    """The stages of a Containerfile by name, the last one by "" too. Comments, continued lines and ``--platform`` are as in Dockerfile's reference."""
    found: dict[str, Stage] = {}
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        word, _space, rest = line.strip().partition(" ")
        parts = [part for part in rest.split() if not part.startswith("--")]
        if word.upper() == "FROM":
            stage = Stage(parts[0], {parts[0]})
            found[parts[2] if len(parts) > 2 else str(len(found))] = stage
            found[""] = stage
        elif found:
            stage = found[""]
            stage.runs |= word.upper() == "RUN"
            stage.needs |= set(re.findall(r"--(?:from=|mount=\S*from=)([^\s,]+)", rest))
    return found


def needed(found: Mapping[str, Stage], target: str) -> list[Stage]:
    """The stages that ``target`` (the last one when empty) is made of, itself first."""
    wanted, seen = [target], []
    while wanted:
        stage = found.get(wanted.pop())
        if stage and stage not in seen:
            seen.append(stage)
            wanted += sorted(stage.needs)
    return seen


def last_base(image: Image, text: str) -> str:
    """The reference that the image's own stage starts from in the end; empty when that is ``scratch`` or made here."""
    found = stages(text)
    stage = found.get(image.target)
    while stage and stage.start in found:
        stage = found[stage.start]
    named = {f"${{{base.argument}}}": base for base in image.bases}
    base = named.get(stage.start) if stage else None
    return base.reference if base and not base.made_here else ""


def emulated(wanted: str) -> bool:
    """Whether the kernel runs programs of the architecture ``wanted`` by an emulator."""
    file = EMULATORS / f"qemu-{MACHINES.get(wanted, wanted)}"
    try:
        return file.read_text(encoding="ascii").startswith("enabled")
    except OSError:
        return False


def refuse_foreign(images: Iterable[Image], platforms: Iterable[str], source: Path) -> None:
    """PlatformError, naming every image, unless this machine can build them for ``platforms`` with buildah.

    What a program of the image does in the build (RUN, mmdebstrap's hooks) takes an emulator; a Go program is compiled for any architecture.
    """
    here, refused = architecture(), []
    for wanted in (platform.partition("/")[2] for platform in platforms):
        if wanted == here:
            continue
        for image in images:
            if suites := [base.name for base in image.bases if base.suite]:
                refused.append(
                    f"{image.name} for {wanted}: images_bases.{suites[0]} is a root filesystem of Debian packages made for this machine ({here})"
                )
            elif not emulated(wanted) and any(
                stage.runs for stage in needed(stages((source / image.containerfile).read_text(encoding="utf-8")), image.target)
            ):
                refused.append(f"{image.name} for {wanted}: {image.containerfile} runs programs of the image (RUN)")
    if refused:
        raise PlatformError(
            f"images_platforms names what cannot be built on this machine: {'; '.join(refused)}. Name a registry's image as base and install an "
            "emulator (qemu-user-static, binfmt-support), build with images_builder docker, run on a machine of that architecture, or leave the "
            "platform out."
        )
