"""Commands of a head teacher's device: what `sync-server` does for a territory, for her school, with the same JSON.

A space is named by its id, a school by its UAI too, as at the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, TypeAlias

from protocol.beside_words import unlike_words
from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, Refused
from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.console.text import local_time
from protocol.replica.office import commands, grants, list_commands, withdrawals
from protocol.replica.office.added_namesakes import told_of_namesakes
from protocol.replica.office.erasures import check_known, erase_persons, known_beyond, with_doubles
from protocol.replica.office.further_words import ask_whether_meant, called_by, doubted_to_let_in, merge_persons
from protocol.replica.office.grants import Standing
from protocol.replica.office.heard import Known, known_of, said_by
from protocol.replica.office.leaving import told_of_partings
from protocol.replica.office.list_words import ListWords
from protocol.replica.office.mentioned import day_of, mentioned
from protocol.replica.office.names import device_id, invited_role, person_id, person_role
from protocol.replica.office.namesakes import called_in, told_of_numbers
from protocol.replica.office.other_lists import ask_about_other_lists, lists_meant, names_of_lists, other_lists
from protocol.replica.office.people import (
    add_person,
    described,
    duplicates_in,
    listings_of,
)
from protocol.replica.office.spaces import (
    list_spaces,
    open_spaces_named,
    space_named,
    space_records,
    uai_of,
)
from protocol.replica.office.stays import stays_of
from protocol.replica.office.taken_names import NOBODY_YET, ask_about_names, ask_whether_one, once_otherwise
from protocol.replica.office.who_that_is import described_with_doubles
from protocol.rights.vouching import device_words
from protocol.roles import ARE_TAUGHT, RANK, Role
from sync_agent.app import Agent
from sync_agent.machine.command_names import CHOSEN, LEFT_OFF, LOOK_AT
from sync_agent.school.device_names import key_words
from sync_agent.school.devices import check_may_let_in, counted_again, school_devices
from sync_agent.school.office import SchoolOffice
from sync_agent.transport.spoken_elsewhere import has_spoken_elsewhere

Command: TypeAlias = Callable[[SchoolOffice, Params, Outgoing], Awaitable[JSON]]


async def operate(name: str, agent: Agent, params: Params, outgoing: Outgoing) -> JSON:
    """The command `name` (`command_names.SCHOOL`) of an open agent."""
    async with agent.writing:
        office = await SchoolOffice.of(agent)
        if await has_spoken_elsewhere(agent):
            await outgoing.progress(
                "warning: the server's key has spoken elsewhere: somebody may have a copy of it, and what lists, names "
                "and rights say here may be theirs. Tell whoever runs the server (`sync-server status`); until its "
                "keys are replaced have nobody forgotten, let in or reported whom you have not looked at yourself"
            )
        return await COMMANDS[name](office, params, outgoing)


async def _space_add(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    school = given.text_or_none(params, "school") or await uai_of(office, office.home)
    if school is None:
        raise BadInput(Code.USAGE, "give the school's UAI as --school")
    return await commands.new_space(office, params, school, "sync-agent", outgoing)


async def _space_list(office: SchoolOffice, _params: Params, _outgoing: Outgoing) -> JSON:
    return await list_commands.space_rows(
        office, [each for each in await list_spaces(office) if office.governs(each.id)]
    )


async def _person_add(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    spaces = await open_spaces_named(office, given.texts(params, "space"))
    name, role = given.text(params, "name"), person_role(given.text(params, "role"))
    person = await add_person(office, name, role, spaces)
    for warning in await told_of_namesakes(office, person, spaces, "`person merge` makes them one"):
        await outgoing.progress(f"warning: {warning}")
    return {"person": person.hex()}


async def _doubles(office: SchoolOffice, params: Params, _outgoing: Outgoing) -> JSON:
    space = space_named(office, given.text(params, "space"))
    called = await called_in(office.replica, (await office.replica.view(space)).roster)
    groups = await duplicates_in(office.replica, space)
    everybody = {person.id for group in groups for person in group}
    known, once = await known_of(office.replica, everybody, space), await once_otherwise(office.replica, everybody)
    others = await other_lists(office.replica, everybody, [space])
    names = await names_of_lists(office, {each for spaces in others.values() for each in spaces})
    return [
        {
            "person": person.id.hex(),
            "name": person.name,
            "role": person.role.value,
            "like": group[0].id.hex(),
            "called": called[person.id],
            "keep": person is group[0],
            "once": ", ".join(once.get(person.id, ())),
            "other_lists": ", ".join(names[each] for each in others.get(person.id, ())),
            **_since_when(office, known[person.id]),
        }
        for group in groups
        for person in group
    ]


def _since_when(office: SchoolOffice, known: Known) -> dict[str, JSON]:
    """Since when somebody is on a list, and which devices are let in as theirs since when, and by whose word each."""
    own = office.own_device[0]
    devices: list[JSON] = [
        {"device": device.hex(), "since": rfc3339(word.at_ms), "by": said_by(office.replica, word, own)}
        for device, word in known.devices.items()
    ]
    return {
        "listed": None if known.listed is None else rfc3339(known.listed.at_ms),
        "listed_by": None if known.listed is None else said_by(office.replica, known.listed, own),
        "devices": devices,
        "let_in": ", ".join(
            f"{device.hex()[:8]} since {day_of(word.at_ms)} by {said_by(office.replica, word, own)}"
            for device, word in known.devices.items()
        ),
    }


async def _merge(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    """By whom a list calls alike alone nobody becomes one: a server calls one child like another (docs/adr/0289)."""
    person, into = (person_id(given.text(params, key)) for key in ("person", "into"))
    is_meant, listed_too = params.get("renamed_too") is True, params.get("listed_too") is True
    named = [space_named(office, text) for text in given.texts(params, "space")]
    spaces = await lists_meant(office, person, named)
    await ask_whether_one(office.replica, [into, person], outgoing, is_meant=is_meant)
    await ask_about_other_lists(office, [into, person], spaces, outgoing, is_meant=listed_too)
    await merge_persons(office, person, into, spaces)
    return {}


async def _invite(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    role = invited_role(given.text(params, "role"))
    if RANK[role] >= office.authority.rank:
        raise Refused(Code.NO_RIGHT, f"nobody is let in as “{role}” here: who runs the server makes such codes")
    return await commands.new_code(office, params, role, outgoing)


async def _grant(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    spaces = await open_spaces_named(office, given.texts(params, "space"))
    device, person = commands.device_or_person(params)
    if not all(map(office.governs, spaces)):
        raise Refused(Code.NO_RIGHT, "this device lets others into its own school only")
    if device is not None:
        await check_may_let_in(office, device, spaces)
        chosen = await _chosen(office, device, spaces, given.text_or_none(params, CHOSEN))
        called = called_by(params)
        await commands.let_in_device(office, device, spaces, "sync-agent", outgoing, chosen, called=called)
        await _say_what_it_shows(office, chosen, outgoing)
    if person is not None:
        found = await doubted_to_let_in(office, person, spaces)
        await ask_whether_meant(person, found, outgoing, called=called_by(params))
        looked = await commands.let_in_person(office, person, spaces, "sync-agent", outgoing)
        if given.flag(params, LOOK_AT):
            return {LOOK_AT: looked.rows, LEFT_OFF: looked.left_off}
    return {}


async def _chosen(office: SchoolOffice, device: bytes, spaces: Sequence[bytes], shown: str | None) -> Standing:
    """As what a device is let in: what was `shown` to whoever said so, else what it was first called here."""
    standings = await grants.standings_of(office, device, spaces)
    if shown is None:
        return standings[0]
    for standing in standings:
        if standing.name == shown:
            return standing
    raise BadInput(Code.UNKNOWN_DEVICE, "what was shown of this device has changed: look again", device=device.hex())


async def _ungrant(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    return await commands.ungrant(office, params, outgoing, looked=given.flag(params, LOOK_AT))


async def _say_what_it_shows(office: SchoolOffice, standing: Standing, outgoing: Outgoing) -> None:
    """By which words a teacher's device is known from any other that was let in: no grant confirms it."""
    if standing.teaches:
        words = await asyncio.to_thread(device_words, standing.device)
        whose = "nobody" if standing.person is None else await described(office, standing.person)
        await outgoing.progress(
            f"let in as a teacher's computer: its own page « Qui lit les travaux » has to show “{words}”; it is given "
            "no earlier work, and is not heard beside others of theirs, before `key confirm` says that it does. It is "
            f"let in as the one of {unlike_words(whose)}"
        )


async def _tell_who_counts_again(office: SchoolOffice, outgoing: Outgoing) -> None:
    reports = await counted_again(office)
    records = await space_records(office) if reports else {}
    for key, report in reports.items():
        when = local_time(rfc3339(report.said_ms) or "")
        classes = ", ".join(
            f"“{records[space].name}”" if space in records else space.hex() for space in report.let_into
        )
        since = f"reads {classes}, into which it was let since," if report.let_into else "counts again,"
        to_it = "".join(f" --space {space.hex()}" for space in report.let_into)
        agree = f"`grant --device {key.hex()}{to_it}`" if to_it else "`grant --device`"
        what = f"`lost {key.hex()}` reports it again, {agree} agrees"
        if report.by_rank:
            what = "it has been given a head's right since, which no report here takes: with the kit, who runs the "
            what += f"server does (`rotate server --kit --since`, or `revoke --kit {key.hex()}` there)"
        await outgoing.progress(
            f"the device {key.hex()} was reported {when}, and {since} by the word of another head's computer or "
            f"of the server: {what}; if nobody decided it, the server may be in wrong hands"
        )


async def _devices(office: SchoolOffice, _params: Params, outgoing: Outgoing) -> JSON:
    await _tell_who_counts_again(office, outgoing)
    return [
        {
            "device": row.key.hex(),
            "name": row.name,
            "words": key_words(row.key, office.replica.door),
            "role": row.role.value,
            "person": None if row.person is None else row.person.hex(),
            "spaces": [space.hex() for space in row.spaces],
        }
        for row in await school_devices(office)
    ]


async def _revoke(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    device = device_id(given.text(params, "device"))
    kept = await withdrawals.revoke_device(office, device, office.governs)
    return await commands.told_of_kept(kept, outgoing) | await commands.told_of_absent(office, [device], outgoing)


async def _lost(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    names, reports = await office.device_names(), await office.reports_ms()
    seen = {key: commands.Seen(names.get(key), reports.get(key)) for key in {*names, *reports}}
    return await commands.report_loss(office, params, outgoing, seen, office.governs)


async def _stays(office: SchoolOffice, _params: Params, _outgoing: Outgoing) -> JSON:
    found, called, records = await stays_of(office), await office.device_names(), await space_records(office)
    names = await mentioned(office.replica, {stay.person for stay in found if stay.person is not None})
    return [
        {
            "device": stay.key.hex(),
            "space": stay.space.hex(),
            "person": None if stay.person is None else stay.person.hex(),
            "until": rfc3339(stay.until_ms),
            "over": stay.until_ms <= office.now_ms(),
            "for_good": stay.for_good,
            "name": None if stay.person is None else names[stay.person].last or None,
            "device_name": called.get(stay.key),
            "class": records[stay.space].name if stay.space in records else None,
        }
        for stay in found
    ]


async def _check_none_teaches(office: SchoolOffice, persons: Collection[bytes]) -> None:
    """Raise `Refused(NO_RIGHT)` on a head's device for who is anywhere on a list and no pupil (docs/adr/0425)."""
    lists = await listings_of(office.replica, persons)
    adults = [one for one in persons if any(each.role not in ARE_TAUGHT for each in lists[one].values())]
    if adults and office.rank < RANK[Role.ADMIN]:
        told = "; ".join(await described_with_doubles(office, adults))
        raise Refused(
            Code.NO_RIGHT,
            f"nobody has been forgotten: {told}. A head teacher's computer has pupils forgotten, and guardians; who "
            "runs the server has who teaches forgotten (`sync-server erase`). Who leaves a class: `ungrant --person`",
        )


async def _erase(office: SchoolOffice, params: Params, outgoing: Outgoing) -> JSON:
    """Nobody goes whom who asks has not named: lists of her school come from the server too (docs/adr/0160, 0289)."""
    persons = [person_id(text) for text in given.texts(params, "person")]
    await check_known(office, persons)
    await _check_none_teaches(office, persons)
    for line in await described_with_doubles(office, persons):
        await outgoing.progress(f"to be forgotten: {line}")
    for line in await told_of_partings(office, persons):
        await outgoing.progress(line)
    await outgoing.progress(
        "what of theirs lies on a machine that has not called for long goes with it, unseen: which machines these are, "
        "`sync-server erase --dry-run` says at the server"
    )
    for line in await told_of_numbers(office, persons):
        await outgoing.progress(line)
    for person in await known_beyond(office, persons):
        await outgoing.progress(
            f"{person.hex()} is known as well where this device has no say, and stays so there: "
            "who runs the server has them forgotten everywhere"
        )
    dry = params.get("dry_run") is True
    is_meant = dry or params.get("renamed_too") is True
    words = await ListWords.of(office)
    await ask_about_names(office.replica, persons, persons, outgoing, NOBODY_YET, words=words, is_meant=is_meant)
    if params.get("alone") is not True and set(await with_doubles(office.replica, persons)) != set(persons):
        said = "others are listed as the same person, and nobody has been forgotten yet: "
        how = "name each who is, with one more --person ID, and say --alone if that is all"
        if not dry:
            raise BadInput(Code.USAGE, said + how)
        await outgoing.progress(said + how)
    if dry:
        return {"persons": [one.hex() for one in persons]}
    await erase_persons(office, persons)
    await outgoing.progress("hidden wherever this arrives, at once; destroyed there seven days later")
    until = local_time(rfc3339(office.now_ms() + ERASURE_DELAY_MS) or "")
    await outgoing.progress(
        f"until {until} who runs the server takes it back: `sync-server unerase`, with the ids of `erasures`"
    )
    return {}


COMMANDS: Final[dict[str, Command]] = {
    "space add": _space_add,
    "space list": _space_list,
    "space rename": commands.space_rename,
    "person add": _person_add,
    "person list": list_commands.person_list,
    "person rename": list_commands.person_rename,
    "person doubles": _doubles,
    "person merge": _merge,
    "invite": _invite,
    "devices": _devices,
    "grant": _grant,
    "ungrant": _ungrant,
    "revoke": _revoke,
    "lost": _lost,
    "stays": _stays,
    "erase": _erase,
}
