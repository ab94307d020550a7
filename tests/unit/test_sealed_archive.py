"""What seals a backup: all of it comes out, or nothing is believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerFault, Refused
from protocol.identity import AgreementKey
from protocol.limits import SEALED_CHUNK_BYTES
from sync_server.handlers.store.sealed_archive import Unsealed, sealed, sealed_bytes, stream_key, wrapped_key

KEY, TERRITORY = bytes(range(32)), b"t" * 32
KIT, EARLIER = AgreementKey(b"k" * 32), AgreementKey(b"e" * 32)
SIZES = st.sampled_from([1, 512, SEALED_CHUNK_BYTES - 1, SEALED_CHUNK_BYTES, SEALED_CHUNK_BYTES + 1, 200_000])


async def of(data: bytes, piece: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), piece):
        yield data[at : at + piece]


async def closed(data: bytes, piece: int = 70_000) -> bytes:
    return b"".join([each async for each in sealed(of(data, piece), KEY)])


def opened(data: bytes) -> bytes:
    file = Unsealed(BytesIO(data), len(data), KEY)
    found = b"".join(iter(lambda: file.read(10_000), b""))
    file.finish()
    return found


@given(size=SIZES, piece=st.sampled_from([1000, SEALED_CHUNK_BYTES, 300_000]))
async def test_what_was_sealed_comes_out_and_takes_what_was_said_beforehand(size: int, piece: int) -> None:
    data = bytes(number % 251 for number in range(size))
    made = await closed(data, piece)
    assert opened(made) == data
    assert len(made) == sealed_bytes(size)


@pytest.mark.parametrize("at", [0, 31, 32, 40_000, 70_000, -1])
async def test_a_byte_that_changed_is_told(at: int) -> None:
    made = bytearray(await closed(bytes(150_000)))
    made[at] ^= 1
    with pytest.raises(PeerFault):
        opened(bytes(made))


@pytest.mark.parametrize("chunks", [0, 1, 2])
async def test_an_end_that_is_missing_is_told(chunks: int) -> None:
    made = await closed(bytes(150_000))
    with pytest.raises(PeerFault):
        opened(made[: sealed_bytes(chunks * SEALED_CHUNK_BYTES)] if chunks else b"")


def test_a_key_opens_with_the_kit_and_with_one_that_remembers_it() -> None:
    wrapped = wrapped_key(KEY, EARLIER.public, TERRITORY, b"r" * 32)
    assert stream_key(wrapped, TERRITORY, [KIT, EARLIER]) == KEY
    with pytest.raises(Refused):
        stream_key(wrapped, TERRITORY, [KIT])
    with pytest.raises(Refused):
        stream_key(wrapped, b"u" * 32, [KIT, EARLIER])
