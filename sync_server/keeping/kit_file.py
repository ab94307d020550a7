"""The file of a kit: what is read of it, and what its root has said since, which is noted behind its text.

Rules:
- what is said is noted before anybody has it, so that no cut, and nobody who answers that it failed, has the kit forget
  it (docs/adr/0357);
- the kit's own text, its seeds, is taken over as it is: a passphrase is never asked for twice;
- what had to go for that is named: nothing goes unheard (docs/adr/0341);
- the file is replaced as a whole or stays as it was. One that cannot be written (a medium that may only be read, a kit
  that comes out of a pipe) keeps no command from being done: what is not noted is said.

docs/adr/0327.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from protocol.errors import BadInput, RelaisError
from protocol.model.entry import Entry, kind_name
from protocol.replica.private_file import write_private
from protocol.trust.kit import Kit, parse_kit
from protocol.trust.kit_memory import memory_in, with_memory
from sync_server.handlers.by_kit.territory import BYTE_ORDER_MARK, NO_UTF_8, text_of_kit
from sync_server.kit.memory import name_in, parse_memory, with_said, without_room
from sync_server.kit.root_line import counted, roots_before

_NOT_NOTED: Final = (
    "It counts all the same, and lies in the set alone: a server that is made anew, from a backup or of the kit, does "
    "not know of it until a machine has told"
)
_MOST_NAMED: Final = 20
"""So many of the words that had to go are told one by one."""


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
        try:
            kit = _opened(text, passphrase)
        except BadInput as reason:
            if reason.facts.get("problem") != "passphrase-missing":
                raise
            raise BadInput(reason.code, f"{reason.message}: --passphrase-file FILE", **reason.facts) from reason
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
        words = without_room(self.said, ())
        if not words:
            return f"{self.place} remembers nothing that it has said: whom it cut off, or had forgotten, machines tell"
        return (
            f"{self.place} remembers {len(words)} of its own words ({counted(words)}): they count from the start on a "
            "server that is made anew with it. What another copy of it has said since, machines tell"
        )

    def notes(self) -> Notes:
        """Where one command notes what it has the kit say."""
        return Notes(self)

    def added(self, place: Path, new: Iterable[Entry]) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Write the file anew with these words; what it held before, and what it holds now.

        Raises `RelaisError`, `OSError`.
        """
        if not place.is_file():
            raise FileNotFoundError(0, "it is no file that stays")
        # as it lies there now: another command may have noted something meanwhile
        text = text_of_kit(place)
        if with_memory(text, b"") != self.text or NO_UTF_8 in text:
            raise OSError(0, "it holds something else by now, or characters that would be lost")
        before = said_in(text)
        kept = with_said(text, self.kit, [*before, *new])
        write_private(place, kept.encode())
        return before, said_in(kept)


class Notes:
    """What one command has its kit say: noted in the kit's file while it is said, and told of when the command ends."""

    def __init__(self, file: KitInFile) -> None:
        """Nothing yet."""
        self._file = file
        self._new: Sequence[Entry] = ()
        self._kept: Sequence[Entry] = ()
        self._gone: dict[bytes, Entry] = {}
        self._failure: str | None = None

    def take(self, said: Sequence[Entry]) -> None:
        """Note all that the command has said so far. Never fails: what could not be noted is told."""
        self._new = without_room(said, ())
        if not self._new:
            return
        try:
            before, self._kept = self._file.added(self._file.place.resolve(), said)
        except (RelaisError, OSError) as reason:
            self._failure = (reason.message if isinstance(reason, RelaisError) else reason.strerror) or str(reason)
            return
        self._failure = None
        self._gone |= {each.id: each for each in without_room(before, self._kept)}

    def tell(self, tell: Callable[[str], None]) -> None:
        """Say whether that went well."""
        place = self._file.place
        if not self._new:
            return
        if self._failure is not None:
            tell(f"what the kit has said could not be noted in {place}: {self._failure}. {_NOT_NOTED}")
            return
        if lost := without_room(self._new, self._kept):
            tell(
                f"{place} has no room for {len(lost)} of the {len(self._new)} words that it has just said. {_NOT_NOTED}"
            )
        else:
            tell(
                f"noted in {place}, behind the kit's own text: keep this file. A server that is made anew with it "
                "(`restore`, `init --recover`) knows this from the start; a copy on paper, or an older one, does not"
            )
        own = {each.id for each in self._new}
        if gone := [each for each in self._gone.values() if each.id not in own]:
            tell(told_of_gone(place, gone))


def _opened(text: str, passphrase: str | None) -> Kit:
    """A kit, also by a file that Windows wrote; in some of before its mark belongs to it. Raises `BadInput`."""
    try:
        return parse_kit(text, passphrase=passphrase)
    except BadInput:
        if passphrase is None or not passphrase.startswith(BYTE_ORDER_MARK):
            raise
    return parse_kit(text, passphrase=passphrase.removeprefix(BYTE_ORDER_MARK))


def told_of_gone(place: Path, gone: Sequence[Entry]) -> str:
    """What to say of words that a kit has no room for any more."""
    named = [(kind_name(each.header.kind), name_in(each)) for each in gone]
    each_by_name = [kind if name is None else f"{kind} of {name.hex()}" for kind, name in named[:_MOST_NAMED]]
    more = f", and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return (
        f"{place} had no room any more for {len(gone)} of the words that the kit had remembered ({counted(gone)}): "
        f"{', '.join(each_by_name)}{more}. A server that is made anew knows of these from a backup of since then, or "
        "once a machine has told: make a backup now, and keep it with the kit. If this server may be in other hands, "
        "keep an earlier copy of the kit as well"
    )


def said_in(text: str) -> tuple[Entry, ...]:
    """What the kit of this text remembers; nothing where that is damaged."""
    return parse_memory(memory_in(text) or b"")
