"""Content on its way behind a link: encrypted under the link's own key, whoever ends TLS (docs/protocol.md, "HTTP").

Rules:
- the key comes in a sealed answer, is good for one pack and one link, and never stands in a request: who has seen a
  link, and all that passed behind it, has read nothing;
- ChaCha20 (RFC 8439, nonce 0), whose block counter follows from the place in the pack: each part is gone on with by
  itself, and takes as many bytes as it has, of `MAX_CROSSING_BYTES` that one key hides;
- that nothing was changed is not said here: the pack's hash says it, as it does of what comes in clear.

What waits on a disk under a key in memory is hidden likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

LINK_KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 64
_COUNTER_BYTES: Final = 4
_NONCE: Final = bytes(12)
MAX_CROSSING_BYTES: Final = _BLOCK_BYTES << (8 * _COUNTER_BYTES)
"""256 GiB: blocks are counted to 2³²."""


def crossing(key: bytes, at: int) -> Callable[[bytes], bytes]:
    """What becomes of the bytes of a pack from byte `at` on, piece by piece, at either end of a link.

    Behind a link without a key, of a program from before, nothing.
    """
    if not key:
        return _in_clear
    block, skipped = divmod(at, _BLOCK_BYTES)
    cipher = Cipher(ChaCha20(key, block.to_bytes(_COUNTER_BYTES, "little") + _NONCE), mode=None).encryptor()
    cipher.update(bytes(skipped))
    return cipher.update


def _in_clear(data: bytes) -> bytes:
    return data
