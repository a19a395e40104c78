# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""References of images, taken apart and put together (private: may change without notice). Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LOCAL = "localhost/"  # images under it are on one machine; no registry answers to it


@dataclass(frozen=True)
class Reference:
    """``registry/repository:tag@digest``; the registry is a host, with a path where that is known, and empty where the nodes decide."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def of(cls, text: str, registry: str = "") -> Reference:
        """``registry`` is known to be one. Else the first part is a host when it has a dot, a port, or is localhost (distribution's rule)."""
        named, _unused, digest = text.partition("@")
        head, colon, tag = named.rpartition(":")
        if not colon or "/" in tag:
            head, tag = named, ""
        prefix = registry.rstrip("/")
        if prefix and head.startswith(f"{prefix}/"):
            return cls(prefix, head[len(prefix) + 1 :], tag, digest)
        host, slash, path = head.partition("/")
        if slash and ("." in host or ":" in host or host == "localhost"):
            return cls(host, path, tag, digest)
        return cls("", head, tag, digest)

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def tagged(self) -> str:
        """Without the digest."""
        return f"{self.name}:{self.tag}" if self.tag else self.name

    def __str__(self) -> str:
        return f"{self.tagged}@{self.digest}" if self.digest else self.tagged


def pinned(text: str, registry: str, digests: t.Mapping[str, str]) -> str:
    """The reference with the digest that ``digests`` has for it, by what it is called without ``registry``; one that has a digest keeps it."""
    reference = Reference.of(text, registry)
    digest = digests.get(origin(reference, registry))
    return f"{text}@{digest}" if digest and not reference.digest else text


def origin(reference: Reference, registry: str) -> str:
    """What an image is called wherever it is mirrored: without the platform's own registry and without its digest."""
    return reference.tagged.removeprefix(f"{registry.rstrip('/')}/") if registry else reference.tagged
