"""What the rotations that somebody shows prove of a territory's roots (docs/protocol.md, "Root rotation").

Whoever answers a command may be a thief: what a kit keeps is judged by the door's own rules, as any device judges it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.limits import MAX_ROTATION_HEADS, MAX_ROTATION_LISTS
from protocol.messages.enrollment import encode_chain, parse_chain
from protocol.model.entry import Entry, Kind, kind_name, signature_holds
from protocol.replica.console.text import local_time
from protocol.rights.door import Door, Outcome
from protocol.rights.root_rotation import RootRotation, accounted, rotations_in
from protocol.trust.kit import Kit

MAX_SHOWN: Final = 4_096
"""Of so many words that a root has signed the command is shown what they are; who stole a kit may sign without end."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a rotation leaves of what the root before had signed: what it has `named`, what that or its lists `lead_to`.

    What is named stays wherever the rotation is heard. What is led to stays where somebody shows all that leads there:
    who has the server may keep it back. How many words are `lacking`: those that others name as said before them, and
    that whoever shows them has not.
    """

    named: Sequence[Entry]
    led_to: Sequence[Entry]
    lacking: int

    def told(self) -> str:
        """What to say to whoever has the kit. What is not in it counts no more."""
        further = ""
        if any(map(may_be_named, self.led_to)):
            further = f"So does, as long as this server keeps nothing of it back, {counted(self.led_to)}. "
        return (
            f"of what the kit so far has signed for the territory this stays: {counted(self.named)}. {further}What it "
            "has signed besides counts no more, but for what `sync-server accept ID --kit KIT` lets stand, with the "
            "new kit"
        )

    def told_of_gone(self, remembered: Mapping[bytes, Entry], to_name: Container[bytes]) -> str | None:
        """What of a root's words that are remembered counts no more; None where all stays.

        Those that were `to_name` stay where they are named: else who has the server decides.
        """
        named = {each.id for each in self.named}
        stays = {*named, *(each.id for each in self.led_to)}
        gone = [each for name, each in remembered.items() if name not in (named if name in to_name else stays)]
        return counted(gone) if any(map(may_be_named, gone)) else None


def left_by(
    heads: Sequence[bytes], accounts: Mapping[bytes, Entry], shown: Mapping[bytes, Entry], territory: bytes
) -> Left | None:
    """What a rotation leaves of what is `shown` of a root's: what it names, or by accounts, and what led to that.

    Words lead to those of their own space: where a space's rights are reckoned, those of others are not at hand. What
    is lacking is known where all can have been shown: seals in classes are many, and shown last. `accounts` are those
    that were signed for it. None where it names a list of before, or what is not shown.

    A thief shows what he likes, and nothing that the root has not signed: he may leave out its latest words alone, as
    far as no kit remembers them.
    """
    if not all(head in accounts or (head in shown and may_be_named(shown[head])) for head in heads):
        return None
    is_whole_here = sum(each.header.space == territory for each in shown.values()) < MAX_SHOWN
    is_whole_everywhere = len(shown) < MAX_SHOWN
    stays: dict[bytes, Entry] = {}
    lacking: set[bytes] = set()
    pending = list(accounted(heads, accounts))
    while pending:
        name = pending.pop()
        if (found := shown.get(name)) is not None and name not in stays and name not in accounts:
            stays[name] = found
            pending += _led_to(found, shown)
            if is_whole_everywhere or (is_whole_here and found.header.space == territory):
                lacking.update(name for name in found.header.prev if name not in shown and name not in accounts)
    named = {name: stays.pop(name) for name in dict.fromkeys(heads) if name in stays}
    return Left(tuple(named.values()), tuple(stays.values()), len(lacking))


def are_lists_needed(heads: Iterable[bytes], accounts: Container[bytes]) -> bool:
    """Whether a rotation with these heads names by accounts, if at all, what it has no room for by itself.

    Who has the server may keep a list back: what is in it counts no more then, wherever the rotation is heard.
    """
    by_itself = {head for head in heads if head not in accounts}
    return by_itself == set(heads) or len(by_itself) >= MAX_ROTATION_HEADS - MAX_ROTATION_LISTS


def _led_to(entry: Entry, shown: Mapping[bytes, Entry]) -> Iterable[bytes]:
    space = entry.header.space
    return (name for name in entry.header.prev if name in shown and shown[name].header.space == space)


def counted(words: Iterable[Entry]) -> str:
    """Of each kind how many, and of when the latest is. No lists: who asks for a rotation has any signed for it."""
    said = [each for each in words if may_be_named(each)]
    of_kind = Counter(kind_name(each.header.kind) for each in said)
    kinds = ", ".join(f"{count} × {kind}" for kind, count in of_kind.items())
    latest = local_time(rfc3339(max((each.timestamp_ms for each in said), default=0)) or "")
    return f"{kinds}; the latest of {latest}"


def words_of(root: bytes, evidence: Iterable[Entry]) -> dict[bytes, Entry]:
    """What a root has said, of what is shown, by id."""
    return {
        each.id: each
        for each in evidence
        if each.header.author == root and each.header.grant is None and signature_holds(each)
    }


def may_be_named(entry: Entry) -> bool:
    """Whether a rotation may name what a root had said: no list of before, for it would name what is in that, too."""
    return entry.header.kind != Kind.ROOT_ACCOUNT


def said_once(rotations: Iterable[Entry], door: Door) -> list[Entry]:
    """Of rotations those that lead from one root of the line to the next, each word of the new one once.

    Who has the old kit says the same word again as often as he likes, and in as large an entry: the smallest is taken.
    """
    found: dict[RootRotation, Entry] = {}
    for entry, rotation in rotations_in(rotations):
        if door.is_followed(entry.id) and (rotation not in found or entry.said_bytes < found[rotation].said_bytes):
            found[rotation] = entry
    return list(found.values())


def roots_in(chain: bytes, first: bytes) -> tuple[bytes, ...]:
    """The roots of a territory, from its first, as far as a chain proves them. Raises `PeerFault`, `TooLarge`."""
    return _door_after(_rotations(chain), first).roots


def roots_before(kit: Kit) -> set[bytes]:
    """The territory's roots before that of a kit, which holds the rotations that prove them."""
    return set() if kit.first_root is None else {*roots_in(kit.chain, kit.first_root)} - {kit.root.public}


def named_by_rotations(chain: bytes) -> set[bytes]:
    """What the rotations of a chain name of what the roots before had said. Raises `PeerFault`, `TooLarge`."""
    said = rotations_in(parse_chain(chain)) if chain else []
    return {head for _, rotation in said for head in rotation.heads}


def rotations_to(root: bytes, chain: bytes, first: bytes) -> bytes | None:
    """The rotations of a chain that lead from the first root to this one, as they are sent; None where none do.

    Raises `PeerFault`, `TooLarge`.
    """
    said = _rotations(chain)
    door = _door_after(said, first)
    return encode_chain(said_once(said, door)) if door.root_now == root else None


def _rotations(chain: bytes) -> list[Entry]:
    return [entry for entry, _ in rotations_in(parse_chain(chain))] if chain else []


def _door_after(said: Sequence[Entry], first: bytes) -> Door:
    door = Door(first)
    for entry in said:
        if door.examine(entry).outcome is Outcome.ADMIT:
            door.learn(entry)
    return door
