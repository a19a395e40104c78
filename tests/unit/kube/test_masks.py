# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import masks


def secret(**values: str) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "managedFields": [{"manager": "m"}]}, "data": data}


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        (secret(a="password1"), secret(a="password1"), {"a": masks.HIDDEN}, {"a": masks.HIDDEN}),
        (secret(a="password1"), secret(a="password2"), {"a": masks.HIDDEN_BEFORE}, {"a": masks.HIDDEN_AFTER}),
        (None, secret(a="password1"), None, {"a": masks.HIDDEN}),
        (secret(a="password1"), None, {"a": masks.HIDDEN}, None),
        (secret(a="password1"), secret(b="password1"), {"a": masks.HIDDEN}, {"b": masks.HIDDEN}),
    ],
)
def test_a_diff_shows_that_but_not_what(before: Any, after: Any, old: Any, new: Any) -> None:
    shown = masks.diff(before, after, set())
    assert [side.get("data") or None for side in shown] == [old, new]
    assert "password" not in str(shown)
    assert "managedFields" not in str(shown)


def test_what_a_secret_holds_is_hidden_everywhere() -> None:
    values = masks.secret_values([secret(key="hunter2hunter2")])
    pod = {
        "kind": "Pod",
        "spec": {"env": [{"value": "redis://:hunter2hunter2@host"}], "args": [base64.b64encode(b"hunter2hunter2").decode()]},
    }
    assert masks.scrub(pod, values) == {"kind": "Pod", "spec": {"env": [{"value": "redis://:********@host"}], "args": ["********"]}}


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    assert masks.scrub("topsecret-and-more", {"topsecret", "topsecret-and-more"}) == masks.HIDDEN


def test_kubectls_own_copy_is_hidden() -> None:
    item = secret(a="password1")
    item["metadata"]["annotations"] = {masks.LAST_APPLIED: '{"data":{"a":"cGFzc3dvcmQx"}}', "kept": "yes"}
    old, _new = masks.diff(item, item, set())
    assert old["metadata"]["annotations"] == {masks.LAST_APPLIED: masks.HIDDEN, "kept": "yes"}


def test_string_data_counts_too() -> None:
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "in-the-clear"}}
    assert masks.secret_values([document, None, {"kind": "ConfigMap", "data": {"a": "in-the-open"}}]) == {"in-the-clear"}
    assert "in-the-clear" not in str(masks.diff(None, document, set()))


def test_other_kinds_are_shown() -> None:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "uid": "u"}, "data": {"a": "b"}, "status": {"x": 1}}
    assert masks.diff(item, item, set())[0] == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
