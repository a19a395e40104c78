# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in an image, read from its layers without running anything of it (private: may change without notice).

Debian's packages stand in dpkg's status, Alpine's in apk's, Python's distributions in their METADATA, a Go program's modules in the program itself.
What was copied into an image without one of these (a C library, a script) is not seen.
"""

from __future__ import annotations

import email.parser
import json
import posixpath
import re
import tarfile
import typing as t
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

# debug/buildinfo of Go's library: 14 bytes, the size of a pointer, flags; since Go 1.18 flag 2: two strings with their length follow at 32.
GO_MAGIC = b"\xff Go buildinf:"
GO_FRAME = 16  # bytes of the marks on both sides of the modules' text
OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
DPKG = re.compile(r"var/lib/dpkg/(?:status|status\.d/[^/]+)")
APK = "lib/apk/db/installed"
PYTHON = re.compile(r"(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO)")
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, order=True)
class Package:
    """One package: ``kind`` is a purl's type (deb, apk, pypi, golang); ``architecture`` only where packages have one."""

    kind: str
    name: str
    version: str
    architecture: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Contents:
    """Of an image: its packages, sorted, the distribution's id and version (``debian``, ``12``; empty without one), and its own facts."""

    packages: tuple[Package, ...]
    distribution: str = ""
    version: str = ""
    architecture: str = ""
    created: str = ""


def of_archive(archive: Path) -> Contents:
    """Of a Docker archive; PlatformError when it is none."""
    try:
        with tarfile.open(archive, "r:") as tar:

            def member(name: str) -> t.IO[bytes]:
                return t.cast("t.IO[bytes]", tar.extractfile(name))

            (image,) = json.loads(member("manifest.json").read())
            return contents(json.loads(member(image["Config"]).read()), (member(layer) for layer in image["Layers"]))
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise PlatformError(f"{archive} cannot be read as an image's archive: {error}. Remove it, then run again.") from error


def of_folder(folder: Path) -> Contents:
    """Of an image of one platform as skopeo and buildah write it (transport ``dir``); PlatformError when it is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        config = json.loads((folder / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
        return contents(config, ((folder / layer["digest"].removeprefix("sha256:")).open("rb") for layer in manifest["layers"]))
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise PlatformError(f"{folder} cannot be read as an image: {error}. Remove it, then run again.") from error


def contents(config: t.Mapping[str, t.Any], layers: Iterable[t.IO[bytes]]) -> Contents:
    """Of layers, the lowest first, compressed or not."""
    files = look(layers)
    systems = [value for name in reversed(OS_RELEASE) for value in files.get(name, ()) if isinstance(value, dict)]
    system = systems[-1] if systems else {}
    packages = {package for values in files.values() for package in values if isinstance(package, Package)}
    return Contents(
        tuple(sorted(packages)),
        system.get("ID", ""),
        system.get("VERSION_ID", ""),
        str(config.get("architecture") or ""),
        str(config.get("created") or ""),
    )


def look(layers: Iterable[t.IO[bytes]]) -> dict[str, tuple[t.Any, ...]]:
    """What was found in each file of the whole, by path: a higher layer's file replaces the lower one's, a whiteout removes it."""
    files: dict[str, tuple[t.Any, ...]] = {}
    for layer in layers:
        here: dict[str, tuple[t.Any, ...]] = {}
        with layer, tarfile.open(fileobj=layer, mode="r|*") as tar:
            for entry in tar:
                path = posixpath.normpath(entry.name).lstrip("/")
                folder, _slash, name = path.rpartition("/")
                gone = (
                    folder if name == OPAQUE else posixpath.join(folder, name.removeprefix(WHITEOUT)) if name.startswith(WHITEOUT) else ""
                )
                if gone or name == OPAQUE:
                    files = {it: found for it, found in files.items() if it != gone and not it.startswith(f"{gone}/" if gone else "")}
                    continue
                files.pop(path, None)
                if entry.isfile() and (found := tuple(read(path, t.cast("t.IO[bytes]", tar.extractfile(entry))))):
                    here[path] = found
        files |= here
    return files


def read(path: str, content: t.IO[bytes]) -> Iterator[t.Any]:
    """The packages that one file tells of; the distribution as a dictionary."""
    if path in OS_RELEASE:
        yield dict(re.findall(r'^(\w+)="?(.*?)"?$', content.read().decode("utf-8", "replace"), re.MULTILINE))
    elif DPKG.fullmatch(path):
        yield from dpkg(content.read().decode("utf-8", "replace"))
    elif path == APK:
        yield from apk(content.read().decode("utf-8", "replace"))
    elif PYTHON.fullmatch(path):
        yield from distribution(content.read().decode("utf-8", "replace"))
    elif (start := content.read(4)) == b"\x7fELF":
        yield from go_modules(start + content.read())


def dpkg(text: str) -> Iterator[Package]:
    """Installed packages of dpkg's status (deb822 paragraphs, dpkg(1)); one without a status, as distroless images have them, is installed."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Package|Version|Architecture|Status): (.*)$", paragraph, re.MULTILINE))
        if "Package" in fields and "Version" in fields and fields.get("Status", "install ok installed").endswith(" installed"):
            yield Package("deb", fields["Package"], fields["Version"], fields.get("Architecture", ""))


def apk(text: str) -> Iterator[Package]:
    """Packages of apk's database: a letter a field (apk-tools' ADB v2)."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([PVAL]):(.*)$", paragraph, re.MULTILINE))
        if "P" in fields and "V" in fields:
            yield Package("apk", fields["P"], fields["V"], fields.get("A", ""), fields.get("L", ""))


def distribution(text: str) -> Iterator[Package]:
    """A Python distribution by its metadata (core metadata specification); the licence only where it is an SPDX expression."""
    fields = email.parser.HeaderParser().parsestr(text)
    if fields["Name"] and fields["Version"]:
        yield Package("pypi", re.sub(r"[-_.]+", "-", fields["Name"]).lower(), fields["Version"], licence=fields["License-Expression"] or "")


def go_modules(program: bytes) -> Iterator[Package]:
    """The modules a Go program is made of, and Go's library as ``stdlib``, as ``go version -m`` reads them; nothing of another program.

    A module that another one or a folder replaces is what replaces it. Of the program's own module without a version only the name is known.
    """
    found = _build_information(program)
    if not found:
        return
    go, text = found
    yield Package("golang", "stdlib", go.removeprefix("go").partition(" ")[0])
    last: Package | None = None
    for line in text.splitlines():
        kind, *parts = line.split("\t")
        if kind in ("mod", "dep", "=>") and len(parts) > 1:
            if last and kind != "=>":
                yield last
            version = parts[1] if kind != "=>" or parts[1] else (last.version if last else "")
            last = Package("golang", parts[0] if not parts[0].startswith((".", "/")) else (last.name if last else ""), version)
    if last:
        yield last


def _build_information(program: bytes) -> tuple[str, str] | None:
    """Go's version and the text of the modules. A program that reads others' information has the mark in its own data, too, so each is looked at."""
    at = program.find(GO_MAGIC)
    while at >= 0:
        if len(program) > at + 32 and program[at + 15] & 2:
            go, end = _string(program, at + 32)
            text, _end = _string(program, end)
            if go.startswith((b"go1", b"devel")):
                return go.decode("utf-8", "replace"), text[GO_FRAME:-GO_FRAME].decode("utf-8", "replace")
        at = program.find(GO_MAGIC, at + 1)
    return None


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """Bytes behind their length, an unsigned varint (encoding/binary); and where they end."""
    size = shift = 0
    while at < len(data):
        byte = data[at]
        size |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            break
    return data[at : at + size], at + size
