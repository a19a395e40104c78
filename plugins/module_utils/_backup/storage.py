# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where backups are kept: a directory (a mounted volume), or a bucket of S3-compatible storage (private: may change without notice).

A name is a path with slashes, relative to the storage. A file appears under its name whole or not at all; what makes a backup of files is its manifest,
which is written last (catalog.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import typing as t
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
CONNECT_TIMEOUT, READ_TIMEOUT = 5, 60  # seconds, of one request to S3; it is tried three times

PART = ".part-"
ABANDONED = 86400.0
"""Seconds after which an unfinished file is nobody's any more."""


class Storage(t.Protocol):
    """All methods raise PlatformError, with the storage's own reason."""

    def names(self, prefix: str) -> list[str]:
        """All files below a folder."""
        ...

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None: ...

    def upload(self, name: str, path: Path) -> None:
        """Keep a file that was made in ``spool``; it is gone from there afterwards."""
        ...

    def fetch(self, name: str, directory: Path) -> Path:
        """A local file with the content: the stored one itself, or a copy in ``directory``."""
        ...

    def remove(self, names: list[str]) -> None: ...

    def spool(self) -> contextlib.AbstractContextManager[Path]:
        """A directory for files on their way here, removed with what is left in it."""
        ...

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
    """A bucket, and in it a prefix. Without keys boto3's own ways are taken: environment, profile, the instance's role."""

    def __init__(self, given: Params, spool: str | None) -> None:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise PlatformError(missing_required_lib("boto3", reason="for storage.s3")) from error
        self._bucket = given["bucket"]
        self._prefix = f"{given['prefix'].strip('/')}/".lstrip("/")
        self._spool = spool
        self._where = given.get("endpoint") or "AWS"
        self._errors = (BotoCoreError, ClientError)
        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": 3, "mode": "standard"},
            s3={"addressing_style": "path" if given.get("endpoint") else "auto"},
            # Other makers' storage does not know the checksums that boto3 adds unasked; what is kept here has its own.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._reasons("set up"):
            self._client = boto3.client(
                "s3",
                endpoint_url=given.get("endpoint"),
                region_name=given.get("region") or ("us-east-1" if given.get("endpoint") else None),
                aws_access_key_id=given.get("access_key"),
                aws_secret_access_key=given.get("secret_key"),
                verify=given.get("ca_cert"),
                config=config,
            )

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix} at {self._where}"

    def names(self, prefix: str) -> list[str]:
        with self._reasons("listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}/")
            return sorted(item["Key"].removeprefix(self._prefix) for page in pages for item in page.get("Contents", []))

    def read(self, name: str) -> bytes:
        with self._reasons(f"read ({name})"):
            data: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
            return data

    def write(self, name: str, data: bytes) -> None:
        with self._reasons(f"written to ({name})"):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data)

    def upload(self, name: str, path: Path) -> None:
        with self._reasons(f"written to ({name})"):
            self._client.upload_file(str(path), self._bucket, self._prefix + name)
        path.unlink()

    def fetch(self, name: str, directory: Path) -> Path:
        path = directory / name.replace("/", "_")
        with self._reasons(f"read ({name})"):
            self._client.download_file(self._bucket, self._prefix + name, str(path))
        return path

    def remove(self, names: list[str]) -> None:
        with self._reasons("cleared"):
            for name in names:  # one by one: not every maker's storage knows DeleteObjects without its checksum
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

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
    def _reasons(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise PlatformError(f"The storage {self} cannot be {what}: {error}") from error
        except Exception as error:  # boto3 wraps what goes wrong in a transfer in classes of its own
            if type(error).__module__.startswith(("boto3", "s3transfer")) or isinstance(error, (OSError, ValueError)):
                raise PlatformError(f"The storage {self} cannot be {what}: {error}") from error
            raise


def _sync(path: Path) -> None:
    """Hand a file, or a directory's names, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
