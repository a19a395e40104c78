# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where backups are kept: a directory (a mounted volume), or a bucket of S3-compatible storage (private: may change without notice).

A name is a path with slashes, relative to the storage. A file appears under its name whole or not at all; what makes a backup of files is its manifest,
which is written last (catalog.py).
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import time
import typing as t
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.progressive.platform.plugins.module_utils._run import Params, PlatformError

ARGUMENTS: dict[str, t.Any] = {
    "storage": {
        "type": "dict",
        "required": True,
        "options": {
            "path": {"type": "path"},
            "s3": {
                "type": "dict",
                "options": {
                    "bucket": {"type": "str", "required": True},
                    "prefix": {"type": "str", "default": ""},
                    "endpoint": {"type": "str"},
                    "region": {"type": "str"},
                    "access_key": {"type": "str", "no_log": True},
                    "secret_key": {"type": "str", "no_log": True},
                    "ca_cert": {"type": "path"},
                },
                "required_together": [["access_key", "secret_key"]],
            },
            "spool": {"type": "path"},
        },
        "required_one_of": [["path", "s3"]],
        "mutually_exclusive": [["path", "s3"]],
    },
}
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 60.0  # seconds, of one request to S3; it is tried four times
PART_SIZE = 16 * 1024 * 1024  # bytes; an object has 10,000 parts at most, so a file up to 160 GB

PART = ".part-"
ABANDONED = 86400.0
"""Seconds after which an unfinished file is nobody's any more."""


class Storage(t.Protocol):
    """All methods raise PlatformError, with the storage's own reason."""

    def names(self, prefix: str) -> list[str]:
        """All files below a folder."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None: ...

    def upload(self, name: str, path: Path) -> None:
        """Keep a file that was made in ``spool``; it is gone from there afterwards."""

    def fetch(self, name: str, directory: Path) -> Path:
        """A local file with the content: the stored one itself, or a copy in ``directory``."""

    def remove(self, names: list[str]) -> None: ...

    def spool(self) -> contextlib.AbstractContextManager[Path]:
        """A directory for files on their way here, removed with what is left in it."""

    def __str__(self) -> str: ...


def storage_of(params: Params) -> Storage:
    given = params["storage"]
    if given.get("s3"):
        return Bucket(given["s3"], given.get("spool"))
    return Directory(given["path"])


def room(directory: Path) -> int:
    """Bytes that may still be written below a directory."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class Directory:
    """A directory of the host the module runs on; only its owner may read what is in it."""

    def __init__(self, path: str) -> None:
        self._root = Path(path)

    def __str__(self) -> str:
        return str(self._root)

    def names(self, prefix: str) -> list[str]:
        with self._reasons("read"):
            return sorted(str(path.relative_to(self._root)) for path in (self._root / prefix).rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        with self._reasons("read"):
            return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        with self.spool() as spool, self._reasons("written to"):
            path = spool / "file"
            path.write_bytes(data)
            self.upload(name, path)

    def upload(self, name: str, path: Path) -> None:
        target = self._root / name
        with self._reasons("written to"):
            self._made(target.parent)
            path.chmod(0o600)
            _sync(path)
            path.replace(target)
            for directory in (target.parent, target.parent.parent):
                _sync(directory)

    def fetch(self, name: str, directory: Path) -> Path:
        path = self._root / name
        with self._reasons("read"):
            path.stat()
        return path

    def remove(self, names: list[str]) -> None:
        with self._reasons("cleared"):
            for name in names:
                (self._root / name).unlink(missing_ok=True)
            for folder in {(self._root / name).parent for name in names}:
                if not any(folder.iterdir()):
                    folder.rmdir()

    @contextlib.contextmanager
    def spool(self) -> Iterator[Path]:
        with self._reasons("written to"):
            self._made(self._root)
            for left in self._root.glob(f"{PART}*"):  # of runs that were killed
                if time.time() - left.stat().st_mtime > ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)
            path = tempfile.mkdtemp(prefix=PART, dir=self._root)  # the same file system: what is finished is only renamed
        try:
            yield Path(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def _made(path: Path) -> None:
        for parent in [*reversed(path.parents), path]:
            if not parent.exists():
                parent.mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def _reasons(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise PlatformError(f"The storage {self} cannot be {what}: {error.strerror or error}{where}.") from error


class Bucket:
    """A bucket, and in it a prefix. Without keys they are looked for in the environment, in AWS's configuration and in the instance's role."""

    def __init__(self, given: Params, spool: str | None) -> None:
        try:
            import urllib3
            from minio import Minio
            from minio.credentials.providers import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider, StaticProvider
            from minio.error import MinioException
        except ImportError as error:
            raise PlatformError(missing_required_lib("minio", reason="for storage.s3")) from error
        self._bucket = given["bucket"]
        self._prefix = f"{given['prefix'].strip('/')}/".lstrip("/")
        self._spool = spool
        self._where = given.get("endpoint") or "https://s3.amazonaws.com"
        self._errors = (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError)
        address = urllib.parse.urlsplit(self._where)
        if address.scheme not in {"http", "https"} or not address.netloc or address.path.strip("/"):
            raise PlatformError(f"storage.s3.endpoint is {self._where!r}; it must be http:// or https://, a host, and perhaps a port.")
        if given.get("access_key"):
            keys: t.Any = StaticProvider(given["access_key"], given["secret_key"])
        else:
            keys = ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])
        with self._reasons("set up"):
            pool = urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
                retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
                cert_reqs="CERT_REQUIRED",
                ca_certs=given.get("ca_cert"),
            )
            secure = address.scheme == "https"
            self._client = Minio(address.netloc, credentials=keys, secure=secure, region=given.get("region"), http_client=pool)

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix} at {self._where}"

    def names(self, prefix: str) -> list[str]:
        with self._reasons("listed"):
            found = self._client.list_objects(self._bucket, prefix=f"{self._prefix}{prefix}/", recursive=True)
            return sorted(item.object_name.removeprefix(self._prefix) for item in found)

    def read(self, name: str) -> bytes:
        with self._reasons("read", name), contextlib.closing(self._client.get_object(self._bucket, self._prefix + name)) as response:
            data: bytes = response.read()
            return data

    def write(self, name: str, data: bytes) -> None:
        with self._reasons("written to", name):
            self._client.put_object(self._bucket, self._prefix + name, io.BytesIO(data), len(data))

    def upload(self, name: str, path: Path) -> None:
        with self._reasons("written to", name):
            self._client.fput_object(self._bucket, self._prefix + name, str(path), part_size=PART_SIZE)
        path.unlink()

    def fetch(self, name: str, directory: Path) -> Path:
        path = directory / name.replace("/", "_")
        with self._reasons("read", name):
            self._client.fget_object(self._bucket, self._prefix + name, str(path))
        return path

    def remove(self, names: list[str]) -> None:
        for name in names:
            with self._reasons("cleared", name):
                self._client.remove_object(self._bucket, self._prefix + name)

    @contextlib.contextmanager
    def spool(self) -> Iterator[Path]:
        try:
            path = tempfile.mkdtemp(prefix="progressive-backup-", dir=self._spool)
        except OSError as error:
            raise PlatformError(f"storage.spool {self._spool} cannot be written to: {error.strerror}.") from error
        try:
            yield Path(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _reasons(self, what: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            reason = getattr(error, "message", None) or str(error)
            code = getattr(error, "code", "")
            about = f" ({name})" if name else ""
            raise PlatformError(f"The storage {self} cannot be {what}{about}: {f'{code}: ' if code else ''}{reason}") from error


def _sync(path: Path) -> None:
    """Hand a file, or a directory's names, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
