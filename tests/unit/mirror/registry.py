# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry on loopback for tests: the distribution project's, as Debian packages it (docker-registry); and images of a few hundred bytes to fill it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
import typing as t
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

USER, PASSWORD = "mirror", "never-shown-anywhere"
BCRYPT = "$2b$04$MndHYLtwaD5aqMK1NziHIO.reII4QsB/qbEmJmHylS35CUj47N5y6"  # of PASSWORD
WAIT_SECONDS = 20.0

OCI = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


class Registry:
    """One registry; it may be stopped and started again on the same address. With ``login`` it wants the user and the password."""

    def __init__(self, folder: Path, login: bool = False, enter: Sequence[str] = (), port: int = 0) -> None:
        assert shutil.which("docker-registry") and shutil.which("skopeo"), "docker-registry and skopeo are wanted: run `make registry`"
        self.folder, self.enter = folder, list(enter)  # enter: a command that runs another where the registry shall be
        if not port:
            with socket.create_server(("127.0.0.1", 0)) as server:
                port = server.getsockname()[1]
        self.port = port
        self.address = f"127.0.0.1:{self.port}"
        self.storage, self.log = folder / "storage", folder / f"log-{port}"
        self.storage.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config.yml"
        (folder / "htpasswd").write_text(f"{USER}:{BCRYPT}\n")
        content: dict[str, t.Any] = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }
        if login:
            content["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        self.config.write_text(json.dumps(content))  # JSON is YAML
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*self.enter, "docker-registry", "serve", str(self.config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT_SECONDS
        while "listening on" not in self.log.read_text().rpartition("redis not configured")[2]:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Registry]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    @property
    def requests(self) -> list[str]:
        """The access log."""
        return [line for line in self.log.read_text().splitlines() if " HTTP/1.1" in line]

    def repositories(self) -> list[str]:
        root = self.storage / "docker/registry/v2/repositories"
        return sorted(str(path.parent.relative_to(root)) for path in root.rglob("_manifests")) if root.exists() else []

    def digest(self, path: str, *options: str) -> str:
        """Of ``repository:tag`` or ``repository@digest``; empty where it is not."""
        done = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", *options, f"docker://{self.address}/{path}"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        return f"sha256:{hashlib.sha256(done.stdout).hexdigest()}" if done.returncode == 0 else ""


class Layout:
    """Images made in a test, pushed by skopeo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def _keep(self, content: bytes, name: str = "") -> tuple[str, int]:
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / (name or digest)).write_bytes(content)
        return f"sha256:{digest}", len(content)

    def image(
        self, text: str, architecture: str = "amd64", kinds: tuple[str, str, str] = OCI, name: str = "manifest.json"
    ) -> dict[str, t.Any]:
        """A descriptor of an image with one layer, whose one file holds ``text``."""
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            entry = tarfile.TarInfo("text")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        layer = self._keep(gzip.compress(raw.getvalue(), mtime=0))
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}"]}
        config = self._keep(json.dumps({"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs}).encode())
        parts = [{"mediaType": kind, "digest": it[0], "size": it[1]} for kind, it in zip(kinds[1:], (config, layer), strict=True)]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kinds[0], "config": parts[0], "layers": parts[1:]}, indent=3).encode()
        digest, size = self._keep(manifest, name)
        return {"mediaType": kinds[0], "digest": digest, "size": size, "platform": {"os": "linux", "architecture": architecture}}

    def index(self, text: str, architectures: Iterable[str] = ("amd64", "arm64"), docker: bool = False) -> str:
        """The digest of an index (or a Docker list) with one image an architecture. The white space is what a re-encoding would lose."""
        platforms = []
        for architecture in architectures:
            described = self.image(f"{text} {architecture}", architecture, DOCKER if docker else OCI, name="unnamed")
            (self.folder / "unnamed").rename(self.folder / f"{described['digest'][7:]}.manifest.json")
            platforms.append(described)
        index = {"schemaVersion": 2, "mediaType": DOCKER_LIST if docker else OCI_INDEX, "manifests": platforms}
        return self._keep(json.dumps(index, indent=5).encode() + b"\r\n", "manifest.json")[0]

    def push(self, registry: Registry, path: str, *options: str) -> None:
        (self.folder / "version").write_text("Directory Transport Version: 1.1\n")
        command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false", *options]
        done = subprocess.run(
            [*command, f"dir:{self.folder}", f"docker://{registry.address}/{path}"], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr


def push(registry: Registry, folder: Path, path: str, *options: str, kind: str = "index", text: str = "") -> str:
    """Push a small image as ``path`` (repository:tag): an ``index`` of two platforms, a ``docker`` list of them, or a ``single`` one; its digest.

    What is in it is ``text``, its path by default, so that the digest is known.
    """
    layout, text = Layout(folder), text or path
    digest = str(layout.image(text)["digest"]) if kind == "single" else layout.index(text, docker=kind == "docker")
    layout.push(registry, path, *options)
    return digest


def authfile(registry: Registry, target: Path) -> Path:
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    target.write_text(json.dumps({"auths": {registry.address: {"auth": token}}}))
    os.chmod(target, 0o600)
    return target
