"""Who leaves where: rights that are withdrawn, people who are let go, devices that are cut off (R7).

Rules:
- a revocation names the key's heads as this office knows them, in the space and in all below it: what the device had
  brought by then stays, what turns up later waits for a human;
- `revoke` does so in every space that the device was granted, `ungrant` in the named ones; both may be repeated;
- of a device whose person has left, both say what nobody takes for that (`device_cuts`), cut off though it is already;
- who is cut takes along what came of it by successors, but for those that were confirmed;
- somebody who is let go leaves the lists of those spaces, and the devices whose grants name them, or an id that was
  made one with theirs (`doubles`), are cut there, with the copies of these that somebody confirmed;
- grants say whose a device is, and whoever has the server writes grants: whom a human's word never led to goes as well,
  and is said by its words, for it may be somebody else's;
- what may be done is done, and what a device keeps all the same is said (`Kept`); that is a refusal only where nothing
  could be done. The server outranks every device: who runs it can always finish (docs/adr/0113).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from protocol.errors import BadInput, Code, Refused
from protocol.limits import MAX_REVOKED_HEADS
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.at_work.signer import RootKit
from protocol.replica.console.operation import JSON
from protocol.replica.office.absent import Named, gaps_of, named_of
from protocol.replica.office.arrivals import authored_by, first_note
from protocol.replica.office.as_root import write_as_root
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import DeviceCut, standing_cuts
from protocol.replica.office.doubles import made_one_with
from protocol.replica.office.further_words import leaving_drafts, stays_frozen
from protocol.replica.office.grants import devices_of, given_to, grants_of, with_below, write_and_tend
from protocol.replica.office.heads import MOST_LISTED_HEADS, cut_by_root, lists_of
from protocol.replica.office.known_here import leave_marks
from protocol.replica.office.mistaken import note_if_mistaken
from protocol.replica.office.people import Listing, listings, listings_of
from protocol.replica.office.said_here import cuts_of_others
from protocol.replica.office.spaces import space_records
from protocol.rights.door import Authority
from protocol.rights.successions import predecessors_of, successors_of
from protocol.rights.vouching import Device as VouchedDevice
from protocol.roles import RANK, Role


@dataclass(frozen=True, slots=True)
class Kept:
    """A right that a withdrawal left: a device reads a space, as `role`.

    `name` is what people call the space.
    """

    device: bytes
    space: bytes
    name: str
    role: Role

    def row(self) -> dict[str, JSON]:
        """As commands say it."""
        return {
            "device": self.device.hex(),
            "space": self.space.hex(),
            "name": self.name,
            "role": self.role.value,
        }


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a withdrawal has left to devices, and for which it was too short: in how many classes they had spoken.

    Of the devices that somebody's leaving took along, `led` are those to which that person's own lead, or with which
    these began, their copies, and an administrator's, which nobody confirms; of all others (`strange`) a grant alone
    says that they are theirs. Those of them first that came here as somebody else's, or as nobody's, a PC: the first
    that are told.
    """

    kept: Sequence[Kept] = ()
    cut_short: Mapping[bytes, int] = field(default_factory=dict)
    led: Sequence[VouchedDevice] = ()
    strange: Sequence[VouchedDevice] = ()
    frozen: Sequence[bytes] = ()
    """The spaces whose lists freeze somebody, and say so still: a server alone says anything of who is frozen."""


async def ungrant_device(office: Office, device: bytes, spaces: Sequence[bytes]) -> Withdrawn:
    """Cut a device off in some spaces; what it keeps there. Raises as `revoke_device` does, but for NOT_YET.

    What let it in there may not have come here: it may hold something of them all the same (docs/adr/0369).
    """
    grants_of(office, device)
    return await _cut(office, device, spaces, anyway=True)


async def ungrant_person(office: Office, person: bytes, spaces: Sequence[bytes]) -> Withdrawn:
    """Take somebody off the lists of some spaces, and cut off there the devices whose grants name them.

    Who runs a school goes on reading its classes: that, and what else their devices keep there, is returned. No device
    keeps anybody on the lists by what it has said in more classes than a revocation names: what it said in the others
    waits for a word. Raises `BadInput(UNKNOWN_PERSON)`.
    """
    lists = await _lists_of(office, person)
    drafts = await leaving_drafts(office, person, lists[person], spaces)
    read, cut_short, gone, others = [], dict[bytes, int](), dict[VouchedDevice, bool](), set[bytes]()
    devices = await _devices_of(office, lists)
    copies, speaking = _copies_of(office, devices), await _speaking_for(office, person)
    said = await _said_in(office, [*devices, *copies])
    for device in dict.fromkeys([*devices, *copies]):
        known = await given_to(office, device)
        if known[0].person not in lists:
            others.add(device)
        theirs = [grant for grant in known if grant.person in lists] or [g for g in known if g.person is None]
        covered = [space for space in spaces if any(_teaches_by(office, grant, space) for grant in theirs)]
        here = [space for space in covered if not await _outranks(office, device, space)]
        cuts = await _cut_drafts(office, device, [space for space in here if space not in said[device]], anyway=True)
        cut_short |= await _cut_short(office, device, [cut.space for cut in cuts])
        drafts += cuts
        if cuts:
            pairs = {grant.pair for grant in theirs}
            is_led = device in copies or any(grant.role is Role.ADMIN for grant in theirs)
            gone |= {pair: is_led or pair in speaking for pair in sorted(pairs)}
        read += [(device, s) for s in spaces if any(office.replica.door.covers(grant, s) for grant in theirs)]
    await write_and_tend(office, drafts, leave_marks)
    for one, shown in lists.items():
        if all(space in spaces for space in shown):
            await note_if_mistaken(office, one)
    led, strange = ([pair for pair, is_led in gone.items() if is_led is wanted] for wanted in (True, False))
    strange.sort(key=lambda pair: pair[0] not in others)
    frozen = stays_frozen(office, lists[person], spaces)
    return Withdrawn(await kept_by(office, read), cut_short, led, strange, frozen)


async def _devices_of(office: Office, ids: Collection[bytes]) -> list[bytes]:
    """The devices that go with somebody: what the root has undone makes no other's computer theirs (ADR 0607)."""
    named = devices_of(office, ids)
    return [device for device in named if any(grant.person in ids for grant in await given_to(office, device))]


async def _speaking_for(office: Office, person: bytes) -> set[VouchedDevice]:
    """The devices that speak for a person somewhere, as far as this office knows, those cut off included."""
    found = set[VouchedDevice]()
    for space in office.replica.door.spaces():
        roster = (await office.replica.view(space)).roster
        found |= roster.speaking.get(person, frozenset())
    return found


async def retire_person(office: Office, person: bytes) -> Withdrawn:
    """Somebody leaves: off every list, and every device whose grants name them is cut off there.

    What they made stays. What their devices keep is returned. Raises `BadInput(UNKNOWN_PERSON)`.
    """
    lists = await _lists_of(office, person)
    listed = [space for shown in lists.values() for space in shown]
    devices = await _devices_of(office, lists)
    line = {*devices, *_copies_of(office, devices)}
    granted = [grant.space for grant in office.replica.door.authorities() if grant.person in lists or grant.key in line]
    return await ungrant_person(office, person, list(dict.fromkeys([*listed, *granted])))


async def revoke_device(
    office: Office,
    device: bytes,
    governs: Callable[[bytes], bool] = lambda _: True,
    *,
    since_ms: int | None = None,
    kit: RootKit | None = None,
    anyway: bool = False,
    within: Collection[bytes] | None = None,
) -> list[Kept]:
    """Cut a device off wherever this office `governs` what it was granted; what it keeps all the same.

    `within` names the spaces in which it was granted something that alone are meant.

    With `since_ms`, of what it brought only that counts which was here by then; said of a device that was cut off
    before, this takes back what it had brought since. Raises `BadInput(UNKNOWN_DEVICE)`, and `Refused(NO_RIGHT)` where
    it would count for nothing anywhere; if not `anyway`, `BadInput(BAD_DATE)` where nothing was noted by then, so that
    all that it ever said would count no more, and at the server, without the `kit`, `BadInput(NOT_YET)` for a device
    that has spoken in more classes than a revocation names.
    """
    here, above = _reach(office, device, governs)
    if within is not None:
        here, above = [space for space in here if space in within], [space for space in above if space in within]
    if not here:
        shown = device.hex()
        raise Refused(Code.NO_RIGHT, f"{shown} has no right here that could be taken from it", device=shown)
    if kit is not None:
        await _cut_by_root(office, kit, device, here, since_ms, anyway=anyway)
        return []
    kept = (await _cut(office, device, here, since_ms, anyway=anyway)).kept
    return [*kept, *await kept_by(office, [(device, space) for space in above])]


async def absent_of(office: Office, devices: Iterable[bytes]) -> int:
    """To how many words that are not here those of devices lead: what cuts these off holds them back (`absent`)."""
    replica, absent = office.replica, set[bytes]()
    below = list(replica.door.below(office.home))
    for device in devices:
        line = [device, *successors_of(device, replica.door.authorities())]
        absent.update((await gaps_of(line, below, replica.store)).absent)
    return len(absent)


async def rights_beyond(office: Office, device: bytes, governs: Callable[[bytes], bool] = lambda _: True) -> list[Kept]:
    """What `revoke_device` would leave to a device. Raises `BadInput(UNKNOWN_DEVICE)`."""
    here, above = _reach(office, device, governs)
    outranking = [space for space in here if await _outranks(office, device, space)]
    return await kept_by(office, [(device, space) for space in (*outranking, *above)])


def _reach(office: Office, device: bytes, governs: Callable[[bytes], bool]) -> tuple[list[bytes], list[bytes]]:
    """Where this office may cut a device off, and the spaces above in which it has rights besides.

    What was granted further up holds here too: that is taken from it in the home of this office, also where another
    right, which may end, reaches further.
    """
    known = grants_of(office, device)
    above = dict.fromkeys(grant.space for grant in known if _is_from_above(office, grant))
    return _met_in(office, known, governs), [space for space in above if not governs(space)]


def _met_in(office: Office, rights: Collection[Authority], governs: Callable[[bytes], bool]) -> list[bytes]:
    """Where an office has to do with rights: where they lie, and in its home with those from further up."""
    here = dict.fromkeys(right.space for right in rights if governs(right.space))
    if any(_is_from_above(office, right) for right in rights):
        here[office.home] = None
    return list(here)


def _is_from_above(office: Office, right: Authority) -> bool:
    return right.space != office.home and office.replica.door.covers(right, office.home)


async def _cut(
    office: Office, device: bytes, spaces: Sequence[bytes], since_ms: int | None = None, *, anyway: bool = False
) -> Withdrawn:
    """Cut a device off in those of the spaces in which that counts; what it keeps in the others.

    Nobody is to believe that a device is cut off which keeps its right: raises `Refused(NO_RIGHT)` if that is all.
    """
    outranking = [space for space in spaces if await _outranks(office, device, space)]
    below = [space for space in spaces if space not in outranking]
    if since_ms is None:
        said = (await _said_in(office, [device]))[device] - await _gone_with_somebody(office, device, below)
        below = [space for space in below if space not in said]
    drafts = await _cut_drafts(office, device, below, since_ms, anyway=anyway)
    kept = await kept_by(office, [(device, space) for space in outranking])
    if kept and not drafts:
        role = max((each.role for each in kept), key=lambda role: RANK[role])
        raise Refused(
            Code.NO_RIGHT,
            f"this does not cut {device.hex()} off: as {role} it is not below who says it here; "
            "ask who runs the server, or somebody of a higher role",
            device=device.hex(),
        )
    cut_short = await _cut_short(office, device, [draft.space for draft in drafts])
    await write_and_tend(office, drafts)
    return Withdrawn(kept, cut_short)


async def _outranks(office: Office, device: bytes, space: bytes) -> bool:
    """Whether a device has a right in a space that no revocation by this office takes."""
    held = (await office.replica.view(space)).roster.authority_of(device)
    return held is not None and held.rank >= office.rank


async def kept_by(office: Office, places: Iterable[tuple[bytes, bytes]]) -> list[Kept]:
    """The rights that devices have now, each in a space."""
    found = []
    for device, space in dict.fromkeys(places):
        held = (await office.replica.view(space)).roster.authority_of(device)
        if held is not None:
            record = (await space_records(office)).get(space)
            found.append(Kept(device, space, office.territory_name if record is None else record.name, held.role))
    return found


def _copies_of(office: Office, devices: Iterable[bytes]) -> list[bytes]:
    """The copies of these devices that somebody confirmed: devices of their own, whose grants may name nobody."""
    door = office.replica.door
    copies = dict.fromkeys(key for device in devices for key in successors_of(device, door.authorities()))
    return [key for key in copies if any(grant.predecessor is None for grant in door.authorities_of(key))]


async def copies_let_in(
    office: Office, device: bytes, governs: Callable[[bytes], bool], *, only_held_back: bool
) -> list[Kept]:
    """Where the copies of a device read that somebody has let in by name; or those whose making is held back."""
    door, found = office.replica.door, list[Kept]()
    for copy in _copies_of(office, [device]):
        known = door.authorities_of(copy)
        made = [grant for grant in known if grant.predecessor is not None]
        held_back = [(await office.replica.view(grant.space)).roster.held_back for grant in made]
        if only_held_back and not any(grant.grant in held for grant, held in zip(made, held_back, strict=True)):
            continue
        named = [grant for grant in known if grant.predecessor is None]
        found += await kept_by(office, [(copy, space) for space in _met_in(office, named, governs)])
    return found


async def came_of(office: Office, device: bytes, governs: Callable[[bytes], bool]) -> list[Kept]:
    """Where the keys of which a device's own came read on: the machine that was copied, or the first of its image."""
    door = office.replica.door
    return await kept_by(
        office,
        [
            (key, space)
            for key in predecessors_of(device, door.authorities())
            for space in _met_in(office, door.authorities_of(key), governs)
        ],
    )


async def _lists_of(office: Office, person: bytes) -> dict[bytes, dict[bytes, Listing]]:
    """What lists say of somebody, and of the ids that were made one with theirs, which are on none.

    Raises `BadInput(UNKNOWN_PERSON)`.
    """
    own = {person: await listings(office.replica, person)}
    return own | await listings_of(office.replica, await made_one_with(office, [person]))


def _teaches_by(office: Office, grant: Authority, space: bytes) -> bool:
    """Whether a grant makes somebody one of a space: in it, or as a teacher of the whole school."""
    return grant.space == space or (grant.role is Role.TEACHER and office.replica.door.covers(grant, space))


async def _cut_drafts(
    office: Office,
    device: bytes,
    spaces: Collection[bytes],
    since_ms: int | None = None,
    *,
    anyway: bool = False,
) -> list[Draft]:
    cuts = await _heads_to_name(office, device, spaces, since_ms, MAX_REVOKED_HEADS, anyway=anyway)
    if not anyway:
        for space in cuts:
            await _check_room(office, device, space)
    said = {space: Revocation(device, tuple(named.heads), absent=named.gaps.absent) for space, named in cuts.items()}
    return [Draft(space, Kind.REVOKE, None, revocation.encode()) for space, revocation in said.items()]


async def _gone_with_somebody(office: Office, device: bytes, spaces: Collection[bytes]) -> set[bytes]:
    """Those of the spaces in which this machine has not cut off somebody's device, or but with its person, who left."""
    persons = {grant.person for grant in office.replica.door.authorities_of(device) if grant.person is not None}
    if not persons:
        return set()
    return set(spaces) - {cut.space for cut in await _own_cuts(office, [device], persons)}


async def _own_cuts(office: Office, devices: Collection[bytes], persons: Collection[bytes]) -> list[DeviceCut]:
    """What cuts these off for their own sake and is this office's own, or the root's, and not a copied key's."""
    others = {order.id for order in await cuts_of_others(office)}
    cuts = await standing_cuts(office, devices, persons)
    return [cut for cut in cuts if cut.is_ours and cut.entry not in others]


async def _heads_to_name(
    office: Office,
    device: bytes,
    spaces: Iterable[bytes],
    since_ms: int | None,
    most: int,
    *,
    anyway: bool,
) -> dict[bytes, Named]:
    """What a revocation in each of the spaces names."""
    found = {}
    replica = office.replica
    successors = successors_of(device, replica.door.authorities())
    known = None if since_ms is None else await _brought_by(office, [device, *successors], since_ms, anyway=anyway)
    for space in spaces:
        below = with_below(office, space)
        found[space] = await named_of(device, below, replica.tips, replica.store, successors, known=known, most=most)
    return found


async def _brought_by(office: Office, line: Sequence[bytes], since_ms: int, *, anyway: bool) -> set[bytes]:
    """What these keys had brought by then. Raises `BadInput(BAD_DATE)` where nobody noted, and they have spoken."""
    replica = office.replica
    known = await authored_by(replica.store, line, since_ms, office.now_ms())
    if known is not None:
        return known
    if not anyway and any([await replica.tips(space, key) for space in replica.door.spaces() for key in line]):
        first = await first_note(replica.store, office.now_ms())
        raise BadInput(
            Code.BAD_DATE,
            "nothing was done, and the device may do all that it could: nothing was noted at that time. What has come "
            "when is known here for two months at most, and not from before the store was made (the first note: "
            f"{first}): with a later time, what came by then stays. With `--anyway`, all that the device has ever said "
            "counts no more, and waits. It is cut off at once without a time, and what it said stays until you give "
            f"one: `lost {line[0].hex()}`",
        )
    return set()


async def _check_room(office: Office, device: bytes, space: bytes) -> None:
    """Raise `BadInput(NOT_YET)` where what a device said in some classes would go because a revocation is too short."""
    classes = (await _cut_short(office, device, [space])).get(device)
    if classes is not None:
        raise BadInput(
            Code.NOT_YET,
            f"this device has said something in {classes} classes, and a revocation names {MAX_REVOKED_HEADS}: its "
            "grants and names in the others would count no more. `sync-server revoke DEVICE --kit KIT` names all; "
            "with `--anyway` it is cut off at once, and the newest of those classes lose what it said there",
        )


async def _cut_short(office: Office, device: bytes, spaces: Iterable[bytes]) -> dict[bytes, int]:
    """In how many classes a device has spoken, where a revocation in one of the spaces has no room: at the server."""
    most = 0
    for space in spaces if office.home == office.replica.territory else ():
        spoken = [below for below in with_below(office, space) if await office.replica.tips(below, device)]
        most = max(most, len(spoken))
    return {device: most} if most > MAX_REVOKED_HEADS else {}


async def _said_in(office: Office, devices: Collection[bytes], *, by_kit: bool = False) -> dict[bytes, set[bytes]]:
    """In which spaces this office, or the root, has cut each off, and it is out: others' words go as their keys do.

    By the root alone, if it is the kit that is about to say it. What was taken back since does not count, nor, at a
    server, what its key alone has said, and nobody here.
    """
    found: dict[bytes, set[bytes]] = {device: set() for device in devices}
    cuts = await _own_cuts(office, found.keys(), ())
    orders = await office.replica.store.get([cut.entry for cut in cuts]) if by_kit else {}
    for cut in cuts:
        is_out = cut.key in (await office.replica.view(cut.space)).roster.cut
        if is_out and (not by_kit or orders[cut.entry].header.grant is None):
            found[cut.key].add(cut.space)
    return found


async def _cut_by_root(
    office: Office, kit: RootKit, device: bytes, spaces: Collection[bytes], since_ms: int | None, *, anyway: bool
) -> None:
    """The root's word: it outranks everybody, and its lists have room for every class.

    It is said where others have cut the device off as well: they, or who has their keys, would let it in again.
    """
    territory = office.replica.territory
    said = (await _said_in(office, [device], by_kit=True))[device] if since_ms is None else ()
    unsaid = [space for space in spaces if space not in said]
    for space, named in (
        await _heads_to_name(office, device, unsaid, since_ms, MOST_LISTED_HEADS, anyway=anyway)
    ).items():
        drafts = lists_of(territory, named.heads)
        lists = await write_as_root(office, kit, drafts) if drafts else []
        cut = cut_by_root(device, named.heads, lists, named.gaps.absent)
        await write_as_root(office, kit, [Draft(space, Kind.REVOKE, None, cut.encode())])
    await office.tend_keys(spaces)
