# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""S3 for tests: moto's server, a simulator from PyPI, in an environment of its own."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import fcntl
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing as t
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import certificate

ROOT = Path(__file__).resolve().parents[3]
SIMULATOR = ["moto[s3]==5.2.5", "flask", "flask-cors"]
SECRET = "never-shown-anywhere"


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto wants another python-dateutil than kubernetes does, so it lives apart; it is kept between runs."""
    home = ROOT / "build" / "s3-simulator"
    program = home / "bin" / "moto_server"
    home.parent.mkdir(exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
            subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", *SIMULATOR], check=True, timeout=400)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([str(program), "-H", "127.0.0.1", "-p", str(port)], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def bucket_of(simulator: str, **changed: t.Any) -> dict[str, t.Any]:
    given = {
        "bucket": "backups",
        "prefix": "a/b",
        "endpoint": simulator,
        "region": None,
        "access_key": "key",
        "secret_key": SECRET,
        "ca_cert": None,
    }
    return {"path": None, "s3": {**given, **changed}, "spool": None}


def emptied(simulator: str) -> dict[str, t.Any]:
    """The storage option for a bucket with nothing in it."""
    for path in ("/moto-api/reset", "/backups"):
        method = "POST" if "reset" in path else "PUT"
        headers = {"authorization": "AWS4-HMAC-SHA256 Credential=key/20261123/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}
        urllib.request.urlopen(urllib.request.Request(f"{simulator}{path}", method=method, headers=headers), timeout=20).close()
    return bucket_of(simulator)


@contextlib.contextmanager
def secure(simulator: str, folder: Path) -> Iterator[tuple[int, Path]]:
    """The simulator behind TLS, as localhost: its port, and the file of its authority. moto's own TLS hangs up without a farewell, which OpenSSL minds."""
    now = datetime.datetime.now(datetime.UTC)
    authority = certificate.authority("test authority", 3650, now)
    pair = certificate.issue(authority, ["localhost"], 90, now)
    for name, text in (("ca.crt", authority.cert), ("tls.crt", pair.cert), ("tls.key", pair.key)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    host, port = urllib.parse.urlsplit(simulator).netloc.split(":")

    async def copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

    async def proxied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copied(reader, forth), copied(back, writer))

    # One thread for both directions: OpenSSL ends the process when one reads a connection that another closes.
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(proxied, "127.0.0.1", 0, ssl=context), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1], folder / "ca.crt"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
