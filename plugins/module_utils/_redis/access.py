# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the nodes are logged in to: user, passwords that overlap, TLS, and each refusal in words (private: may change without notice)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import socket
import ssl
import tempfile
import typing as t
from collections.abc import Callable, Iterator, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access, Tls
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Connection, ConnectionLost, ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

DEFAULT_USER = "default"
EXPIRED, NOT_YET_VALID, OTHER_NAME, OTHER_ADDRESS = 10, 9, 62, 64
"""OpenSSL's verify codes that have a message of their own; the others all mean that the chain does not end at the given authority."""


def user_of(access: Access) -> str:
    return access.username or DEFAULT_USER


def auth(user: str, password: str) -> tuple[str, ...]:
    """AUTH in words. Redis 5 knows no users, so the default one is not named."""
    return ("AUTH", password) if user == DEFAULT_USER else ("AUTH", user, password)


class Refused(Exception):
    """The node is there and does not let us in. ``kind`` is auth, tls or loading; ``text`` says what was seen, ``hint`` what to do next."""

    def __init__(self, kind: str, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.hint = hint


@dataclasses.dataclass(frozen=True)
class Login:
    """An open connection and how it was got.

    ``user`` logged in as (empty: nobody had to), ``rank`` of the password that was taken, ``certificate_ends`` as Unix time (0: no TLS).
    """

    connection: Connection
    user: str = ""
    rank: int = 0
    certificate_ends: int = 0


def hashed(password: str) -> str:
    """As ACL SETUSER takes it and ACL LIST shows it: the password itself is never sent."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()


class Door:
    """Opens connections for one run; the TLS context is made once."""

    def __init__(self, access: Access, clock: Clock, within: float) -> None:
        self.access = access
        self._clock = clock
        self._within = within
        self._context = context_of(access.tls) if access.tls else None

    def open(self, dial: Callable[[], socket.socket], host: str) -> Login:
        """``dial`` gives a connected socket. Raises Refused, ConnectionLost, or what ``dial`` raises."""
        sock = dial()
        ends = 0
        if self._context:
            sock, ends = self._secured(sock, dial, host)
        connection = Connection(sock, self._clock)
        try:
            return dataclasses.replace(self._login(connection), certificate_ends=ends)
        except ConnectionLost as error:
            if self._context is None and _speaks_tls(dial, self._within):
                raise Refused(
                    "tls", "it speaks TLS on this port and was asked without", "Give the option tls (ca_cert, server_name)."
                ) from error
            raise
        except Refused:
            connection.close()
            raise

    def _secured(self, sock: socket.socket, dial: Callable[[], socket.socket], host: str) -> tuple[socket.socket, int]:
        tls = t.cast(Tls, self.access.tls)
        name = tls.server_name or host
        try:
            sock.settimeout(self._within)
            wrapped = t.cast(ssl.SSLContext, self._context).wrap_socket(sock, server_hostname=name)
            return wrapped, int(ssl.cert_time_to_seconds(str((wrapped.getpeercert() or {})["notAfter"])))
        except ssl.SSLCertVerificationError as error:
            sock.close()
            raise _certificate_problem(error, name, dial, self._within) from error
        except OSError as error:
            sock.close()
            if _speaks_plainly(dial, self._within):
                hint = "Leave out the option tls, or give these servers a tls-port (redis-cli CONFIG GET tls-port) and name that one."
                raise Refused("tls", "it does not speak TLS on this port", hint) from error
            raise ConnectionLost(f"the TLS handshake failed ({_reason(error)})") from error

    def _login(self, connection: Connection) -> Login:
        """Log in with the first password that is taken; a node from before there were users knows only the default one, so that is tried last."""
        access = self.access
        deadline = self._clock.now() + self._within
        if not access.passwords:
            reply = connection.call([("PING",)], deadline)[0]
            if isinstance(reply, ReplyError) and reply.code == "NOAUTH":
                raise Refused("auth", "it wants a password (NOAUTH) and none was given", "Give it in password or password_secret.")
            return Login(connection)
        attempts = [(user_of(access), rank, password) for rank, password in enumerate(access.passwords)]
        if access.username not in {"", DEFAULT_USER}:
            attempts += [(DEFAULT_USER, rank, password) for rank, password in enumerate(access.passwords)]
        for user, rank, password in attempts:
            reply = connection.call([auth(user, password)], deadline)[0]
            if not isinstance(reply, ReplyError):
                return Login(connection, user, rank)
            if reply.code == "LOADING":
                raise Refused("loading", "it is loading its data set")
            if "without any password configured" in reply:
                hint = "Set requirepass and masterauth on every node, or leave out the password."
                raise Refused("auth", "it has no password at all (requirepass is empty) and one was given", hint)
            if "wrong number of arguments" in reply:
                continue  # Redis 5 knows no users
            if reply.code != "WRONGPASS":
                raise Refused("auth", f"it answers AUTH with {reply}")
        tried = "the password" if len(access.passwords) == 1 else "the password and the former one"
        hint = "Give the one these nodes have in password or password_secret; a former one, while it is being changed, in former_password."
        raise Refused("auth", f"it refuses {tried} of user {user_of(access)!r} (WRONGPASS)", hint)


def context_of(tls: Tls) -> ssl.SSLContext:
    """The client's side. Raises PlatformError for PEM that cannot be read, before anything is connected to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if tls.ca:
            context.load_verify_locations(cadata=tls.ca)
        else:
            context.load_default_certs()
    except (ssl.SSLError, ValueError) as error:
        raise PlatformError(
            f"tls.ca_cert holds no readable PEM certificate ({_reason(error)}). See it: openssl x509 -in FILE -text"
        ) from error
    if bool(tls.cert) != bool(tls.key):
        given, missing = ("cert", "key") if tls.cert else ("key", "cert")
        raise PlatformError(f"tls.{given} is given and tls.{missing} is not; a client certificate needs both.")
    if tls.cert:
        try:
            with _file(tls.cert) as cert, _file(tls.key) as key:
                context.load_cert_chain(cert, key)
        except (ssl.SSLError, ValueError) as error:
            raise PlatformError(f"tls.cert and tls.key are not a certificate and its key ({_reason(error)}).") from error
    return context


@contextlib.contextmanager
def _file(text: str) -> Iterator[str]:
    """The library takes a key only from a file: one that nobody else can read, and that is gone before the first connection."""
    number, path = tempfile.mkstemp(prefix="progressive-")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        yield path
    finally:
        os.unlink(path)


def served(dial: Callable[[], socket.socket], within: float) -> str:
    """The certificate a node serves, as PEM, whoever issued it; raises OSError when it serves none."""
    sock = dial()
    try:
        sock.settimeout(within)
        with _trusting().wrap_socket(sock) as wrapped:
            return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True) or b"")
    finally:
        sock.close()


def _trusting() -> ssl.SSLContext:
    """Only for looking at what a node serves: nothing is ever sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certificate_problem(error: ssl.SSLCertVerificationError, name: str, dial: Callable[[], socket.socket], within: float) -> Refused:
    if error.verify_code in {OTHER_NAME, OTHER_ADDRESS}:
        hint = "Say one of its names in tls.server_name, or give the servers a certificate for the wanted one."
        return Refused("tls", f"its certificate is not for {name}{_names(dial, within)}", hint)
    if error.verify_code == EXPIRED:
        return Refused(
            "tls", "its certificate has expired", "Renew it, then load it without a restart: redis-cli CONFIG SET tls-cert-file (its path)."
        )
    if error.verify_code == NOT_YET_VALID:
        return Refused("tls", "its certificate is not valid yet", "Compare the clocks: date -u here and there.")
    hint = "Give the authority that issued it in tls.ca_cert; see the chain: openssl s_client -showcerts -connect HOST:PORT"
    return Refused("tls", f"its certificate was not issued by the given authority ({error.verify_message})", hint)


def _names(dial: Callable[[], socket.socket], within: float) -> str:
    """`` but for a, b`` where the names can be read, which takes a second look without verification."""
    try:
        from cryptography import x509
        from cryptography.x509.oid import ExtensionOID

        certificate = x509.load_pem_x509_certificate(served(dial, within).encode())
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        names = [str(item.value) for item in t.cast(x509.SubjectAlternativeName, extension.value)]
    except Exception:  # whatever is wrong with it, the message stands without the names
        return ""
    return f" but for {', '.join(names)}"


def _speaks_tls(dial: Callable[[], socket.socket], within: float) -> bool:
    try:
        return bool(served(dial, within))
    except Exception:  # it is only asked to word a failure that is there already
        return False


def _speaks_plainly(dial: Callable[[], socket.socket], within: float) -> bool:
    try:
        with contextlib.closing(dial()) as sock:
            sock.settimeout(within)
            sock.sendall(b"PING\r\n")
            return sock.recv(1) in {b"+", b"-"}
    except Exception:  # as above
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "reason", "") or error or type(error).__name__).replace("_", " ").lower()


def shown(command: Sequence[str]) -> str:
    """A command as a person may read it: passwords and their hashes are left out."""
    words = []
    hidden = 0
    for index, word in enumerate(command):
        if hidden:
            words.append("***")
            hidden -= 1
            continue
        words.append(f"{word[0]}***" if index > 2 and command[0] == "ACL" and word[:1] in {"#", "!", ">", "<"} else word)
        if word.lower() in {"masterauth", "requirepass", "auth"}:
            hidden = 1
        elif word.lower() == "auth2":
            hidden = 2
    return " ".join(words)
