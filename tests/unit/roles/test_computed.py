# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What several templates of one call name is computed once, and a hundred services look at each default once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.progressive.platform.plugins.filter.over_defaults import over_defaults
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils._templates import computed, documents


@pytest.fixture
def templates(tmp_path: Path) -> list[str]:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml.j2").write_text("kind: {{ __it_all }}\n{% if false %}{{ __it_broken }}{% endif %}\n")
    (tmp_path / "two.yaml.j2").write_text("kind: {{ __it_all }}\nname: {{ __it_own }}\n{% if false %}{{ __it_broken }}{% endif %}\n")
    return [str(tmp_path / f"{name}.yaml.j2") for name in ("one", "two")]


def test_only_what_several_name_is_computed(templates: list[str]) -> None:
    variables = {name: trust_as_template(text) for name, text in {"__it_all": "{{ 'a' ~ 'b' }}", "__it_own": "{{ 1 }}"}.items()}
    variables |= {"__it_broken": trust_as_template("{{ nowhere.to_be_found }}"), "public": trust_as_template("{{ 2 }}")}
    found = computed(Templar(loader=DataLoader(), variables={}), templates, variables)
    assert found["__it_all"] == "ab"
    assert [found[name] for name in ("__it_own", "__it_broken", "public")] == [
        variables[it] for it in ("__it_own", "__it_broken", "public")
    ]


def test_what_cannot_be_computed_is_told_by_the_template_that_uses_it(templates: list[str]) -> None:
    templar = Templar(loader=DataLoader(), variables={})
    variables = computed(templar, templates, {"__it_all": trust_as_template("{{ nowhere.to_be_found }}")})
    with pytest.raises(PlatformError, match="nowhere"):
        documents(templar, templates[0], variables)


class Counted(dict[str, Any]):
    """Ansible's lazy dictionaries look at every value for a template when they are walked through; this one counts that."""

    walks = 0

    def items(self) -> Any:
        type(self).walks += 1
        return super().items()

    def __iter__(self) -> Iterator[str]:
        type(self).walks += 1
        return super().__iter__()


def test_defaults_are_walked_through_once_for_all_items() -> None:
    Counted.walks = 0
    found = over_defaults({f"s{number}": {"a": number} for number in range(100)}, Counted(a=0, b=Counted(name="{name}-sa")), Counted(c=1))
    assert found["s7"] == {"a": 7, "b": {"name": "s7-sa"}, "c": 1}
    assert Counted.walks == 3
