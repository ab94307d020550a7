"""What is said to who works on a device that a server calls somebody else's (docs/protocol.md, "Rights").

Rules:
- a device speaks as whom it was let in, under no right that names another person (docs/adr/0513);
- people are told as whose it is called, by name where a list has one, and who puts that right.

Pure.
"""

from __future__ import annotations

from protocol.errors import Code, Refused
from protocol.rights.door import Authority
from protocol.rights.roster import Roster

_CALLED = "called"


def called_anothers(right: Authority, roster: Roster) -> Refused:
    """The refusal of what could only be said under a right that names another person, in the space of that list."""
    named = None if right.person is None else roster.named(right.person)
    name = None if named is None else named.name
    whose = "somebody else's" if name is None else f"{name}'s"
    message = (
        f"the server calls this computer {whose}: nothing is said on it in that name, and nothing is lost. Who looks "
        f"after the server says again whose it is: sync-server grant --device {right.key.hex()} --space "
        f"{roster.space.hex()}"
    )
    return Refused(Code.NO_RIGHT, message, **{_CALLED: name})


def is_called_anothers(refusal: Refused) -> bool:
    """Whether that is why something is refused."""
    return _CALLED in refusal.facts


def name_called(refusal: Refused) -> str | None:
    """As whose the device is called; None where no list has a name for it."""
    name = refusal.facts[_CALLED]
    return name if isinstance(name, str) else None
