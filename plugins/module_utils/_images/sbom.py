# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image's bill of materials, CycloneDX 1.6 in JSON, by the OWASP foundation's own library (private: may change without notice)."""

from __future__ import annotations

import datetime
import importlib
import typing as t
import uuid

from ansible_collections.progressive.platform.plugins.module_utils._images.contents import Contents, Package
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

MEDIA_TYPE = "application/vnd.cyclonedx+json"


def ready() -> None:
    """PlatformError unless the library is there."""
    try:
        importlib.import_module("cyclonedx.output.json")
        importlib.import_module("packageurl")
    except ImportError as error:
        raise PlatformError(
            f"cyclonedx-python-lib is wanted on the machine that builds images, for their bills of materials, and cannot be imported ({error}). "
            "Install it there: pip install 'cyclonedx-python-lib>=11.6'."
        ) from error


def make(reference: str, digest: str, contents: Contents) -> str:
    """The document of the image that ``reference`` names and ``digest`` (``sha256:...``) is; the same image gives the same text.

    Packages are named by their purl (https://github.com/package-url/purl-spec), Debian's with the distribution, by which scanners know whose they are.
    """
    ready()
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    name, _colon, tag = reference.rpartition(":")
    image = Component(
        name=name,
        version=tag,
        type=ComponentType.CONTAINER,
        bom_ref=f"{name}@{digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
    )
    parts: list[t.Any] = [_component(package, contents) for package in contents.packages]
    if contents.distribution:
        parts.append(
            Component(name=contents.distribution, version=contents.version or None, type=ComponentType.OPERATING_SYSTEM, bom_ref="system")
        )
    bom = Bom(
        metadata=BomMetaData(component=image, timestamp=_time(contents.created)),
        components=parts,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{name}@{digest}"),
    )
    bom.register_dependency(image, parts)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _component(package: Package, contents: Contents) -> t.Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    system = package.kind in ("deb", "apk")
    namespace, name = contents.distribution or None, package.name
    if not system:
        namespace, _slash, name = package.name.rpartition("/") if package.kind == "golang" else ("", "", package.name)
    qualifiers = {"arch": package.architecture, "distro": f"{contents.distribution}-{contents.version}" if contents.version else ""}
    purl = PackageURL(
        package.kind,
        namespace or None,
        name,
        package.version or None,
        {key: value for key, value in qualifiers.items() if value} if system else None,
    )
    return Component(
        name=package.name,
        version=package.version or None,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=[LicenseFactory().make_from_string(package.licence)] if package.licence else None,
    )


def _time(created: str) -> datetime.datetime:
    """The image's own time, RFC 3339 with nanoseconds; 1970 where it has none."""
    try:
        return datetime.datetime.fromisoformat(created[:19] + "+00:00")
    except ValueError:
        return datetime.datetime.fromtimestamp(0, datetime.UTC)
