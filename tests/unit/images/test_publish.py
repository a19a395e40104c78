# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From sources to a registry: real buildah, Go, skopeo and a real registry on loopback; faults by a proxy before it. cosign and scanners are doubles."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import typing as t
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._images import arguments, publish
from ansible_collections.progressive.platform.plugins.module_utils._images.definition import digest
from ansible_collections.progressive.platform.plugins.module_utils._mirror import digests
from ansible_collections.progressive.platform.plugins.module_utils._mirror.skopeo import Skopeo
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock
from ansible_collections.progressive.platform.tests.unit.mirror.registry import PASSWORD, Layout, Registry, authfile, push

from .faults import RESET, Faults

Json = dict[str, t.Any]
AARCH64, X86_64 = 183, 62  # e_machine of ELF
MODULES = {
    "example.test/lib": ("v1.2.3", {"go.mod": "module example.test/lib\ngo 1.20\n", "lib.go": 'package lib\n\nfunc Word() string { return "hello" }\n'}),
    "example.test/hello": (
        "v1.0.0",
        {
            "go.mod": "module example.test/hello\ngo 1.20\nrequire example.test/lib v1.2.3\n",
            "main.go": 'package main\n\nimport "example.test/lib"\n\nfunc main() { println(lib.Word()) }\n',
        },
    ),
}  # fmt: skip
CONTAINERFILE = """ARG HELLO_BASE
FROM ${HELLO_BASE}
LABEL org.opencontainers.image.title="hello" org.opencontainers.image.licenses="GPL-3.0-or-later"
COPY root /
USER 1001:1001
ENTRYPOINT ["/hello"]
"""
STATUS = """Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.2.13.dfsg-1

Package: gone
Status: deinstall ok config-files
Version: 1
"""
METADATA = "Metadata-Version: 2.4\nName: Some_Package\nVersion: 2.0\nLicense-Expression: MIT\n\nName: not me\n"


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Go module proxy of files, so that nothing is fetched."""
    for path, (version, files) in MODULES.items():
        folder = tmp_path / "proxy" / path / "@v"
        folder.mkdir(parents=True)
        (folder / "list").write_text(f"{version}\n")
        (folder / f"{version}.info").write_text(json.dumps({"Version": version}))
        (folder / f"{version}.mod").write_text(files["go.mod"])
        with zipfile.ZipFile(folder / f"{version}.zip", "w") as packed:
            for name, text in files.items():
                packed.writestr(f"{path}@{version}/{name}", text)
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path}/proxy")
    monkeypatch.setenv("GOSUMDB", "off")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    return tmp_path / "proxy"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A git checkout with the sources of one image: a static program, Debian's and Python's metadata beside it."""
    folder = tmp_path / "images"
    (folder / "root/var/lib/dpkg").mkdir(parents=True)
    (folder / "root/var/lib/dpkg/status").write_text(STATUS)
    (folder / "root/etc").mkdir()
    (folder / "root/etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    (folder / "root/lib/some_package-2.0.dist-info").mkdir(parents=True)
    (folder / "root/lib/some_package-2.0.dist-info/METADATA").write_text(METADATA)
    (folder / "Containerfile").write_text(CONTAINERFILE)
    (folder / "images.yml").write_text('hello: {version: "1", containerfile: Containerfile, bases: [hello], sources: [root]}\n')
    identity = {"GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z"}
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@example.test", "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True, env={**os.environ, **identity})
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry").running() as running:
        yield running


@pytest.fixture
def build(source: Path, proxy: Path, tmp_path: Path, registry: Registry) -> Iterator[Callable[..., Json]]:
    """Call the module's function with the image's options."""
    program = {"version": "v1.0.0", "package": "example.test/hello", "modules": {"example.test/hello": "v1.0.0"}}
    options = {
        "source": str(source),
        "cache": str(tmp_path / "cache"),
        "bases": {"hello": program},
        "repository": "https://example.test/repository",
    }
    pushed = {"registry": f"{registry.address}/team", "push": True, "tls_verify": False, "attempts": 3, "scanner": "none"}

    def call(check: bool = False, clock: FakeClock | None = None, **given: t.Any) -> Json:
        checked = ArgumentSpecValidator(arguments.ARGUMENTS).validate({**options, **pushed, **given})
        assert not checked.error_messages, checked.error_messages
        return arguments.run(checked.validated_parameters, Context(check=check, clock=clock or FakeClock()))

    yield call
    shutil.rmtree(f"/run/progressive-platform-buildah-{digest([str(tmp_path / 'cache')])}", ignore_errors=True)


def inspect(registry: Registry, path: str, *options: str) -> Json:
    command = [
        "skopeo",
        *options,
        "inspect",
        "--tls-verify=false",
        "--raw" if not options else "--config",
        f"docker://{registry.address}/{path}",
    ]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def document(registry: Registry, digest: str, suffix: str) -> tuple[Json, Json]:
    """The manifest of a document about an image, and the document, from the registry's own files."""
    manifest = inspect(registry, f"team/hello:{digest.replace(':', '-')}.{suffix}")
    return manifest, json.loads(blob(registry, manifest["layers"][0]["digest"]))


def blob(registry: Registry, digest: str) -> bytes:
    value = digest.removeprefix("sha256:")
    return (registry.storage / f"docker/registry/v2/blobs/sha256/{value[:2]}/{value}/data").read_bytes()


def program(registry: Registry, manifest: Json) -> bytes:
    """/hello of an image."""
    for layer in manifest["layers"]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob(registry, layer["digest"])))) as tar:
            if "hello" in tar.getnames():
                return t.cast("t.IO[bytes]", tar.extractfile("hello")).read()
    raise AssertionError(f"no layer of {manifest} has /hello")


def puts(registry: Registry) -> list[str]:
    return [line for line in registry.requests if '"PUT ' in line]


def test_an_image_is_pushed_with_labels_bill_and_provenance_and_again_nothing(
    build: Callable[..., Json], registry: Registry, source: Path, tmp_path: Path
) -> None:
    would = build(check=True)
    assert would["changed"] and would["msg"] == "1 of 1 images would be built." and not registry.repositories()
    done = build()
    (image,) = done["images"]
    tag = image["reference"].rpartition(":")[2]
    assert done["changed"] and image["digest"] == registry.digest(f"team/hello:{tag}") != ""
    assert "No vulnerability scanner was run" in done["msg"]
    commit = subprocess.run(["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    config = inspect(registry, f"team/hello:{tag}", "--override-arch=amd64")
    assert {
        name.removeprefix("org.opencontainers.image."): value for name, value in config["config"]["Labels"].items() if "buildah" not in name
    } == {
        "title": "hello",
        "licenses": "GPL-3.0-or-later",
        "version": tag,
        "source": "https://example.test/repository",
        "revision": commit,
        "created": "2026-01-02T03:04:05Z",
        "platform.progressive.content": tag,
    }

    manifest, bill = document(registry, image["digest"], "sbom")
    assert manifest["subject"]["digest"] == image["digest"] and manifest["artifactType"] == "application/vnd.cyclonedx+json"
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["hashes"][0]["content"] == image["digest"][7:]
    purls = {it["purl"] for it in bill["components"] if "purl" in it}
    go = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip().removeprefix("go")
    assert purls == {
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12",
        "pkg:pypi/some-package@2.0",
        "pkg:golang/example.test/hello@v1.0.0",
        "pkg:golang/example.test/lib@v1.2.3",
        f"pkg:golang/stdlib@{go}",
    }
    assert [Path(path).name for path in image["sboms"]] == [f"hello-{tag}.amd64.cdx.json"] and json.loads(
        Path(image["sboms"][0]).read_text()
    ) == bill

    manifest, statement = document(registry, image["digest"], "provenance")
    assert manifest["subject"]["digest"] == image["digest"] and json.loads(Path(image["provenance"]).read_text()) == statement
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1" and {"sha256": image["digest"][7:]} in [
        it["digest"] for it in statement["subject"]
    ]
    made_of = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"uri": f"git+https://example.test/repository@{commit}", "digest": {"gitCommit": commit}} in made_of
    assert {"uri": "pkg:golang/example.test/hello@v1.0.0"} in made_of
    assert {"name": "Containerfile", "digest": {"sha256": hashlib.sha256((source / "Containerfile").read_bytes()).hexdigest()}} in made_of
    rootfs = next((tmp_path / "cache/bases").glob("*/rootfs.tar"))
    assert {"sha256": hashlib.sha256(rootfs.read_bytes()).hexdigest()} in [it.get("digest") for it in made_of]
    assert statement["predicate"]["runDetails"]["builder"]["version"]["buildah"].startswith("buildah version")

    before = len(puts(registry))
    again = build()
    assert not again["changed"] and again["images"][0]["digest"] == image["digest"] and len(puts(registry)) == before
    assert not (tmp_path / "cache/publish").exists() or not list((tmp_path / "cache/publish").iterdir())


def test_a_static_program_is_built_for_both_architectures_and_pushed_as_one_index(
    build: Callable[..., Json], registry: Registry, tmp_path: Path
) -> None:
    one = build()["images"][0]
    (image,) = build(platforms=["linux/amd64", "linux/arm64"])["images"]
    assert image["reference"] != one["reference"], "an index is another image, so it has another tag"
    index = inspect(registry, "team/" + image["reference"].rpartition("/")[2])
    assert [it["platform"] for it in index["manifests"]] == [{"architecture": it, "os": "linux"} for it in ("amd64", "arm64")]
    assert index["annotations"]["org.opencontainers.image.source"] == "https://example.test/repository"
    for described, machine in zip(index["manifests"], (X86_64, AARCH64), strict=True):
        elf = program(registry, inspect(registry, f"team/hello@{described['digest']}"))
        assert elf[:4] == b"\x7fELF" and struct.unpack_from("<H", elf, 18)[0] == machine
        emulator = shutil.which("qemu-aarch64-static")  # of Debian's qemu-user-static, where somebody has it
        if machine == X86_64 or emulator:
            (tmp_path / "program").write_bytes(elf)
            (tmp_path / "program").chmod(0o755)
            command = [str(tmp_path / "program")] if machine == X86_64 else [str(emulator), str(tmp_path / "program")]
            assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr == "hello\n"
        manifest, bill = document(registry, described["digest"], "sbom")
        assert manifest["subject"]["digest"] == described["digest"] and "pkg:golang/example.test/lib@v1.2.3" in json.dumps(bill)
    _manifest, statement = document(registry, image["digest"], "provenance")
    assert {it["digest"]["sha256"] for it in statement["subject"]} == {
        it[7:] for it in (image["digest"], *(it["digest"] for it in index["manifests"]))
    }
    assert not build(platforms=["linux/amd64", "linux/arm64"])["changed"]


def test_a_foreign_program_without_modules_is_installed_for_its_architecture(build: Callable[..., Json], registry: Registry) -> None:
    bases = {"hello": {"version": "v1.0.0", "package": "example.test/hello"}}
    (image,) = build(bases=bases, platforms=["linux/arm64"])["images"]
    elf = program(registry, inspect(registry, "team/" + image["reference"].rpartition("/")[2]))
    assert struct.unpack_from("<H", elf, 18)[0] == AARCH64


def test_an_archive_has_its_documents_beside_it_and_takes_them_along(build: Callable[..., Json], tmp_path: Path) -> None:
    (image,) = build(push=False, registry="localhost/progressive")["images"]
    archive = Path(image["archive"])
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert json.loads(Path(image["sboms"][0]).read_text())["metadata"]["component"]["hashes"][0]["content"] == digest
    assert json.loads(Path(image["provenance"]).read_text())["subject"] == [{"name": archive.name, "digest": {"sha256": digest}}]
    build(push=False, registry="localhost/progressive", state="absent")
    assert not list((tmp_path / "cache").glob("hello-*"))


def test_a_releases_tag_with_other_sources_is_refused_before_anything_is_built(
    build: Callable[..., Json], registry: Registry, source: Path
) -> None:
    (image,) = build(tag="1.0.0")["images"]
    assert image["reference"].endswith("/hello:1.0.0") and not build(tag="1.0.0")["changed"]
    before = len(puts(registry))
    (source / "root/more").write_text("another content")
    with pytest.raises(PlatformError) as refused:
        build(tag="1.0.0")
    assert (
        image["digest"] in refused.value.message
        and "made of 1-" in refused.value.message
        and "these sources are 1-" in refused.value.message
    )
    assert len(puts(registry)) == before
    foreign = push(registry, source.parent / "foreign", "team/hello:2.0.0", kind="single")
    with pytest.raises(PlatformError, match="made of nobody knows what") as refused:
        build(tag="2.0.0")
    assert foreign in refused.value.message


def test_sources_that_are_not_committed_are_said_to_be_so(
    build: Callable[..., Json], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "root/more").write_text("another content")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    statement = json.loads(Path(build()["images"][0]["provenance"]).read_text())
    labels = statement["predicate"]["buildDefinition"]["externalParameters"]["labels"]
    assert (
        labels["org.opencontainers.image.revision"].endswith("-dirty")
        and labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    )
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(PlatformError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        build(tag="9")


# -- the push alone, of images of a few hundred bytes ----------------------------------------------------------------------


class Push:
    """An image of a test and what pushes it, with a clock that does not wait."""

    def __init__(self, folder: Path, address: str, text: str = "one", login: str = "") -> None:
        layout = Layout(folder / f"layout-{text}")
        layout.image(text)
        (layout.folder / "version").write_text("Directory Transport Version: 1.1\n")
        self.whole = publish.part(layout.folder)
        self.documents = [publish.Document(self.whole, "sbom", "application/vnd.cyclonedx+json", "{}\n")]
        self.reference, self.folder, self.clock = f"{address}/team/hello:1", folder / "room", FakeClock()
        self.skopeo = Skopeo(authfile=login, tls_verify=False, source_tls_verify=False, attempts=3, timeout=60, clock=self.clock)

    def __call__(self, cosign: publish.Cosign | None = None) -> None:
        publish.push(self.reference, self.whole, self.documents, self.folder, self.skopeo, cosign, lambda _line: None)


@pytest.mark.parametrize(
    ("where", "plan"),
    [
        pytest.param("PUT .*/manifests/", [503, 500], id="the registry is not ready for a manifest"),
        pytest.param("PUT .*/blobs/", [502], id="a gateway before it fails while a layer comes"),
        pytest.param("POST .*/blobs/uploads/", [RESET, RESET], id="the connection breaks"),
        pytest.param("HEAD .*/blobs/", [504], id="it does not answer in time"),
        pytest.param("GET .*/manifests/1", [RESET, 503], id="and when it is asked"),
    ],
)
def test_what_passes_by_itself_is_tried_again(registry: Registry, tmp_path: Path, where: str, plan: list[int]) -> None:
    with Faults(where, list(plan)).before(registry.port) as faults:
        work = Push(tmp_path, faults.address)
        work()
    assert faults.plan == [] and registry.digest("team/hello:1") == work.whole.digest
    assert registry.digest(f"team/hello:{publish.made_name(work.documents[0])}")
    assert work.clock.now() > 0, "it waited before it tried again"


def test_tries_are_bounded_and_a_tag_is_not_set_by_halves(registry: Registry, tmp_path: Path) -> None:
    with Faults("PUT .*/manifests/sha256-", [503] * 50).before(registry.port) as faults:
        work = Push(tmp_path, faults.address)
        with pytest.raises(PlatformError, match=r"503.*Tried 3 times"):
            work()
        assert len(faults.asked) == 3 and registry.digest("team/hello:1") == ""
        faults.plan.clear()
        work()
    assert registry.digest("team/hello:1") == work.whole.digest


@pytest.mark.parametrize(("status", "said"), [(401, "unauthorized"), (403, "denied")])
def test_what_a_registry_has_decided_is_not_asked_again(registry: Registry, tmp_path: Path, status: int, said: str) -> None:
    with Faults("POST .*", [status] * 50).before(registry.port) as faults:
        work = Push(tmp_path, faults.address)
        with pytest.raises(PlatformError) as refused:
            work()
    assert said in refused.value.message and "Tried" not in refused.value.message
    assert work.clock.now() == 0 and len(faults.asked) == 1


def test_a_login_comes_from_a_file_and_its_lack_is_named(tmp_path: Path) -> None:
    with Registry(tmp_path / "closed", login=True).running() as closed:
        with pytest.raises(PlatformError, match=r"authentication required|unauthorized") as refused:
            Push(tmp_path, closed.address)()
        assert PASSWORD not in refused.value.message
        Push(tmp_path, closed.address, "two", str(authfile(closed, tmp_path / "auth.json")))()


def test_a_tag_never_moves_and_both_digests_are_named(registry: Registry, tmp_path: Path) -> None:
    first, second = Push(tmp_path, registry.address), Push(tmp_path, registry.address, "two")
    first()
    before = len(puts(registry))
    with pytest.raises(PlatformError) as refused:
        second()
    assert first.whole.digest in refused.value.message and second.whole.digest in refused.value.message
    assert registry.digest("team/hello:1") == first.whole.digest and len(puts(registry)) == before
    first()


def test_who_was_quicker_meanwhile_keeps_the_tag(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Push(tmp_path, registry.address), Push(tmp_path, registry.address, "two")
    cosign = publish.Cosign()
    monkeypatch.setattr(publish.Cosign, "sign", lambda _self, _references: first())
    with pytest.raises(PlatformError, match="A tag never moves"):
        second(cosign)
    assert registry.digest("team/hello:1") == first.whole.digest


# -- doubles: neither cosign nor a scanner is in Debian --------------------------------------------------------------------


def double(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stands in for ``name``; its calls are written to the file returned, a line each."""
    folder.mkdir(exist_ok=True)
    calls = folder / f"{name}.calls"
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return calls


def test_image_and_documents_are_signed_by_digest_before_the_tag_is_set_by_a_double_of_cosign(
    build: Callable[..., Json], registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "cosign.key"
    key.write_text("a key")
    options = {"sign": True, "cosign_key": str(key), "cosign_options": ["--tlog-upload=false"]}
    calls = double(tmp_path / "bin", "cosign", "echo 'error: the key service does not answer' >&2; exit 1", monkeypatch)
    with pytest.raises(PlatformError, match="the key service does not answer"):
        build(**options)
    assert calls.exists() and not [line for line in puts(registry) if "/manifests/1-" in line], "without a signature there is no tag"
    double(tmp_path / "bin", "cosign", "exit 0", monkeypatch)
    (image,) = build(**options)["images"]
    said = calls.read_text().splitlines()[-1].split()
    assert said[:5] == ["sign", "--yes", "--recursive", "--key", str(key)] and "--tlog-upload=false" in said
    name = image["reference"].rpartition(":")[0]
    documents = [registry.digest(f"team/hello:{image['digest'].replace(':', '-')}.{suffix}") for suffix in ("sbom", "provenance")]
    assert said[-3:] == [f"{name}@{digest}" for digest in (image["digest"], *documents)]
    assert registry.digest(image["reference"].partition("/")[2]) == image["digest"]


@pytest.mark.skipif(not shutil.which("cosign"), reason="cosign is not on this machine; make cosign builds it and runs this test")
def test_what_real_cosign_has_signed_it_verifies(
    build: Callable[..., Json], registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "of this test")
    subprocess.run(["cosign", "generate-key-pair"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    options = {"sign": True, "cosign_key": str(tmp_path / "cosign.key"), "cosign_options": ["--tlog-upload=false"]}
    (image,) = build(**options, platforms=["linux/amd64", "linux/arm64"])["images"]
    name, whole = image["reference"].rpartition(":")[0], image["digest"]
    index = inspect(registry, "team/" + image["reference"].rpartition("/")[2])
    platforms = [it["digest"] for it in index["manifests"]]
    documents = [registry.digest(f"team/hello:{it.replace(':', '-')}.sbom") for it in platforms]
    documents.append(registry.digest(f"team/hello:{whole.replace(':', '-')}.provenance"))

    def verify(wanted: str) -> bool:
        trust = ["--key", str(tmp_path / "cosign.pub"), "--insecure-ignore-tlog=true"]
        command = ["cosign", "verify", *trust, "--allow-insecure-registry", "--allow-http-registry", f"{name}@{wanted}"]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    assert [it for it in (whole, *platforms, *documents) if not verify(it)] == []
    (foreign,) = build(tag="unsigned")["images"]
    assert not verify(foreign["digest"]), "another image is not signed by it"


TRIVY = {
    "SchemaVersion": 2,
    "Results": [
        {"Target": "debian", "Vulnerabilities": [
            {"VulnerabilityID": "CVE-2026-1", "PkgName": "zlib1g", "InstalledVersion": "1:1.2.13.dfsg-1", "Severity": "CRITICAL"},
            {"VulnerabilityID": "CVE-2026-2", "PkgName": "zlib1g", "InstalledVersion": "1:1.2.13.dfsg-1", "FixedVersion": "1:1.3", "Severity": "HIGH"},
        ]},
        {"Target": "Python"},
    ],
}  # fmt: skip
GRYPE = {
    "matches": [
        {"vulnerability": {"id": "CVE-2026-1", "severity": "Critical", "fix": {"versions": [], "state": "not-fixed"}},
         "artifact": {"name": "zlib1g", "version": "1:1.2.13.dfsg-1"}},
        {"vulnerability": {"id": "CVE-2026-2", "severity": "High", "fix": {"versions": ["1:1.3"], "state": "fixed"}},
         "artifact": {"name": "zlib1g", "version": "1:1.2.13.dfsg-1"}},
    ]
}  # fmt: skip


@pytest.mark.parametrize(("scanner", "report"), [("trivy", TRIVY), ("grype", GRYPE)])
def test_what_a_double_of_a_scanner_finds_stops_the_push(
    build: Callable[..., Json], registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanner: str, report: Json
) -> None:
    answer = tmp_path / "report.json"
    answer.write_text(json.dumps(report))
    calls = double(tmp_path / "bin", scanner, f"cat {answer}", monkeypatch)
    with pytest.raises(PlatformError) as refused:
        build(scanner=scanner, severity="high")
    assert (
        "1 vulnerabilities are at or above images_severity: CVE-2026-2 (high) in zlib1g 1:1.2.13.dfsg-1, fixed in 1:1.3"
        in refused.value.message
    )
    assert not registry.repositories(), "nothing was pushed"
    with pytest.raises(PlatformError, match=r"CVE-2026-1 \(critical\).*CVE-2026-2"):
        build(scanner=scanner, severity="high", unfixed=True)
    done = build(scanner="auto")
    assert done["images"][0]["vulnerabilities"] == {"critical": 1, "high": 1} and done["scanner"] == scanner
    assert "cdx.json" in calls.read_text() and f"{scanner} looked for vulnerabilities" in done["msg"]
    assert json.loads(next((tmp_path / "cache").glob("*.vulnerabilities.json")).read_text()) == report


def test_a_scanner_that_says_nothing_of_use_is_not_taken_for_a_clean_report(
    build: Callable[..., Json], registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double(tmp_path / "bin", "trivy", "echo database is old", monkeypatch)
    with pytest.raises(PlatformError, match="trivy did not answer with its report"):
        build(scanner="trivy")
    double(tmp_path / "bin", "trivy", "echo no database >&2; exit 1", monkeypatch)
    with pytest.raises(PlatformError, match="no database"):
        build(scanner="trivy")
    assert not registry.repositories()


def test_the_digest_of_what_was_pushed_comes_into_the_inventory(build: Callable[..., Json], registry: Registry, tmp_path: Path) -> None:
    (image,) = build()["images"]
    origin = image["reference"].removeprefix(f"{registry.address}/team/")
    bill, dest = tmp_path / "bill.json", tmp_path / "digests.yml"
    entry = {"reference": image["reference"], "origin": origin, "name": "hello", "digest": "", "licence": "", "clusters": ["production"]}
    bill.write_text(json.dumps({"images": [entry], "files": []}))
    given = {"bill": str(bill), "dest": str(dest), "source_tls_verify": False, "sources": {"hello": image["reference"]}}
    options = ArgumentSpecValidator(digests.ARGUMENTS).validate(given).validated_parameters
    assert digests.run(options, Context())["found"] == {origin: image["digest"]} and image["digest"] in dest.read_text()
    assert not digests.run(options, Context())["changed"]


def test_the_bill_reads_gos_modules_as_go_does(build: Callable[..., Json], tmp_path: Path) -> None:
    (image,) = build(push=False, registry="localhost/progressive")["images"]
    binary = shutil.which("docker-registry")
    assert binary
    from ansible_collections.progressive.platform.plugins.module_utils._images.contents import go_modules

    for path in (next((tmp_path / "cache/programs").glob("hello-*")), Path(binary), Path("/usr/local/go/bin/go")):
        said = subprocess.run(["go", "version", "-m", str(path)], capture_output=True, text=True, check=True).stdout
        lines = [line.split("\t")[1:] for line in said.splitlines()[1:]]
        wanted = {(it[1], it[2]) for it in lines if it[0] in ("mod", "dep") and len(it) > 2}
        replaced = {(before[1], before[2]) for before, it in itertools.pairwise(lines) if it[0] == "=>"}
        found = {(it.name, it.version) for it in go_modules(path.read_bytes())}
        assert wanted - replaced <= found and len(found) == len(wanted) + 1, path
    assert image["built"]
