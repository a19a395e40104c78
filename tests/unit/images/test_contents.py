# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read from layers, what a Containerfile needs of a machine, and documents by their formats' own rules: pure but for files of a test."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._images import contents, labels, provenance, recipe, sbom, scan
from ansible_collections.progressive.platform.plugins.module_utils._images.contents import Contents, Package
from ansible_collections.progressive.platform.plugins.module_utils._images.definition import SOURCE, Base, Image, read_description
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError


def layer(files: dict[str, str], compressed: bool = False) -> io.BytesIO:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return io.BytesIO(gzip.compress(raw.getvalue()) if compressed else raw.getvalue())


def python(name: str, version: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def found(*layers: dict[str, str]) -> set[tuple[str, str, str]]:
    return {(it.kind, it.name, it.version) for it in contents.contents({}, (layer(files) for files in layers)).packages}


A, B = "usr/lib/python3/a-1.dist-info/METADATA", "usr/lib/python3/b-1.dist-info/METADATA"


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        pytest.param([{A: python("a", "1")}], {("pypi", "a", "1")}, id="one"),
        pytest.param([{f"./{A}": python("A.b_C", "1")}], {("pypi", "a-b-c", "1")}, id="another way to write paths, and the name as PyPI has it"),
        pytest.param([{A: python("a", "1")}, {A: python("a", "2")}], {("pypi", "a", "2")}, id="a higher layer's file"),
        pytest.param([{A: python("a", "1")}, {A: "nothing"}], set(), id="a higher layer's file that tells nothing"),
        pytest.param([{A: python("a", "1"), B: python("b", "1")}, {"usr/lib/python3/.wh.a-1.dist-info": ""}], {("pypi", "b", "1")}, id="removed"),
        pytest.param([{A: python("a", "1")}, {B: python("b", "1"), "usr/lib/python3/.wh..wh..opq": ""}], {("pypi", "b", "1")}, id="a folder made anew"),
        pytest.param([{A: python("a", "1")}, {".wh..wh..opq": ""}], set(), id="everything made anew"),
        pytest.param([{"usr/lib/x.egg-info/PKG-INFO": python("x", "3")}], {("pypi", "x", "3")}, id="an egg"),
        pytest.param([{"usr/share/METADATA": python("x", "3")}], set(), id="a file of the same name elsewhere"),
        pytest.param([{"var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 12\n"}], {("deb", "base-files", "12")}, id="distroless"),
        pytest.param([{"lib/apk/db/installed": "C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\nP:none\n"}], {("apk", "musl", "1.2.5-r0")}, id="Alpine"),
        pytest.param([{"bin/x": "\x7fELF and no Go"}, {"bin/y": "#!/bin/sh"}, {"bin/z": "\x7fELF\xff Go buildinf:"}], set(), id="other programs"),
    ],
)  # fmt: skip
def test_what_the_whole_of_the_layers_holds(layers: list[dict[str, str]], wanted: set[tuple[str, str, str]]) -> None:
    assert found(*layers) == wanted


def test_compressed_layers_and_the_distribution() -> None:
    files = {"usr/lib/os-release": 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n', A: python("a", "1")}
    seen = contents.contents({"architecture": "arm64", "created": "2026-01-02T03:04:05.123456789Z"}, [layer(files, compressed=True)])
    assert seen == Contents((Package("pypi", "a", "1"),), "debian", "12", "arm64", "2026-01-02T03:04:05.123456789Z")


EVERYTHING = Contents(
    (
        Package("apk", "musl", "1.2.5-r0", "x86_64", "MIT"),
        Package("deb", "libc6", "2.36-9+deb12u13", "amd64"),
        Package("golang", "example.org/a/b", "v1.0.0"),
        Package("golang", "own", "(devel)"),
        Package("pypi", "some-package", "2.0", licence="MIT OR Apache-2.0"),
        Package("pypi", "other", "1", licence="whatever it says"),
    ),
    "debian",
    "12",
    "amd64",
    "2026-01-02T03:04:05.123456789Z",
)


def test_a_bill_is_valid_and_the_same_for_the_same_image() -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = sbom.make("registry.example.com:5000/team/app:1", f"sha256:{'a' * 64}", EVERYTHING)
    assert sbom.make("registry.example.com:5000/team/app:1", f"sha256:{'a' * 64}", EVERYTHING) == text
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert errors is None, errors
    bill = json.loads(text)
    assert bill["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"
    assert (bill["metadata"]["component"]["name"], bill["metadata"]["component"]["version"]) == ("registry.example.com:5000/team/app", "1")
    purls = {it.get("purl") for it in bill["components"]}
    assert "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12" in purls
    assert {it["name"] for it in bill["components"] if it["type"] == "operating-system"} == {"debian"}


def test_a_machine_without_the_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(sbom.importlib, "import_module", missing)
    with pytest.raises(PlatformError, match="pip install 'cyclonedx-python-lib"):
        sbom.ready()


def test_every_lock_of_ours_is_read_whole() -> None:
    for lock in SOURCE.glob("*/requirements.txt"):
        text = lock.read_text()
        entries = provenance.locked(text)
        assert len(entries) == sum("==" in line and not line.lstrip().startswith("#") for line in text.splitlines()), lock
        assert sum(len(it["annotations"]["sha256"]) for it in entries) == text.count("--hash=sha256:"), lock


# -- recipes ---------------------------------------------------------------------------------------------------------------

TEXT = """# RUN in a comment is none
ARG A_BASE=a:1
FROM --platform=linux/amd64 ${A_BASE} AS build
RUN one \\
    && two
FROM scratch AS copied
COPY --from=build /x /x
FROM ${B_BASE} AS plain
# a comment between
COPY x /x
FROM plain AS last
USER 1
"""


def image(target: str = "", *bases: Base, containerfile: str = "Containerfile") -> Image:
    return Image("x", "registry.example.com/x:1", containerfile, target, bases)


@pytest.mark.parametrize(("target", "runs"), [("build", True), ("copied", True), ("plain", False), ("last", False), ("", False)])
def test_what_is_run_on_the_way_to_a_stage(target: str, runs: bool) -> None:
    assert any(stage.runs for stage in recipe.needed(recipe.stages(TEXT), target)) is runs


def test_the_base_that_an_image_is_named_by() -> None:
    bases = (Base("a", "a:1"), Base("b", "b:2"))
    assert recipe.last_base(image("", *bases), TEXT) == "b:2" and recipe.last_base(image("build", *bases), TEXT) == "a:1"
    assert recipe.last_base(image("copied", *bases), TEXT) == ""
    assert recipe.last_base(image("", Base("b", "localhost/x", "bookworm")), TEXT) == ""


def test_which_of_ours_can_be_cross_built() -> None:
    """Those that are one Go program and nothing else."""
    free = set()
    for name, entry in read_description(SOURCE).items():
        text = (SOURCE / entry["containerfile"]).read_text()
        if not any(stage.runs for stage in recipe.needed(recipe.stages(text), entry.get("target", ""))):
            free.add(name)
    assert free == {
        "ferretdb",
        "oauth2_proxy",
        "pilot",
        "install_cni",
        "prometheus",
        "prometheus_adapter",
        "descheduler",
        "otel_collector",
        "jaeger",
        "kube_state_metrics",
    }


def test_an_emulator_that_the_kernel_knows_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Containerfile").write_text(TEXT)
    monkeypatch.setattr(recipe, "EMULATORS", tmp_path)
    monkeypatch.setattr(recipe, "architecture", lambda: "amd64")
    wanted = [image("build")]
    with pytest.raises(PlatformError, match=r"x for arm64: Containerfile runs programs of the image \(RUN\).*qemu-user-static"):
        recipe.refuse_foreign(wanted, ["linux/amd64", "linux/arm64"], tmp_path)
    recipe.refuse_foreign([image("last")], ["linux/arm64"], tmp_path)
    (tmp_path / "qemu-aarch64").write_text("disabled\n")
    with pytest.raises(PlatformError):
        recipe.refuse_foreign(wanted, ["linux/arm64"], tmp_path)
    (tmp_path / "qemu-aarch64").write_text("enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\n")
    recipe.refuse_foreign(wanted, ["linux/arm64"], tmp_path)


# -- labels and severities -------------------------------------------------------------------------------------------------


def test_what_is_not_known_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    one = Image("x", "registry.example.com:5000/x:1-ab", "x", "", (), paths=("x",), content="1-ab")
    origin = labels.look(one, tmp_path, environment={})
    assert origin == labels.Origin() and set(labels.labels(one, origin)) == {"org.opencontainers.image.version", labels.CONTENT}


def test_an_installed_collection_knows_its_repository(tmp_path: Path) -> None:
    assert labels.own_repository() == "https://github.com/progressive-platform/progressive.platform"
    (tmp_path / "MANIFEST.json").write_text('{"collection_info": {"repository": "https://example.com/x"}}')
    assert labels.own_repository(tmp_path) == "https://example.com/x" and labels.own_repository(tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("severity", "unfixed", "wanted"),
    [
        ("critical", False, []),
        ("critical", True, ["C"]),
        ("high", False, ["H"]),
        ("low", True, ["C", "H", "L"]),
        ("none", True, []),
    ],
)
def test_what_is_too_grave(severity: str, unfixed: bool, wanted: list[str]) -> None:
    findings = [scan.Finding("critical", "C", "p", "1"), scan.Finding("high", "H", "p", "1", "2"), scan.Finding("low", "L", "p", "1", "2")]
    findings.append(scan.Finding("unknown", "U", "p", "1", "2"))
    assert {it.name for it in scan.refused(findings, severity, unfixed)} >= set(wanted)
    assert [it.name for it in scan.refused(findings, severity, unfixed)] == wanted
    assert list(scan.counts(findings)) == ["critical", "high", "low", "unknown"]
