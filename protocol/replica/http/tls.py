"""TLS for listeners: a key of one's own, or an official certificate in files that is renewed now and then.

Rules:
- TLS 1.3; 1.2 only where boxes and browsers of schools may still need it, then with forward secrecy and without
  renegotiation or compression;
- files are looked at every few seconds; what was renewed counts for connections from then on, and what cannot be used
  (half of a pair, an unreadable file) changes nothing and is said once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from pathlib import Path
from typing import Final, NoReturn

from protocol.errors import BadInput, Code
from protocol.identity import TlsKey
from protocol.limits import MAX_TLS_FILE_BYTES
from protocol.replica.private_file import write_private

LOOK_EVERY_S: Final = 10.0
_LENT_FOLDER: Final = "keys"
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

_log = logging.getLogger(__name__)


def context_of(key: TlsKey, folder: Path, *, oldest: ssl.TLSVersion) -> ssl.SSLContext:
    """What a listener with a key of its own needs. The library reads keys from files only: one lies in DIR/keys for it.

    Raises `LocalFailure`.
    """
    certificate = ssl.DER_cert_to_PEM_cert(key.certificate)
    # PEM is one form for both (RFC 7468): base64 between two lines, which say what it is
    private = ssl.DER_cert_to_PEM_cert(key.private).replace("CERTIFICATE", "PRIVATE KEY")
    context = _context(oldest)
    lent = folder / _LENT_FOLDER / f"lent-{secrets.token_hex(8)}"
    try:
        write_private(lent, (private + certificate).encode())
        context.load_cert_chain(lent)
    finally:
        lent.unlink(missing_ok=True)
    return context


class Renewable:
    """What a listener shows, which may change while it listens: connections from then on see the new one."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._current = context
        self.context: Final = context
        # called for each connection, with or without a name
        context.sni_callback = self._choose

    def show(self, context: ssl.SSLContext) -> None:
        """To whoever connects from now on."""
        self._current = context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._current is not self.context:
            connection.context = self._current


class OfficialCertificate:
    """A certificate with its chain, and its key, in two PEM files that somebody renews."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises `BadInput(UNREADABLE_FILE | MISSING_FILE | USAGE)`."""
        self._certificate = certificate
        self._key = key
        self._seen = self._state()
        self._shown = Renewable(self._load())
        self.context: Final = self._shown.context

    async def follow(self) -> NoReturn:
        """Look at the files again and again, for as long as the listener lasts."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> bool:
        """Take what was renewed; whether anything was."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        try:
            self._shown.show(self._load())
        except BadInput as reason:
            _log.error("the renewed certificate is not used, the former one stays: %s", reason)
            return False
        _log.info("the certificate in %s has been renewed, and counts from now on", self._certificate)
        return True

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state_of(path) for path in (self._certificate, self._key))

    def _load(self) -> ssl.SSLContext:
        for path in (self._certificate, self._key):
            _check_readable(path)
        context = _context(ssl.TLSVersion.TLSv1_2)
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except (OSError, ValueError) as reason:
            raise BadInput(
                Code.USAGE,
                f"{self._certificate} and {self._key} are no certificate and its key in PEM form: "
                f"{getattr(reason, 'reason', None) or reason}",
            ) from reason
        return context


def _context(oldest: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = oldest
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            size = len(file.read(MAX_TLS_FILE_BYTES + 1))
    except FileNotFoundError:
        raise BadInput(Code.MISSING_FILE, f"{path} does not exist", path=str(path)) from None
    except OSError as reason:
        raise BadInput(Code.UNREADABLE_FILE, f"{path} cannot be read: {reason.strerror}", path=str(path)) from reason
    if size > MAX_TLS_FILE_BYTES:
        raise BadInput(Code.UNREADABLE_FILE, f"{path} is larger than a certificate may be", path=str(path))


def _no_passphrase() -> NoReturn:
    raise ValueError("the key is under a passphrase, which nobody is there to type; store it without one")
