# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values held against an argument specification, at every depth (private: may change without notice).

Ansible's own validator names the last option only and stops at the first level with an error; it also takes texts for lists and
mappings, which a template then walks letter by letter. This one is never more lenient (a test holds it to that), says all, and
names the whole path.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterator, Mapping

from ansible.module_utils.common.validation import check_type_bool, check_type_float, check_type_int
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding, Path, name, suggestion, wrong

Spec = Mapping[str, t.Any]


def _number(check: Callable[[t.Any], t.Any]) -> Callable[[t.Any], bool]:
    def holds(value: t.Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return False
        try:
            check(value)
        except TypeError:
            return False
        return True

    return holds


def _is_bool(value: t.Any) -> bool:
    try:
        check_type_bool(value)
    except TypeError:
        return False
    return True


def _is_text(value: t.Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


_TYPES: dict[str, tuple[str, Callable[[t.Any], bool]]] = {
    "str": ("a text", _is_text),
    "path": ("a path", lambda value: isinstance(value, str)),
    "int": ("a whole number", _number(check_type_int)),
    "float": ("a number", _number(check_type_float)),
    "bool": ("true or false", _is_bool),
    "dict": ("a mapping", lambda value: isinstance(value, Mapping)),
    "list": ("a list", lambda value: isinstance(value, (list, tuple))),
    "raw": ("anything", lambda value: True),
}


def check(path: Path, spec: Spec, value: t.Any) -> Iterator[Finding]:
    """Everything about ``value`` that ``spec`` does not allow. None stands for "not given" and is refused where it is required."""
    if value is None:
        if spec.get("required"):
            yield wrong(path, value, "a value, it is required", f"Set {name(path)}.")
        return
    kind = str(spec.get("type", "str"))
    words, holds = _TYPES[kind]
    if not holds(value):
        yield wrong(path, value, words, f"Write {words} for {name(path)}.")
        return
    choices = spec.get("choices")
    if choices and value not in choices and str(value) not in map(str, choices):
        meant = suggestion(str(value), map(str, choices))
        yield wrong(path, value, " or ".join(map(str, choices)), f"Did you mean {meant}?" if meant else "")
    if kind == "dict" and spec.get("options"):
        yield from _mapping(path, spec["options"], value)
    elif kind == "list" and (spec.get("elements") or spec.get("options")):
        element = {"type": spec.get("elements", "raw"), "options": spec.get("options"), "required": True}
        for index, item in enumerate(value):
            yield from check((*path, str(index)), element, item)


def _mapping(path: Path, options: Mapping[str, Spec], value: Mapping[t.Any, t.Any]) -> Iterator[Finding]:
    for key in value:
        if key not in options:
            meant = suggestion(str(key), options)
            known = ", ".join(sorted(options))
            yield Finding(
                name((*path, str(key))),
                "an option that does not exist",
                f"the options {known}",
                f"Did you mean {meant}?" if meant else f"Remove {name((*path, str(key)))}.",
            )
    for key, spec in options.items():
        yield from check((*path, key), spec, value.get(key))
