"""Of which classes lost devices could open how the pupils sign in: whoever has one guesses pictures and PINs.

Rules (docs/adr/0281, docs/adr/0346):
- of one device are counted the sign-ins in force that lie under a key that it was given, by whomever, or that it set
  itself: once a teacher has drawn new ones, none; what is held back was given to it all the same;
- of all that are out, as after a server's keys were replaced since a time, those that a class's page tells of;
- they go on as they are: whoever has a server cuts devices off, and would else shut pupils out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from protocol.folds.opened_sign_ins import Gone, gone_from, opened_by
from protocol.folds.sign_in import KINDS, SignInRecord, SignInWraps, fold_sign_ins
from protocol.model.entry import Entry, Kind, parsed
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import JSON
from protocol.replica.office.bureau import Office
from protocol.replica.office.spaces import space_records
from protocol.rights.roster import Roster
from protocol.roles import PersonRole


@dataclass(frozen=True, slots=True)
class OpenedSignIns:
    """Of how many pupils of a class a device could open what proves them."""

    space: bytes
    name: str
    pupils: int

    def row(self) -> dict[str, JSON]:
        """As commands say it."""
        return {"space": self.space.hex(), "name": self.name, "pupils": self.pupils}


async def sign_ins_of_lost(
    office: Office, device: bytes, agreements: Collection[bytes], spaces: Iterable[tuple[bytes, str]]
) -> tuple[OpenedSignIns, ...]:
    """The spaces, each with its name, in which there are such; `agreements` are the X25519 keys of the device."""
    found = []
    for space, name in spaces:
        entries = [one.entry for one in await office.replica.store.of_kinds(space, KINDS)]
        keys = set(_keys_it_had(entries, device, agreements))
        if not keys:
            continue
        roster = (await office.replica.view(space)).roster
        persons = fold_sign_ins(entries, roster).persons
        pupils = [each.id for each in roster.persons.values() if each.role is PersonRole.PUPIL]
        opened = sum(pupil in persons and persons[pupil].record.key in keys for pupil in pupils)
        if opened:
            found.append(OpenedSignIns(space, name, opened))
    return tuple(found)


async def gone_devices(replica: Replica, roster: Roster) -> list[Gone]:
    """The devices that are cut off from a space, as far as this replica has heard, the last one first."""
    revocations = await replica.store.get(list(roster.revocations))
    return gone_from(roster, replica.door, {name: entry.header.at for name, entry in revocations.items()})


async def sign_ins_of_gone(office: Office) -> tuple[OpenedSignIns, ...]:
    """The classes in which devices that are cut off could open what proves pupils, by their names."""
    found = []
    for space, record in (await space_records(office)).items():
        entries = [one.entry for one in await office.replica.store.of_kinds(space, KINDS)]
        if not entries:
            continue
        roster = (await office.replica.view(space)).roster
        opened = opened_by(fold_sign_ins(entries, roster), await gone_devices(office.replica, roster))
        pupils = sum(each.id in opened for each in roster.persons.values() if each.role is PersonRole.PUPIL)
        if pupils:
            found.append(OpenedSignIns(space, record.name, pupils))
    return tuple(sorted(found, key=lambda each: (each.name.casefold(), each.space)))


def _keys_it_had(entries: Iterable[Entry], device: bytes, agreements: Collection[bytes]) -> Iterable[bytes]:
    for entry in entries:
        if entry.header.kind == Kind.SIGN_IN and entry.header.author == device:
            record = parsed(entry, SignInRecord.parse)
            if record is not None and record.key is not None:
                yield record.key
        elif entry.header.kind == Kind.SIGN_IN_WRAP:
            wraps = parsed(entry, SignInWraps.parse)
            if wraps is not None and any(recipient in agreements for recipient, _ in wraps.wraps):
                yield wraps.key
