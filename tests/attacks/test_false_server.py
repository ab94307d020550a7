"""Who stands between a device and its server, or in the server's place, gets nothing (docs/attacks.md)."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.errors import NoAnswer, PeerFault, Refused, RelaisError
from protocol.identity import SigningKey, TlsKey
from protocol.messages.enrollment import encode_chain
from protocol.model.entry import Entry
from protocol.replica.http.tls import context_of
from protocol.trust.server_tls import BINDING, bound_tls_key
from sync_agent.transport.server_chain import Roots
from tests.harness.attack import attack
from tests.harness.fleet import pages_over
from tests.harness.office_way import enrol_by, sync_by
from tests.harness.server_in_process import Office, office


@asynccontextmanager
async def harvester(tls: ssl.SSLContext | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Somebody who takes whatever comes, and answers nothing: the address, and what came."""
    taken: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if data := await reader.read(65_536):
            taken.append(data)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.sockets[0].getsockname()[1]}", taken


def copied(shown: bytes) -> TlsKey:
    """A certificate that says what the server's says, over a key of the thief's."""
    said = x509.load_der_x509_certificate(shown).extensions.get_extension_for_oid(x509.ObjectIdentifier(BINDING)).value
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    theirs = x509.load_der_x509_certificate(shown)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), 7, theirs.not_valid_before_utc, theirs.not_valid_after_utc
        )
        .add_extension(said, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return TlsKey(private, certificate.public_bytes(serialization.Encoding.DER))


@contextmanager
def nothing_given(taken: list[bytes]) -> Iterator[None]:
    """Nobody is let in, and not a byte of a request has left."""
    with pytest.raises(RelaisError) as raised:
        yield
    assert isinstance(raised.value, (NoAnswer, Refused))
    assert taken == []


@attack("a fake server that harvests", off={"protocol.trust.server_tls.Binding.is_by": lambda *_: True})
async def test_a_false_server_with_a_copied_certificate_harvests_nothing(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made:
        code = await made.invite("machine")
        async with pages_over(made, tls=True) as (url, _):
            await enrol_by(made, tmp_path / "a", url, code)
        chain = encode_chain(made.server.responder.station.chain)
        others_word = bound_tls_key(os.urandom(32), SigningKey(os.urandom(32)), chain)
        for false in (copied(made.server.keys.tls(chain).certificate), others_word):
            async with harvester(over(false, made)) as (url, taken):
                with nothing_given(taken):
                    await enrol_by(made, tmp_path / "b", url, code)
                with nothing_given(taken):
                    await sync_by(made, tmp_path / "a", url)


def whoever_signed(chain: tuple[Entry, ...], _is_ours: object) -> Roots:
    """Any root is ours."""
    return Roots(chain[0].header.author, chain[0].header.author)


@attack("a fake server that harvests", off={"sync_agent.transport.server_chain.roots_in": whoever_signed})
async def test_a_server_that_was_born_under_another_root_harvests_nothing(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, office(tmp_path / "thief") as thief:
        chain = encode_chain(thief.server.responder.station.chain)
        async with harvester(over(thief.server.keys.tls(chain), thief)) as (url, taken):
            with nothing_given(taken):
                await enrol_by(made, tmp_path / "a", url, await made.invite("machine"))


@attack(
    "a fake server that harvests",
    off={"sync_agent.transport.sealed_calls.seal_request": lambda _, payload, **__: payload},
)
async def test_what_a_harvester_takes_where_there_is_no_tls_names_nobody(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made:
        async with pages_over(made) as (url, _):
            with suppress(PeerFault):  # without the seal the server understands nothing of the first sync
                await enrol_by(made, tmp_path / "a", url, await made.invite("machine"))
        async with harvester(None) as (url, taken):
            with pytest.raises(NoAnswer):
                await sync_by(made, tmp_path / "a", url)
        (request, *_) = taken
        for secret in (b"Renard", bytes.fromhex(made.space)[:4], made.server.replica.territory[:4]):
            assert secret not in request


def over(key: TlsKey, made: Office) -> ssl.SSLContext:
    """What a listener with this key needs."""
    return context_of(key, made.server.folder, oldest=ssl.TLSVersion.TLSv1_3)
