# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a certificate is issued anew and what is in it; and the steps in which a Secret's values change."""

from __future__ import annotations

import base64
import datetime
import itertools
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import certificate
from ansible_collections.progressive.platform.plugins.module_utils._kube.secret import following, phase, rotated
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
NAMES = ["redis.test.svc", "*.redis-headless.test.svc.cluster.local", "127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def signer() -> certificate.Pair:
    return certificate.authority("test", 3650, NOW)


def test_what_is_issued(signer: certificate.Pair) -> None:
    pair = certificate.issue(signer, NAMES, 90, NOW)
    issued = x509.load_pem_x509_certificate(pair.cert.encode())
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(signer.cert.encode()))
    subject = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert subject.get_values_for_type(x509.DNSName) == NAMES[:2]
    assert [str(one) for one in subject.get_values_for_type(x509.IPAddress)] == NAMES[2:]
    purposes = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} == set(purposes)
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issued.not_valid_before_utc < NOW < issued.not_valid_after_utc == NOW + datetime.timedelta(days=90)
    assert pair.key.startswith("-----BEGIN PRIVATE KEY-----") and pair.key not in pair.cert


@pytest.mark.parametrize(
    ("days", "names", "other", "text"),
    [
        (0, NAMES, False, ""),
        (59, NAMES, False, ""),
        (61, NAMES, False, "it ends in 29 days"),
        (0, NAMES[:1], False, "it is for other names"),
        (0, NAMES, True, "it is not from this authority"),
    ],
)
def test_when_it_is_issued_anew(signer: certificate.Pair, days: int, names: list[str], other: bool, text: str) -> None:
    pair = certificate.issue(certificate.authority("other", 10, NOW) if other else signer, names, 90, NOW)
    later = NOW + datetime.timedelta(days=days)
    assert certificate.wrong_with(pair.cert, signer.cert, list(reversed(NAMES)), 30, later) == text


def test_what_is_no_certificate_is_replaced(signer: certificate.Pair) -> None:
    assert certificate.wrong_with("", signer.cert, NAMES, 30, NOW) == "it is not from this authority"


@pytest.mark.parametrize("changes", [{"names": []}, {"renew_before": 90}, {"renew_before": 0}, {"days": 4000}])
def test_numbers_that_make_no_sense(changes: dict[str, t.Any]) -> None:
    with pytest.raises(PlatformError):
        certificate._check({"names": ["a"], "days": 90, "renew_before": 30, "authority_days": 3650, **changes})


def counter() -> t.Callable[[t.Any, str | None], str]:
    numbers = itertools.count(1)
    return lambda _maker, _before: f"value-{next(numbers)}"


def test_values_change_in_steps_and_a_step_that_was_done_changes_nothing() -> None:
    new = counter()
    first = rotated({}, {"a": 32}, None, new)
    assert first == {"a": "value-1"} and phase(first) == "steady"
    staged = rotated(first, {"a": 32}, "stage", new)
    assert staged == {"a": "value-1", "next-a": "value-2"} and phase(staged) == "staged"
    promoted = rotated(staged, {"a": 32}, "promote", new)
    assert promoted == {"a": "value-2", "former-a": "value-1"} and phase(promoted) == "overlap"
    retired = rotated(promoted, {"a": 32}, "retire", new)
    assert retired == {"a": "value-2"}
    for state, step in ((staged, "stage"), (promoted, "stage"), (promoted, "promote"), (first, "promote"), (retired, "retire")):
        assert rotated(state, {"a": 32}, step, new) == state
    for state in (staged, promoted):
        assert rotated(state, {"a": 32}, None, new) == state, "a run that changes nothing keeps what is under way"


def test_names_take_turns_with_their_passwords() -> None:
    makers = {"shop": 32, "shop.login": ("shop", "shop_2")}
    logins = []
    held: dict[str, str] = {}
    for step in (None, "stage", "promote", "retire", "stage", "promote"):
        held = rotated(held, makers, step, following)
        logins.append({key: base64.b64decode(value).decode() for key, value in held.items() if key.endswith("login")})
    assert logins[:3] == [
        {"shop.login": "shop"},
        {"shop.login": "shop", "next-shop.login": "shop_2"},
        {"shop.login": "shop_2", "former-shop.login": "shop"},
    ]
    assert logins[3:] == [
        {"shop.login": "shop_2"},
        {"shop.login": "shop_2", "next-shop.login": "shop"},
        {"shop.login": "shop", "former-shop.login": "shop_2"},
    ]


def test_a_key_that_comes_in_the_middle_of_a_change_is_made_and_not_rotated() -> None:
    new = counter()
    assert rotated({"a": "x", "next-a": "y"}, {"a": 32, "b": 32}, "promote", new) == {"a": "y", "former-a": "x", "b": "value-1"}
