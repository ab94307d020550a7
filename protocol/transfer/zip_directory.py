"""The members of a ZIP as its directory lists them: how files that share members are told without opening them.

APPNOTE.TXT 6.3.10, 4.3.12 and 4.3.16. Only what compares is read: the CRC-32 and the plain size of each member, so that
the same member compares equal whoever compressed it. Nothing is trusted: it only says where looking closer may pay.
"""

from __future__ import annotations

import struct
from typing import Final

TAIL_BYTES: Final = 256 * 1024
_END: Final = struct.Struct("<4s4H2LH")
_END_MAGIC: Final = b"PK\x05\x06"
_MEMBER: Final = struct.Struct("<4s6H3L5H2L")
_MEMBER_MAGIC: Final = b"PK\x01\x02"


def members_of(tail: bytes, file_bytes: int) -> dict[tuple[int, int], int]:
    """(CRC-32, plain size) → plain size of the members that `tail`, the end of a file, lists; of no ZIP, none."""
    end = tail.rfind(_END_MAGIC)
    if end < 0 or end + _END.size > len(tail):
        return {}
    at = _END.unpack_from(tail, end)[6] - (file_bytes - len(tail))
    found: dict[tuple[int, int], int] = {}
    while at >= 0 and at + _MEMBER.size <= end:
        magic, *_rest = fields = _MEMBER.unpack_from(tail, at)
        if magic != _MEMBER_MAGIC:
            break
        crc, plain_bytes = int(fields[7]), int(fields[9])
        found[crc, plain_bytes] = plain_bytes
        at += _MEMBER.size + sum(map(int, fields[10:13]))
    return found


def shared_bytes(one: dict[tuple[int, int], int], other: dict[tuple[int, int], int]) -> int:
    """How many plain bytes two ZIPs have in common, by what their directories say."""
    return sum(size for member, size in one.items() if member in other)
