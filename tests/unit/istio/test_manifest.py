# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where istioctl and others' documents come from, and the manifests that are made of them; a script stands for istioctl, a server of loopback for the maker."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
import typing as t
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._istio import manifest
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import read
from ansible_collections.progressive.platform.plugins.module_utils._mirror import sources
from ansible_collections.progressive.platform.plugins.module_utils._mirror.sources import Source
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, PlatformError

ISTIOCTL = """#!/bin/sh
echo "$*" >> {calls}
case "$1" in
version) echo '{{"clientVersion": {{"version": "1.31.1"}}}}';;
manifest) [ ! -e {refuse} ] || {{ echo 'unknown field "spec.metal"' >&2; exit 1; }}
  cat "$4" >> {calls}; printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {{name: istio}}\\n---\\n';;
esac
"""


def archive(kind: str, **members: bytes) -> bytes:
    packed = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
    else:
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def maker() -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """A server of files: (address, what it serves, what it was asked for)."""
    served: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path in served else 404)
            self.end_headers()
            self.wfile.write(served.get(self.path, b""))

        def log_message(self, *_words: t.Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", served, asked
    server.shutdown()
    server.server_close()


def get(source: Source, cache: Path) -> list[Path]:
    return sources.files(source, cache, Clock(), 20.0)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_members_are_fetched_and_unpacked_once(kind: str, maker: tuple[str, dict[str, bytes], list[str]], tmp_path: Path) -> None:
    address, served, asked = maker
    content = archive(kind, **{"x@v1/config/a.yaml": b"a", "x@v1/config/b.yaml": b"b", "x@v1/README.md": b"c"})
    served["/x"] = content
    source = Source("x", address=f"{address}/x", sha256=hashlib.sha256(content).hexdigest(), members=("*/config/*.yaml",))
    for _again in range(2):
        assert [(path.name, path.read_text()) for path in get(source, tmp_path)] == [("a.yaml", "a"), ("b.yaml", "b")]
    narrower = Source("x", address=source.address, sha256=source.sha256, members=("*/a.yaml",))
    assert [path.name for path in get(narrower, tmp_path)] == ["a.yaml"], "other members of the same archive"
    assert asked == ["/x"]
    assert kind == "zip" or get(source, tmp_path)[0].stat().st_mode & 0o100, "a program stays one"


def test_what_has_another_checksum_is_thrown_away(maker: tuple[str, dict[str, bytes], list[str]], tmp_path: Path) -> None:
    address, served, _asked = maker
    served["/x"] = b"not what was published"
    source = Source("x", address=f"{address}/x", sha256="0" * 64)
    with pytest.raises(PlatformError, match="It was thrown away"):
        get(source, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source("x", address="http://127.0.0.1:9/x", sha256="0" * 64), "cannot be fetched: .*refused.* platform_sources.x"),
        (Source("x", address="http://127.0.0.1:9/x"), "an address and its SHA-256 are wanted"),
        (Source("x", address="file:///etc/passwd", sha256="0" * 64), "is no address like"),
        (Source("x", path="/nowhere/istioctl"), "/nowhere/istioctl is wanted and not there"),
    ],
)
def test_what_cannot_be_had_is_named_with_its_variable(source: Source, words: str, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=words):
        get(source, tmp_path)


@pytest.mark.parametrize(
    ("members", "patterns", "words"),
    [({"a/x": b"1", "b/x": b"2"}, ("*/x",), "two files called x"), ({"a": b"1"}, ("b",), "no file called b")],
)
def test_members_that_are_wrong(members: dict[str, bytes], patterns: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(archive("zip", **members))
    for _again in range(2):
        with pytest.raises(PlatformError, match=words):
            get(Source("x", path=str(tmp_path / "x.zip"), members=patterns), tmp_path / "cache")


@pytest.fixture
def istioctl(tmp_path: Path) -> Path:
    program = tmp_path / "istioctl"
    program.write_text(ISTIOCTL.format(calls=tmp_path / "calls", refuse=tmp_path / "refuse"))
    program.chmod(0o755)
    return program


def generate(istioctl: Path, *documents: dict[str, t.Any], version: str = "1.31.1", **spec: t.Any) -> dict[str, t.Any]:
    given = {
        "istioctl": {"path": str(istioctl), "version": version},
        "operator": {"kind": "IstioOperator", "spec": spec},
        "documents": list(documents),
        "cache": str(istioctl.parent / "cache"),
    }
    checked = ArgumentSpecValidator(manifest.ARGUMENTS).validate(given)
    assert not checked.error_messages
    return manifest.run(checked.validated_parameters, Context())


def test_manifests_are_generated_once_for_the_same_wish(istioctl: Path, tmp_path: Path) -> None:
    (tmp_path / "crd.yaml").write_text("kind: CustomResourceDefinition\n")
    first = generate(istioctl, {"path": str(tmp_path / "crd.yaml")}, revision="a", hub=None)
    assert [document["kind"] for document in read(Path(first["file"]))] == ["CustomResourceDefinition", "ConfigMap"]
    assert generate(istioctl, {"path": str(tmp_path / "crd.yaml")}, revision="a") == first, "what is null was never said"
    said = (tmp_path / "calls").read_text()
    assert said.count("manifest generate") == 1
    assert json.dumps({"kind": "IstioOperator", "spec": {"revision": "a"}}) in said
    assert generate(istioctl, revision="b")["file"] != first["file"]
    assert not list((tmp_path / "cache").rglob(".*operator*")), "no file is left behind"


def test_charts_of_others_are_rendered_without_a_cluster_and_once(istioctl: Path, tmp_path: Path) -> None:
    helm, chart = tmp_path / "helm", tmp_path / "kiali.tgz"
    chart.write_bytes(archive("tar.gz", **{"kiali/Chart.yaml": b"name: kiali"}))
    helm.write_text(f'#!/bin/sh\necho "$KUBECONFIG $*" >> {tmp_path}/helmed; cat "$7" >> {tmp_path}/helmed; echo "kind: Deployment"\n')

    def rendered(values: dict[str, t.Any]) -> dict[str, t.Any]:
        wanted = {"name": "kiali", "namespace": "seen", "source": {"path": str(chart)}, "values": values}
        given = {"istioctl": {"path": str(istioctl), "version": "1.31.1"}, "operator": {}, "charts": [wanted], "helm": str(helm)}
        checked = ArgumentSpecValidator(manifest.ARGUMENTS).validate({**given, "cache": str(tmp_path / "cache")})
        assert not checked.error_messages
        return manifest.run(checked.validated_parameters, Context())

    with pytest.raises(PlatformError, match="is wanted to render the chart of kiali, and not in PATH"):
        rendered({})
    helm.chmod(0o755)
    found = rendered({"auth": {"strategy": "token"}, "left": None})
    assert [document["kind"] for document in read(Path(found["file"]))] == ["ConfigMap", "Deployment"]
    said = (tmp_path / "helmed").read_text()
    assert said.startswith(f"/dev/null template kiali {chart} --namespace seen --values ")
    assert said.endswith('{"auth": {"strategy": "token"}}') and rendered({"auth": {"strategy": "token"}}) == found
    assert (tmp_path / "helmed").read_text() == said, "the same is not rendered twice"
    assert rendered({"auth": {"strategy": "openid"}}) != found


def test_another_version_of_istioctl_is_refused(istioctl: Path) -> None:
    with pytest.raises(PlatformError, match=r"is version 1\.31\.1, and 1\.30\.7 is wanted"):
        generate(istioctl, version="1.30.7")


def test_what_istioctl_refuses_is_said_in_its_words_and_not_kept(istioctl: Path, tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    with pytest.raises(PlatformError, match=r"unknown field .spec\.metal"):
        generate(istioctl, metal=True)
    (tmp_path / "refuse").unlink()
    assert read(Path(generate(istioctl, metal=True)["file"]))


@pytest.mark.parametrize("text", ["{", "5"])
def test_a_file_that_holds_no_documents(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(PlatformError, match="cannot be read"):
        read(tmp_path / "x.json")
