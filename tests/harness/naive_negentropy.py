"""A second Negentropy v1, written from the specification alone, as slow and plain as possible.

It shares no code and no structure with `reconcile.negentropy`: ranges are tuples in lists, every range is found by
scanning all records, a message is encoded again to learn its size. What both do alike is likely what the text says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

Item = tuple[int, bytes]
# (timestamp, prefix as it is written), "skip" | "fingerprint" | "ids", what the range holds
Range = tuple[Item, str, object]

END: Item = (2**64 - 1, b"")
MODES = ["skip", "fingerprint", "ids"]


def digits(number: int) -> bytes:
    text = [int(bits, 2) for bits in _sevens(f"{number:b}")]
    return bytes([digit + 128 for digit in text[:-1]] + text[-1:])


def _sevens(bits: str) -> list[str]:
    padded = bits.zfill(-(-len(bits) // 7) * 7)
    return [padded[at : at + 7] for at in range(0, len(padded), 7)]


def fingerprint(items: Iterable[Item]) -> bytes:
    ids = [name for _, name in items]
    total = sum(int(name[::-1].hex(), 16) for name in ids) % 2**256
    return hashlib.sha256(bytes.fromhex(f"{total:064x}")[::-1] + digits(len(ids))).digest()[:16]


def encode(ranges: list[Range]) -> bytes:
    kept: list[Range] = []
    for part in ranges:
        if kept and kept[-1][1] == part[1] == "skip":
            kept.pop()
        kept.append(part)
    if kept and kept[-1][1] == "skip":
        kept.pop()
    out, clock = b"a", 0
    for (when, prefix), mode, held in kept:
        if when == END[0]:
            out += b"\0"
        else:
            out += digits(when - clock + 1)
            clock = when
        out += digits(len(prefix)) + prefix + bytes([MODES.index(mode)])
        if isinstance(held, bytes):
            out += held
        elif isinstance(held, list):
            out += digits(len(held)) + b"".join(held)
    return out


def decode(message: bytes) -> list[Range]:
    assert message[0] == ord("a")
    stream = iter(message[1:])
    left = len(message) - 1
    ranges: list[Range] = []
    clock = 0

    def raw(count: int) -> bytes:
        nonlocal left
        left -= count
        return bytes(next(stream) for _ in range(count))

    def number() -> int:
        value = 0
        while True:
            byte = raw(1)[0]
            value = value * 128 + byte % 128
            if byte < 128:
                return value

    while left:
        step = number()
        clock = clock + step - 1 if step else END[0]
        upper = (clock, raw(number()))
        mode = MODES[number()]
        held: object = None
        if mode == "fingerprint":
            held = raw(16)
        elif mode == "ids":
            held = [raw(32) for _ in range(number())]
        ranges.append((upper, mode, held))
    return ranges


def split(items: list[Item], upper: Item, buckets: int, list_below: int) -> list[Range]:
    if len(items) < list_below:
        return [(upper, "ids", [name for _, name in items])]
    buckets = min(buckets, len(items))
    ranges: list[Range] = []
    rest = list(items)
    for number in range(buckets):
        take = len(items) // buckets + (number < len(items) % buckets)
        bucket, rest = rest[:take], rest[take:]
        ranges.append((_between(bucket[-1], rest[0]) if rest else upper, "fingerprint", fingerprint(bucket)))
    return ranges


def _between(left: Item, right: Item) -> Item:
    if left[0] != right[0]:
        return (right[0], b"")
    return next((right[0], right[1][:size]) for size in range(33) if right[1][:size] != left[1][:size])


def start(items: Iterable[Item], buckets: int = 16, list_below: int = 32) -> bytes:
    return encode(split(sorted(items), END, buckets, list_below))


def reply(
    items: Iterable[Item],
    message: bytes,
    frame: int,
    buckets: int = 16,
    list_below: int = 32,
    learned: tuple[set[bytes], set[bytes]] | None = None,
) -> bytes:
    """The answer; with `learned` (have, need) that of the initiator, which fills it."""
    items = sorted(items)
    out: list[Range] = []
    below: Item = (0, b"")
    unsent_from: Item = (0, b"")

    def inside(low: Item, high: Item) -> list[Item]:
        first, beyond = _full(low), _full(high)
        return [item for item in items if first <= item < beyond]

    def too_long(ranges: list[Range]) -> bool:
        return len(encode(ranges)) > frame - 200

    for upper, mode, theirs in decode(message):
        mine = inside(below, upper)
        if mode == "skip" or (mode == "fingerprint" and theirs == fingerprint(mine)):
            out.append((upper, "skip", None))
        elif mode == "fingerprint":
            more = split(mine, upper, buckets, list_below)
            if too_long(out + more):
                while out and out[-1][1] == "skip":
                    out.pop()
                rest = inside(unsent_from if theirs == fingerprint([]) else upper, END)
                return encode([*out, (END, "fingerprint", fingerprint(rest))])
            out += more
            unsent_from = upper
        elif learned is not None:
            assert isinstance(theirs, list)
            names = [name for _, name in mine]
            learned[0].update(name for name in names if name not in theirs)
            learned[1].update(name for name in theirs if name not in names)
            out.append((upper, "skip", None))
        else:
            names = []
            end = upper
            so_far = len(encode(out))
            for when, name in mine:
                if so_far + 32 * len(names) > frame - 200:
                    end = (when, name)
                    break
                names.append(name)
            out.append((end, "ids", names))
            unsent_from = end
            if too_long(out):
                return encode([*out, (END, "fingerprint", fingerprint(inside(end, END)))])
        below = upper
    return encode(out)


def _full(bound: Item) -> Item:
    return (bound[0], bound[1] + bytes(32 - len(bound[1])))
