"""What the C library and TLS are told about memory."""

from __future__ import annotations

from asyncio.sslproto import SSLProtocol

import pytest

from protocol.replica.process.native_memory import REUSED_PIECE_BYTES, keep_little


def test_a_tls_connection_reads_into_memory_that_the_c_library_need_not_map_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SSLProtocol, "max_size", 262_144)
    keep_little()
    assert SSLProtocol.max_size <= REUSED_PIECE_BYTES
