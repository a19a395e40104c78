# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates from an authority of our own, in Secrets, renewed before they end (private: may change without notice).

``authority``, ``issue`` and ``wrong_with`` are pure but for the random numbers; the library is imported where it is needed, for most tasks never do.
"""

from __future__ import annotations

import base64
import datetime
import importlib.util
import ipaddress
import typing as t
from collections.abc import Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import MANAGER
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.secret import ATTEMPTS, write
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

if t.TYPE_CHECKING:
    from cryptography import x509

Json = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "authority": {"type": "str"},
    "names": {"type": "list", "elements": "str", "required": True},
    "days": {"type": "int", "default": 90},
    "renew_before": {"type": "int", "default": 30},
    "authority_days": {"type": "int", "default": 3650},
    "labels": {"type": "dict", "default": {}},
    "force": {"type": "bool", "default": False},
    **CONNECTION,
}
CA, CERT, KEY = "ca.crt", "tls.crt", "tls.key"
AUTHORITY_WARNING = 365  # days before its end from which every run says so
SKEW = datetime.timedelta(minutes=5)  # for clocks that are a little behind


class Pair(t.NamedTuple):
    """A certificate and its key as PEM."""

    cert: str
    key: str


def run(params: Params, context: Context) -> Result:
    """Result: changed, name, namespace, reason, not_after, authority, warnings. Never a key."""
    _check(params)
    now = datetime.datetime.now(datetime.UTC)
    with connect(params, context.clock) as client:
        namespace = params["namespace"] or client.access.namespace
        for attempt in range(ATTEMPTS):
            try:
                return _ensure(client, namespace, params, now, context.check)
            except ApiError as error:
                if error.status != 409 or attempt == ATTEMPTS - 1:
                    raise
    raise AssertionError("unreachable")


def authority(name: str, days: int, now: datetime.datetime) -> Pair:
    """A self-signed authority that can sign servers and nothing that signs again."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = _builder(subject, subject, key.public_key(), days, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(usage, critical=True)
    return _signed(builder, key, key, key.public_key())


def issue(by: Pair, names: Sequence[str], days: int, now: datetime.datetime) -> Pair:
    """A certificate for servers that are also each other's clients; ``names`` are DNS names and IP addresses, the first one is the common name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    issuer = x509.load_pem_x509_certificate(by.cert.encode())
    signer = t.cast(ec.EllipticCurvePrivateKey, serialization.load_pem_private_key(by.key.encode(), None))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = _builder(subject, issuer.subject, key.public_key(), days, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).add_extension(usage, critical=True)
    builder = builder.add_extension(purposes, critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    return _signed(builder, signer, key, issuer.public_key())


def wrong_with(cert: str, ca: str, names: Sequence[str], renew_before: int, now: datetime.datetime) -> str:
    """Why a new certificate is needed; empty when it is not."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        held, issuer = x509.load_pem_x509_certificate(cert.encode()), x509.load_pem_x509_certificate(ca.encode())
        held.verify_directly_issued_by(issuer)
        subject = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return "it is not from this authority"
    if {str(general.value) for general in subject} != {_text(name) for name in names}:
        return "it is for other names"
    left = (held.not_valid_after_utc - now).days
    return f"it ends in {left} days" if left < renew_before else ""


def not_after(cert: str) -> datetime.datetime:
    from cryptography import x509

    return x509.load_pem_x509_certificate(cert.encode()).not_valid_after_utc


def _check(params: Params) -> None:
    if not params["names"]:
        raise PlatformError("names is empty; a certificate is for one DNS name or IP address at least.")
    if not 0 < params["renew_before"] < params["days"] <= params["authority_days"]:
        raise PlatformError(
            f"renew_before ({params['renew_before']}) must be more than 0 and less than days ({params['days']}), "
            f"and days not more than authority_days ({params['authority_days']})."
        )
    if importlib.util.find_spec("cryptography") is None:
        raise PlatformError(
            "The Python library cryptography is missing on the host the module runs on. Run: pip install 'cryptography>=42'"
        )


def _ensure(client: Client, namespace: str, params: Params, now: datetime.datetime, dry: bool) -> Result:
    resource = client.resource("v1", "Secret")
    ca_name = params["authority"] or f"{params['name']}-authority"
    ca_before = client.find(resource.path(namespace, ca_name))
    before = client.find(resource.path(namespace, params["name"]))
    held = _values(before)
    signer = _values(ca_before)
    reason = ""
    if ca_before is None:
        reason = "there is no authority yet"
        pair = authority(f"{namespace}/{ca_name}", params["authority_days"], now)
        write(
            client, resource, _document(namespace, ca_name, params["labels"], {CERT: pair.cert, KEY: pair.key}), None, params["force"], dry
        )
    elif not signer.get(CERT) or not signer.get(KEY):
        raise PlatformError(
            f"Secret {namespace}/{ca_name} has no {CERT} and {KEY}; its keys: {', '.join(sorted(signer)) or 'none'}. Remove it to have an authority made, "
            "which every client then has to be told of."
        )
    else:
        pair = Pair(signer[CERT], signer[KEY])
        reason = wrong_with(held.get(CERT, ""), pair.cert, params["names"], params["renew_before"], now) if before else "there is none yet"
    if held.get(CA) != pair.cert:
        reason = reason or "its authority is another one"
    issued = Pair(held.get(CERT, ""), held.get(KEY, "")) if not reason else issue(pair, params["names"], params["days"], now)
    data = {CA: pair.cert, CERT: issued.cert, KEY: issued.key}
    after = write(client, resource, _document(namespace, params["name"], params["labels"], data), before, params["force"], dry)
    ends = (not_after(pair.cert) - now).days
    warning = (
        f"The authority in Secret {namespace}/{ca_name} ends in {ends} days; no certificate can outlive it."
        if ends < AUTHORITY_WARNING
        else ""
    )
    moved = before is None or before["metadata"]["resourceVersion"] != after["metadata"].get("resourceVersion")
    return {
        "changed": bool(reason) or (moved and not dry),
        "name": params["name"],
        "namespace": namespace,
        "reason": reason,
        "not_after": not_after(issued.cert).isoformat(),
        "authority": pair.cert,
        "warnings": [warning] if warning else [],
    }


def _document(namespace: str, name: str, labels: t.Mapping[str, str], data: t.Mapping[str, str]) -> Json:
    ours = {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/part-of": "progressive-platform", **labels}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    metadata = {"name": name, "namespace": namespace, "labels": ours}
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": encoded}


def _values(secret: Json | None) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in ((secret or {}).get("data") or {}).items()}


def _builder(subject: x509.Name, issuer: x509.Name, public: t.Any, days: int, now: datetime.datetime) -> x509.CertificateBuilder:
    from cryptography import x509

    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
    return builder.not_valid_before(now - SKEW).not_valid_after(now + datetime.timedelta(days=days))


def _signed(builder: x509.CertificateBuilder, signer: t.Any, key: t.Any, issuer_key: t.Any) -> Pair:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _text(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
