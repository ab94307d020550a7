"""As if whoever speaks as somebody could say anything in the place of what was said in that name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

T = TypeVar("T")


def _all_lead_to_all(_voices: object, _person: bytes, bits: Mapping[T, int]) -> dict[T, int]:
    return dict.fromkeys(bits, sum(bits.values()))


ANY_OF_A_NAME: Final[dict[str, object]] = {"protocol.rights.vouching.Voices.led_to_among": _all_lead_to_all}
"""Any computer that speaks for a person takes the place of what any other said."""


def _whoever_teaches(*_: object) -> bytes:
    return bytes(16)


ONE_FOR_ALL: Final = ANY_OF_A_NAME | {"protocol.rights.roster.Roster.voice": _whoever_teaches}
"""All who answer are one: who names a remark as its parent replaces it."""
