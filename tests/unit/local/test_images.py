# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image archives: packed reproducibly, told apart by their manifest, imported only when they have changed."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._local.images import Image, Store, file_of, identity, is_imported, pack
from ansible_collections.progressive.platform.plugins.module_utils._local.processes import Record
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError


def image(directory: Path, content: str = "program") -> Image:
    (directory / "program").write_text(content)
    return Image(
        "localhost/progressive/tool:v1", {"/usr/bin/tool": directory / "program"}, ("/usr/bin/tool",), "65535:65535", {"/bin/t": "tool"}
    )


def archive(path: Path, files: Mapping[str, object]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_archive_is_a_docker_archive_whose_digests_are_true(tmp_path: Path) -> None:
    pack(image(tmp_path), tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        read = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(read["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/progressive/tool:v1"]
    config = json.loads(read[manifest["Config"]])
    assert manifest["Config"] == hashlib.sha256(read[manifest["Config"]]).hexdigest() + ".json"
    assert config["config"]["Entrypoint"] == ["/usr/bin/tool"]
    assert config["config"]["User"] == "65535:65535"
    layer = read[manifest["Layers"][0]]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["usr/bin/tool"].mode == 0o755
    assert entries["bin/t"].linkname == "tool"
    assert entries["tmp"].mode == 0o1777
    assert list(entries).index("usr") < list(entries).index("usr/bin") < list(entries).index("usr/bin/tool")


def test_same_programs_same_bytes(tmp_path: Path) -> None:
    pack(image(tmp_path), tmp_path / "one.tar")
    pack(image(tmp_path), tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    pack(image(tmp_path, "other"), tmp_path / "three.tar")
    assert identity(tmp_path / "one.tar")[0] != identity(tmp_path / "three.tar")[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar", "program", "three.tar", "two.tar"]


def test_failed_packing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        pack(Image("localhost/progressive/tool:v1", {"/tool": tmp_path / "missing"}), tmp_path / "out.tar")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"reference": "localhost/progressive/tool:v2"},
        {"user": ""},
        {"entrypoint": ()},
        {"links": {}},
        {"files": {"/tool": Path("/other")}},
    ],
)
def test_another_recipe_is_another_file(tmp_path: Path, change: dict[str, object]) -> None:
    first = image(tmp_path)
    assert first.file.startswith("tool-v1-")
    assert replace(first, **change).file != first.file  # type: ignore[arg-type]


def test_identity_of_both_layouts(tmp_path: Path) -> None:
    docker = archive(tmp_path / "docker.tar", {"layer.tar": "x", "manifest.json": [{"Config": "c", "RepoTags": ["a:1", "b:1"]}]})
    entry = {"digest": "sha256:1", "annotations": {"org.opencontainers.image.ref.name": "c:1"}}
    oci = archive(tmp_path / "oci.tar", {"oci-layout": {}, "./index.json": {"manifests": [entry]}})
    assert identity(docker)[1] == ["a:1", "b:1"]
    assert identity(oci)[1] == ["c:1"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"\x1f\x8b no archive"), "uncompressed image archive"),
        (lambda path: archive(path, {"readme": "x"}), "neither manifest.json nor index.json"),
        (lambda path: None, "No such file"),
    ],
)
def test_no_image_archive(tmp_path: Path, make: object, said: str) -> None:
    make(tmp_path / "x.tar")  # type: ignore[operator]
    with pytest.raises(PlatformError, match=said):
        identity(tmp_path / "x.tar")


NOTED = {"a:1": {"archive": "m1", "digest": "sha256:1"}}


@pytest.mark.parametrize(
    ("wanted", "noted", "present", "expected"),
    [
        (("m1", ["a:1"]), NOTED, {"a:1": "sha256:1"}, True),
        (("m1", ["a:1"]), NOTED, {}, False),
        (("m2", ["a:1"]), NOTED, {"a:1": "sha256:1"}, False),
        (("m1", ["a:1"]), NOTED, {"a:1": "sha256:2"}, False),
        (("m1", ["a:1"]), {}, {"a:1": "sha256:1"}, False),
        (("m1", ["a:1", "b:1"]), NOTED, {"a:1": "sha256:1", "b:1": "sha256:1"}, False),
        (("m1", []), NOTED, {"a:1": "sha256:1"}, False),
    ],
)
def test_is_imported(wanted: tuple[str, list[str]], noted: dict[str, dict[str, str]], present: dict[str, str], expected: bool) -> None:
    assert is_imported(wanted, noted, present) is expected


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("localhost/progressive/app:0.1.0-0123456789ab", "app-0.1.0-0123456789ab.tar"),
        ("registry.example.com:5000/team/app:0.1.0-0123456789ab", "app-0.1.0-0123456789ab.tar"),
        ("localhost/progressive/coredns:v1.14.7", ""),
        ("localhost/progressive/coredns:v1.14.7-metrics", ""),
        ("localhost:5000/app", ""),
    ],
)
def test_the_archive_of_a_name(name: str, file: str) -> None:
    assert file_of(name) == file


def test_a_node_forgets_builds_whose_archive_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, old, running, foreign = (
        "localhost/progressive/app:1-00000000000a",
        "localhost/progressive/app:1-00000000000b",
        "localhost/progressive/app:1-00000000000c",
        "localhost/progressive/coredns:v1",
    )
    (tmp_path / file_of(kept)).touch()
    note = tmp_path / "note.json"
    note.write_text(json.dumps({name: {"archive": "a", "digest": "d"} for name in (kept, old, running, foreign)}))
    calls: list[tuple[str, ...]] = []

    def ctr(self: Store, *arguments: str, timeout: float = 300.0) -> str:
        calls.append(arguments)
        return f"CONTAINER    IMAGE    RUNTIME\n0123    {running}    io.containerd.runc.v2\n" if arguments[0] == "containers" else ""

    monkeypatch.setattr(Store, "ctr", ctr)
    store = Store("node-1", Record("holder-node-1", 1, 0, "", ""), note)
    assert store.forget(tmp_path) == [old]
    assert calls[-1] == ("images", "remove", old) and set(json.loads(note.read_text())) == {kept, running, foreign}
    (tmp_path / file_of(running)).touch()
    calls.clear()
    assert store.forget(tmp_path) == [] and not calls, "a node without old builds is not asked"
