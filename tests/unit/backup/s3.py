# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""S3 for tests: moto's server, a simulator from PyPI, in an environment of its own."""

from __future__ import annotations

import fcntl
import socket
import subprocess
import sys
import time
import typing as t
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

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
