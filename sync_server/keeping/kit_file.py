"""The file of a kit: what is read of it, and what its root has said since, which is noted behind its text.

Rules:
- the kit's own text, its seeds, is taken over as it is: a passphrase is never asked for twice;
- the file is replaced as a whole or stays as it was. One that cannot be written (a medium that may only be read, a kit
  that comes out of a pipe) keeps no command from being done: what is not noted is said.

docs/adr/0327.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from protocol.clock import rfc3339
from protocol.errors import RelaisError
from protocol.model.entry import Entry
from protocol.replica.console.text import local_time
from protocol.replica.private_file import write_private
from protocol.trust.kit import Kit, parse_kit
from protocol.trust.kit_memory import memory_in, with_memory
from sync_server.handlers.by_kit.territory import text_of_kit
from sync_server.kit.memory import is_remembered, parse_memory, with_said
from sync_server.kit.root_line import roots_before

_UNREADABLE: Final = "\ufffd"
"""Stands for what is no UTF-8, once it is read."""
_NOT_NOTED: Final = (
    "It counts all the same, and lies in the set alone: a server that is made anew, from a backup or of the kit, does "
    "not know of it until a machine has told"
)


@dataclass(frozen=True, slots=True)
class KitInFile:
    """A kit, where it lies, and what it remembers; `is_damaged` where that cannot be read. `text` is the kit's own."""

    place: Path
    kit: Kit
    said: tuple[Entry, ...]
    is_damaged: bool
    text: str

    @classmethod
    def read(cls, place: Path, passphrase: str | None) -> Self:
        """The kit in a file. Raises `BadInput`."""
        # read once: a kit may come out of a pipe
        text = text_of_kit(place)
        kit = parse_kit(text, passphrase=passphrase)
        roots = {kit.root.public}
        with suppress(RelaisError):
            roots |= roots_before(kit)
        said = tuple(each for each in said_in(text) if each.header.author in roots)
        return cls(place, kit, said, memory_in(text) is None, with_memory(text, b""))

    @property
    def told(self) -> str:
        """What it remembers, for whoever makes a server of it."""
        if self.is_damaged:
            return f"what {self.place} remembers of what it has said is damaged, or a later version's; the kit is whole"
        if not self.said:
            return f"{self.place} remembers nothing that it has said: whom it cut off, or had forgotten, machines tell"
        latest = local_time(rfc3339(max(each.timestamp_ms for each in self.said)) or "")
        return (
            f"{self.place} remembers {len(self.said)} of its own words, the latest of {latest}: they count from the "
            "start on a server that is made anew with it. What another copy of it has said since, machines tell"
        )

    def note(self, said: Iterable[Entry], tell: Callable[[str], None]) -> None:
        """Note what the root has just said, in the file, and say whether that went well. Never fails."""
        new = [each for each in said if is_remembered(each)]
        if not new:
            return
        try:
            lost = self._added(self.place.resolve(), new)
        except (RelaisError, OSError) as reason:
            why = reason.message if isinstance(reason, RelaisError) else reason.strerror
            tell(f"what the kit has said could not be noted in {self.place}: {why}. {_NOT_NOTED}")
            return
        if lost:
            tell(f"{self.place} has no room for {lost} of the {len(new)} words that it has just said. {_NOT_NOTED}")
        else:
            tell(
                f"noted in {self.place}, behind the kit's own text: keep this file. A server that is made anew with it "
                "(`restore`, `init --recover`) knows this from the start; a copy on paper, or an older one, does not"
            )

    def _added(self, place: Path, new: Iterable[Entry]) -> int:
        """Write the file anew; how many of these words found no room. Raises `RelaisError`, `OSError`."""
        if not place.is_file():
            raise FileNotFoundError(0, "it is no file that stays")
        # as it lies there now: another command may have noted something meanwhile
        text = text_of_kit(place)
        if with_memory(text, b"") != self.text or _UNREADABLE in text:
            raise OSError(0, "it holds something else by now, or characters that would be lost")
        kept = with_said(text, [*said_in(text), *new])
        write_private(place, kept.encode())
        held = {each.id for each in said_in(kept)}
        return sum(each.id not in held for each in new)


def said_in(text: str) -> tuple[Entry, ...]:
    """What the kit of this text remembers; nothing where that is damaged."""
    return parse_memory(memory_in(text) or b"")
