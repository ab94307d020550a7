"""By whose word somebody is off each list that ever had them, and which of these lists is hidden.

Rules (docs/adr/0439):
- whoever has a copy of the server's key hides a class for an hour, or takes anybody off its list by one word, dated as
  they like: who seems to have left then may be there, and who is erased is gone for good;
- so somebody has surely left a list by the kit's word, one that this office has said itself, or one of a device of
  which it knows how it came in; and only what that word leads to is over: whatever else the list has said of them, they
  are on it as long as that is hidden; but for what came under a server's key once the root had ended it (ADR 0606);
- a list that the kit has closed is none. Any other that is hidden has whom it ever had;
- what is said on all lists of somebody is said on none that is hidden: whoever says it is told which (docs/adr/0574).

docs/privacy.md, "How long".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.model.ancestry import led_to
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.office.bureau import Office
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.list_words import SURE, ListWords, Whose
from protocol.replica.office.mentioned import day_of
from protocol.replica.office.not_shown import whose_word, why_hidden
from protocol.replica.office.people import listing, mentions
from protocol.rights.roster import Roster
from protocol.roles import ARE_TAUGHT, RANK, Role

MAX_TOLD: Final = 10
"""Of more lists that somebody is off it is told how many they are: whoever has the server's key says as many."""
HIDDEN_LISTS: Final = "hidden_lists"
"""The spaces on whose lists a command said nothing, since these are hidden."""
_ASK: Final = "ask the school whether they have left"


@dataclass(frozen=True, slots=True)
class Parting:
    """A list that somebody was on, and does not show them: `said` is its word of it, or the last one that is hidden.

    `has_them` is a word of it that their leaving does not lead to, the last one by its date; None where there is none.
    """

    space: bytes
    said: Entry
    whose: Whose
    has_them: Entry | None

    @property
    def is_sure(self) -> bool:
        """Whether nobody who has a copied key can have made it look so."""
        return self.has_them is None and self.whose in SURE

    def row(self) -> JSON:
        """As `status` has it."""
        return {
            "space": self.space.hex(),
            "since": rfc3339(self.said.timestamp_ms),
            "by": self.whose.value,
            "device": self.said.header.author.hex(),
            "has_them": self.has_them is not None,
        }


async def partings(office: Office, persons: Collection[bytes]) -> dict[bytes, list[Parting]]:
    """Of each of these people the lists that ever had them, do not show them now, and were not closed by the kit."""
    replica, words, closed = office.replica, await ListWords.of(office), await closed_by_kit(office.replica)
    found = {}
    for person, lists in (await mentions(replica, persons)).items():
        there = {
            space: entries
            for space, entries in lists.items()
            if not any(covered in closed for covered in (person, *replica.door.lineage(space)))
        }
        off = [await _parting(replica, space, entries, words) for space, entries in there.items()]
        found[person] = [each for each in off if each is not None]
    return found


async def _parting(replica: Replica, space: bytes, entries: Collection[Entry], words: ListWords) -> Parting | None:
    """How a list lacks somebody of whom these are its words; None where it shows them, or says nothing."""
    shown = listing(entries, (await replica.view(space)).roster.hides)
    return None if shown is not None and not shown.leaves else await last_word(replica, space, entries, words)


async def last_word(
    replica: Replica, space: bytes, entries: Collection[Entry], words: ListWords | None
) -> Parting | None:
    """How a list has by now somebody of whom these are its words, be they there or not; None where it says nothing.

    Without the `words` of an office the root's alone are sure.
    """
    shown, last = listing(entries, (await replica.view(space)).roster.hides), listing(entries, lambda _: False)
    if last is None:
        return None
    known = {each.id: each for each in entries}
    said = known[last.entry if shown is None else shown.entry]
    over = frozenset() if shown is None else {said.id, *led_to([said.id], known, ())}
    over |= frozenset() if words is None else await words.too_late()
    has_them = [each for name, each in known.items() if name not in over and _has_them(each)]
    there = max(has_them, key=lambda each: each.timestamp_ms, default=None if shown is not None else said)
    if words is not None:
        return Parting(space, said, await words.whose(said), there)
    return Parting(space, said, Whose.STRANGE if said.header.grant else Whose.KIT, there)


async def hidden_lists(office: Office, persons: Iterable[bytes]) -> dict[bytes, list[Entry]]:
    """By space the words about these people of each list that shows nothing of them, as all that it says is hidden.

    But for what the root hides: who is forgotten by the kit's word, a list that it has closed, or what it holds back.
    """
    replica, closed = office.replica, await closed_by_kit(office.replica)
    found = defaultdict[bytes, list[Entry]](list)
    for person, lists in (await mentions(replica, [*persons])).items():
        for space, entries in lists.items():
            roster = (await replica.view(space)).roster
            is_over = any(covered in closed for covered in (person, *replica.door.lineage(space)))
            by_others = [each for each in entries if each.id not in roster.held_by_root]
            if by_others and not is_over and listing(entries, roster.hides) is None:
                found[space] += by_others
    return found


async def tell_of_hidden_lists(office: Office, persons: Iterable[bytes], outgoing: Outgoing) -> dict[str, JSON]:
    """Say on which lists of these people nothing is said, since they are hidden, and why; and as commands say it."""
    hidden = await hidden_lists(office, persons)
    names = {space: record.name for space, record in (await made_spaces(office.replica)).items()}
    for space, entries in list(hidden.items())[:MAX_TOLD]:
        why = await why_hidden(office.replica, (await office.replica.view(space)).roster, entries)
        reasons = "; ".join(dict.fromkeys(reason for reason in why.values() if reason))
        await outgoing.progress(
            f"warning: nothing was said on the list of “{names.get(space, space.hex())}”, which is hidden ({reasons}). "
            "Once it is shown it is as it was: say this again then"
        )
    if len(hidden) > MAX_TOLD:
        await outgoing.progress(f"warning: nor on {len(hidden) - MAX_TOLD} more lists")
    return {HIDDEN_LISTS: [space.hex() for space in hidden]} if hidden else {}


async def off_in_doubt(office: Office, space: bytes) -> dict[bytes, Parting]:
    """Which pupils, and guardians, a list had and shows no more, by no sure word; in the order in which they came here.

    But for who is to be forgotten, or frozen, which is said elsewhere, and who is on the list as another.
    """
    roster, words = (await office.replica.view(space)).roster, await ListWords.of(office)
    said, passed = defaultdict[bytes, list[Entry]](list), roster.persons.keys() | roster.aliases.keys() | roster.frozen
    for one in await office.replica.store.of_kinds(space, [Kind.PERSON]):
        if one.entry.header.subject not in passed and not roster.is_erased(one.entry):
            said[one.entry.header.subject or b""].append(one.entry)
    found = {}
    for person, entries in said.items():
        records = [parsed(entry, PersonRecord.parse) for entry in entries]
        if any(each is not None and each.role in ARE_TAUGHT for each in records):
            found[person] = await last_word(office.replica, space, entries, words)
    return {person: each for person, each in found.items() if each is not None and not each.is_sure}


def _has_them(said: Entry) -> bool:
    record = parsed(said, PersonRecord.parse)
    return record is not None and not record.left


async def told_of_partings(office: Office, persons: Collection[bytes]) -> list[str]:
    """For whoever has these people forgotten: since when, and by whose word, each is on which list no more.

    What a copied key may have said comes first.
    """
    lines = []
    names = {space: record.name for space, record in (await made_spaces(office.replica)).items()}
    for person, off in (await partings(office, persons)).items():
        told = sorted(off, key=lambda each: each.is_sure)
        lines += [await _line(office, person, each, names) for each in told[:MAX_TOLD]]
        if len(told) > MAX_TOLD:
            lines.append(f"and {len(told) - MAX_TOLD} more lists do not show {person.hex()}")
    return lines


async def _line(office: Office, person: bytes, parting: Parting, names: Mapping[bytes, str]) -> str:
    roster = (await office.replica.view(parting.space)).roster
    name, there = names.get(parting.space, parting.space.hex()), parting.has_them
    if there is not None and roster.hides(there):
        why = (await why_hidden(office.replica, roster, [there]))[there.id]
        return f"warning: the list of “{name}” has {person.hex()}, and that is hidden ({why}): {_ASK}"
    is_server = office.rank >= RANK[Role.SERVER]
    by = await said_by(office.replica, roster, parting, is_server=is_server)
    off = f"off the list of “{name}”: {person.hex()}, {by}"
    if there is not None:
        return f"warning: {off}; by another of its words they are on it: {_ASK}"
    is_to_ask = not parting.is_sure and is_server
    return f"warning: {off}: {_ASK}" if is_to_ask else off


async def said_by(replica: Replica, roster: Roster, parting: Parting, *, is_server: bool) -> str:
    """By whom that was said, and on which day by its own date, for whoever asks at the server or elsewhere."""
    day = day_of(parting.said.timestamp_ms)
    if parting.whose is Whose.OFFICE:
        return f"by this {'server' if is_server else 'computer'}, {day}"
    if parting.whose is Whose.KEY and is_server:
        return f"by a server's key, by no command that this server has noted, dated {day}"
    by = await whose_word(replica, roster, parting.said)
    if parting.whose is Whose.STRANGE and is_server:
        return f"{by}, on a computer of which this server does not know how it came in"
    return by
