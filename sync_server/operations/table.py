"""The commands of the server as operations: parameters in, JSON out, the keys of the operator's contract.

The same table serves a command that opens the store itself and the control channel of a running server. Rules are in
`handlers`; here words become ids, and results become keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.identity import territory_id
from protocol.replica.console import parameters as given
from protocol.replica.console.frame import installed_version
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params, Table
from protocol.replica.console.typed_by import by_of
from protocol.replica.office import commands, list_commands
from protocol.replica.office.acts import TOLD_BROKEN, ids_told
from protocol.replica.office.added_namesakes import told_of_namesakes
from protocol.replica.office.frozen import frozen_persons
from protocol.replica.office.further_words import ask_whether_meant, called_by, doubted_to_let_in
from protocol.replica.office.left_over import left_pupils
from protocol.replica.office.names import invited_role, person_role
from protocol.replica.office.people import add_person
from protocol.replica.office.spaces import list_spaces, open_spaces_named, space_named
from protocol.replica.office.stays_out import Reported, lines_of, reported_before
from protocol.trust.invitation import territory_fingerprint
from sync_server.handlers.accounts.administrators import (
    add_administrator,
    list_administrators,
    remove_administrator,
    told_of_ended,
)
from sync_server.handlers.accounts.factors import factors_of
from sync_server.handlers.accounts.passkeys import let_add_passkey, passkeys_of, remove_passkeys
from sync_server.handlers.accounts.second_factor import drop_second_factor, set_second_factor
from sync_server.handlers.by_kit.came_after_closing import came_after_closing
from sync_server.handlers.by_kit.not_closed import not_closed
from sync_server.handlers.overview.devices import Device
from sync_server.handlers.overview.hand_ins import list_hand_ins
from sync_server.handlers.overview.let_go import says_that_it_was_in
from sync_server.handlers.overview.members import list_devices
from sync_server.handlers.overview.spoken_elsewhere import Spoken, spoken_elsewhere
from sync_server.handlers.record import measures
from sync_server.handlers.record.audit import broken_trail
from sync_server.handlers.record.erasures import held_back, said_of_held_back, waiting_for_a_word
from sync_server.handlers.record.overused_codes import overused_codes
from sync_server.handlers.record.proofs import check_proof
from sync_server.handlers.store.backups import back_up, note_kept
from sync_server.handlers.store.keys_of_before import keys_that_still_count
from sync_server.handlers.store.restored import restored
from sync_server.handlers.store.upkeep import contested_roots, repair, totals, verify
from sync_server.kit.away import KitAway
from sync_server.opened.app import Server
from sync_server.operations import lifecycle
from sync_server.operations.abbreviated import with_whole_ids
from sync_server.operations.acting import noted
from sync_server.operations.command import Command, KitCommand


def operations(server: Server) -> Table:
    """The table of commands over an opened server."""
    with_kit = {
        name: partial(_operate_with_kit, name, command, server) for name, command in lifecycle.KIT_COMMANDS.items()
    }
    plain = {name: partial(_operate, name, command, server) for name, command in _COMMANDS.items()}
    return plain | with_kit


async def _operate(
    name: str, command: Command, server: Server, params: Params, incoming: Incoming, outgoing: Outgoing
) -> JSON:
    del incoming
    await _tell_of_the_key(server, name, outgoing)
    if command in _NAMING:
        await _tell_who_may_be_forgotten(server, outgoing)
    found = await with_whole_ids(server, name, params, outgoing, named=_named(name))
    async with noted(server, name, found):
        return await command(server, found, outgoing)


async def _operate_with_kit(
    name: str, command: KitCommand, server: Server, params: Params, incoming: Incoming, outgoing: Outgoing
) -> JSON:
    kit = KitAway.of(server, params.get("kit"), incoming, outgoing)
    await _tell_of_the_key(server, name, outgoing)
    if command is lifecycle.KIT_COMMANDS["export-person"]:
        await _tell_who_may_be_forgotten(server, outgoing)
    # the kit's word is given for ids alone: names are what this store says (docs/adr/0128)
    found = await with_whole_ids(server, name, params, outgoing, named=_named(name) if kit is None else ())
    async with noted(server, name, found, with_kit=kit is not None):
        return await command(server, found, outgoing, kit)


async def _tell_of_the_key(server: Server, name: str, outgoing: Outgoing) -> None:
    """That somebody else speaks with it, with each command that goes by what the set says."""
    if name not in _TOLD_APART:
        await _told_of_the_key(server, outgoing)


async def _told_of_the_key(server: Server, outgoing: Outgoing) -> Sequence[Spoken]:
    """The same, and what there is of it."""
    found = await spoken_elsewhere(server)
    for each in found:
        await outgoing.progress(each.sentence)
    return found


async def _tell_who_may_be_forgotten(server: Server, outgoing: Outgoing) -> None:
    old = await restored(server)
    for said in (old and old.sentence, await said_of_held_back(server)):
        if said:
            await outgoing.progress(said)


async def _space_add(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    return await commands.new_space(server, params, given.text(params, "school"), "sync-server", outgoing)


async def _space_list(server: Server, _params: Params, _outgoing: Outgoing) -> JSON:
    return await list_commands.space_rows(server, await list_spaces(server))


async def _person_add(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    role = person_role(given.text(params, "role"))
    spaces = await open_spaces_named(server, given.texts(params, "space"))
    person = await add_person(server, given.text(params, "name"), role, spaces)
    off_again = f"`person retire {person.hex()}` takes this one off again"
    for warning in await told_of_namesakes(server, person, spaces, off_again):
        await outgoing.progress(f"warning: {warning}")
    return {"person": person.hex()}


async def _grant(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    spaces = await open_spaces_named(server, given.texts(params, "space"))
    device, person = commands.device_or_person(params)
    called = called_by(params)
    if device is not None:
        await _check_anew(server, device, spaces, anew=params.get("anew") is True)
        await commands.let_in_device(server, device, spaces, "sync-server", outgoing, called=called)
    if person is not None:
        await ask_whether_meant(person, await doubted_to_let_in(server, person, spaces), outgoing, called=called)
        await commands.let_in_person(server, person, spaces, "sync-server", outgoing)
    return {}


async def _check_anew(server: Server, device: bytes, spaces: Sequence[bytes], *, anew: bool) -> None:
    """Raise `BadInput(NOT_YET)` of who says that it was in one of these spaces, and was let in by nobody known."""
    if anew or not [space for space in spaces if await says_that_it_was_in(server, device, space)]:
        return
    raise BadInput(
        Code.NOT_YET,
        "this device says itself that it holds something of that class, and nobody is known to have let it in there. A "
        "PC that took keys of its own may say so, and so does one in wrong hands: let in, it reads all of the class. "
        "If somebody knows that this PC stood in it, say --anew; otherwise `ungrant` it there, or `revoke` it",
        device=device.hex(),
    )


async def _invite(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    return await commands.new_code(server, params, invited_role(given.text(params, "role")), outgoing)


async def _status(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    elsewhere = await _told_of_the_key(server, outgoing)
    held, found, left = await totals(server), await restored(server), await left_pupils(server)
    reported = await _told_of_reported(server, outgoing)
    return {
        "territory": server.replica.territory.hex(),
        "fingerprint": territory_fingerprint(territory_id(server.replica.door.root_now)),
        "generation": server.territory.generation.hex(),
        "spaces": await _space_list(server, params, outgoing),
        "devices": len(await list_devices(server)),
        "entries": held.entries,
        "chunks": held.chunks,
        "bytes": held.bytes,
        "erasures_waiting": await waiting_for_a_word(server),
        "erasures_held_back": await held_back(server),
        "restored": None if found is None else found.shown(),
        "overused_codes": [each.row() for each in await overused_codes(server)],
        "classes_not_closed": [each.row() for each in await not_closed(server)],
        "left_pupils": [each.row() for each in left if each.is_sure and found is None],
        "left_in_doubt": [each.row() for each in left if not each.is_sure or found is not None],
        "reported_before": [each.row() for each in reported],
        "frozen_persons": [each.row() for each in await frozen_persons(server.replica)],
        "came_after_closing": [each.row() for each in await came_after_closing(server)],
        "unforeseen": [met.shown() for met in server.unforeseen.rows()],
        "spoken_elsewhere": [each.row() for each in elsewhere],
        "version": installed_version(),
    }


async def _told_of_reported(server: Server, outgoing: Outgoing) -> Sequence[Reported]:
    """Whose computers stay out of what is given to them, since a report of before the restore is nobody's here."""
    reported = await reported_before(server)
    for each in reported[: commands.MAX_TOLD_DEVICES]:
        for line in await lines_of(server, each, "sync-server"):
            await outgoing.progress(line)
    if len(reported) > commands.MAX_TOLD_DEVICES:
        await outgoing.progress(
            f"and {len(reported) - commands.MAX_TOLD_DEVICES} more people of whom a computer was reported before: "
            "`reported_before` of `status --json` lists all, and `grant --person` tells the same of each"
        )
    return reported


async def _devices(server: Server, _params: Params, outgoing: Outgoing) -> JSON:
    devices = await list_devices(server)
    for key in (device.id.hex() for device in devices if device.let_in_since):
        await outgoing.progress(
            f"the device {key} was cut off here, or came in by a code of one that was, and a head's computer, or an "
            "administrator's, has let it in, perhaps without having heard of that, or this server before it was "
            f"restored, or whoever has a copy of this server's key: `lost {key}` cuts it off, "
            f"`grant --device {key} --space …` agrees"
        )
    for code in await overused_codes(server):
        await outgoing.progress(code.sentence)
    return [_device_row(device) for device in devices]


def _device_row(device: Device) -> JSON:
    health = device.health
    return {
        "device": device.id.hex(),
        "name": device.name,
        "role": device.role.value,
        "state": device.state.value,
        "last_seen": rfc3339(device.heard.seen_ms),
        "last_full_sync": rfc3339(device.heard.current_ms),
        "via": device.heard.via,
        "backlog": {
            "entries": None if health is None else health.backlog_entries,
            "bytes": None if health is None else health.backlog_bytes,
        },
        "version": None if health is None else health.version,
        "clone_of": None if device.clone_of is None else device.clone_of.hex(),
        "confirmed": device.confirmed,
    }


async def _hand_ins(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    space = space_named(server, given.text(params, "space"))
    return [
        {
            "id": each.work.id.hex(),
            "item": each.work.item.hex(),
            "person": each.work.person.hex(),
            "state": each.work.state.value,
            "by": each.by,
            "at": rfc3339(each.work.at_ms),
            "clock_doubtful": each.work.clock_doubtful,
            "name": each.name,
            "called": each.called,
            "title": each.title,
        }
        for each in await list_hand_ins(server, space)
    ]


async def _check_receipt(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    proof = await check_proof(server, given.text(params, "code"))
    work = proof.work
    if work is None:
        return {"valid": False, "why": proof.finding.value, "message": proof.sentence}
    return {
        "valid": True,
        "why": None,
        "message": proof.sentence,
        "id": work.id.hex(),
        "item": work.item.hex(),
        "title": None if proof.item is None else proof.item.shown.record.title,
        "space": work.space.hex(),
        "person": work.person.hex(),
        "name": proof.name,
        "called": proof.called,
        "listed_as": None if proof.listed_as is None else proof.listed_as.hex(),
        "at": rfc3339(work.at_ms),
        "late": work.late,
        "state": work.state.value,
        "content_here": proof.content_here,
        "receipts": [
            {
                "state": each.says.value,
                "device": each.by.hex(),
                "by": proof.names.get(each.grant),
                "at": rfc3339(each.at_ms),
            }
            for each in work.witnesses
        ],
    }


def _school(server: Server, params: Params) -> bytes:
    """The school that is named. Raises `BadInput(UNKNOWN_SPACE)`, also for a class."""
    if params.get("school") is None:
        raise BadInput(Code.USAGE, "say which school with --school UAI")
    space = space_named(server, given.text(params, "school"))
    if server.replica.door.parent(space) != server.replica.territory:
        raise BadInput(Code.UNKNOWN_SPACE, "a class is no school; give the school's UAI")
    return space


async def _drill_start(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    school = _school(server, params)
    return {"drill": (await measures.start_drill(server, school, given.count(params, "minutes"))).hex()}


async def _drill_stop(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    return await measures.stop_drill(server, _school(server, params))


async def _drill_report(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    space = _school(server, params)
    return await measures.report_drill(server, space, given.text(params, "school"))


async def _quarantine_start(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    if await measures.start_quarantine(server, _school(server, params)):
        await outgoing.progress(
            "a drill is running: machines that are in it hear of this when they next ask for orders, within five "
            "minutes, and take sticks until then"
        )
    return {}


async def _quarantine_stop(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    return await measures.stop_quarantine(server, _school(server, params))


async def _verify(server: Server, _params: Params, outgoing: Outgoing) -> JSON:
    await outgoing.progress("reading everything that can be served …")
    problems = [
        {"what": damage.what, "id": damage.id.hex(), "why": damage.why}
        for damage in (*await verify(server), *contested_roots(server))
    ]
    if broken := await server.acts.broken():
        problems.append({"what": "audit", "id": f"{broken[0]}", "why": broken_trail(broken)})
    await _tell_of_trail(server, outgoing)
    if old := await keys_that_still_count(server):
        await outgoing.progress(
            f"the keys of an earlier server still count ({len(old)}): whoever was in it is a server. `sync-server "
            "rotate server --kit KIT` ends them, and with `--since TIME` also what they said since others had them"
        )
    return {"ok": not problems, "problems": problems}


async def _repair(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    await outgoing.progress("reading everything, and moving aside what is bad …")
    if broken := await server.acts.broken():
        await server.acts.note(TOLD_BROKEN, by_of(params), ids_told([str(number) for number in broken]))
        await outgoing.progress(broken_trail(broken))
    await repair(server)
    return {}


async def _tell_of_trail(server: Server, outgoing: Outgoing) -> None:
    number, digest = await server.acts.end()
    if number:
        await outgoing.progress(f"the trail of who did what ends with line {number}, {digest.hex()}: `audit` shows it")


async def _backup(server: Server, _params: Params, outgoing: Outgoing) -> JSON:
    await _tell_of_trail(server, outgoing)
    head = await back_up(server, installed_version(), outgoing)
    return {"made_ms": head.made_ms}


async def _backup_kept(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await note_kept(server, given.count(params, "made_ms"))
    return {}


async def _administrator_add(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    made = await add_administrator(server, given.text(params, "name"), given.text(params, "verifier"))
    return {"administrator": made.name}


async def _administrator_list(server: Server, _params: Params, outgoing: Outgoing) -> JSON:
    found: list[JSON] = []
    for line in await told_of_ended(server):
        await outgoing.progress(line)
    for each in await list_administrators(server):
        asked = await factors_of(server, each.name)
        row = {"administrator": each.name, "since": rfc3339(each.since_ms)}
        found.append({**row, "second_factor": asked.codes is not None, "passkeys": len(asked.passkeys)})
    return found


async def _administrator_second_factor(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    name = given.text(params, "name")
    if params.get("remove"):
        await drop_second_factor(server, name)
        return {}
    made = await set_second_factor(server, name)
    return {"uri": made.uri, "recovery": list(made.recovery), "replaced": made.replaced}


async def _administrator_passkey(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    name, removed = given.text(params, "name"), params.get("remove")
    if removed is not None:
        return {"removed": await remove_passkeys(server, name, given.text(params, "remove"))}
    code, until_ms, origin = await let_add_passkey(server, name, given.text(params, "address"))
    return {"code": code, "expires": rfc3339(until_ms), "address": f"{origin}/admin/passkeys"}


async def _administrator_passkeys(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    return [
        {
            "passkey": key.name,
            "label": key.label,
            "since": rfc3339(key.since_ms),
            "address": key.credential.origin,
        }
        for key in await passkeys_of(server, given.text(params, "name"))
    ]


async def _administrator_remove(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await remove_administrator(server, given.text(params, "name"))
    return {}


def _named(command: str) -> frozenset[str]:
    """What a command takes by its name too."""
    return frozenset({"space", "device", "person"}) - _BY_ID_ALONE.get(command, frozenset())


_BY_ID_ALONE: Final[Mapping[str, frozenset[str]]] = {
    "confirm": frozenset({"device"}),
    "grant": frozenset({"device", "person"}),
    "space add": frozenset({"person"}),
    "space close": frozenset({"space"}),
    "erase": frozenset({"person"}),
    "person retire": frozenset({"person"}),
    "person freeze": frozenset({"person"}),
    "person unfreeze": frozenset({"person"}),
    "export-person": frozenset({"person"}),
}
"""What is named by no name (docs/adr/0141): a clone has that of the machine that it was made from, who is to
be let in gives it to itself, a stolen head teacher's laptop gives one class the name of another, and of whom is meant
nothing may have come here, or be left, where somebody else has that name (docs/adr/0392)."""
_COMMANDS: Final[Mapping[str, Command]] = {
    **lifecycle.COMMANDS,
    "space add": _space_add,
    "space list": _space_list,
    "person add": _person_add,
    "person list": list_commands.person_list,
    "grant": _grant,
    "ungrant": commands.ungrant,
    "invite": _invite,
    "status": _status,
    "devices": _devices,
    "hand-ins": _hand_ins,
    "administrator add": _administrator_add,
    "administrator list": _administrator_list,
    "administrator remove": _administrator_remove,
    "administrator second-factor": _administrator_second_factor,
    "administrator passkey": _administrator_passkey,
    "administrator passkeys": _administrator_passkeys,
    "check-receipt": _check_receipt,
    "drill start": _drill_start,
    "drill stop": _drill_stop,
    "drill report": _drill_report,
    "quarantine start": _quarantine_start,
    "quarantine stop": _quarantine_stop,
    "backup": _backup,
    "backup-kept": _backup_kept,
    "verify": _verify,
    "repair": _repair,
}

_TOLD_APART: Final = frozenset({"backup", "backup-kept", "audit", "status"})
"""What is the same whoever has said something; a backup is made by night, and its lines go to a mailbox. `status` tells
it itself, with what it shows of it."""
_NAMING: Final = frozenset({list_commands.person_list, _hand_ins})
"""What prints who is whom: beside it is said that some may have been erased, where that is so."""
