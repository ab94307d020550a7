"""DNS-SD over multicast DNS, as little of it as finding the school's devices takes (RFC 1035, 6762, 6763).

One service type; a device is an instance with one address, one port, one TXT string and perhaps a second one, its seal.
Everything else that comes over the group is passed over. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protocol.errors import Code, PeerFault

SERVICE: Final = ("_relais", "_tcp", "local")
PORT: Final = 5353
TTL_S: Final = 120
MAX_MESSAGE_BYTES: Final = 9_000
MAX_USUAL_BYTES: Final = 1_024

_SEAL: Final = b"k="
_RESPONSE: Final = 0x8400
_MAX_RECORDS: Final = 256
_MAX_JUMPS: Final = 32
_MAX_LABELS: Final = 32
_A, _PTR, _TXT, _AAAA, _SRV, _ANY = 1, 12, 16, 28, 33, 255
_CLASS: Final = 1
_FLUSH: Final = 0x8000

Name = tuple[str, ...]
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Instance:
    """A device as it is announced: a random name, where it listens, and what it shows; `ttl_s` 0 says goodbye.

    `seal` says that this is by who has the name (`protocol.messages.introduction`); programs from before pass it over.
    """

    name: str
    port: int
    address: Ip | None
    txt: bytes
    ttl_s: int = TTL_S
    seal: bytes = b""


@dataclass(frozen=True, slots=True)
class _Record:
    name: Name
    kind: int
    ttl_s: int
    data: bytes
    target: Name = ()


def question() -> bytes:
    """The question who is there."""
    return _header(0, questions=1) + _encoded(SERVICE) + _short(_PTR) + _short(_CLASS)


def answer(instance: Instance) -> bytes:
    """All that is to be said of an instance, in one message."""
    full: Name = (instance.name, *SERVICE)
    host: Name = (instance.name, "local")
    ttl_s = instance.ttl_s
    records = [
        _record(SERVICE, _PTR, ttl_s, _encoded(full), flush=False),
        _record(full, _SRV, ttl_s, _short(0) + _short(0) + _short(instance.port) + _encoded(host)),
        _record(full, _TXT, ttl_s, _string(instance.txt) + (_string(_SEAL + instance.seal) if instance.seal else b"")),
    ]
    if instance.address is not None:
        kind = _A if instance.address.version == 4 else _AAAA  # noqa: PLR2004  (IPv4)
        records.append(_record(host, kind, ttl_s, instance.address.packed))
    return _header(_RESPONSE, answers=len(records)) + b"".join(records)


def asks_for_us(data: bytes) -> bool:
    """Whether a message asks who offers the service. What cannot be read asks for nothing."""
    try:
        flags, questions, _ = _counts(data)
        if flags & _FLUSH:
            return False
        at = 12
        for _ in range(questions):
            name, at = _name(data, at)
            kind = int.from_bytes(data[at : at + 2], "big")
            at += 4
            if _lower(name) == SERVICE and kind in (_PTR, _ANY):
                return True
    except PeerFault:
        pass
    return False


@lru_cache(maxsize=128)
def usual(data: bytes) -> tuple[Instance, ...]:
    """As `instances`, for what is no larger than a device's own words: most of these are heard many times."""
    return tuple(instances(data))


def instances(data: bytes) -> list[Instance]:
    """The instances of the service that a response tells of, whole. Raises `PeerFault(MALFORMED)`."""
    flags, _, _ = _counts(data)
    if not flags & _FLUSH:
        return []
    records = list(_records(data))
    services = {record.name: record for record in records if record.kind == _SRV}
    texts = {record.name: record.data for record in records if record.kind == _TXT}
    hosts = {record.name: record.data for record in records if record.kind in (_A, _AAAA)}
    found = []
    for record in records:
        full = record.target
        if record.kind != _PTR or _lower(record.name) != SERVICE or full[1:] != SERVICE or full not in services:
            continue
        service = services[full]
        packed = hosts.get(service.target)
        txt, *more = _strings(texts.get(full, b""))
        found.append(
            Instance(
                full[0],
                int.from_bytes(service.data[4:6], "big"),
                None if packed is None else ipaddress.ip_address(packed),
                txt,
                record.ttl_s,
                next((string[len(_SEAL) :] for string in more if string.startswith(_SEAL)), b""),
            )
        )
    return found


# --- encoding ---------------------------------------------------------------------------------------------------------


def _header(flags: int, *, questions: int = 0, answers: int = 0) -> bytes:
    return b"".join(_short(number) for number in (0, flags, questions, answers, 0, 0))


def _record(name: Name, kind: int, ttl_s: int, data: bytes, *, flush: bool = True) -> bytes:
    rank = _CLASS | (_FLUSH if flush else 0)
    return _encoded(name) + _short(kind) + _short(rank) + ttl_s.to_bytes(4, "big") + _short(len(data)) + data


def _encoded(name: Sequence[str]) -> bytes:
    labels = [label.encode() for label in name]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _string(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _strings(data: bytes) -> list[bytes]:
    """The strings of a TXT record, an empty one at least."""
    found, at = [], 0
    while at < len(data):
        found.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return found or [b""]


def _short(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _lower(name: Name) -> Name:
    return tuple(label.lower() for label in name)


# --- decoding ---------------------------------------------------------------------------------------------------------


def _counts(data: bytes) -> tuple[int, int, int]:
    """Flags, number of questions, number of records."""
    if not 12 <= len(data) <= MAX_MESSAGE_BYTES:  # noqa: PLR2004  (the header)
        raise _malformed()
    numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(2, 12, 2)]
    return numbers[0], min(numbers[1], _MAX_RECORDS), min(sum(numbers[2:]), _MAX_RECORDS)


def _records(data: bytes) -> Iterator[_Record]:
    _, questions, count = _counts(data)
    at = 12
    for _ in range(questions):
        _, at = _name(data, at)
        at += 4
    for _ in range(count):
        name, at = _name(data, at)
        head = data[at : at + 10]
        if len(head) < 10:  # noqa: PLR2004  (type, class, time to live, length)
            raise _malformed()
        kind, ttl_s, size = (int.from_bytes(head[start:end], "big") for start, end in ((0, 2), (4, 8), (8, 10)))
        at += 10
        body = data[at : at + size]
        if len(body) < size or (kind in (_A, _AAAA) and size not in (4, 16)) or (kind == _SRV and size < 7):  # noqa: PLR2004
            raise _malformed()
        target: Name = ()
        if kind == _PTR:
            target, _ = _name(data, at)
        elif kind == _SRV:
            target, _ = _name(data, at + 6)
        yield _Record(name, kind, ttl_s, body, target)
        at += size


def _name(data: bytes, at: int) -> tuple[Name, int]:
    """The name at a place, and where it ends there; pointers lead back only, so that none leads in a circle."""
    labels: list[str] = []
    end: int | None = None
    lowest = at
    for _ in range(_MAX_JUMPS + _MAX_LABELS):
        if at >= len(data):
            raise _malformed()
        size = data[at]
        if size == 0:
            return tuple(labels), at + 1 if end is None else end
        if size & 0xC0 == 0xC0:  # noqa: PLR2004  (a pointer, RFC 1035 §4.1.4)
            if at + 1 >= len(data):
                raise _malformed()
            end = at + 2 if end is None else end
            at = (size & 0x3F) << 8 | data[at + 1]
            if at >= lowest:
                raise _malformed()
            lowest = at
            continue
        label = data[at + 1 : at + 1 + size]
        if size > 63 or len(label) < size or len(labels) >= _MAX_LABELS:  # noqa: PLR2004  (RFC 1035 §2.3.4)
            raise _malformed()
        labels.append(label.decode("utf-8", "replace"))
        at += 1 + size
    raise _malformed()


def _malformed() -> PeerFault:
    return PeerFault(Code.MALFORMED, "what came over multicast is no DNS message")
