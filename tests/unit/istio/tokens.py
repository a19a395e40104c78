# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An issuer of tokens for tests, good ones and bad ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://progressive.local/auth"
AUDIENCE = "progressive-framework-v5"


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Keys:
    """An issuer: its public keys as JWKS, and tokens."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        numbers = self.private.public_key().public_numbers()
        self.jwks = {
            "keys": [
                {
                    "kty": "RSA",
                    "kid": "probe",
                    "alg": "RS256",
                    "use": "sig",
                    "n": encoded(numbers.n.to_bytes(256, "big")),
                    "e": encoded(numbers.e.to_bytes(3, "big")),
                }
            ]
        }

    def token(self, algorithm: str = "RS256", lasts: int = 3600, **claims: Any) -> str:
        """``HS256`` is the old trick: the public key, which everybody has, as a shared secret."""
        header = {"alg": algorithm, "typ": "JWT", "kid": "probe"}
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "scope": "use", "exp": int(time.time()) + lasts, **claims}
        signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(body).encode())}"
        if algorithm == "none":
            signature = b""
        elif algorithm == "HS256":
            form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            signature = hmac.new(self.private.public_key().public_bytes(*form), signed.encode(), hashlib.sha256).digest()
        else:
            signature = self.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{encoded(signature)}"
