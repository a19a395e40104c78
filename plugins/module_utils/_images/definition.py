# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is built from what, and what it is called. No I/O but reading the sources.

An image's tag is a hash of everything it is made from, so a tag never moves, whoever knows the sources knows the tag
without building, and an image is built again exactly when something it is made from has changed.
"""

from __future__ import annotations

import hashlib
import json
import platform
import typing as t
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.builds import Program
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

# The collection's own folder of Containerfiles and sources.
SOURCE = Path(__file__).parents[3] / "images"
DESCRIPTION = "images.yml"

# Raised when commands.mmdebstrap makes another root filesystem of the same packages.
ROOTFS_RECIPE = "2"

# Raised when build.Builder.compile makes another root filesystem of the same program; what describes one.
PROGRAM_RECIPE = "1"
PROGRAM = frozenset({"version", "package", "modules", "tags", "symbols", "files", "generated", "replaces"})

# Raised when an image is built otherwise of the same sources (commands.Buildah.build, labels).
IMAGE_RECIPE = "2"

# What the kernel calls an architecture, by the name that platforms of images have.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

# How images that exist on this machine alone are named; no registry answers to it.
LOCAL_REGISTRY = "localhost/progressive"


@dataclass(frozen=True)
class Base:
    """What an image starts from: a ``reference`` in a registry, a root filesystem of ``packages`` of a Debian ``suite`` and further ones (``also``), or one

    that holds nothing but a ``program`` built from a Go module, and the files that belong to it.
    """

    name: str
    reference: str
    suite: str = ""
    packages: tuple[str, ...] = ()
    mirror: str = ""
    also: tuple[str, ...] = ()
    program: Program | None = None
    made_of: tuple[str, ...] = ()
    architecture: str = ""

    @property
    def key(self) -> str:
        """What steps of a build call it: its name, and its architecture where that is not this machine's."""
        return f"{self.name}/{self.architecture}" if self.architecture not in ("", architecture()) else self.name

    def on(self, wanted: str) -> Base:
        """The same base of another architecture; one from a registry has all of its platforms by one name."""
        if not self.made_here:
            return self
        tag = digest([*self.made_of, MACHINES.get(wanted, wanted)])
        program = replace(self.program, architecture="" if wanted == architecture() else wanted) if self.program else None
        return replace(self, reference=f"{LOCAL_REGISTRY}/base-{self.name}:{tag}", program=program, architecture=wanted)

    @property
    def made_here(self) -> bool:
        return bool(self.suite or self.program)

    @property
    def argument(self) -> str:
        """The build argument of the Containerfiles."""
        return f"{self.name.upper()}_BASE"


@dataclass(frozen=True)
class Image:
    """One image: paths are relative to the source folder; ``wheels`` is the lock its Python packages come from, ``contexts`` are further folders by the
    name that the Containerfile copies from, ``paths`` everything it is made from, ``content`` the version and hash that stand for it."""

    name: str
    reference: str
    containerfile: str
    target: str
    bases: tuple[Base, ...]
    wheels: str = ""
    contexts: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ()
    content: str = ""

    def on(self, wanted: str) -> Image:
        """The same image on bases of another architecture."""
        return replace(self, bases=tuple(base.on(wanted) for base in self.bases))

    @property
    def file(self) -> str:
        """``localhost/progressive/app:0.1.0-1a2b`` -> ``app-0.1.0-1a2b.tar``."""
        return self.reference.rsplit("/", 1)[-1].replace(":", "-") + ".tar"


def make_bases(wanted: Mapping[str, t.Any], revision: int) -> dict[str, Base]:
    """Bases by name, from ``name: reference``, ``name: {suite, packages, also, mirror}`` or ``name: {version, package, modules, tags}``; null is no base."""
    bases = {}
    for name, value in wanted.items():
        if value is None:
            continue
        if isinstance(value, str) and value:
            bases[name] = Base(name, value)
        elif (
            isinstance(value, Mapping)
            and value.get("suite")
            and value.get("packages")
            and not set(value) - {"suite", "packages", "mirror", "also"}
        ):
            suite, packages = str(value["suite"]), tuple(sorted(map(str, value["packages"])))
            also = tuple(map(str, value.get("also") or []))
            parts = (ROOTFS_RECIPE, suite, *also, *packages, str(revision))
            bases[name] = Base(name, "", suite, packages, str(value.get("mirror") or ""), also, made_of=parts).on(architecture())
        elif isinstance(value, Mapping) and value.get("version") and value.get("package") and not set(value) - PROGRAM:
            program = Program.of(name, value)
            made_of = [program.version, program.package, *sorted(f"{path} {at}" for path, at in program.modules.items()), *program.tags]
            made_of += sorted(
                f"{name}={value}" for part in (program.symbols, program.files, program.generated) for name, value in part.items()
            )
            made_of += sorted(f"{path} => {at}" for path, at in program.replaces.items())
            parts = (PROGRAM_RECIPE, *made_of, str(revision))
            bases[name] = Base(name, "", program=program, made_of=parts).on(architecture())
        else:
            raise PlatformError(
                f"images_bases.{name} is {value!r}; wanted is a reference (python:3.13-slim), a root filesystem's suite and packages, "
                "or a Go program's version and package."
            )
    return bases


def make_images(
    source: Path,
    bases: Mapping[str, Base],
    *,
    registry: str,
    revision: int,
    names: Iterable[str] = (),
    tag: str = "",
    platforms: Iterable[str] = (),
) -> dict[str, Image]:
    """The images ``source``/images.yml describes (optional ones whose bases there are), or those of ``names``, with their references.

    An index of several platforms is another image than that of one, so it has another hash.
    """
    others = sorted(set(platforms) - {f"linux/{architecture()}"})
    described = read_description(source)
    wanted = list(names) or [name for name, entry in described.items() if not entry.get("optional") or set(entry["bases"]) <= set(bases)]
    if unknown := [name for name in wanted if name not in described]:
        raise PlatformError(f"images_names has {', '.join(unknown)}; {source / DESCRIPTION} describes {', '.join(described)}.")
    images = {}
    for name in wanted:
        entry = described[name]
        if absent := [base for base in entry["bases"] if base not in bases]:
            raise PlatformError(f"images_bases has no {', '.join(absent)}, which image {name} starts from; it has {', '.join(bases)}.")
        own = tuple(bases[base] for base in entry["bases"])
        paths = (entry["containerfile"], *entry.get("sources", []), *entry.get("contexts", {}).values())
        content = digest(
            [
                IMAGE_RECIPE,
                *(sorted(set(platforms)) if others else []),
                *(base.reference for base in own),
                str(revision),
                json.dumps(entry, sort_keys=True),
                *sources(source, paths),
            ]
        )
        images[name] = Image(
            name=name,
            reference="/".join(filter(None, (registry.rstrip("/"), f"{name}:{tag or entry['version'] + '-' + content}"))),
            containerfile=entry["containerfile"],
            target=entry.get("target", ""),
            bases=own,
            wheels=entry.get("wheels", ""),
            contexts=tuple(entry.get("contexts", {}).items()),
            paths=paths,
            content=f"{entry['version']}-{content}",
        )
    return images


def read_description(source: Path) -> dict[str, dict[str, t.Any]]:
    """Images by name from the source folder's description."""
    import yaml  # comes with Ansible on the controller, and is looked for only where images are built

    path = source / DESCRIPTION
    try:
        return t.cast("dict[str, dict[str, t.Any]]", yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PlatformError(
            f"{path} is wanted, it describes the images: {error.strerror}. Set images_source to the folder that has it."
        ) from error


def sources(source: Path, paths: Iterable[str]) -> list[str]:
    """One line ``path mode sha256`` for each file under ``paths``; compiled Python and hidden files are not sources."""
    lines = []
    for path in paths:
        root = source / path
        files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
        if not files:
            raise PlatformError(f"{root} is wanted to build an image, and there is no file.")
        for file in files:
            below = file.relative_to(root)
            if "__pycache__" not in below.parts and not any(part.startswith(".") for part in below.parts):
                executable = "x" if file.stat().st_mode & 0o100 else "-"
                lines.append(f"{(Path(path) / below).as_posix()} {executable} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return lines


def architecture() -> str:
    """This machine's architecture by the name that platforms of images have (``amd64``)."""
    machine = platform.machine()
    return next((name for name, known in MACHINES.items() if known == machine), machine)


def digest(parts: Iterable[str]) -> str:
    """Twelve hexadecimal digits that stand for ``parts``."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:12]
