"""Whom this machine trusts to vouch for a server, and who vouches for what was shown instead (R13, R15).

Rules:
- the system's store counts, with what `SSL_CERT_FILE` names, what `--ca` gave, and on macOS the keychains;
- a certificate's dates do not: PCs boot in 2009 and in 2040, and a wrong clock is no reason to refuse (R6). What is
  said stays sealed to the server's own key in any case: TLS is the outer of two locks;
- who vouches for a certificate that was refused is read by one more handshake, over which nothing is said.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import subprocess
import sys
from typing import Final

from protocol.errors import BadInput, Code
from sync_agent.network.proxies import Proxy
from sync_agent.network.trouble import Seen, Trouble, fit

LOOK_S: Final = 10.0
_HTTP: Final = b"HTTP/"
_NO_CHECK_TIME: Final = 0x200000
_NAME_MISMATCH: Final = frozenset({62, 64})
_KEYCHAINS: Final = (
    "/System/Library/Keychains/SystemRootCertificates.keychain",
    "/Library/Keychains/System.keychain",
)


def checked_authorities(pem: str, name: str) -> str:
    """`pem` if it holds certificates that can be trusted. Raises `BadInput(USAGE)`, naming the file."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as reason:
        raise BadInput(Code.USAGE, f"--ca: {name} holds no certificate in PEM form") from reason
    return pem


def trusting(authorities: str | None, bundle: str | None) -> ssl.SSLContext:
    """A context that checks a server's chain and name. Raises `BadInput(USAGE)` for a `bundle` that cannot be read.

    `authorities` in PEM form are trusted besides the system's; `bundle` is what SSL_CERT_FILE names.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    if sys.platform == "darwin":
        _add_keychains(context)
    if bundle:
        try:
            context.load_verify_locations(cafile=bundle)
        except (OSError, ssl.SSLError) as reason:
            raise BadInput(Code.USAGE, f"SSL_CERT_FILE: {bundle} cannot be read as certificates") from reason
    if authorities:
        context.load_verify_locations(cadata=authorities)
    context.verify_flags |= _NO_CHECK_TIME
    return context


def _add_keychains(context: ssl.SSLContext) -> None:
    found = subprocess.run(  # noqa: S603  (a program of the system's)
        ["/usr/bin/security", "find-certificate", "-a", "-p", *_KEYCHAINS], capture_output=True, text=True, check=False
    )
    if found.returncode == 0 and found.stdout.strip():
        context.load_verify_locations(cadata=found.stdout)


async def who_vouches(host: str, port: int, proxy: Proxy | None, refused: ssl.SSLCertVerificationError) -> Seen:
    """What a refused certificate amounts to, with its issuer or the name that it is for."""
    number = getattr(refused, "verify_code", None)
    if number is None:  # not OpenSSL's judgement: a certificate other than the one that was pinned
        return Seen(Trouble.CERTIFICATE)
    mismatch = number in _NAME_MISMATCH
    try:
        async with asyncio.timeout(LOOK_S):
            subject, issuer = _names_in(await _shown(host, port, proxy))
    except (OSError, TimeoutError, ValueError, EOFError, ImportError):
        subject, issuer = "", ""
    return Seen(Trouble.CERTIFICATE, subject) if mismatch else Seen(Trouble.INSPECTED, issuer)


async def speaks_tls(host: str, port: int) -> bool:
    """Whether a secure connection is answered there. Nothing is said over it, and nobody is trusted for it."""
    try:
        async with asyncio.timeout(LOOK_S):
            return bool(await _shown(host, port, None))
    except (OSError, TimeoutError, ValueError, EOFError):
        return False


async def speaks_plainly(host: str, port: int) -> bool:
    """Whether HTTP is answered there in clear, and no secure connection. Nothing is said but that somebody asks."""
    if await speaks_tls(host, port):
        return False
    try:
        async with asyncio.timeout(LOOK_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"HEAD / HTTP/1.0\r\n\r\n")
                return await reader.readexactly(len(_HTTP)) == _HTTP
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, EOFError):
        return False


async def _shown(host: str, port: int, proxy: Proxy | None) -> bytes:
    """The certificate that is shown at `host`, unchecked. Raises `OSError`, `EOFError`."""
    seeing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    seeing.check_hostname = False
    seeing.verify_mode = ssl.CERT_NONE
    if proxy is None:
        _, writer = await asyncio.open_connection(host, port, ssl=seeing, server_hostname=host)
    else:
        reader, writer = await asyncio.open_connection(
            proxy.host, proxy.port, ssl=seeing if proxy.scheme == "https" else None
        )
    try:
        if proxy is not None:
            writer.write(_connect_request(host, port, proxy))
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200" not in answer[:16]:
                raise EOFError
            await writer.start_tls(seeing, server_hostname=host)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return shown if isinstance(shown, bytes) else b""
    finally:
        writer.transport.abort()


def _connect_request(host: str, port: int, proxy: Proxy) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.name is not None:
        login = base64.b64encode(f"{proxy.name}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {login}")
    return "\r\n".join([*lines, "", ""]).encode()


def _names_in(certificate: bytes) -> tuple[str, str]:
    """Whom a certificate is for, and who issued it, as people would say it."""
    from cryptography import x509  # noqa: PLC0415 — large, and needed once in a while

    found = x509.load_der_x509_certificate(certificate)
    return _person(found.subject), _person(found.issuer)


def _person(name: object) -> str:
    from cryptography import x509  # noqa: PLC0415

    if not isinstance(name, x509.Name):
        return ""
    for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return fit(str(attribute.value))
    return ""
