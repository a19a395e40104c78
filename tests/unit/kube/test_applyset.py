# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import ApplySet, Contents, applied_by

PARENT = {
    "metadata": {
        "annotations": {
            "applyset.kubernetes.io/contains-group-kinds": "ConfigMap,Deployment.apps,Role.rbac.authorization.k8s.io",
            "applyset.kubernetes.io/additional-namespaces": "b,c",
        }
    }
}
CONTENTS = Contents(
    frozenset({("", "ConfigMap"), ("apps", "Deployment"), ("rbac.authorization.k8s.io", "Role")}),
    frozenset({"a", "b", "c"}),
)


@pytest.mark.parametrize(
    ("name", "namespace", "expected"),
    [  # computed with: printf 'applyset-NAME.NAMESPACE.ConfigMap.' | openssl dgst -sha256 -binary | basenc --base64url | tr -d =
        ("bench", "bench", "applyset-TJFAxT9NY9tkhUcy0RYrqn-t-aT9dke7JFIX8HUX3_o-v1"),
        ("app", "default", "applyset-qEGW0T6SYkNMBRcO8xKMYpm5wCgbQzTcHCl0DNp5RQY-v1"),
    ],
)
def test_id_is_the_one_of_the_kep(name: str, namespace: str, expected: str) -> None:
    assert ApplySet(name, namespace).id == expected


def test_the_id_is_a_label_value() -> None:
    assert len(ApplySet("a" * 53, "b" * 63).id) <= 63


def test_parent_and_contents_are_inverse() -> None:
    group = ApplySet("app", "a")
    parent = group.parent(CONTENTS)
    assert parent["metadata"]["annotations"].items() >= PARENT["metadata"]["annotations"].items()
    assert parent["metadata"]["labels"]["applyset.kubernetes.io/id"] == group.id
    assert group.contents(parent) == CONTENTS


def test_no_parent_no_contents() -> None:
    assert ApplySet("app", "a").contents(None) == Contents()


@pytest.mark.parametrize(
    ("entries", "mine"),
    [
        ([{"manager": "progressive.platform.app", "operation": "Apply"}], True),
        ([{"manager": "progressive.platform.app", "operation": "Update"}], False),
        ([{"manager": "progressive.platform.other", "operation": "Apply"}], False),
        ([{"manager": "kubectl", "operation": "Update"}, {"manager": "progressive.platform.app", "operation": "Apply"}], True),
        ([], False),
        (None, False),
    ],
)
def test_only_what_the_manager_applied_is_its_own(entries: list[dict[str, str]] | None, mine: bool) -> None:
    assert applied_by({"metadata": {"managedFields": entries}}, "progressive.platform.app") is mine
