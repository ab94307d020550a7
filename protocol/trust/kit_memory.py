"""What stands behind a recovery kit's own text: what the kit has said so far (docs/protocol.md, "Recovery kit").

It is no secret, and nobody prints it or types it again: every replica holds it, or did. It lies outside of what the
passphrase protects, so that it can be added to without writing the seeds anew, and a reader that knows nothing of it
passes over it. A copy that is damaged is worth nothing, and the kit before it goes on being one.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from blake3 import blake3

from protocol.limits import MAX_KIT_BYTES

_VERSION: Final = b"\x00"
_HASH_BYTES: Final = 32
_LINE_CHARS: Final = 76
_ABOUT: Final = "Mémoire de ce kit : ce qu'il a déjà dit. Rien de secret, ne s'imprime pas ; gardez ce fichier."
_BEGIN: Final = "--- RELAIS MEMOIRE ---"
_END: Final = "--- FIN ---"


def with_memory(kit: str, memory: bytes) -> str:
    """The text of a kit with this memory in place of the one that it had, if any."""
    bare = _without_memory(kit)
    if not memory:
        return bare
    chars = b64encode(_VERSION + blake3(memory).digest() + memory).decode("ascii")
    lines = [chars[at : at + _LINE_CHARS] for at in range(0, len(chars), _LINE_CHARS)]
    return "\n".join([bare.rstrip("\n"), "", _ABOUT, "", _BEGIN, *lines, _END, ""])


def memory_in(kit: str) -> bytes | None:
    """The memory in the text of a kit: nothing where it has none, None where it is damaged, or of a later form."""
    lines = kit.splitlines()
    place = _place_of_memory(lines)
    if place is None:
        return b""
    begin, end = place
    with suppress(ValueError, binascii.Error):
        block = b64decode("".join(line.strip() for line in lines[begin + 1 : end]), validate=True)
        memory = block[1 + _HASH_BYTES :]
        if block[: 1 + _HASH_BYTES] == _VERSION + blake3(memory).digest():
            return memory
    return None


def room_for_memory(kit: str) -> int:
    """How many bytes of memory a kit has room for, as a whole being bounded by `MAX_KIT_BYTES`."""
    chars = MAX_KIT_BYTES - len(with_memory(kit, b"\x00").encode()) - _LINE_CHARS
    block = chars // (_LINE_CHARS + 1) * (_LINE_CHARS // 4 * 3)
    return max(0, block - 1 - _HASH_BYTES)


def _without_memory(kit: str) -> str:
    lines = kit.splitlines()
    place = _place_of_memory(lines)
    if place is None:
        return kit
    begin, end = place
    before = [line for line in lines[:begin] if line != _ABOUT]
    return "\n".join([*before, *lines[end + 1 :]]).rstrip("\n") + "\n"


def _place_of_memory(lines: Sequence[str]) -> tuple[int, int] | None:
    """The lines between which it lies; to the end of the text where its own end was cut off."""
    bare = [line.strip() for line in lines]
    if _BEGIN not in bare:
        return None
    begin = bare.index(_BEGIN)
    return begin, bare.index(_END, begin) if _END in bare[begin:] else len(bare)
