# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Templates of Kubernetes documents, rendered in the controller's worker."""

from __future__ import annotations

import re
import typing as t
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.template import Templar
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Document, load
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils._roles import render, values

# What Jinja says of a missing variable or attribute, quotes around its name.
MISSING = re.compile(r"^'([^']+)' is undefined|has no attribute '([^']+)'")

# A role's own computed variables, by the house's rule of naming.
INTERNAL = re.compile(r"\b__[a-z]\w*")


def computed(templar: Templar, files: Sequence[str], variables: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The variables, with the value of each internal one that several of the templates name.

    A template computes what it names anew; merging a hundred services over their defaults once and not for each of eight templates takes an eighth of the
    time. One that cannot be computed is left as it is: the template that really uses it will tell where.
    """
    named = Counter(name for file in files for name in set(INTERNAL.findall(Path(file).read_text(encoding="utf-8"))))
    shared = [name for name, count in named.items() if count > 1 and name in variables]
    return {**variables, **{name: value for name, value, reason in values(templar, variables, shared) if not reason}}


def documents(templar: Templar, file: str, variables: Mapping[str, t.Any]) -> list[Document]:
    """The documents of one template; raises PlatformError with the file, the line and the variable that is wrong."""
    try:
        text = render(templar, file, variables)
    except AnsibleError as error:
        raise PlatformError(f"{_place(Path(file), error)}: {error.message}") from error
    return load(text, f"What {file} renders to")


def _place(file: Path, error: AnsibleError) -> str:
    """``file, line n``: a syntax error knows its line, for a missing name it is the first line that has it."""
    cause: BaseException | None = error
    while cause is not None:
        line = getattr(cause, "lineno", None)
        if isinstance(line, int):
            return f"{file}, line {line}"
        cause = cause.__cause__
    missing = MISSING.search(error.message)
    if missing:
        name = re.compile(rf"\b{re.escape(missing.group(1) or missing.group(2))}\b")
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if name.search(text):
                return f"{file}, line {number}"
    return str(file)
