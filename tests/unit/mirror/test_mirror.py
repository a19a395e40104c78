# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mirror filled, exported and imported, with a real registry on both sides and real skopeo; and what goes wrong on the way."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._mirror import digests, mirror
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock

from .registry import PASSWORD, Registry, authfile, push

Json = dict[str, t.Any]
ROOT = Path(__file__).resolve().parents[3]
TOOL = b"a tool of upstream"
SUM = hashlib.sha256(TOOL).hexdigest()
NAMES = {"redis": "redis:7.2", "proxy": "mesh/proxy:1.31", "tool": "tools/one:3"}
KINDS = {"redis": "index", "proxy": "docker", "tool": "single"}


class Source:
    """A registry and a web server with what a bill lists, and the bill."""

    def __init__(self, folder: Path, registry: Registry, web: str) -> None:
        self.folder, self.registry, self.web = folder, registry, web
        self.digests = {name: push(registry, folder / f"layout-{name}", f"hub/{path}", kind=KINDS[name]) for name, path in NAMES.items()}
        self.path = self.write()

    def write(self, **digests: str) -> Path:
        """The bill, of an inventory whose registry is the mirror."""
        images = [
            {"reference": f"mirror.example.com/p/{path}", "origin": path, "name": name, "digest": {**self.digests, **digests}[name]}
            for name, path in NAMES.items()
        ]
        images.append({"reference": "localhost/progressive/app:1", "origin": "localhost/progressive/app:1", "name": "app", "digest": ""})
        files = [{"name": "tool", "version": "1", "address": f"{self.web}/tool.tgz", "sha256": SUM, "path": ""}]
        for entry in [*images, *files]:
            entry |= {"licence": "MIT", "clusters": ["production"]}
        path = self.folder / "bill.json"
        path.write_text(json.dumps({"images": images, "files": files}))
        return path

    def options(self, **given: t.Any) -> Json:
        return {"bill": str(self.path), "source": f"{self.registry.address}/hub", "source_tls_verify": False, "tls_verify": False, **given}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server and its folder."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "tool.tgz").write_bytes(TOOL)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: t.Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_arguments: t.Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()


@pytest.fixture
def source(tmp_path: Path, web: tuple[str, Path]) -> Iterator[Source]:
    with Registry(tmp_path / "source").running() as registry:
        yield Source(tmp_path, registry, web[0])


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "target").running() as registry:
        yield registry


def call(function: t.Any = mirror, check: bool = False, clock: FakeClock | None = None, **given: t.Any) -> Json:
    checked = ArgumentSpecValidator(function.ARGUMENTS, **getattr(function, "CONSTRAINTS", {})).validate(given)
    assert not checked.error_messages, checked.error_messages
    return function.run(checked.validated_parameters, Context(check=check, clock=clock or FakeClock()))


def seen(registry: Registry) -> dict[str, str]:
    return {name: registry.digest(f"p/{path}") for name, path in NAMES.items()}


def test_a_mirror_is_filled_once_with_every_platform_and_the_same_digests(source: Source, target: Registry, tmp_path: Path) -> None:
    options = source.options(registry=f"{target.address}/p", files=str(tmp_path / "files"))
    would = call(check=True, **options)
    assert would["changed"] and len(would["images"]) == 3 and would["files"] == [f"{SUM}/tool.tgz"]
    assert not target.repositories() and not (tmp_path / "files").exists()
    done = call(**options)
    assert sorted(done["images"]) == sorted(f"{target.address}/p/{path}" for path in NAMES.values())
    assert done["local"] == ["localhost/progressive/app:1"] and "localhost/progressive/app:1" in done["msg"]
    assert seen(target) == source.digests
    for name in ("redis", "proxy"):
        index = json.loads((tmp_path / f"layout-{name}" / "manifest.json").read_bytes())
        assert [it["platform"]["architecture"] for it in index["manifests"]] == ["amd64", "arm64"]
        for platform in index["manifests"]:
            assert target.digest(f"p/{NAMES[name].partition(':')[0]}@{platform['digest']}") == platform["digest"]
    assert (tmp_path / "files" / SUM / "tool.tgz").read_bytes() == TOOL
    pushed = len([line for line in target.requests if '"PUT ' in line])
    again = call(**options)
    assert not again["changed"] and again["present"] == 4
    assert len([line for line in target.requests if '"PUT ' in line]) == pushed > 0
    assert not call(check=True, **options)["changed"]


def test_only_what_is_missing_is_copied(source: Source, target: Registry, tmp_path: Path) -> None:
    assert push(target, tmp_path / "by-hand", "p/redis:7.2", text="hub/redis:7.2") == source.digests["redis"]
    done = call(**source.options(registry=f"{target.address}/p"))
    assert sorted(done["images"]) == [f"{target.address}/p/mesh/proxy:1.31", f"{target.address}/p/tools/one:3"] and done["files"] == []


def test_a_mirror_with_a_wrong_digest_is_refused_by_name_before_anything_is_copied(
    source: Source, target: Registry, tmp_path: Path
) -> None:
    wrong = push(target, tmp_path / "wrong", "p/redis:7.2", kind="single")
    with pytest.raises(PlatformError) as refused:
        call(**source.options(registry=f"{target.address}/p", files=str(tmp_path / "files")))
    assert f"p/redis:7.2 is {wrong} there, and the bill's redis is {source.digests['redis']}" in refused.value.message
    assert "playbooks/digests.yml -e digests_again=true" in refused.value.message and "proxy" not in refused.value.message
    assert target.repositories() == ["p/redis"] and target.digest("p/redis:7.2") == wrong and not (tmp_path / "files").exists()


def test_a_source_that_is_another_image_than_the_bill_wants_gives_nothing(source: Source, target: Registry) -> None:
    """A tag that has moved is of no matter, for images are asked for by digest; a digest that the source does not have is."""
    call(**source.options(registry=f"{target.address}/p", bill=str(source.write(tool=f"sha256:{'b' * 64}")), attempts=1), check=True)
    with pytest.raises(PlatformError, match=r"1 of 3 were not copied.*tool \(tools/one:3\).*manifest unknown"):
        call(**source.options(registry=f"{target.address}/p", bill=str(source.write(tool=f"sha256:{'b' * 64}"))))
    assert target.digest("p/tools/one:3") == "" and seen(target)["redis"] == source.digests["redis"]


def test_what_is_not_pinned_is_refused_by_name(source: Source, target: Registry) -> None:
    with pytest.raises(PlatformError, match=r"redis \(redis:7.2\)\. Run playbooks/digests.yml"):
        call(**source.options(registry=f"{target.address}/p", bill=str(source.write(redis=""))))
    assert not target.repositories()


def faulty(folder: Path, script: str) -> None:
    """A skopeo in front of the real one that does ``script`` first."""
    folder.mkdir(exist_ok=True)
    (folder / "skopeo").write_text(f'#!/bin/sh\n{script}\nexec {shutil.which("skopeo")} "$@"\n')
    (folder / "skopeo").chmod(0o755)


def test_a_registry_that_goes_away_in_the_middle_and_comes_back(
    source: Source, target: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert target.process

    class Returning(FakeClock):
        """The registry is back after the third wait."""

        waits: t.ClassVar[list[float]] = []

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            self.waits.append(seconds)
            if len(self.waits) == 3:
                target.stop()  # reaps it
                target.start()

    faulty(
        tmp_path / "bin",
        f'case "$*" in *copy*tools/one*) [ -e {tmp_path}/once ] || {{ kill -9 {target.process.pid}; touch {tmp_path}/once; }};; esac',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    call(clock=Returning(), **source.options(registry=f"{target.address}/p", attempts=8))
    assert (tmp_path / "once").exists() and seen(target) == source.digests
    assert set(Returning.waits) >= {1.0} and len(Returning.waits) >= 3


def test_a_registry_that_stays_away_is_given_up_and_the_next_run_goes_on(
    source: Source, target: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert source.registry.process
    faulty(tmp_path / "bin", f'case "$*" in *copy*tools/one*) kill -9 {source.registry.process.pid} 2>/dev/null;; esac')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    clock = FakeClock()
    with pytest.raises(PlatformError, match=r"were not copied; the next run goes on from here.*tools/one.*refused.*Tried 5 times"):
        call(clock=clock, **source.options(registry=f"{target.address}/p"))
    assert clock.time >= 1 + 2 + 4 + 8  # four waits between five tries
    before = {name for name, digest in seen(target).items() if digest}
    monkeypatch.undo()
    source.registry.stop()
    source.registry.start()
    done = call(**source.options(registry=f"{target.address}/p"))
    assert {it.rpartition("/p/")[2] for it in done["images"]} == {path for name, path in NAMES.items() if name not in before}
    assert seen(target) == source.digests


@pytest.mark.parametrize("state", ["mirrored", "exported", "imported"])
def test_killed_in_the_middle_the_next_run_goes_on(state: str, source: Source, target: Registry, tmp_path: Path) -> None:
    """The run hangs in one copy, with the others done or not; it and its skopeo are killed."""
    archive = tmp_path / "platform.tar"
    options = source.options(
        registry=f"{target.address}/p", files=str(tmp_path / "files"), cache=str(tmp_path / "cache"), archive=str(archive)
    )
    if state == "imported":
        call(state="exported", **options)
    faulty(tmp_path / "bin", f'case "$*" in *copy*tools/one*) touch {tmp_path}/hangs; exec sleep 60;; esac')
    program = "import json,sys;from ansible_collections.progressive.platform.plugins.modules.mirror import main;main()"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {**options, "state": state, "_ansible_remote_tmp": str(tmp_path)}})
    done = subprocess.Popen(
        [sys.executable, "-c", program, arguments],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "hangs").exists():
        assert done.poll() is None and time.monotonic() < deadline, done.communicate()[0]
        time.sleep(0.02)
    os.killpg(done.pid, signal.SIGKILL)
    done.wait()
    if state == "exported":
        assert not archive.exists()
    else:
        assert seen(target)["tool"] == ""
    again = call(state=state, **options)
    assert again["changed"] and not call(state=state, **options)["changed"]
    if state == "exported":
        call(state="imported", **options)
    assert seen(target) == source.digests and (tmp_path / "files" / SUM / "tool.tgz").read_bytes() == TOOL
    assert not list((tmp_path / "cache").rglob("*.manifest.json"))


def test_one_archive_carries_everything_over(source: Source, target: Registry, tmp_path: Path) -> None:
    archive, cache = tmp_path / "platform.tar", str(tmp_path / "cache")
    assert call(state="exported", check=True, archive=str(archive), cache=cache, **source.options())["changed"] and not archive.exists()
    assert len(call(state="exported", archive=str(archive), cache=cache, **source.options())["images"]) == 3
    first = archive.read_bytes()
    assert not call(state="exported", archive=str(archive), cache=cache, **source.options())["changed"]
    archive.unlink()
    call(state="exported", archive=str(archive), cache=cache, **source.options())
    assert archive.read_bytes() == first  # the same content, the same bytes
    source.registry.stop()  # nothing is asked for behind the gap
    options: Json = {"state": "imported", "archive": str(archive), "registry": f"{target.address}/p", "files": str(tmp_path / "files")}
    options |= {"tls_verify": False, "cache": cache}
    assert len(call(check=True, **options)["images"]) == 3 and not target.repositories()
    call(**options)
    assert seen(target) == source.digests and (tmp_path / "files" / SUM / "tool.tgz").read_bytes() == TOOL
    assert not call(**options)["changed"] and not (tmp_path / "cache/blobs").exists()
    with tarfile.open(archive) as tar:  # an OCI image layout, too
        names = tar.getnames()
        index = json.load(t.cast("t.IO[bytes]", tar.extractfile("index.json")))
    assert names[:3] == ["mirror.json", "oci-layout", "index.json"] and f"blobs/sha256/{SUM}" in names
    assert {it["annotations"]["org.opencontainers.image.ref.name"]: it["digest"] for it in index["manifests"]} == {
        NAMES[name]: digest for name, digest in source.digests.items()
    }


def test_a_larger_archive_takes_what_the_former_has(source: Source, tmp_path: Path) -> None:
    options = source.options(archive=str(tmp_path / "platform.tar"), cache=str(tmp_path / "cache"))
    bill = json.loads(source.path.read_text())
    source.path.write_text(json.dumps({**bill, "images": bill["images"][:2]}))
    call(state="exported", **options)
    source.write()
    assert call(state="exported", **options)["images"] == [NAMES["tool"]]


def cut(archive: Path) -> None:
    with archive.open("r+b") as file:
        file.truncate(archive.stat().st_size // 2)


def flipped(archive: Path) -> None:
    """One bit in the last blob."""
    with tarfile.open(archive) as tar:
        last = tar.getmembers()[-1]
    with archive.open("r+b") as file:
        file.seek(last.offset_data)
        byte = file.read(1)[0]
        file.seek(last.offset_data)
        file.write(bytes([byte ^ 1]))


def relabelled(archive: Path) -> None:
    """A list that names a blob of another checksum, of the same length."""
    content = archive.read_bytes()
    archive.write_bytes(content.replace(SUM.encode(), b"0" * 64, 1))


def other(archive: Path) -> None:
    archive.write_bytes(b"\0" * 10240)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "it is cut off or damaged"),
        (flipped, "it is damaged"),
        (relabelled, "damaged"),
        (other, "no archive of playbooks/mirror.yml"),
        (Path.unlink, "is wanted and not there"),
    ],
)
def test_a_damaged_archive_is_refused_before_the_first_push(
    damage: Callable[[Path], None], says: str, source: Source, target: Registry, tmp_path: Path
) -> None:
    archive, cache = tmp_path / "platform.tar", str(tmp_path / "cache")
    call(state="exported", archive=str(archive), cache=cache, **source.options())
    damage(archive)
    with pytest.raises(PlatformError, match=says):
        call(
            state="imported",
            archive=str(archive),
            cache=cache,
            registry=f"{target.address}/p",
            files=str(tmp_path / "files"),
            tls_verify=False,
        )
    assert not target.repositories() and not (tmp_path / "files").exists()


def test_an_archive_of_another_bill_is_refused(source: Source, target: Registry, tmp_path: Path) -> None:
    archive, cache = str(tmp_path / "platform.tar"), str(tmp_path / "cache")
    call(state="exported", archive=archive, cache=cache, **source.options())
    wanted = f"sha256:{'c' * 64}"
    bill = str(source.write(redis=wanted))
    with pytest.raises(PlatformError, match=rf"redis \(redis:7.2\) is {source.digests['redis']} in it, and {wanted} is wanted"):
        call(state="imported", archive=archive, cache=cache, registry=f"{target.address}/p", **{**source.options(), "bill": bill})
    assert not target.repositories()


def test_a_file_with_another_checksum_is_thrown_away(source: Source, tmp_path: Path, web: tuple[str, Path]) -> None:
    (web[1] / "tool.tgz").write_bytes(b"something else")
    with pytest.raises(PlatformError, match=f"{SUM} is wanted. It was thrown away"):
        call(**source.options(files=str(tmp_path / "files")))
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


def test_a_file_that_is_another_on_the_mirror_is_refused(source: Source, tmp_path: Path) -> None:
    there = tmp_path / "files" / SUM / "tool.tgz"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"something else")
    with pytest.raises(PlatformError, match=f"tool.tgz has the SHA-256 .*{SUM} is wanted.*Remove them"):
        call(**source.options(files=str(tmp_path / "files")))
    assert there.read_bytes() == b"something else"


def test_a_source_without_permission_is_asked_once_and_no_password_is_shown(target: Registry, tmp_path: Path) -> None:
    with Registry(tmp_path / "closed", login=True).running() as closed:
        login = authfile(closed, tmp_path / "auth.json")
        digest = push(closed, tmp_path / "layout", "hub/redis:7.2", "--authfile", str(login))
        bill = tmp_path / "bill.json"
        bill.write_text(json.dumps({"images": [{"reference": "redis:7.2", "name": "redis", "digest": digest}], "files": []}))
        options: Json = {"bill": str(bill), "source": f"{closed.address}/hub", "source_tls_verify": False, "tls_verify": False}
        options |= {"registry": f"{target.address}/p", "attempts": 5}
        clock = FakeClock()
        with pytest.raises(PlatformError, match=r"authentication required|unauthorized") as refused:
            call(clock=clock, authfile=str(authfile(target, tmp_path / "other.json")), **options)
        assert clock.time == 0 and "Tried" not in refused.value.message
        with pytest.raises(PlatformError, match=r"is not there. Make it: skopeo login --authfile"):
            call(authfile=str(tmp_path / "none.json"), **options)
        done = call(authfile=str(login), **options)
        assert target.digest("p/redis:7.2") == digest
        assert PASSWORD not in str(done) + refused.value.message + target.log.read_text()


# -- digests ---------------------------------------------------------------------------------------------------------------


def test_digests_are_found_written_and_a_tag_that_moves_is_noticed(source: Source, tmp_path: Path) -> None:
    dest = tmp_path / "group_vars" / "digests.yml"
    options: Json = {"bill": str(source.write(redis="", proxy="")), "dest": str(dest)}
    options |= {"source": f"{source.registry.address}/hub", "source_tls_verify": False}
    wanted = {NAMES[name]: source.digests[name] for name in ("proxy", "redis")}
    assert call(digests, check=True, **options)["found"] == wanted and not dest.exists()
    assert call(digests, **options)["changed"]
    assert yaml.safe_load(dest.read_text()) == {"platform_image_digests": wanted}
    assert not call(digests, **options)["changed"]
    moved = push(source.registry, tmp_path / "moved", "hub/redis:7.2", kind="single")
    before = dest.read_text()
    with pytest.raises(PlatformError, match=rf"redis:7.2 was {source.digests['redis']} and is {moved}.*digests_again=true"):
        call(digests, **options)
    assert dest.read_text() == before
    assert call(digests, again=True, **options)["digests"] == {**wanted, NAMES["redis"]: moved}
    source.path.write_text(json.dumps({"images": [it for it in json.loads(source.path.read_text())["images"] if it["name"] != "proxy"]}))
    assert set(call(digests, **options)["digests"]) == {NAMES["redis"]}  # what no bill lists goes


def test_an_image_that_is_not_there_is_named_and_the_others_are_written(source: Source, tmp_path: Path) -> None:
    bill = json.loads(source.write(redis="", proxy="").read_text())
    bill["images"][0]["origin"] = "redis:8"
    source.path.write_text(json.dumps(bill))
    dest = tmp_path / "digests.yml"
    with pytest.raises(PlatformError, match=r"1 of 2 images have no digest yet: redis \(redis:8\): .*hub/redis:8 is not there"):
        call(digests, bill=str(source.path), dest=str(dest), source=f"{source.registry.address}/hub", source_tls_verify=False)
    assert yaml.safe_load(dest.read_text()) == {"platform_image_digests": {NAMES["proxy"]: source.digests["proxy"]}}


def test_a_file_of_other_variables_is_not_written_over(source: Source, tmp_path: Path) -> None:
    dest = tmp_path / "all.yml"
    dest.write_text("platform_image_digests: {}\nplatform_registry: mirror.example.com\n")
    with pytest.raises(PlatformError, match="has other variables than platform_image_digests"):
        call(digests, bill=str(source.write(redis="")), dest=str(dest), source=f"{source.registry.address}/hub", source_tls_verify=False)
    assert "platform_registry" in dest.read_text()


# -- the playbooks ---------------------------------------------------------------------------------------------------------


def test_from_an_inventory_without_digests_to_a_mirror_by_the_playbooks(source: Source, target: Registry, tmp_path: Path) -> None:
    """bill, digests, mirror as one archive, and what is rendered then names nothing but the mirror, by digest.

    The application is an image of ours, which role images pushed to the platform's own registry and nobody else has.
    """
    ours = "app:1.4.0"
    options = {
        "platform_render_dir": str(tmp_path / "rendered" / "production"),
        "digests_file": str(tmp_path / "digests.yml"),
        "mirror_source": f"{source.registry.address}/hub",
        "mirror_source_tls_verify": False,
        "mirror_tls_verify": False,
        "mirror_cache": str(tmp_path / "cache"),
        "mirror_archive": str(tmp_path / "platform.tar"),
        "platform_registry": f"{target.address}/p",
        "platform_images": {"app": f"{target.address}/p/{ours}"},
    }

    def play(name: str, *more: str) -> str:
        command = [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i",
            "inventories/production",
            f"playbooks/{name}.yml",
            "-e",
            json.dumps(options),
        ]
        done = subprocess.run(
            [*command, *more],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    play("bill")
    names = [it["origin"] for it in json.loads((tmp_path / "rendered" / "bill.json").read_text())["images"]]
    assert len(names) > 2 and ours in names
    wanted = {
        name: push(target, tmp_path / f"of-{number}", f"p/{name}")
        if name == ours
        else push(source.registry, tmp_path / f"of-{number}", f"hub/{name}")
        for number, name in enumerate(names)
    }
    play("digests")
    assert yaml.safe_load((tmp_path / "digests.yml").read_text()) == {"platform_image_digests": wanted}
    pinned = ("-e", f"@{tmp_path / 'digests.yml'}")
    play("bill", *pinned, "-e", "bill_complete=true")
    play("mirror", "-e", "mirror_state=exported")
    play("mirror", "-e", "mirror_state=imported")
    assert {name: target.digest(f"p/{name}") for name in names} == wanted
    assert "changed=0" in play("mirror", "-e", "mirror_state=imported")
    rendered = "".join(path.read_text() for path in (tmp_path / "rendered" / "production").glob("*.yaml"))
    images = [
        line.split("image:")[1].strip().strip("\"'") for line in rendered.splitlines() if line.strip().lstrip("- ").startswith("image:")
    ]
    assert images and set(images) == {f"{target.address}/p/{name}@{digest}" for name, digest in wanted.items()}
