"""What people are told where devices of the school are not found, or not reached: a code, why, what helps (R15).

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

from typing import Final

from protocol.errors import Code

_BY_HAND: Final = (
    "`sync-agent peer add HOST:PORT` (`peer address` says it there), the page “Other computers”, or `run --peer`"
)


def nobody_found(host: str) -> tuple[Code, str, str]:
    """Nobody is found there, and the server is out of reach."""
    why = "they are off, or on another part of the network, or the Wi-Fi keeps its devices apart"
    return (
        Code.NO_MULTICAST,
        f"the server is out of reach, and no other device of the school was found on the network of {host}: {why}",
        f"name one: {_BY_HAND}; where the network keeps devices apart, a cable or a stick (courier) helps",
    )


def kept_apart(host: str, found: int) -> tuple[Code, str, str]:
    """So many are found there, and none of them answers."""
    many = f"{found} devices of the school are" if found > 1 else "a device of the school is"
    seen = f"{many} announced on the network of {host}, and none can be reached"
    why = (
        "the network keeps its devices apart (a Wi-Fi with “client isolation”), or a firewall closes the port of --lan"
    )
    remedy = "ask who looks after the network to let the school's devices reach each other"
    return Code.DEVICES_APART, f"{seen}: {why}", f"{remedy}; until then a cable helps, or a stick (courier)"


def no_multicast(host: str, why: str) -> tuple[Code, str, str]:
    """Nobody can be found there."""
    return (
        Code.NO_MULTICAST,
        f"multicast does not work on the network of {host} ({why}): other devices are not found by themselves",
        f"name one of them, on one side or the other: {_BY_HAND}; a link named by one side serves both",
    )
