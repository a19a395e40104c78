# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs from Go modules: the go.mod that is made, and that an interrupted or failed build leaves nothing half-done."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._local import builds
from ansible_collections.progressive.platform.plugins.module_utils._local.builds import Builder, Program
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

GO_MOD = """module k8s.io/kubernetes

require (
\tgithub.com/spf13/cobra v1.10.2
)

replace (
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/kubectl => ./staging/src/k8s.io/kubectl
)

replace k8s.io/other => ../other
"""
# Stands for Go: writes what it was called with, and the program unless it shall fail.
GO = """#!/bin/sh
echo "go $*" >> "$CALLS"
echo "k8s.io/api/core/v1"
[ ! -e "$FAIL" ] || { echo "no space left on device" >&2; exit 1; }
out= ; while [ $# -gt 0 ]; do [ "$1" != -o ] || out=$2; last=$1; shift; done
[ -n "$out" ] || { name=${last%@*}; out=$GOBIN/${name##*/}; }
echo program > "$out"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "path" / "go"
    program.parent.mkdir()
    program.write_text(GO)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAIL", str(tmp_path / "fail"))
    return tmp_path / "calls"


def builder(directory: Path) -> Builder:
    (directory / "sources" / "pause").mkdir(parents=True, exist_ok=True)
    (directory / "sources" / "pause" / "main.go").write_text("package main\n")
    return Builder(directory / "sources", directory / "work", directory / "bin", directory / "log", timeout=30)


def test_go_mod_gives_the_published_versions_of_a_staging_repository() -> None:
    text = builds.go_mod("kubernetes", {"k8s.io/kubernetes": "v1.36.3"}, "k8s.io/kubernetes", GO_MOD)
    assert text.splitlines() == [
        "module progressive.local/kubernetes",
        "",
        "go 1.26.0",
        "",
        "require k8s.io/kubernetes v1.36.3",
        "replace k8s.io/api => k8s.io/api v0.36.3",
        "replace k8s.io/kubectl => k8s.io/kubectl v0.36.3",
    ]


@pytest.mark.parametrize("version", ["1", "v2.1.0", "latest", ""])
def test_staging_version_refuses(version: str) -> None:
    with pytest.raises(PlatformError, match=r"v1\.<minor>\.<patch>"):
        builds.staging_version(version)


def test_build_is_done_once_and_named(tmp_path: Path, calls: Path) -> None:
    said: list[str] = []
    program = Program("pause", "v1", names=("pause", "hold"))
    for _again in range(2):
        builder(tmp_path).build(program, said.append)
    assert calls.read_text().count("go build") == 1
    assert said == ["1 packages compiled, now k8s.io/api/core/v1"]
    assert (tmp_path / "bin/pause-v1").read_text() == "program\n"
    assert os.readlink(tmp_path / "bin/hold") == "pause-v1"
    assert not (tmp_path / "work/pause-v1").exists()


def test_published_program_is_installed_by_its_version(tmp_path: Path, calls: Path) -> None:
    program = Program("kube-score", "v1.20.0", package="example.org/score/cmd/score")
    builder(tmp_path).build(program, lambda _line: None)
    assert "example.org/score/cmd/score@v1.20.0" in calls.read_text()
    assert (tmp_path / "bin/kube-score-v1.20.0").exists()
    assert os.readlink(tmp_path / "bin/kube-score") == "kube-score-v1.20.0"


def test_published_program_whose_module_is_required_by_a_go_mod_of_ours(tmp_path: Path, calls: Path) -> None:
    """For a module whose versions the proxy does not list."""
    program = Program(
        "ferretdb", "v1.24.0", "example.org/F/cmd/ferretdb", modules={"example.org/F": "v1.24.0"}, tags=("no_sqlite", "small")
    )
    output = tmp_path / "out" / "ferretdb"
    command = builds.build_command(program, output)
    assert command[-4:] == ["-mod=mod", "-o", str(output), "example.org/F/cmd/ferretdb"]
    assert command[command.index("-tags") + 1] == "no_sqlite,small"
    (tmp_path / "fail").touch()  # what was prepared stays for the next run
    with pytest.raises(PlatformError, match="no space left"):
        builder(tmp_path).build(program, lambda _line: None)
    assert "require example.org/F v1.24.0" in (tmp_path / "work/ferretdb-v1.24.0/go.mod").read_text()
    (tmp_path / "fail").unlink()
    builder(tmp_path).build(program, lambda _line: None)
    assert (tmp_path / "bin/ferretdb-v1.24.0").exists() and "go mod tidy" not in calls.read_text()


def test_what_the_go_mod_of_a_module_replaces_is_replaced_in_ours(tmp_path: Path, calls: Path) -> None:
    """A go.mod that requires it does not hear of it, and another version of the replaced one may not even be there."""
    program = Program("d", "v1", "example.org/D/cmd/d", {"example.org/D": "v1.0.0"}, replaces={"example.org/openapi": "v0.0.1"})
    (tmp_path / "fail").touch()  # what was prepared stays for the next run
    with pytest.raises(PlatformError, match="no space left"):
        builder(tmp_path).build(program, lambda _line: None)
    assert "replace example.org/openapi => example.org/openapi v0.0.1\n" in (tmp_path / "work/d-v1/go.mod").read_text()
    assert calls.exists()


def test_files_of_a_program_come_from_its_modules(tmp_path: Path, calls: Path) -> None:
    (tmp_path / "bin").mkdir()
    folder = tmp_path / "mod/example.org/F@v1.24.0"
    (tmp_path / "path/go").write_text(f'#!/bin/sh\necho "go $*" >> "$CALLS"\necho \'{{"Dir": "{folder}"}}\'\n')
    program = Program(
        "f", "v1.24.0", "example.org/F/cmd/f", modules={"example.org/F": "v1.24.0"}, files={"/f.json": "example.org/F/data/f.json"}
    )
    assert builder(tmp_path).files(program) == {"/f.json": folder / "data/f.json"}
    assert "mod download -json example.org/F@v1.24.0" in calls.read_text()
    with pytest.raises(PlatformError, match=r"must be in one of the modules example\.org/F"):
        builder(tmp_path).files(Program("f", "v1", modules={"example.org/F": "v1"}, files={"/x": "example.org/G/x"}))


def test_files_that_a_modules_own_build_makes_are_put_into_a_copy_of_it(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "cache" / "F@v1.24.0"
    (module / "build").mkdir(parents=True)
    (module / "go.mod").write_text("module example.org/F\n")
    (module / "go.mod").chmod(0o444)
    (module / "build").chmod(0o555)
    monkeypatch.setattr(Builder, "download", lambda *_arguments: {"Dir": str(module)})
    program = Program(
        "f", "v1.24.0", "example.org/F/cmd/f", {"example.org/F": "v1.24.0"}, generated={"example.org/F/build/version.txt": "v1.24.0"}
    )
    (tmp_path / "fail").touch()  # what was prepared stays for the next run
    for _again in range(2):
        with pytest.raises(PlatformError, match="no space left"):
            builder(tmp_path).build(program, lambda _line: None)
    assert "replace example.org/F => ./F" in (tmp_path / "work/f-v1.24.0/go.mod").read_text()
    assert (tmp_path / "work/f-v1.24.0/F/build/version.txt").read_text() == "v1.24.0"
    assert not (module / "build/version.txt").exists() and calls.exists()


def test_new_version_takes_over_the_name(tmp_path: Path, calls: Path) -> None:
    for version in ("v1", "v2"):
        builder(tmp_path).build(Program("pause", version), lambda _line: None)
    assert os.readlink(tmp_path / "bin/pause") == "pause-v2"
    assert not builder(tmp_path).has(Program("pause", "v1")), "the name belongs to the other version"
    assert builder(tmp_path).has(Program("pause", "v2"))
    assert calls.exists()


def test_failed_build_says_why_and_leaves_no_program(tmp_path: Path, calls: Path) -> None:
    (tmp_path / "fail").touch()
    with pytest.raises(PlatformError, match="no space left on device"):
        builder(tmp_path).build(Program("pause", "v1"), lambda _line: None)
    assert not (tmp_path / "bin/pause-v1").exists()
    (tmp_path / "fail").unlink()
    builder(tmp_path).build(Program("pause", "v1"), lambda _line: None)
    assert (tmp_path / "bin/pause-v1").exists()
    assert stat.S_ISREG((tmp_path / "log/build-pause-v1.log").stat().st_mode)
    assert calls.exists()


def test_program_without_source_is_refused(tmp_path: Path, calls: Path) -> None:
    with pytest.raises(PlatformError, match=r"unknown/main\.go is wanted"):
        builder(tmp_path).build(Program("unknown", "v1"), lambda _line: None)
    assert not calls.exists()


def test_link_flags() -> None:
    assert builds.link_flags({"a.b": "v1", "a.a": "2"}) == "-s -w -X a.a=2 -X a.b=v1"
