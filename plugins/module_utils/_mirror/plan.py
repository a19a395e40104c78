# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a bill a mirror has to hold, where each thing comes from and what it is called there (private: may change without notice). Pure."""

from __future__ import annotations

import typing as t
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.progressive.platform.plugins.module_utils._mirror.reference import DIGEST, LOCAL, Reference
from ansible_collections.progressive.platform.plugins.module_utils._mirror.sources import Source, place
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Json = dict[str, t.Any]
PIN = "Run playbooks/digests.yml, which asks for the digests and writes them into the inventory, then playbooks/bill.yml."


@dataclass(frozen=True)
class Image:
    """``origin`` is what it is called without the platform's registry (``redis:7.2``), ``source`` where it is got from, both without the digest."""

    name: str
    origin: str
    digest: str
    source: str = ""
    licence: str = ""

    @property
    def path(self) -> Reference:
        """Repository and tag below any registry; the host that an origin has of its own is left out."""
        return Reference.of(self.origin)

    @property
    def called(self) -> str:
        """What messages call it."""
        return f"{self.name} ({self.origin})" if self.name else self.origin

    def at_source(self) -> str:
        """By digest: that is what is wanted, wherever the tag has gone."""
        return f"{Reference.of(self.source).name}@{self.digest}"

    def at(self, registry: str) -> str:
        """Its place on the mirror, by tag, so that nodes find it by tag and by digest; by digest where it has no tag."""
        path = self.path
        return f"{registry.rstrip('/')}/{path.repository}" + (f":{path.tag}" if path.tag else f"@{self.digest}")


@dataclass(frozen=True)
class File:
    """A file of upstream and its place below the folder of files."""

    source: Source
    licence: str = ""

    @property
    def place(self) -> str:
        return place(self.source.sha256, self.source.path or self.source.address)


def images(
    bill: Mapping[str, t.Any], clusters: Collection[str] = (), source: str = "", sources: Mapping[str, str] | None = None
) -> tuple[list[Image], list[str]]:
    """The images that ``clusters`` need (all when empty), and those that exist on one machine only, which no mirror can get.

    An image comes from where ``sources`` says by its name in the catalog, else from where its own name says when that has a host, else from
    ``source`` (a registry with a path; empty leaves it to the tool's defaults).
    """
    found: dict[str, Image] = {}
    local: list[str] = []
    unpinned: list[str] = []
    for entry in _of(bill.get("images"), clusters):
        origin, name, digest = str(entry.get("origin") or entry["reference"]), str(entry.get("name") or ""), str(entry.get("digest") or "")
        reference = Reference.of(origin)
        given = (sources or {}).get(name) or (sources or {}).get(origin)
        if origin.startswith(LOCAL) and not given:
            local.append(origin)
            continue
        if given:  # a repository, or a whole reference
            where = given if Reference.of(given).tag or not reference.tag else f"{given}:{reference.tag}"
        else:
            where = origin if reference.registry or not source else f"{source.rstrip('/')}/{origin}"
        image = Image(name, reference.tagged, digest, where, str(entry.get("licence") or ""))
        if not digest:
            unpinned.append(image.called)
        known = found.setdefault(image.at("") if reference.tag else f"{origin}@{digest}", image)
        if DIGEST.fullmatch(digest) and DIGEST.fullmatch(known.digest) and known.digest != digest:
            raise PlatformError(
                f"{image.called}: {known.digest} is wanted by one inventory and {digest} by another; a tag means one image. Run "
                "playbooks/digests.yml for both, or mirror them apart with mirror_clusters."
            )
    if unpinned:
        raise PlatformError(f"Without a digest nobody knows what is to be mirrored, and these have none: {'; '.join(unpinned)}. {PIN}")
    if wrong := [image.called for image in found.values() if not DIGEST.fullmatch(image.digest)]:
        raise PlatformError(f"The digest of {'; '.join(wrong)} is not sha256: and 64 hexadecimal digits. {PIN}")
    return [found[key] for key in sorted(found)], sorted(set(local))


def files(bill: Mapping[str, t.Any], clusters: Collection[str] = ()) -> list[File]:
    """The files that ``clusters`` need."""
    found: dict[str, File] = {}
    unknown: list[str] = []
    for entry in _of(bill.get("files"), clusters):
        file = File(Source.of(str(entry["name"]), entry), str(entry.get("licence") or ""))
        if not file.source.sha256:
            unknown.append(file.source.name)
        found[file.place] = file
    if unknown:
        raise PlatformError(
            f"These files have no checksum: {', '.join(unknown)}. Write sha256 into platform_sources, or make the file of their path; then run "
            "playbooks/bill.yml."
        )
    return [found[key] for key in sorted(found)]


def refuse_other_digests(seen: Sequence[tuple[Image, str]], registry: str) -> None:
    """A mirror whose tag is another image than the bill's is not written over: somebody may run it. PlatformError names every one."""
    others = [
        f"{image.at(registry)} is {digest} there, and the bill's {image.name or image.origin} is {image.digest}"
        for image, digest in seen
        if digest and digest != image.digest
    ]
    if others:
        raise PlatformError(
            f"The mirror holds other images: {'; '.join(others)}. Nothing was copied. If the mirror's is wrong, take its tag away (skopeo delete "
            "docker://...) and run playbooks/mirror.yml again; if upstream moved its tag, name a tag that stays, or take the new digest with "
            "playbooks/digests.yml -e digests_again=true."
        )


def refuse_other_bill(
    held: Iterable[Image], files_held: Iterable[str], images_wanted: Iterable[Image], files_wanted: Iterable[File]
) -> None:
    """An archive that lacks something of the bill, or has it otherwise; ``files_held`` are checksums. PlatformError names every difference."""
    digests = {str(image.path): image.digest for image in held}
    wrong = []
    for image in images_wanted:
        digest = digests.get(str(image.path))
        if digest != image.digest:
            wrong.append(f"{image.called} is {digest or 'not'} in it, and {image.digest} is wanted")
    sums = set(files_held)
    wrong += [f"file {file.source.name} ({file.source.sha256}) is not in it" for file in files_wanted if file.source.sha256 not in sums]
    if wrong:
        raise PlatformError(
            f"The archive is not the bill's: {'; '.join(wrong)}. Export it anew where the source is reached: playbooks/mirror.yml -e mirror_state=exported."
        )


def _of(entries: t.Any, clusters: Collection[str]) -> Iterable[Json]:
    for entry in entries or []:
        if not clusters or set(entry.get("clusters") or []) & set(clusters):
            yield entry
