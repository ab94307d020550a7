"""What commands say of who reads, and of a teacher's devices that wait: those that are back, what former ones said.

Rules (docs/adr/0258):
- whom a device waits for is named, with six words: what is said on any other one changes nothing;
- of what a former device said since it was found a human is asked, in a sentence that says how to answer;
- each computer of a teacher, a head teacher or an administrator shows its own six words, whether it is in a list or
  not: who lets it in by its id compares them (docs/operate.md, "Restoring").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from protocol.beside_words import beside_words
from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.console.text import local_time, many_of
from protocol.replica.office.whose_words import signatures
from protocol.rights.vouching import Device, device_id
from protocol.roles import SEES_ALL_WORK
from sync_agent.app import Agent
from sync_agent.keys.confirming import (
    MAX_LISTED_WORDS,
    NOT_HERE,
    YOURS,
    Reader,
    list_readers,
    named_rows,
    own_device,
    rows,
    words_of,
)
from sync_agent.keys.former_returns import ASKED, MAX_TOLD, FormerReturn, list_former_returns
from sync_agent.keys.past_readers import list_past_readers, past_named, past_reader_rows, tell_of_past_readers
from sync_agent.space_names import space_names


async def former_return_rows(agent: Agent, returns: Sequence[FormerReturn]) -> list[JSON]:
    """The rows of `key readers` about them."""
    names = await space_names(agent)
    words = await words_of(device for each in returns[:MAX_TOLD] for device in each.devices)
    rows: list[JSON] = []
    for each in returns:
        roster = (await agent.replica.view(each.spaces[0])).roster
        teacher = roster.persons.get(each.person)
        rows.append(
            {
                "id": each.id.hex(),
                "device": each.pair[0].hex(),
                "name": each.name,
                "person": each.person.hex(),
                "teacher": None if teacher is None else teacher.name,
                "space": ", ".join(names.get(space, space.hex()) for space in each.spaces),
                "state": each.state,
                "shown_as": "own",
                "words": words.get(each.pair),
                "since": rfc3339(each.let_in_ms),
                "named_by": each.let_in_by,
                "return": _facts(each, words),
            }
        )
    return rows


def _facts(each: FormerReturn, words: Mapping[Device, str]) -> dict[str, JSON]:
    return {
        "reported": rfc3339(each.reported_ms),
        "is_report": each.is_report,
        "until": rfc3339(each.until_ms),
        "answers": each.answers,
        "phrases": each.phrases,
        "called_hers": named_rows(each.called_hers, words),
        "waits_for": named_rows(each.waits_for, words),
    }


async def tell_who_waits(readers: Sequence[Reader], outgoing: Outgoing) -> None:
    """Whom each of the teacher's devices that is back waits for, where this one can do nothing for it."""
    waiting = [each for each in readers if each.waits_for and (each.is_this or not each.is_asked)]
    words = await words_of(device for each in waiting[:MAX_TOLD] for device, _ in each.waits_for[:MAX_TOLD])
    told = dict.fromkeys((each.is_this, each.name, each.waits_for[:MAX_TOLD]) for each in waiting[:MAX_TOLD])
    for is_this, name, waits_for in told:
        which = "this device was" if is_this else "one of which you have said here that it is yours was"
        own = "" if is_this or not name else f". It calls itself “{beside_words(name)}”"
        await outgoing.progress(
            f"{which} let in again, and waits for {listed(waits_for, words)}: say there that it is yours "
            f"(`key confirm`, or the page), or have that one cut off{own}"
        )


def listed(named: Sequence[tuple[Device, str | None]], words: Mapping[Device, str]) -> str:
    """The same in a sentence: by six words, then by what each calls itself."""
    return ", ".join(
        f"{words.get(device)} ({f'calls itself “{beside_words(name)}”' if name else device[0].hex()})"
        for device, name in named
    )


async def asked_of_former_devices(agent: Agent, outgoing: Outgoing) -> list[JSON]:
    """Ask whatever there is to ask: the same rows."""
    returns = [each for each in await list_former_returns(agent) if each.state == ASKED]
    await tell_of_former_returns(returns, outgoing)
    return await former_return_rows(agent, returns)


async def tell_of_former_returns(returns: Sequence[FormerReturn], outgoing: Outgoing) -> None:
    """Ask in words, of the first of them."""
    words = await words_of(device for each in returns[:MAX_TOLD] for device in each.devices)
    for each in returns[:MAX_TOLD]:
        await outgoing.progress(_question(each, words))
    if len(returns) > MAX_TOLD:
        await outgoing.progress(f"and {len(returns) - MAX_TOLD} more of these; `key readers --json` lists all")


def _question(each: FormerReturn, words: Mapping[Device, str]) -> str:
    which = listed([(each.pair, each.name)], words)
    if not each.is_asked:
        return (
            f"what your computer {which} said until {_day(each.until_ms)} waits for {listed(each.waits_for, words)} as "
            "well: say there that it was you, or have that one cut off"
        )
    ended = "reported" if each.is_report else "taken out of use"
    was = f"{ended} {_day(each.reported_ms)}, and let in again {_day(each.let_in_ms)} (by: {each.let_in_by})"
    counted = (("wrote", each.answers, "answer"), ("drew", each.phrases, "phrase"))
    since = [f"{did} {many_of(many, what)}" for did, many, what in counted if many]
    if each.called_hers:
        more = f" and {each.called_untold} more" if each.called_untold else ""
        since.append(f"had these count as yours, or as confirmed by you: {listed(each.called_told, words)}{more}")
    if each.phrases:
        since.append("whoever knows such a phrase can still add a computer in your name once you say yes")
    until = "" if each.until_ms is None else f"; until {_day(each.until_ms)} it spoke for you"
    done = f", and {'; '.join(since)}" if since else ""
    if each.is_declined:
        return (
            f"your computer {which} was {was}{until}{done}. You have said on this one that this was not you, or that "
            "you do not know, so it counts for nobody; if it was you, "
            f"`key confirm {each.id.hex()} --as own` still has all that count as yours. {_TELL}"
        )
    return (
        f"your computer {which} was {was}{until}{done}. Was that you? If it was, "
        f"`key confirm {each.id.hex()} --as own` has all that count as yours; if it was not, or you do not know, "
        f"say nothing: it counts for nobody. {_TELL}"
    )


_TELL: Final = "If it was not you, tell the head of your school, or whoever looks after the server"


def _day(at_ms: int | None) -> str:
    return "at an unknown time" if at_ms is None else local_time(rfc3339(at_ms) or "")


async def readers_told(agent: Agent, reader: bytes | None, outgoing: Outgoing) -> list[JSON]:
    """Who reads, or one of them; before these what is asked of former devices, after them who could read for a time.

    First of all this device, where none of these is. Raises as `readers_json`.
    """
    returns = [
        each
        for each in await list_former_returns(agent)
        if reader in {None, each.id, each.pair[0], device_id(each.pair)}
    ]
    await tell_of_former_returns(returns, outgoing)
    readers = await list_readers(agent)
    await tell_who_waits(readers, outgoing)
    await _tell_how_to_confirm(readers, reader, outgoing)
    past = past_named(await list_past_readers(agent, readers), reader)
    await tell_of_past_readers(agent, past, outgoing)
    asked, could_read = await former_return_rows(agent, returns), await past_reader_rows(agent, past)
    asked += await _unlisted(agent, readers, reader)
    try:
        return [*asked, *await readers_json(agent, readers, reader), *could_read]
    except BadInput:
        if asked or could_read:
            return [*asked, *could_read]
        raise


async def _tell_how_to_confirm(listed: Sequence[Reader], asked: bytes | None, outgoing: Outgoing) -> None:
    """The whole line for each that may be this teacher's own, and for what is asked for: `key confirm` takes no less.

    Of the others that there is one: most of them nobody has to confirm.
    """
    waiting = {
        row: theirs[0]
        for row, theirs in rows(listed).items()
        if not all(each.is_this or each.confirmed or (each.is_above and not each.mine) for each in theirs)
    }
    told = {
        row: each
        for row, each in waiting.items()
        if asked in {row, each.id, each.device} or (asked is None and each.state == YOURS)
    }
    words = await words_of(each.pair for each in list(told.values())[:MAX_TOLD])
    for row, each in list(told.items())[:MAX_TOLD]:
        await outgoing.progress(
            f"{_SAYS[each.shown_as].format(words=words[each.pair])}: if its own screen shows these six words, "
            f"`key confirm {row.hex()} --as {each.shown_as}` (the id is that of the row here, and another one there)"
        )
    if asked is None and len(waiting) > len(told):
        await outgoing.progress("`key readers --device ID` says the line that confirms one of the others")


_SAYS: Final[Mapping[str, str]] = {
    "own": "“{words}” may be a new computer of yours",
    "head": "“{words}” is a head teacher's computer, and what it says of yours counts once you confirm it",
    "other": "“{words}” is a colleague's computer, and is given what you had opened once you confirm it",
}


async def _unlisted(agent: Agent, listed: Sequence[Reader], asked: bytes | None) -> list[JSON]:
    """The row of this device where it is in no list: it stands for nobody, or its class has not heard of it."""
    pair = own_device(agent)
    is_asked = asked in {None, pair[0], device_id(pair)}
    if not is_asked or any(each.is_this for each in listed) or await agent.role() not in SEES_ALL_WORK:
        return []
    return [
        {
            "id": device_id(pair).hex(),
            "device": pair[0].hex(),
            "name": None,
            "person": None,
            "teacher": None,
            "space": None,
            "state": "this",
            "shown_as": None,
            "words": (await words_of([pair]))[pair],
            "since": None,
            "named_by": None,
            "waits_for": [],
        }
    ]


async def readers_json(agent: Agent, listed: Sequence[Reader], reader_id: bytes | None = None) -> list[JSON]:
    """The same as a command lists them, or a row or device of these, also by its signing key.

    Raises `BadInput(UNKNOWN_DEVICE)`.
    """
    names = await space_names(agent)
    row_of = {reader: row for row, theirs in rows(listed).items() for reader in theirs}
    readers = [reader for reader in listed if reader_id in (None, row_of[reader], reader.id, reader.device)]
    if reader_id is not None and not readers:
        raise BadInput(Code.UNKNOWN_DEVICE, NOT_HERE, reader=reader_id.hex())
    shown = dict.fromkeys(reader.pair for reader in readers)
    awaited = dict.fromkeys(device for reader in readers for device, _ in reader.waits_for)
    words = await words_of([*list(shown)[:MAX_LISTED_WORDS], *list(awaited)[:MAX_LISTED_WORDS]])
    found: list[JSON] = []
    for reader, teacher in zip(readers, await _called(agent, readers), strict=True):
        found.append(
            {
                "id": row_of[reader].hex(),
                "device": reader.device.hex(),
                "name": reader.name,
                "person": reader.person.hex(),
                "teacher": teacher,
                "space": names.get(reader.space),
                "state": reader.state,
                "shown_as": reader.shown_as,
                "words": words.get(reader.pair),
                "since": None if reader.since_ms is None else rfc3339(reader.since_ms),
                "named_by": reader.named_by,
                "waits_for": named_rows(reader.waits_for, words),
            }
        )
    return found


async def _called(agent: Agent, readers: Sequence[Reader]) -> list[str | None]:
    """The name by which each one's words are signed."""
    called: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for reader in readers:
        called[reader.space].add(reader.person)
    names = {
        space: await signatures(agent.replica, (await agent.replica.view(space)).roster, persons)
        for space, persons in called.items()
    }
    return [names[reader.space].get(reader.person) for reader in readers]
