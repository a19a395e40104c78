# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image references, command lines and the plan of a build: pure, so nothing is built here."""

from __future__ import annotations

import os
import shutil
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._images import build as build_module
from ansible_collections.progressive.platform.plugins.module_utils._images.arguments import ARGUMENTS, make_job, run
from ansible_collections.progressive.platform.plugins.module_utils._images.build import Builder, Job
from ansible_collections.progressive.platform.plugins.module_utils._images.commands import Buildah, Docker, mmdebstrap
from ansible_collections.progressive.platform.plugins.module_utils._images.definition import SOURCE, Base, Image, make_bases, make_images
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

MADE = {"suite": "bookworm", "packages": ["python3", "dumb-init"]}
BASES: dict[str, t.Any] = {"python": MADE, "nginx": {"suite": "bookworm", "packages": ["nginx-light"]}, "redis": "redis:7.2"}
REGISTRY = "registry.example.com/team"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the collection's image sources that a test may change."""
    return Path(shutil.copytree(SOURCE, tmp_path / "images", ignore=shutil.ignore_patterns("__pycache__")))


def references(source: Path, revision: int = 1, **bases: t.Any) -> dict[str, str]:
    images = make_images(source, make_bases({**BASES, **bases}, revision), registry="localhost/progressive", revision=revision)
    return {name: image.reference for name, image in images.items()}


def params(folder: Path, cache: Path, **options: t.Any) -> dict[str, t.Any]:
    defaults = {name: spec.get("default") for name, spec in ARGUMENTS.items()}
    return {**defaults, "source": str(folder), "cache": str(cache), "bases": BASES, **options}


def test_references_are_the_same_everywhere(source: Path) -> None:
    here = references(SOURCE)
    assert references(source) == here
    assert list(here) == ["app", "agent", "frontend", "redis"]
    for name, reference in here.items():
        repository, _unused, tag = reference.partition(":")
        assert repository == f"localhost/progressive/{name}"
        assert len(tag.rsplit("-", 1)[1]) == 12


def test_an_optional_image_is_there_when_its_base_is(source: Path) -> None:
    """Valkey's, with a base of its own; null is no base. By name it is wanted in any case."""
    made = {"suite": "bookworm", "also": ["bookworm-backports"], "packages": ["valkey-server"]}
    assert "valkey" in references(source, valkey=made)
    assert "valkey" not in references(source, valkey=None)
    with pytest.raises(PlatformError, match="images_bases has no valkey"):
        make_images(source, make_bases(BASES, 1), registry="", revision=1, names=["valkey"])


PROGRAM = {"version": "v1.24.0", "package": "example.org/F/cmd/ferretdb", "modules": {"example.org/F": "v1.24.0"}, "tags": ["no_sqlite"]}


def test_a_base_may_be_a_program_built_here(source: Path, tmp_path: Path) -> None:
    """It is compiled beside the other bases; nothing of Debian's is wanted for it, and its tag is what it is made of."""
    job = make_job(params(source, tmp_path, names=["ferretdb"], bases={"ferretdb": PROGRAM}))
    builder = Builder(job, Context())
    steps = {step.name: step.after for step in builder.plan(list(job.images.values()))}
    assert {"compile ferretdb", "commit ferretdb", "build ferretdb"} <= set(steps)
    assert "compile ferretdb" in steps["commit ferretdb"] and builder.tools() == ["buildah"]
    before = references(source, ferretdb=PROGRAM)["ferretdb"]
    assert references(source, ferretdb={**PROGRAM, "tags": []})["ferretdb"] != before
    assert references(source, ferretdb={**PROGRAM, "modules": {"example.org/F": "v1.24.1"}})["ferretdb"] != before
    assert references(source, ferretdb={**PROGRAM, "files": {"/a": "example.org/F/a"}})["ferretdb"] != before
    assert references(source, ferretdb={**PROGRAM, "symbols": {"example.org/F.version": "1"}})["ferretdb"] != before
    assert references(source, ferretdb={**PROGRAM, "replaces": {"example.org/G": "v0.0.1"}})["ferretdb"] != before
    with pytest.raises(PlatformError, match="a Go program's version and package"):
        make_bases({"ferretdb": {**PROGRAM, "licence": "Apache-2.0"}}, 1)


def edit(path: str, text: str) -> t.Callable[[Path], None]:
    return lambda source: (source / path).write_text((source / path).read_text() + text)


def executable(source: Path) -> None:
    (source / "services/progressive/app.py").chmod(0o755)


def compiled(source: Path) -> None:
    (source / "services/progressive/__pycache__").mkdir()
    (source / "services/progressive/__pycache__/app.pyc").write_bytes(b"x")


def unrelated(source: Path) -> None:
    (source / "README.md").write_text("other words")
    (source / ".containerignore").write_text("")


def described(source: Path) -> None:
    description = yaml.safe_load((source / "images.yml").read_text())
    description["redis"]["version"] = "8"
    (source / "images.yml").write_text(yaml.safe_dump(description, sort_keys=False))


PYTHON = {"app", "agent", "frontend"}


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        pytest.param(edit("services/progressive/app.py", "\n"), PYTHON, id="a service's source"),
        pytest.param(edit("services/requirements.txt", "\n"), PYTHON, id="the lock"),
        pytest.param(edit("frontend/site/index.html", "\n"), PYTHON, id="the frontend"),
        pytest.param(edit("Containerfile", "\n"), PYTHON, id="the Containerfile"),
        pytest.param(edit("redis/Containerfile", "\n"), {"redis"}, id="redis's Containerfile"),
        pytest.param(executable, PYTHON, id="a file's mode"),
        pytest.param(described, {"redis"}, id="the description"),
        pytest.param(compiled, set(), id="compiled Python"),
        pytest.param(unrelated, set(), id="what is not copied into an image"),
    ],
)
def test_a_tag_moves_when_and_only_when_what_the_image_is_made_from_moves(
    source: Path, change: t.Callable[[Path], None], moved: set[str]
) -> None:
    before = references(source)
    change(source)
    after = references(source)
    assert {name for name in before if before[name] != after[name]} == moved


@pytest.mark.parametrize(
    ("revision", "bases", "moved"),
    [
        (2, {}, {*PYTHON, "redis"}),
        (1, {"redis": "redis:7.4"}, {"redis"}),
        (1, {"nginx": "nginx:1.29"}, {"frontend"}),
        (1, {"python": {**MADE, "suite": "trixie"}}, PYTHON),
        (1, {"python": {**MADE, "packages": ["dumb-init", "python3"]}}, set()),
        (1, {"python": {**MADE, "mirror": "http://mirror.example.com/debian"}}, set()),
    ],
)
def test_bases_and_revision_are_part_of_the_tag(revision: int, bases: dict[str, t.Any], moved: set[str]) -> None:
    before, after = references(SOURCE), references(SOURCE, revision, **bases)
    assert {name for name in before if before[name] != after[name]} == moved


PUSHED = {"push": True, "registry": REGISTRY}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bases": {"python": ""}}, "images_bases.python is ''"),
        ({"bases": {"python": {"packages": ["python3"]}}}, "images_bases.python is"),
        ({"bases": {"python": {**MADE, "distro": "debian"}}}, "images_bases.python is"),
        ({"bases": {"python": "python:3.13-slim", "nginx": "nginx:1.29"}}, "images_bases has no redis, which image redis starts from"),
        ({"names": ["ap"]}, "images_names has ap"),
        ({"source": "/nowhere"}, "/nowhere/images.yml is wanted"),
        ({"builder": "docker"}, "images_bases.nginx is a root filesystem, which buildah makes"),
        (
            {"platforms": ["linux/arm64"]},
            "app for arm64: images_bases.python is a root filesystem of Debian packages made for this machine",
        ),
        ({"names": ["redis"], "platforms": ["linux/arm64"]}, "redis for arm64: redis/Containerfile runs programs of the image (RUN)"),
        ({"platforms": ["arm64"]}, "images_platforms names 'arm64'"),
        ({"sign": True}, "images_sign is on and images_push is off"),
        ({**PUSHED, "sign": True, "cosign_key": "/nowhere/cosign.key"}, "there is no cosign on this machine"),
        ({"scanner": "trivy"}, "there is no trivy on this machine"),
        ({"authfile": "/nowhere/auth.json"}, "/nowhere/auth.json is not there"),
        ({"attempts": 0}, "images_attempts is 0"),
        ({"names": ["redis"], "platforms": ["linux/amd64", "linux/arm64"]}, "an archive holds one"),
        ({"push": True}, "images_registry is 'localhost/progressive', which is no registry"),
        ({"tag": "1.0"}, "images_tag replaces the content's own tag"),
    ],
)
def test_what_does_not_go_together_is_refused_by_its_variable(
    tmp_path: Path, options: dict[str, t.Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if program in ("cosign", "trivy") else known(program))
    with pytest.raises(PlatformError) as refused:
        make_job(params(SOURCE, tmp_path, **options))
    assert reason in refused.value.message


def image(name: str, *bases: Base, target: str = "") -> Image:
    return Image(name, f"{REGISTRY}/{name}:1", "Containerfile", target, bases)


BUILDAH = Buildah(Path("/c/storage"), Path("/run/b"))
PYTHON_BASE = Base("python", "python:3.13-slim")
MADE_BASE = Base("python", "localhost/progressive/base-python:1a2b", "bookworm", ("dumb-init", "python3"))


@pytest.mark.parametrize(
    ("command", "wanted", "unwanted"),
    [
        (mmdebstrap(MADE_BASE, Path("/t.tar")), ["--include=usr-is-merged,dumb-init,python3", "bookworm", "/t.tar"], []),
        (mmdebstrap(Base("x", "x", "trixie", ("a",), "mirror"), Path("/t.tar")), ["trixie", "/t.tar", "mirror"], []),
        (
            mmdebstrap(Base("x", "x", "bookworm", ("a",), also=("bookworm-backports",)), Path("/t.tar")),
            [
                "--setup-hook=echo 'deb http://deb.debian.org/debian bookworm-backports main' >\"$1\"/etc/apt/sources.list.d/bookworm-backports.list",
                "bookworm",
                "/t.tar",
            ],
            [],
        ),
        (
            BUILDAH.build(image("app", PYTHON_BASE, target="app"), Path("/s"), platform="linux/arm64", labels={"a": "b c"}, authfile="/auth"),
            ["--pull", "--platform", "linux/arm64", "--tag", f"{REGISTRY}/app:1-arm64", "--target", "app", "--label=a=b c", "--authfile", "/auth",
             "--build-arg=PYTHON_BASE=python:3.13-slim"],
            ["--manifest", "--pull-never", "--build-arg=PIP_NO_INDEX=1"],
        ),
        (
            BUILDAH.build(image("app", MADE_BASE), Path("/s"), wheels=Path("/w")),
            ["--pull-never", "--tag", f"{REGISTRY}/app:1", "--volume=/w:/wheels:ro", "--build-arg=PIP_NO_INDEX=1", "--file", "/s/Containerfile", "/s"],
            ["--platform", "--pull", "--target", "--authfile"],
        ),
        (BUILDAH.save(image("app"), Path("/a.tar")), ["unshare", "--mount", "buildah", "--root", "/c/storage", f"docker-archive:/a.tar:{REGISTRY}/app:1"], []),
        (BUILDAH.lay_out(image("app"), "linux/amd64", Path("/d")), ["push", f"{REGISTRY}/app:1-amd64", "dir:/d"], ["manifest"]),
        (BUILDAH.base(Base("a", "b:c", architecture="arm64"), Path("/f"), Path("/d")), ["--platform", "linux/arm64", "--tag", "b:c"], []),
        (
            Docker().build(image("app"), Path("/s"), Path("/a"), platform="linux/arm64", kind="oci"),
            ["buildx", "--platform", "linux/arm64", "--output=type=oci,dest=/a", "--provenance=false"],
            ["--push"],
        ),
        (Docker().build(image("app"), Path("/s"), Path("/a")), ["--output=type=docker,dest=/a"], ["--push", "--platform"]),
    ],
)  # fmt: skip
def test_command_lines(command: list[str], wanted: list[str], unwanted: list[str]) -> None:
    assert [part for part in wanted if part not in command] == []
    assert [part for part in unwanted if part in command] == []


def test_pip_is_told_where_to_download_and_nothing_else() -> None:
    environment = {
        "PIP_INDEX_URL": "http://index.example.com",
        "HTTPS_PROXY": "http://proxy.example.com",
        "TOKEN": "secret",
        "PIP_FIND_LINKS": "/x",
    }
    command = BUILDAH.download("c-1", Path("/lock"), Path("/w"), environment)
    passed = [part for part in command if part.startswith("--env=")]
    assert passed == [
        "--env=PIP_INDEX_URL=http://index.example.com",
        "--env=HTTPS_PROXY=http://proxy.example.com",
        "--env=PIP_CERT=/etc/ssl/certs/ca-certificates.crt",
    ]


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.setattr(build_module.shutil, "which", lambda program: f"/usr/bin/{program}")
    return Builder(make_job(params(SOURCE, tmp_path)), Context())


def order(builder: Builder) -> dict[str, set[str]]:
    return {step.name: set(step.after) for step in builder.plan(builder.missing())}


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def test_the_first_plan_makes_everything_in_order(builder: Builder) -> None:
    steps = order(builder)
    assert set(steps) == {
        "bootstrap python", "commit python", "bootstrap nginx", "commit nginx", "download services/requirements.txt",
        "build app", "build agent", "build frontend", "build redis",
    }  # fmt: skip
    assert steps["commit python"] == {"bootstrap python"}
    assert steps["download services/requirements.txt"] == {"commit python"}
    assert {"commit python", "download services/requirements.txt"} <= steps["build app"]
    assert "build app" in steps["build agent"], "the second finds the first one's layers"
    assert {"build agent", "commit nginx"} <= steps["build frontend"]
    assert steps["build redis"] == set(), "a registry's base needs nothing made here"


def test_what_is_there_is_not_made_again(builder: Builder) -> None:
    job: Job = builder.job
    touch(job.rootfs(job.images["app"].bases[0]))
    job.wheels(job.images["app"]).mkdir(parents=True)
    touch(job.archive(job.images["app"]))
    touch(job.archive(job.images["redis"]))
    assert set(order(builder)) == {"commit python", "bootstrap nginx", "commit nginx", "build agent", "build frontend"}


def test_missing_tools_are_installed_first(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module.shutil, "which", lambda program: None)
    steps = order(builder)
    assert all("install tools" in after for name, after in steps.items() if name.startswith(("bootstrap", "build redis")))


def test_check_mode_and_an_unchanged_run(tmp_path: Path) -> None:
    options = params(SOURCE, tmp_path)
    predicted = run(options, Context(check=True, diff=True))
    assert predicted["changed"]
    assert list(tmp_path.iterdir()) == [], "check mode makes nothing"
    assert predicted["diff"]["before"] == ""
    for entry in predicted["images"]:
        assert entry["built"]
        touch(Path(entry["archive"]))
    again = run(options, Context(diff=True))
    assert not again["changed"]
    assert again["references"] == predicted["references"]
    assert again["diff"]["before"] == again["diff"]["after"] == predicted["diff"]["after"]


def test_old_archives_go_and_others_stay(tmp_path: Path) -> None:
    builder = Builder(make_job(params(SOURCE, tmp_path, names=["app"])), Context())
    current = builder.job.archive(builder.job.images["app"])
    older = [tmp_path / f"app-0.0.{number}-{number:012x}.tar" for number in range(5)]
    strangers = [tmp_path / "app-other.tar", tmp_path / "coredns-v1.14.7.tar", tmp_path / "agent-0.1.0-000000000000.tar"]
    for age, path in enumerate([current, *older, *strangers]):
        touch(path)
        os.utime(path, (10**9 - age, 10**9 - age))
    builder.forget()
    assert set(tmp_path.glob("*.tar")) == {current, older[0], older[1], *strangers}
    assert run(params(SOURCE, tmp_path, names=["app"], state="absent"), Context())["changed"]
    assert set(tmp_path.glob("*.tar")) == set(strangers)
    assert not run(params(SOURCE, tmp_path, names=["app"], state="absent"), Context())["changed"]


def test_the_lock_pins_every_package_by_hash() -> None:
    text = (SOURCE / "services/requirements.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) > 10
    assert [line for line in lines if "==" not in line or "--hash=sha256:" not in line] == []


def test_an_image_of_sources_that_were_edited_meanwhile_does_not_get_their_tag(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = Builder(make_job(params(source, tmp_path / "cache", names=["redis"])), Context())
    image = builder.job.images["redis"]

    def call(command: list[str], **_options: t.Any) -> str:
        if "push" in command:
            touch(builder.job.cache / f".{image.file}")
        if "build" in command:
            edit("redis/Containerfile", "# edited while it was built\n")(source)
        return ""

    monkeypatch.setattr(build_module, "call", call)
    with pytest.raises(PlatformError, match="was changed while") as refused:
        builder.build_one(image)
    assert image.reference in refused.value.message
    assert not builder.job.archive(image).exists()
