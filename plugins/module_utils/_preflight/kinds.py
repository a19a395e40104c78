# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a single value may be, as Kubernetes, registries and Redis see it (private: may change without notice).

A kind is a function: the value in, None out when it is right, otherwise the words for what is allowed. None as a value is
always right: it switches an option off.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from collections.abc import Mapping

from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import quantity

Kind: t.TypeAlias = "t.Callable[[t.Any], str | None]"

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_SUBDOMAIN = rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = rf"(?:(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:))(?::\d{{1,5}})?/)?{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_IMAGE = re.compile(rf"{_REPOSITORY}(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?")


def matching(pattern: str, words: str, empty: bool = False) -> Kind:
    """A text that matches the whole pattern; ``empty`` lets "" through, which means "not set"."""
    compiled = re.compile(pattern)

    def kind(value: t.Any) -> str | None:
        return None if value is None or (empty and value == "") or compiled.fullmatch(str(value)) else words

    return kind


dns_label = matching(_LABEL, "up to 63 small letters, digits and dashes, no dash at either end")
service_name = matching(
    r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?", "up to 63 small letters, digits and dashes, beginning with a letter, no dash at the end"
)
dns_subdomain = matching(_SUBDOMAIN, "small letters, digits, dashes and dots (a DNS name)")
optional_subdomain = matching(_SUBDOMAIN, "small letters, digits, dashes and dots (a DNS name), or nothing", empty=True)
label_key = matching(rf"(?:{_SUBDOMAIN.replace('$', '/')}/)?{_NAME}", "a label key such as node-type or example.com/node-type")
label_value = matching(
    _NAME, "up to 63 letters, digits, dashes, dots and underscores, beginning and ending with a letter or digit", empty=True
)
port_name = matching(r"(?=.*[a-z])(?=.{1,15}$)[a-z0-9](?:-?[a-z0-9])*", "up to 15 small letters, digits and single dashes, with a letter")
environment_name = matching(r"[A-Za-z_][A-Za-z0-9_.-]*", "letters, digits and underscores, not beginning with a digit")
config_key = matching(r"[-._A-Za-z0-9]{1,253}", "letters, digits, dashes, dots and underscores")
identifier = matching(r"[a-z_][a-z0-9_]{0,62}", "up to 63 small letters, digits and underscores, not beginning with a digit")
absolute_path = matching(r"/[^\0:]*", "an absolute path")
http_path = matching(r"/[^\s]*", "a path that begins with a slash")
url = matching(r"https?://[^\s/?#]+(?:[/?#]\S*)?", "a URL such as http://mca-service")
place = matching(
    r"https?://[^\s/?#]+(?:/[^\s?#]*)?|/[^\0:]*", "an address such as https://mirror.example.com/files, or a folder's path", empty=True
)
host_port = matching(
    r"[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?:\d{1,5}(?:,[A-Za-z0-9][-A-Za-z0-9.]*:\d{1,5})*", "host:port, more of them with commas"
)
registry = matching(
    rf"(?:[A-Za-z0-9.-]+(?::\d{{1,5}})?)(?:/{_COMPONENT})*", "a registry with a path, such as registry.example.com/team", empty=True
)
repository = matching(_REPOSITORY, "an image name in small letters, without tag")
tag = matching(rf"(?!latest$){_TAG}", "a tag that stays what it is, not latest", empty=True)
digest = matching(_DIGEST, "sha256: and 64 hexadecimal digits, or nothing", empty=True)
taint_effect = matching("NoSchedule|PreferNoSchedule|NoExecute", "NoSchedule, PreferNoSchedule or NoExecute")


def image(value: t.Any) -> str | None:
    """A reference that names one image for good: a tag other than latest, or a digest."""
    if value is None:
        return None
    match = _IMAGE.fullmatch(str(value))
    named = match and (match["digest"] or (match["tag"] and match["tag"] != "latest"))
    return None if named else "an image reference with a tag other than latest, or with a digest"


def optional_image(value: t.Any) -> str | None:
    return None if value == "" else image(value)


def amount(value: t.Any) -> str | None:
    """A quantity above zero."""
    words = "a quantity above zero, such as 250m, 2, 512Mi or 1Gi"
    try:
        return None if value is None or quantity(value) > 0 else words
    except ValueError:
        return words


def bytes_below(most: int) -> Kind:
    """A size in bytes, above zero and below ``most``."""
    words = f"a size such as 512Ki or 10Mi, below {most // 2**20}Mi"

    def kind(value: t.Any) -> str | None:
        try:
            return None if not value or 1 <= quantity(value) < most else words
        except ValueError:
            return words

    return kind


def optional_amount(value: t.Any) -> str | None:
    """A quantity, zero included (quotas)."""
    try:
        return None if value is None or quantity(value) >= 0 else "a quantity, not below zero"
    except ValueError:
        return "a quantity, such as 250m, 2, 512Mi or 1Gi"


def between(lowest: int, highest: int | None = None, unit: str = "") -> Kind:
    unit = f" {unit}" if unit else ""
    words = f"at least {lowest}{unit}" if highest is None else f"{lowest} to {highest}{unit}"

    def kind(value: t.Any) -> str | None:
        if value is None:
            return None
        try:
            number = int(value)
        except (TypeError, ValueError):
            return words
        return None if number >= lowest and (highest is None or number <= highest) else words

    return kind


port = between(1, 65535)


def share(value: t.Any) -> str | None:
    """A ratio; also for what stands in an environment, as text."""
    try:
        return None if value is None or 0 <= float(value) <= 1 else "0 to 1"
    except (TypeError, ValueError):
        return "0 to 1"


def port_or_name(value: t.Any) -> str | None:
    if isinstance(value, int) or str(value).isdigit():
        return port(value)
    return port_name(value) and "a port's number or name"


def count_or_percent(value: t.Any) -> str | None:
    """What Kubernetes calls IntOrString: 1 or 25%."""
    words = "a whole number, or a percentage such as 25%"
    if value is None:
        return None
    if isinstance(value, bool) or not re.fullmatch(r"\d+|(?:100|\d{1,2})%", str(value)):
        return words
    return None


def network(value: t.Any) -> str | None:
    try:
        ipaddress.ip_network(str(value))
    except ValueError:
        return "a network such as 10.0.0.0/8, without host bits"
    return None


def labels(value: t.Any) -> str | None:
    """A mapping of label keys to values; texts only, for `true` and 1 are no label values."""
    if not isinstance(value, Mapping):
        return None  # the specification has said so already
    for key, text in value.items():
        if bad := label_key(key):
            return f"keys like {bad}"
        if text is not None and (not isinstance(text, str) or label_value(text)):
            return f"for {key} a text in quotes of {label_value('-')}"
    return None
