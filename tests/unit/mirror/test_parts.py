# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""References, where an image comes from and is called on a mirror, and the two variables that turn everything to it. Pure."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.filter.image_references import image_references
from ansible_collections.progressive.platform.plugins.filter.source_files import source_files
from ansible_collections.progressive.platform.plugins.module_utils._mirror import plan
from ansible_collections.progressive.platform.plugins.module_utils._mirror.reference import Reference
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.unit.preflight.inventories import refused
from ansible_collections.progressive.platform.tests.unit.roles.rendering import Cluster

D, E = f"sha256:{'d' * 64}", f"sha256:{'e' * 64}"
MIRROR = "mirror.example.com:5000/p"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("redis", ("", "redis", "", "")),
        ("team/redis:7.2", ("", "team/redis", "7.2", "")),
        (f"redis:7.2@{D}", ("", "redis", "7.2", D)),
        (f"mirror.example.com:5000/p/redis@{D}", ("mirror.example.com:5000", "p/redis", "", D)),
        ("localhost/progressive/app:1", ("localhost", "progressive/app", "1", "")),
    ],
)
def test_a_reference_is_taken_apart_and_put_together(text: str, parts: tuple[str, ...]) -> None:
    reference = Reference.of(text)
    assert (reference.registry, reference.repository, reference.tag, reference.digest) == parts and str(reference) == text
    assert Reference.of(f"{MIRROR}/a/b:1", MIRROR) == Reference(MIRROR, "a/b", "1")


def entry(origin: str, digest: str = D, **more: t.Any) -> dict[str, t.Any]:
    return {"reference": f"{MIRROR}/{origin}", "origin": origin, "name": "", "digest": digest, "clusters": ["a"], **more}


@pytest.mark.parametrize(
    ("image", "source", "sources", "comes", "goes"),
    [
        (entry("redis:7"), "", {}, f"redis@{D}", f"{MIRROR}/redis:7"),
        (entry("redis:7"), "hub.example.com/x/", {}, f"hub.example.com/x/redis@{D}", f"{MIRROR}/redis:7"),
        (entry("other.example.com/a/b:2"), "hub.example.com", {}, f"other.example.com/a/b@{D}", f"{MIRROR}/a/b:2"),
        (entry("ksm:2", name="ksm"), "hub.example.com", {"ksm": "k.example.com/s/ksm"}, f"k.example.com/s/ksm@{D}", f"{MIRROR}/ksm:2"),
        (
            entry("localhost/progressive/app:1", name="app"),
            "",
            {"app": "r.example.com/app:1"},
            f"r.example.com/app@{D}",
            f"{MIRROR}/progressive/app:1",
        ),
        (entry(f"redis@{D}"), "", {}, f"redis@{D}", f"{MIRROR}/redis@{D}"),
    ],
)
def test_where_an_image_comes_from_and_what_it_is_called_there(
    image: dict[str, t.Any], source: str, sources: dict[str, str], comes: str, goes: str
) -> None:
    [found], local = plan.images({"images": [image]}, (), source, sources)
    assert (found.at_source(), found.at(MIRROR), local) == (comes, goes, [])


def test_two_inventories_that_mean_two_images_by_one_tag_are_refused() -> None:
    bill = {"images": [entry("redis:7"), entry("redis:7", E, clusters=["b"])]}
    with pytest.raises(PlatformError, match=f"redis:7: {D} is wanted by one inventory and {E} by another"):
        plan.images(bill)
    assert [image.digest for image in plan.images(bill, ["b"])[0]] == [E]


def test_digests_belong_to_a_tag_and_not_to_a_name() -> None:
    catalog = {"redis": {"repository": "redis", "tag": "7.2", "digest": ""}, "pinned": {"repository": "x", "tag": "1", "digest": E}}
    digests = {"redis:7.2": D, "x:1": D, "other.example.com/own:3": D, "gone:1": D}
    assert image_references(catalog, MIRROR, {"own": "other.example.com/own:3"}, digests) == {
        "redis": f"{MIRROR}/redis:7.2@{D}",
        "pinned": f"{MIRROR}/x:1@{E}",
        "own": f"other.example.com/own:3@{D}",
    }
    catalog["redis"]["tag"] = "7.4"
    assert image_references(catalog, MIRROR, {}, digests)["redis"] == f"{MIRROR}/redis:7.4"


def test_one_variable_turns_all_files_to_a_mirror() -> None:
    catalog = {
        "tool": {"version": "1", "address": "https://x.example.com/1/tool.tgz?y=1", "sha256": "a" * 64},
        "open": {"address": "https://x", "sha256": ""},
    }
    assert source_files(catalog) == catalog
    assert source_files(catalog, "https://m.example.com/f/")["tool"]["address"] == f"https://m.example.com/f/{'a' * 64}/tool.tgz"
    assert source_files(catalog, "/srv/files")["tool"]["path"] == f"/srv/files/{'a' * 64}/tool.tgz"
    assert source_files(catalog, "https://m.example.com")["open"] == catalog["open"]  # without a checksum nobody can mirror it
    given = source_files(catalog, "https://m.example.com", {"tool": {"path": "/here"}, "more": {"path": "/there"}})
    assert given["tool"] == {**catalog["tool"], "path": "/here"} and given["more"] == {"path": "/there"}


WITH_PODS = ["postgresql", "redis_cluster", "mongodb", "app", "agents", "tracing", "autoscaling", "operator"]


@pytest.mark.parametrize("component", WITH_PODS)
def test_one_variable_each_turns_every_pod_to_a_registry_with_its_credentials(component: str) -> None:
    options = {"platform_registry": MIRROR, "platform_pull_secrets": ["mirror-login"], "platform_components": ["baseline", *WITH_PODS]}
    options |= {"postgresql_backup_storage": {"volume": {"size": "1Gi"}}, "redis_cluster_backup_storage": {"volume": {"size": "1Gi"}}}
    options |= {"platform_metrics_provider": "prometheus_adapter"} if component == "autoscaling" else {}
    pods = list(_pods(Cluster("production", options).documents(component)))
    assert pods
    for where, pod in pods:
        assert pod.get("imagePullSecrets") == [{"name": "mirror-login"}], where
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["image"] == "auto" or container["image"].startswith(f"{MIRROR}/"), (where, container["image"])


def _pods(value: t.Any, where: str = "") -> t.Iterator[tuple[str, t.Any]]:
    """Every pod's specification, wherever it stands."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield where, value
        for name, part in value.items():
            yield from _pods(part, f"{where}.{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _pods(part, f"{where}[{number}]")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"platform_image_digests": {"redis:7": "latest"}}, "sha256: and 64 hexadecimal digits"),
        ({"platform_file_mirror": "mirror.example.com/files"}, "an address such as https://mirror.example.com/files, or a folder's path"),
    ],
)
def test_a_wrong_value_is_refused(variables: dict[str, t.Any], words: str) -> None:
    assert any(words in line for line in refused(["baseline"], **variables))
