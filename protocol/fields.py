"""Reading a decoded map into typed values, once, at the edge (docs/protocol.md, "Encoding").

Keys that this version does not know are ignored, so that a newer writer can add some; a key with a value of the wrong
type or size is `PeerFault(MALFORMED)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from protocol.canonical import Value, decode
from protocol.errors import Code, PeerFault
from protocol.limits import MAX_NAME_CHARS, MAX_PAYLOAD_BYTES
from protocol.shown_text import name_shown


class Fields:
    """A map being read. Each method names the key and what its value must be; `what` names the map in errors."""

    __slots__ = ("_map", "_what")

    def __init__(self, value: Value, what: str) -> None:
        if not isinstance(value, dict):
            raise PeerFault(Code.MALFORMED, f"{what} is not a map")
        self._map = cast("Mapping[str, Value]", value)
        self._what = what

    @classmethod
    def of_payload(cls, payload: bytes, what: str) -> Fields:
        """The map in an entry's payload."""
        return cls(decode(payload, max_bytes=MAX_PAYLOAD_BYTES), what)

    def has(self, key: str) -> bool:
        """Whether the key is there with a value."""
        return self._map.get(key) is not None

    def octets(self, key: str, size: int | None = None, *, most: int | None = None) -> bytes:
        """Bytes of exactly `size`, or of at most `most`."""
        value = self._map.get(key)
        if type(value) is not bytes or (size is not None and len(value) != size):
            raise self._wrong(key)
        if most is not None and len(value) > most:
            raise self._wrong(key)
        return value

    def octets_or_none(self, key: str, size: int | None = None, *, most: int | None = None) -> bytes | None:
        """Bytes of exactly `size`, or of at most `most`, or nothing."""
        return None if self._map.get(key) is None else self.octets(key, size, most=most)

    def text(self, key: str, most_chars: int) -> str:
        """A string of at most `most_chars` characters."""
        value = self._map.get(key)
        if type(value) is not str or len(value) > most_chars:
            raise self._wrong(key)
        return value

    def text_or_none(self, key: str, most_chars: int) -> str | None:
        """A string of at most `most_chars` characters, or nothing."""
        return None if self._map.get(key) is None else self.text(key, most_chars)

    def name(self, key: str, most_chars: int = MAX_NAME_CHARS) -> str:
        """What people call somebody or something, as it is shown: a string of at most `most_chars` characters."""
        return name_shown(self.text(key, most_chars))

    def name_or_none(self, key: str, most_chars: int = MAX_NAME_CHARS) -> str | None:
        """The same, or nothing."""
        return None if self._map.get(key) is None else self.name(key, most_chars)

    def count(self, key: str, most: int = 2**64 - 1) -> int:
        """An integer of 0…`most`."""
        value = self._map.get(key)
        if type(value) is not int or not 0 <= value <= most:
            raise self._wrong(key)
        return value

    def count_or_none(self, key: str, most: int = 2**64 - 1) -> int | None:
        """An integer of 0…`most`, or nothing."""
        return None if self._map.get(key) is None else self.count(key, most)

    def signed_or_none(self, key: str) -> int | None:
        """An integer, or nothing."""
        value = self._map.get(key)
        if value is None or type(value) is int:
            return value
        raise self._wrong(key)

    def flag(self, key: str) -> bool:
        """True or false; nothing is false."""
        value = self._map.get(key)
        if value is None:
            return False
        if type(value) is not bool:
            raise self._wrong(key)
        return value

    def rows(self, key: str, most: int) -> list[Value]:
        """An array of at most `most` values; nothing is an empty one."""
        value = self._map.get(key)
        if value is None:
            return []
        if type(value) is not list or len(value) > most:
            raise self._wrong(key)
        return value

    def all_octets(self, key: str, size: int, most: int) -> tuple[bytes, ...]:
        """An array of at most `most` byte strings, each of exactly `size`; nothing is an empty one."""
        rows = self.rows(key, most)
        if any(type(row) is not bytes or len(row) != size for row in rows):
            raise self._wrong(key)
        return cast("tuple[bytes, ...]", tuple(rows))

    def pairs(self, key: str, sizes: tuple[int, int], most: int) -> tuple[tuple[bytes, bytes], ...]:
        """An array of at most `most` pairs of byte strings, each of exactly these sizes; nothing is an empty one."""
        found = []
        for row in self.rows(key, most):
            match row:
                case [bytes(one), bytes(other)] if (len(one), len(other)) == sizes:
                    found.append((one, other))
                case _:
                    raise self._wrong(key)
        return tuple(found)

    def inner(self, key: str) -> Fields | None:
        """A map inside the map, or nothing."""
        value = self._map.get(key)
        return None if value is None else Fields(value, f"{self._what}: {key}")

    def _wrong(self, key: str) -> PeerFault:
        return PeerFault(Code.MALFORMED, f"{self._what} has no valid “{key}”", key=key)


def compact(**values: Value) -> dict[str, Value]:
    """A map without the keys whose value is None, false or an empty array: absence is how those are written."""
    return {key: value for key, value in values.items() if value is not None and value is not False and value != []}
