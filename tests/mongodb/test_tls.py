# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates are verified, and each refusal says why: on the SIMULATOR, whose sockets speak TLS with certificates of the collection's own authority."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import certificate
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.mongodb.lab import Lab, Simulated, free_port


class SecureLab(Lab):
    """Simulated members with a certificate for these names; ``ca`` is the path of its authority's."""

    def __init__(self, directory: Path, names: list[str]) -> None:
        super().__init__(directory)
        now = datetime.datetime.now(datetime.UTC)
        authority = certificate.authority("tests", 30, now)
        pair = certificate.issue(authority, names, 30, now)
        self.ca = directory / "ca.crt"
        self.ca.write_text(authority.cert)
        (directory / "tls.crt").write_text(pair.cert)
        (directory / "tls.key").write_text(pair.key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
        for _number in range(3):
            member = Simulated(self.network, free_port(), True, "rs0")
            member.server.tls = self.context
            member.start()
            self.members.append(member)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path


def test_simulated_members_with_tls_form_a_set(directory: Path) -> None:
    lab = SecureLab(directory, ["localhost"])
    try:
        tls = {"ca_cert": str(lab.ca)}
        assert lab.module(tls=tls)["changed"]
        assert not lab.module(tls=tls)["changed"]
        assert lab.info(tls=tls)["is_available"]
    finally:
        lab.close()


@pytest.mark.parametrize(
    ("names", "trusted"), [(["elsewhere.example.com"], True), (["localhost"], False)], ids=["other-name", "other-authority"]
)
def test_a_simulated_members_wrong_certificate_is_refused(directory: Path, names: list[str], trusted: bool) -> None:
    lab = SecureLab(directory, names)
    other = directory / "other.crt"
    other.write_text(certificate.authority("others", 30, datetime.datetime.now(datetime.UTC)).cert)
    try:
        with pytest.raises(PlatformError, match="certificate is not accepted") as caught:
            lab.module(tls={"ca_cert": str(lab.ca if trusted else other)})
        assert caught.value.details["state"] == "M20"
    finally:
        lab.close()
