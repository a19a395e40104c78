"""Filter component_roles: the components that tags leave, and of them those that can do what is asked."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.progressive.platform.plugins.filter.component_roles import component_roles

COMPONENTS = ["redis_cluster", "app", "agents"]
ROLE = "progressive.platform."


@pytest.mark.parametrize(
    ("tags", "skip", "verb", "chosen"),
    [
        (["all"], [], "", COMPONENTS),
        (["app"], [], "", ["app"]),
        (["all"], ["app"], "", ["redis_cluster", "agents"]),
        (["all"], [], "backup", ["redis_cluster"]),
        (["redis_cluster", "app"], [], "rotate", ["redis_cluster"]),
    ],
)
def test_what_is_chosen(tags: list[str], skip: list[str], verb: str, chosen: list[str]) -> None:
    assert component_roles(COMPONENTS, tags, skip, verb) == [ROLE + name for name in chosen]


def test_tags_that_leave_nothing_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="tags ap leave no component; the components are redis_cluster, app, agents"):
        component_roles(COMPONENTS, ["ap"])


def test_a_component_that_is_no_role_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="there is no role redis"):
        component_roles(["redis"], ["all"], [], "backup")


def test_a_role_of_another_collection_keeps_its_name() -> None:
    assert component_roles(["acme.shop.cart"]) == ["acme.shop.cart"]
