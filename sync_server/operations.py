"""The commands of the server as operations: parameters in, JSON out, the keys of the operator's contract.

The same table serves a command that opens the store itself and the control channel of a running server. Rules are in
`handlers`; here words become ids, and results become keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

from protocol.clock import rfc3339
from protocol.entry import Kind
from protocol.errors import BadInput, Code
from protocol.identity import AgreementKey, SigningKey
from protocol.kit import Kit
from protocol.limits import MAX_ERASED_PER_DAY
from protocol.replica.abbreviations import whole
from protocol.replica.access.export import export_person
from protocol.replica.console import installed_version
from protocol.replica.office import grants
from protocol.replica.office.erasures import erase_persons
from protocol.replica.office.invitations import Wanted, invite
from protocol.replica.office.names import device_id, entry_id, invited_role, lifetime_ms, person_id, person_role
from protocol.replica.office.people import add_person, list_persons, rename_person
from protocol.replica.office.spaces import add_space, list_spaces, rename_space, space_named, spaces_named
from protocol.replica.operation import JSON, Incoming, Outgoing, Params, Table
from sync_server.abbreviated import with_whole_ids
from sync_server.app import Server
from sync_server.handlers import measures
from sync_server.handlers.administrators import add_administrator, list_administrators, remove_administrator
from sync_server.handlers.audit import trail
from sync_server.handlers.backups import back_up, note_kept
from sync_server.handlers.closing import close_space
from sync_server.handlers.devices import Device
from sync_server.handlers.hand_ins import list_hand_ins
from sync_server.handlers.losses import lost
from sync_server.handlers.members import list_devices
from sync_server.handlers.proofs import check_proof
from sync_server.handlers.rewrapping import check_kit, rewrap
from sync_server.handlers.rotation import rotate_root, rotate_server
from sync_server.handlers.second_factor import drop_second_factor, set_second_factor
from sync_server.handlers.upkeep import repair, totals, verify
from sync_server.handlers.waiting import list_waiting, rule

Command: TypeAlias = Callable[[Server, Params, Outgoing], Awaitable[JSON]]


def operations(server: Server) -> Table:
    """The table of commands over an opened server."""
    return {name: partial(_operate, command, server) for name, command in _COMMANDS.items()}


async def _operate(command: Command, server: Server, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
    del incoming
    return await command(server, await with_whole_ids(server, params), outgoing)


async def _space_add(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    added = await add_space(server, _text(params, "name"), _text(params, "school"), _text_or_none(params, "year"))
    if added.warning is not None:
        await outgoing.progress(f"warning: {added.warning}")
    return {"space": added.id.hex()}


async def _space_list(server: Server, _params: Params, _outgoing: Outgoing) -> JSON:
    return [
        {
            "space": space.id.hex(),
            "name": space.name,
            "school": space.school,
            "entries": space.entries,
            "fingerprint": space.fingerprint.hex(),
        }
        for space in await list_spaces(server)
    ]


async def _person_add(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    role = person_role(_text(params, "role"))
    spaces = spaces_named(server, _texts(params, "space"))
    return {"person": (await add_person(server, _text(params, "name"), role, spaces)).hex()}


async def _person_list(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    space = space_named(server, _text(params, "space"))
    return [
        {"person": person.id.hex(), "name": person.name, "role": person.role.value}
        for person in await list_persons(server, space)
    ]


async def _grant(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    spaces = spaces_named(server, _texts(params, "space"))
    device, person = _device_or_person(params)
    if device is not None:
        await grants.grant_device(server, device, spaces)
    if person is not None:
        await grants.grant_person(server, person, spaces)
    return {}


async def _ungrant(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    spaces = spaces_named(server, _texts(params, "space"))
    device, person = _device_or_person(params)
    if device is not None:
        await grants.ungrant_device(server, device, spaces)
    if person is not None:
        await grants.ungrant_person(server, person, spaces)
    return {}


async def _invite(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    person = _text_or_none(params, "person")
    wanted = Wanted(
        role=invited_role(_text(params, "role")),
        spaces=spaces_named(server, _texts(params, "space")),
        person=None if person is None else person_id(person),
        uses=_count(params, "uses"),
        lifetime_ms=lifetime_ms(_text(params, "ttl")),
        stay_ms=None if (stay := _text_or_none(params, "for")) is None else lifetime_ms(stay),
    )
    made = await invite(server, wanted)
    return {"code": made.code, "expires": rfc3339(made.expires_ms)}


async def _status(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    held = await totals(server)
    return {
        "territory": server.replica.territory.hex(),
        "generation": server.territory.generation.hex(),
        "spaces": await _space_list(server, params, outgoing),
        "devices": len(await list_devices(server)),
        "entries": held.entries,
        "chunks": held.chunks,
        "bytes": held.bytes,
        "version": installed_version(),
    }


async def _devices(server: Server, _params: Params, _outgoing: Outgoing) -> JSON:
    return [_device_row(device) for device in await list_devices(server)]


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
    space = space_named(server, _text(params, "space"))
    return [
        {
            "id": work.id.hex(),
            "item": work.item.hex(),
            "person": work.person.hex(),
            "state": work.state.value,
            "at": rfc3339(work.at_ms),
        }
        for work in await list_hand_ins(server, space)
    ]


async def _check_receipt(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    proof = await check_proof(server, _text(params, "code"))
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
        "at": rfc3339(work.at_ms),
        "late": work.late,
        "state": work.state.value,
        "content_here": proof.content_here,
        "receipts": [
            {"state": each.says.value, "device": each.by.hex(), "at": rfc3339(each.at_ms)} for each in work.witnesses
        ],
    }


async def _revoke(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await grants.revoke_device(server, device_id(_text(params, "device")))
    return {}


def _school(server: Server, params: Params) -> bytes:
    """The school that is named. Raises `BadInput(UNKNOWN_SPACE)`, also for a class."""
    if params.get("school") is None:
        raise BadInput(Code.USAGE, "say which school with --school UAI")
    space = space_named(server, _text(params, "school"))
    if server.replica.door.parent(space) != server.replica.territory:
        raise BadInput(Code.UNKNOWN_SPACE, "a class is no school; give the school's UAI")
    return space


async def _drill_start(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    school = _school(server, params)
    return {"drill": (await measures.start_drill(server, school, _count(params, "minutes"))).hex()}


async def _drill_stop(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await measures.stop_drill(server, _school(server, params))
    return {}


async def _drill_report(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    school = _text(params, "school")
    return await measures.report_drill(server, _school(server, params), school)


async def _quarantine_start(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await measures.start_quarantine(server, _school(server, params))
    return {}


async def _quarantine_stop(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await measures.stop_quarantine(server, _school(server, params))
    return {}


async def _confirm(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    restore = params.get("restore") is True
    await grants.confirm_clone(server, device_id(_text(params, "device")), restore=restore)
    return {}


async def _waiting(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    return [
        {
            "id": each.entry.id.hex(),
            "space": each.entry.header.space.hex(),
            "kind": Kind(each.entry.header.kind).name.lower().replace("_", "-"),
            "device": each.entry.header.author.hex(),
            "person": None if each.entry.header.subject is None else each.entry.header.subject.hex(),
            "name": each.name,
            "title": each.title,
            "at": rfc3339(each.entry.timestamp_ms),
        }
        for each in await list_waiting(server, refused=params.get("refused") is True)
    ]


async def _accept(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    return {"accepted": await rule(server, await _named(server, params), accept=True)}


async def _refuse(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    return {"refused": await rule(server, await _named(server, params), accept=False)}


async def _named(server: Server, params: Params) -> list[bytes]:
    """The entries and devices that a ruling names, as ids or beginnings of ids from `waiting`."""
    known = {
        one
        for refused in (False, True)
        for each in await list_waiting(server, refused=refused)
        for one in (each.entry.id, each.entry.header.author)
    }
    texts = [whole(text, known, Code.UNKNOWN_HAND_IN, "entry") for text in _texts(params, "named")]
    return [entry_id(text) for text in texts]


async def _person_rename(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await rename_person(server, person_id(_text(params, "person")), _text(params, "name"))
    return {}


async def _person_retire(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await grants.retire_person(server, person_id(_text(params, "person")))
    return {}


async def _space_rename(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await rename_space(server, space_named(server, _text(params, "space")), _text(params, "name"))
    return {}


async def _space_close(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    kit = _kit(params) if "root" in params else None
    space = space_named(server, _text(params, "space"))
    closing = await close_space(server, kit, space, unopened_too=params.get("unopened_too") is True)
    if kit is not None:
        await outgoing.progress("hidden wherever this arrives, at once; destroyed there seven days later")
    return {
        "closed": kit is not None,
        "pupils": closing.pupils,
        "items": closing.items,
        "hand_ins": closing.hand_ins,
        "unopened": closing.unopened,
    }


async def _lost(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    cut = params.get("dry_run") is not True
    loss = await lost(server, device_id(_text(params, "device")), cut=cut)
    if loss.teaches and cut:
        await outgoing.progress(
            "what is handed in from now on is sealed to new keys, which the teacher's other devices make"
        )
    return {
        "device": loss.device.id.hex(),
        "name": loss.device.name,
        "role": loss.device.role.value,
        "person": loss.person,
        "last_seen": rfc3339(loss.device.heard.seen_ms),
        "revoked": cut,
        "held": [
            {
                "space": each.space.hex(),
                "name": each.name,
                "people": each.people,
                "items": each.items,
                "hand_ins_made": each.made,
                "hand_ins_readable": each.opened,
            }
            for each in loss.spaces
        ],
    }


async def _rewrap(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    person = _text_or_none(params, "person")
    spaces = [space_named(server, text) for text in _texts(params, "space")]
    return {"hand_ins": await rewrap(server, _kit(params), None if person is None else person_id(person), spaces)}


async def _rotate_server(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    made = await rotate_server(server, _kit(params))
    await outgoing.progress("devices follow at their next call; what the old key signed until now stays valid")
    return {"server": made.hex()}


async def _rotate_root(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    new_root, new_recovery = (bytes.fromhex(_text(params, key)) for key in ("new_root", "new_recovery"))
    new = Kit("", SigningKey(new_root), AgreementKey(new_recovery))
    chain = await rotate_root(server, _kit(params), new)
    await outgoing.progress("devices follow at their next call; codes that were made before are refused from now on")
    return {"chain": chain.hex(), "version": len(server.replica.door.roots) - 1}


async def _audit(server: Server, _params: Params, _outgoing: Outgoing) -> JSON:
    return [
        {
            "at": rfc3339(each.entry.timestamp_ms),
            "what": each.what,
            "by": each.role,
            "key": each.entry.header.author.hex(),
            "space": each.entry.header.space.hex(),
            "id": each.entry.id.hex(),
            "about": each.about,
        }
        for each in await trail(server)
    ]


async def _export_person(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    keys: dict[bytes, AgreementKey] = {}
    if "recovery" in params:
        kit = _kit(params)
        check_kit(server, kit)
        keys[kit.recovery.public] = kit.recovery
    return await export_person(
        server.replica,
        server.holdings,
        person_id(_text(params, "person")),
        keys,
        outgoing,
        territory_name=server.territory_name,
        now_ms=server.now_ms(),
    )


def _kit(params: Params) -> Kit:
    """The kit's keys, as the command line sends them to whoever has the store open: they stay in memory."""
    root, recovery = (bytes.fromhex(_text(params, key)) for key in ("root", "recovery"))
    return Kit("", SigningKey(root), AgreementKey(recovery))


async def _erase(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    persons = [person_id(text) for text in _texts(params, "person")]
    kit = _kit(params) if "root" in params else None
    if kit is not None:
        check_kit(server, kit)
    await erase_persons(server, persons, kit)
    if kit is None and len(persons) > MAX_ERASED_PER_DAY:
        await outgoing.progress(f"without --kit, each machine destroys {MAX_ERASED_PER_DAY} persons a day")
    await outgoing.progress("hidden wherever this arrives, at once; destroyed there seven days later")
    return {}


async def _verify(server: Server, _params: Params, outgoing: Outgoing) -> JSON:
    await outgoing.progress("reading everything that can be served …")
    damages = await verify(server)
    return {
        "ok": not damages,
        "problems": [{"what": damage.what, "id": damage.id.hex(), "why": damage.why} for damage in damages],
    }


async def _repair(server: Server, _params: Params, outgoing: Outgoing) -> JSON:
    await outgoing.progress("reading everything, and moving aside what is bad …")
    await repair(server)
    return {}


async def _backup(server: Server, _params: Params, outgoing: Outgoing) -> JSON:
    head = await back_up(server, installed_version(), outgoing)
    return {"made_ms": head.made_ms}


async def _backup_kept(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await note_kept(server, _count(params, "made_ms"))
    return {}


async def _administrator_add(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    made = await add_administrator(server, _text(params, "name"), _text(params, "verifier"))
    return {"administrator": made.name}


async def _administrator_list(server: Server, _params: Params, _outgoing: Outgoing) -> JSON:
    return [{"administrator": each.name, "since": rfc3339(each.since_ms)} for each in await list_administrators(server)]


async def _administrator_second_factor(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    name = _text(params, "name")
    if params.get("remove"):
        await drop_second_factor(server, name)
        return {}
    made = await set_second_factor(server, name)
    return {"uri": made.uri, "recovery": list(made.recovery)}


async def _administrator_remove(server: Server, params: Params, _outgoing: Outgoing) -> JSON:
    await remove_administrator(server, _text(params, "name"))
    return {}


_COMMANDS: Final[Mapping[str, Command]] = {
    "space add": _space_add,
    "space list": _space_list,
    "person add": _person_add,
    "person list": _person_list,
    "grant": _grant,
    "ungrant": _ungrant,
    "invite": _invite,
    "status": _status,
    "devices": _devices,
    "hand-ins": _hand_ins,
    "administrator add": _administrator_add,
    "administrator list": _administrator_list,
    "administrator remove": _administrator_remove,
    "administrator second-factor": _administrator_second_factor,
    "check-receipt": _check_receipt,
    "revoke": _revoke,
    "confirm": _confirm,
    "person rename": _person_rename,
    "person retire": _person_retire,
    "space rename": _space_rename,
    "space close": _space_close,
    "lost": _lost,
    "rewrap": _rewrap,
    "rotate server": _rotate_server,
    "rotate root": _rotate_root,
    "audit": _audit,
    "waiting": _waiting,
    "accept": _accept,
    "refuse": _refuse,
    "drill start": _drill_start,
    "drill stop": _drill_stop,
    "drill report": _drill_report,
    "quarantine start": _quarantine_start,
    "quarantine stop": _quarantine_stop,
    "erase": _erase,
    "export-person": _export_person,
    "backup": _backup,
    "backup-kept": _backup_kept,
    "verify": _verify,
    "repair": _repair,
}


def _device_or_person(params: Params) -> tuple[bytes | None, bytes | None]:
    device, person = _text_or_none(params, "device"), _text_or_none(params, "person")
    if (device is None) == (person is None):
        raise BadInput(Code.USAGE, "one of --device and --person is needed, and not both")
    return (
        None if device is None else device_id(device),
        None if person is None else person_id(person),
    )


def _text(params: Params, key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str):
        raise BadInput(Code.USAGE, f"“{key}” is missing")
    return value


def _text_or_none(params: Params, key: str) -> str | None:
    return None if params.get(key) is None else _text(params, key)


def _texts(params: Params, key: str) -> list[str]:
    value = params.get(key)
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise BadInput(Code.USAGE, f"“{key}” is missing")
    return [str(part) for part in value]


def _count(params: Params, key: str) -> int:
    value = params.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInput(Code.USAGE, f"“{key}” is missing")
    return value
