"""Who may come in where: grants for known devices and people (R7); how they leave is in `withdrawals`.

Rules:
- a cloned machine that took keys of its own works at once; confirming it adds the grant that it would have got, where
  it is in now: what its keys passed on and nothing counts any more lets it in nowhere (docs/adr/0385);
- a device that comes back gets a grant that names the revocations which it overcomes (`protocol.rights.roster`);
- only a grant to the device itself overcomes a revocation: granting a person lets no stolen laptop back in, nor one
  that another school calls theirs; what was cut off for its own sake comes along nowhere (`device_cuts`);
- a further grant gives the role that the device has by right: what a thief gave it, and is held back, is none; but what
  others' words hold back was said all the same (`held_by_others`, docs/adr/0499);
- a further grant names a device with the keys, and as the person's, that the first grant names that came here, of those
  by who has a say in the class: another pair of keys beside the one that signs is a thief's, and would be given the
  keys of the class; and whoever calls it somebody else's later makes it nobody else's (docs/adr/0176);
- that a grant gives a device the rank of this office, or more, keeps it out of nothing that it has not got by that;
- with a teacher come the devices that stand for the teacher, not a PC that somebody calls hers; with a pupil, or a
  guardian, comes none: grants alone call one theirs (docs/adr/0438);
- role and end are what gives least, where a school is run, unless this machine has given others itself; after the end,
  a grant to the device takes it up again for good, and ends the right whose day is past (docs/adr/0490);
- at a server all of these are those of the first grant, whoever may say what in the class; role and end also of one
  that has ended; but what gives least, where nothing was first (`called_first`);
- what the root's word holds back was never given: that it ended cuts nobody off (docs/adr/0605);
- what raises a device is told and not repeated (docs/adr/0300);
- what somebody else has granted already is said all the same (docs/adr/0188).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain
from typing import NamedTuple

from protocol.errors import BadInput, Code
from protocol.limits import MAX_PARENTS
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Grant, PersonRecord
from protocol.replica.at_work.replica import Draft, Notes
from protocol.replica.office.acquaintance import Acquaintance, acquaintances_of
from protocol.replica.office.bureau import Office
from protocol.replica.office.called_first import goes_by_no_order, least_first, least_of
from protocol.replica.office.device_cuts import DeviceCut, standing_cuts
from protocol.replica.office.further_words import listing_drafts
from protocol.replica.office.held_by_others import grants_not_held_back_by_this_office
from protocol.replica.office.held_in_space import grants_not_undone
from protocol.replica.office.known_here import listed_marks, note_named
from protocol.replica.office.people import listings, listings_of, mentions
from protocol.replica.office.stays import end_past_rights
from protocol.rights.door import Authority
from protocol.rights.vouching import Device
from protocol.roles import ARE_TAUGHT, DEVICES, HAS_READING_KEYS, RANK, SHARED, Role


class Standing(NamedTuple):
    """A device as grants name it: its pair of keys, whose it is, and whether it stands for them as a teacher's."""

    device: Device
    person: bytes | None
    teaches: bool

    @property
    def name(self) -> str:
        """What tells it from the others of the same device."""
        return f"{self.device[1].hex()}-{'' if self.person is None else self.person.hex()}-{int(self.teaches)}"


class Raised(NamedTuple):
    """As what a device came in here, and the higher role, if any, that other grants give it by now."""

    role: Role
    higher: Role | None


class LetIn(NamedTuple):
    """Where else a device had been cut off for its own sake, and stays out; when its stay ended (ms) that is for good.

    None where it had not ended, or where it is let in until a day. `reported_ms` is when somebody who runs a school had
    last said what this takes back, a report of its loss perhaps (docs/adr/0234); None where this takes back no such.
    `standing` is as what it is let in, `spaces` is where.
    """

    still_out: Sequence[bytes]
    ended_ms: int | None
    reported_ms: int | None
    standing: Standing
    spaces: Sequence[bytes]


async def grant_device(office: Office, device: bytes, spaces: Sequence[bytes], chosen: Standing | None = None) -> LetIn:
    """Let a known device into more spaces, in the role that it has; a teacher's device brings its teacher along.

    Of several pairs of keys, and people, by which grants name it, as what a human has `chosen`, else as the first that
    `standings_of` gives. Raises `BadInput(UNKNOWN_DEVICE)`, also where no grant names it as what was chosen.
    """
    standing, like = await _further(office, device, spaces, chosen)
    return await _let_in(office, standing, dict.fromkeys(spaces, like))


async def _let_in(office: Office, standing: Standing, given: Mapping[bytes, Authority]) -> LetIn:
    """Say of one device what a grant in each of these spaces is to repeat."""
    (device, _), person, spaces = standing.device, standing.person, list(given)
    try:
        drafts = [] if person is None else await listing_drafts(office, person, spaces)
    except BadInput as reason:
        if reason.code is not Code.UNKNOWN_PERSON:
            raise
        raise BadInput(
            Code.UNKNOWN_PERSON,
            "this is the computer of somebody whom no list names any more: their last class was closed, or they were "
            "forgotten. `person add` lists them anew, and a code (`invite`) lets a computer of theirs in",
            device=device.hex(),
        ) from reason
    persons = () if person is None else (person,)
    cuts = await standing_cuts(office, [device], persons)
    ends = [grant.until_ms for grant in await standing_grants(office, device)]
    for like in dict.fromkeys(given.values()):
        drafts += await _grant_drafts(office, like, [space for space in spaces if given[space] == like])
    await note_named(office, person, standing.device, max((like.role for like in given.values()), key=RANK.__getitem__))
    await write_and_tend(office, drafts, listed_marks)
    places = dict.fromkeys(cut.space for cut in cuts)
    still_out = [space for space in places if device in (await office.replica.view(space)).roster.cut]
    stays = [end_ms for end_ms in ends if end_ms is not None]
    is_for_good = all(like.until_ms is None for like in given.values())
    ended_ms = max(stays) if is_for_good and len(stays) == len(ends) else None
    reports = [cut for cut in cuts if not cut.by_server]
    left = {cut.entry for cut in await standing_cuts(office, [device], persons)} if reports else set()
    reported_ms = max((cut.said_ms for cut in reports if cut.entry not in left), default=None)
    return LetIn(still_out, ended_ms, reported_ms, standing, spaces)


async def standings_of(office: Office, device: bytes, spaces: Sequence[bytes]) -> list[Standing]:
    """As which pairs of keys, and as whose, grants name a device that would let it into these spaces: the first first.

    Raises `BadInput(UNKNOWN_DEVICE)`.
    """
    return list(dict.fromkeys(map(_standing, await _with_a_say(office, device, spaces))))


async def _further(
    office: Office, device: bytes, spaces: Sequence[bytes], chosen: Standing | None
) -> tuple[Standing, Authority]:
    """As what a device is let into more spaces, and the grant that a further one repeats."""
    known = await _with_a_say(office, device, spaces)
    standing = _standing(known[0]) if chosen is None else chosen
    like = [grant for grant in known if _standing(grant) == standing]
    if not like:
        raise BadInput(Code.UNKNOWN_DEVICE, f"no grant names {device.hex()} with those keys", device=device.hex())
    return standing, await _repeated(office, like, await standing_grants(office, device))


async def _with_a_say(office: Office, device: bytes, spaces: Sequence[bytes]) -> list[Authority]:
    """Of a device's standing grants those whose words count here; without successors of copied keys, if others do."""
    every = grants_of(office, device)
    honest = await grants_not_held_back_by_this_office(office, every)
    standing = await _as_shared(office, honest) or await _lasting(office, honest) or every
    known = [grant for grant in standing if grant.rank < office.rank] or standing
    if office.rank < RANK[Role.SERVER]:  # which has a say everywhere, and so has whoever copied its key
        known = [grant for grant in known if _has_a_say(office, grant, spaces)] or [_latest(known)]
    known = _by_what_it_was(office, known)
    return least_first(known) if await goes_by_no_order(office) else known


async def _as_shared(office: Office, honest: Sequence[Authority]) -> list[Authority]:
    """Of a device's grants those by which it is nobody's own, ended or not, if it was let in as that first; else none.

    Whoever has a copy of the server's key ends its first one, and calls it somebody's.
    """
    first = (least_first(honest) if await goes_by_no_order(office) else honest)[:1]
    is_shared = any(grant.role in SHARED and grant.predecessor is None for grant in first)
    return [grant for grant in honest if grant.role in SHARED] if is_shared else []


def _by_what_it_was(office: Office, known: Sequence[Authority]) -> list[Authority]:
    """Of a machine that took new keys what was said of it as the machine that it was; a shared one stays that."""
    if known[0].predecessor is None:
        return [grant for grant in known if grant.predecessor is None]
    was = office.replica.door.began_with(known[0])
    said = [grant for grant in known if grant.predecessor is None]
    alike = [grant for grant in said if (grant.person, grant.role) == (was.person, was.role)]
    return alike or list(known if was.role in SHARED else said or known)


def _standing(grant: Authority) -> Standing:
    return Standing(grant.pair, grant.person, grant.role in HAS_READING_KEYS)


def names_as(standing: Standing) -> Callable[[Authority], bool]:
    """Whether a grant names a device as that."""
    return lambda grant: _standing(grant) == standing


class Why(Enum):
    """Why people should look at a device: it is `NEW` here, and came along; any other stays out.

    Nothing says that it is theirs (`UNKNOWN`); it was cut off for its own sake, as a lost one is, or with its person,
    who `LEFT`; or nobody with a say in these spaces has called it theirs: another school has (`ELSEWHERE`), or grants
    call it theirs as no teacher's (`NO_TEACHERS`), a PC; or lists have them as a `PUPIL`, or a guardian.
    """

    NEW = "new"
    UNKNOWN = "unknown"
    CUT_OFF = "cut-off"
    LEFT = "left"
    ELSEWHERE = "elsewhere"
    NO_TEACHERS = "no-teachers"
    PUPIL = "pupil"


@dataclass(frozen=True, slots=True)
class Looked:
    """A device (its pair of keys) at which people should look, and why."""

    device: Device
    why: Why


async def grant_person(office: Office, person: bytes, spaces: Sequence[bytes]) -> list[Looked]:
    """Put somebody on the lists of more spaces, and let in the devices whose grants name them.

    But for those revoked, those that nobody who has a say in these spaces has called theirs, those that have a right of
    this office's rank elsewhere, and, on a device that runs a school, those of a teacher that it does not know as the
    teacher's: only a grant to the device itself lets them in. What people should look at is returned. Whatever does not
    hang on the device is looked up once: grants name as many as a thief likes. Raises as
    `listing_drafts`.
    """
    looked = []
    drafts = await listing_drafts(office, person, spaces)
    devices = devices_of(office, [person])
    cuts = await cuts_that_matter(office, devices, person, spaces)
    why_revoked = await _revoked(office, person, spaces, cuts)
    acquaintance_with = await acquaintances_of(office, person, cuts)
    is_theirs, has_none = stands_for(person), bool(devices) and await _has_no_computers(office, person)
    for device in devices:
        known = await standing_grants(office, device)
        above = [grant for grant in known if grant.rank >= office.rank]
        below = [grant for grant in known if grant not in above]
        if not below or has_already(office, above, spaces):
            continue  # a head teacher's own device, say: it is not hers to let in
        named = [grant for grant in below if is_theirs(grant) and _has_a_say(office, grant, spaces)]
        first = named[0] if named else _latest(below)
        pair = first.pair
        if (why := await why_revoked(known)) is not None:
            looked.append(Looked(pair, why))
            continue
        if not named:
            looked.append(Looked(pair, Why.ELSEWHERE if any(map(is_theirs, below)) else Why.NO_TEACHERS))
            continue
        if has_none:
            looked.append(Looked(pair, Why.PUPIL))
            continue
        acquaintance = Acquaintance.UNKNOWN if above else acquaintance_with(pair)
        if acquaintance is not Acquaintance.KNOWN:
            looked.append(Looked(pair, Why(acquaintance.value)))
        if acquaintance is not Acquaintance.UNKNOWN:
            drafts += await _grant_drafts(office, await _repeated(office, named, known), spaces)
    await write_and_tend(office, drafts, listed_marks)
    return looked


async def _has_no_computers(office: Office, person: bytes) -> bool:
    """Whether any list ever had somebody as a pupil or a guardian, whatever it says by now, shown or hidden.

    Who writes lists calls them a teacher whenever they like, and before who added them had a line to here.
    """
    said = chain.from_iterable((await mentions(office.replica, [person]))[person].values())
    records = (parsed(entry, PersonRecord.parse) for entry in said)
    return any(record.role in ARE_TAUGHT for record in records if record is not None)


async def is_listed_but_revoked(office: Office, device: bytes) -> bool:
    """Whether the person whom a device's grants name is on a list, and the device was let go for its own sake.

    Raises `BadInput(UNKNOWN_DEVICE)`.
    """
    known = await standing_grants(office, device)
    person = _latest(known).person
    if person is None:
        return False
    listed = (await listings_of(office.replica, [person]))[person]  # who has been erased is on no list
    if all(each.left for each in listed.values()):
        return False
    cuts = await cuts_that_matter(office, [device], person, ())
    return await (await _revoked(office, person, (), cuts))(known) is not None


async def confirm_clone(
    office: Office, device: bytes, *, restore: bool = False, within: Container[bytes] | None = None
) -> LetIn:
    """Let a cloned machine in by grants of its own, where the keys that it was let in by do so now.

    In those spaces alone that are `within`: what somebody was shown before they said so.

    With `restore`, in the role and for the person that it had before; where that was another, it stays as it is. Raises
    `BadInput(UNKNOWN_DEVICE)`, also for a device that is no clone; NOT_YET for one that is in nowhere by those keys.
    """
    if not any(grant.predecessor is not None for grant in grants_of(office, device)):
        raise BadInput(Code.UNKNOWN_DEVICE, f"{device.hex()} is no clone: a person let it in", device=device.hex())
    passed_on = [each for each in await passed_on_now(office, device) if within is None or each.space in within]
    if not passed_on:
        raise BadInput(
            Code.NOT_YET,
            "this is a copy of a computer that was cut off, or what let that one in counts no more: it is in nowhere, "
            "and there is nothing to confirm. If somebody knows it, `grant --device` lets it into a class as a PC; for "
            "whom a laptop was, a code (`invite`) says",
            device=device.hex(),
        )
    given = dict[bytes, Authority]()
    for grant in passed_on:
        given.setdefault(grant.space, await _as_before(office, grant) if restore else grant)
    standing = _standing(next(iter(given.values())))
    return await _let_in(office, standing, {at: like for at, like in given.items() if _standing(like) == standing})


async def passed_on_now(office: Office, device: bytes) -> list[Authority]:
    """The successors by which a cloned machine is in somewhere now: none that is held back, was ended, or is void."""
    found = []
    for grant in grants_of(office, device):
        roster = (await office.replica.view(grant.space)).roster
        if grant.predecessor is not None and grant in roster.authorities and grant.key not in roster.cut:
            found.append(grant)
    return found


async def _as_before(office: Office, successor: Authority) -> Authority:
    """What a successor gives, in the role and for the person that the machine had which said it.

    One that came in as nobody's own was that: whoever has a copy of the server's key makes it somebody's, and has it
    say the successor under that.
    """
    began = office.replica.door.began_with(successor)
    if began.role in SHARED:
        return replace(successor, role=began.role, person=began.person)
    before = office.replica.door.authority(await _named_grant(office, successor))
    if before is None:
        return successor
    return replace(successor, role=(await _first_said(office, before)).role, person=before.person)


async def _named_grant(office: Office, successor: Authority) -> bytes | None:
    """The grant under which the old keys signed a successor."""
    entry = (await office.replica.store.get([successor.grant])).get(successor.grant)
    return None if entry is None else entry.header.grant


async def standing_grants(office: Office, device: bytes) -> list[Authority]:
    """A device's grants, without those that are held back, as a thief's are, or have ended.

    Where all have ended, those that are not held back; where nothing else is left, all. Raises
    `BadInput(UNKNOWN_DEVICE)`.
    """
    known = grants_of(office, device)
    return await _lasting(office, await grants_not_held_back_by_this_office(office, known)) or known


async def _lasting(office: Office, honest: Sequence[Authority]) -> list[Authority]:
    """Those of these that have not ended; all, where all have."""
    void = {space: (await office.replica.view(space)).roster.void for space in {grant.space for grant in honest}}
    return [grant for grant in honest if grant.grant not in void[grant.space]] or list(honest)


async def write_and_tend(office: Office, drafts: Sequence[Draft], notes: Notes | None = None) -> list[Entry]:
    """Say what is drafted, with `notes`, and look after the keys of the spaces that it touches."""
    if not drafts:
        return []
    said = await office.say(drafts, notes)
    await office.tend_keys({draft.space for draft in drafts})
    return said


def grants_of(office: Office, device: bytes) -> list[Authority]:
    """All grants that a device ever got. Raises `BadInput(UNKNOWN_DEVICE)`."""
    found = [authority for authority in office.replica.door.authorities_of(device) if authority.role in DEVICES]
    if not found:
        raise BadInput(Code.UNKNOWN_DEVICE, f"there is no device {device.hex()}; `devices` shows those that there are")
    return found


async def given_to(office: Office, device: bytes) -> list[Authority]:
    """A device's grants, but for what the root's word holds back; where that is each of them, all.

    Raises `BadInput(UNKNOWN_DEVICE)`.
    """
    known = grants_of(office, device)
    return await grants_not_undone(office.replica, known) or known


def devices_of(office: Office, ids: Collection[bytes]) -> list[bytes]:
    """The devices whose grants name somebody with one of these ids."""
    authorities = office.replica.door.authorities()
    return list(dict.fromkeys(authority.key for authority in authorities if authority.person in ids))


def stands_for(person: bytes) -> Callable[[Authority], bool]:
    """Whether a grant calls a device this teacher's own."""
    return lambda grant: grant.person == person and grant.role in HAS_READING_KEYS


async def _repeated(office: Office, alike: Sequence[Authority], known: Sequence[Authority]) -> Authority:
    """What a further grant says of a device, of whose `known` grants these say the same, in the order they came in.

    Keys and code are the first one's: who came by a thief's code goes with it, and nobody else. Role and end are what
    gives least, unless this machine has said others since: the server's key is enough to say both anew, and at a server
    to say it as this machine. There all of these are the first one's of all, be it ended, if any was first; only once
    its end is over, the last end that the device has.
    """
    first, said = alike[0], alike[0]
    if office.rank >= RANK[Role.SERVER]:
        first = said = await _first_said(office, first)
        if said.until_ms is not None and said.until_ms <= office.now_ms():
            said = replace(said, until_ms=await _end_of(office, known))
    else:
        own = [grant for grant in alike if grant.author == office.own_device[0]]
        said = own[-1] if own else least_of(alike, office.now_ms())
    is_over = said.until_ms is not None and said.until_ms <= office.now_ms()
    until_ms = None if is_over else said.until_ms
    return replace(first, role=said.role, until_ms=until_ms)


async def _first_said(office: Office, like: Authority) -> Authority:
    """Of what says the same of a device as one grant, and is not held back, what came here first.

    A clone that was confirmed as what the machine was before it is that again.
    """
    same = [each for each in grants_of(office, like.key) if _standing(each) == _standing(like)]
    same = await grants_not_held_back_by_this_office(office, same) or [like]
    if same[0].predecessor is None and await goes_by_no_order(office):
        return least_of([each for each in same if each.predecessor is None], office.now_ms())
    began = office.replica.door.began_with(same[0])
    return next((each for each in same if each.predecessor is None and each.role is began.role), same[0])


async def raised(
    office: Office, device: bytes, spaces: Sequence[bytes], is_so: Callable[[Authority], bool]
) -> Raised | None:
    """As what this office lets a device into one of these spaces whose grants say so, and what else it is called.

    By whoever has a say there: another school calls anybody's what it likes. As what it lets it in is what a further
    grant repeats: in the new class, too, somebody with a copy of a server's key calls it more.
    """

    def is_given(grant: Authority) -> bool:
        return grant.space in spaces and grant.author == office.own_device[0]

    if not any(map(is_given, grants_of(office, device))):  # as most that grants call somebody's: asked of each
        return None
    known = [grant for grant in await standing_grants(office, device) if _has_a_say(office, grant, spaces)]
    alike = list(filter(is_so, known))
    if not any(map(is_given, alike)):
        return None
    here, highest = await _repeated(office, alike, known), _latest(known)
    return Raised(here.role, highest.role if highest.rank > here.rank else None)


def _latest(grants: Sequence[Authority]) -> Authority:
    """Of the highest rank, the last that came in."""
    rank = max(grant.rank for grant in grants)
    return [grant for grant in grants if grant.rank == rank][-1]


async def cuts_that_matter(
    office: Office, devices: Sequence[bytes], person: bytes, spaces: Iterable[bytes]
) -> list[DeviceCut]:
    """What cuts devices off for their own sake wherever they were ever granted, in these spaces, or above or below."""
    door = office.replica.door
    near = {other for space in spaces for other in (*door.lineage(space), *with_below(office, space))}
    granted = {device: {grant.space for grant in door.authorities_of(device)} for device in devices}
    cuts = await standing_cuts(office, granted.keys(), [person])
    return [cut for cut in cuts if cut.space in near or cut.space == office.home or cut.space in granted[cut.key]]


async def _revoked(
    office: Office, person: bytes, spaces: Sequence[bytes], cuts: Iterable[DeviceCut]
) -> Callable[[Sequence[Authority]], Awaitable[Why | None]]:
    """Why a device with such grants stays out, if it was cut off.

    By one of `cuts`, for its own sake; else wherever it was granted, or where its person has not left. One that was
    given nothing but what the root's word holds back was never anybody's.
    """
    cut_keys = {cut.key for cut in cuts}
    left = {space for space, listed in (await listings(office.replica, person)).items() if listed.left}

    async def why(known: Sequence[Authority]) -> Why | None:
        key, given = known[0].key, await grants_not_undone(office.replica, known)
        if key in cut_keys:
            return Why.CUT_OFF
        if not given:
            return Why.UNKNOWN
        granted = {grant.space for grant in given}
        cut = {space for space in {*granted, *spaces} if await _is_cut_off(office, key, space)}
        return Why.LEFT if granted <= cut or not cut <= left else None

    return why


async def _is_cut_off(office: Office, key: bytes, space: bytes) -> bool:
    """Whether a device is out of a space in which it was: not, where all that it was ever given there is undone."""
    door, roster = office.replica.door, (await office.replica.view(space)).roster
    if key not in roster.cut or key in roster.reported:
        return key in roster.cut
    over = door.lineage(space)
    given = [each for each in door.authorities_of(key) if each.space in over]
    return bool(await grants_not_undone(office.replica, given))


async def _end_of(office: Office, known: Sequence[Authority]) -> int | None:
    """When the last of a device's grants that hold is meant to end; None if one is for good, or none holds."""
    ends = []
    for grant in known:
        roster = (await office.replica.view(grant.space)).roster
        if grant in roster.authorities and grant.key not in roster.cut:
            if grant.until_ms is None:
                return None
            ends.append(grant.until_ms)
    return max(ends, default=None)


def has_already(office: Office, above: Iterable[Authority], spaces: Sequence[bytes]) -> bool:
    """Whether one of these grants holds in all of these spaces."""
    return any(all(office.replica.door.covers(grant, space) for space in spaces) for grant in above)


def _has_a_say(office: Office, grant: Authority, spaces: Iterable[bytes]) -> bool:
    """Whether who wrote a grant could have written it in these spaces: another school calls anybody's what it likes."""
    author = office.replica.door.authority(grant.under)
    return author is None or all(office.replica.door.covers(author, space) for space in spaces)


async def _grant_drafts(office: Office, like: Authority, spaces: Iterable[bytes]) -> list[Draft]:
    drafts = []
    if like.until_ms is None:
        await end_past_rights(office, like.key, spaces)
    standing = await _to_take_back(office, like)
    for space in spaces:
        roster = (await office.replica.view(space)).roster
        is_said = any(_says(office, grant, like) for grant in roster.authorities)
        near = {*office.replica.door.lineage(space), *with_below(office, space)}
        to_take_back = [cut.entry for cut in standing if cut.in_doubt or cut.space in near]
        if is_said and roster.may_read(like.key) and not to_take_back:
            continue
        given = Grant(like.key, like.agreement, like.tls_sha256, like.role, like.person, like.invite, like.until_ms)
        draft = Draft(space, Kind.GRANT, None, given.encode())
        against = dict.fromkeys([*await _revocations(office, like.key, space), *to_take_back])
        drafts.append(await _overcoming(office, draft, list(against)))
    return drafts


def _says(office: Office, grant: Authority, like: Authority) -> bool:
    """Whether a grant is what this office would say: what others said, alike or not, goes as their keys do."""
    is_own = grant.under is None or grant.author == office.own_device[0]
    return is_own and grant.predecessor is None and _terms(grant) == _terms(like)


def _terms(grant: Authority) -> tuple[object, ...]:
    return grant.key, grant.agreement, grant.tls_sha256, grant.role, grant.person, grant.until_ms


async def overcoming_all(office: Office, grant: Draft, device: bytes) -> Draft:
    """A grant of a device that was reported and is in: one that names nothing of that gives it nothing."""
    return await _overcoming(office, grant, await _revocations(office, device, grant.space))


async def _overcoming(office: Office, grant: Draft, revocations: Sequence[bytes]) -> Draft:
    """A grant that names all of them: what one entry has no room for, earlier ones name, which give nothing alone."""
    names = list(revocations)
    while len(names) > MAX_PARENTS:
        (earlier,) = await office.say([replace(grant, parents=tuple(names[:MAX_PARENTS]))])
        names = [earlier.id, *names[MAX_PARENTS:]]
    return replace(grant, parents=tuple(names))


async def _revocations(office: Office, device: bytes, space: bytes) -> list[bytes]:
    """The revocations in force that keep a device out of a space, or would without the grants that overcome them."""
    found: dict[bytes, None] = {}
    for near in dict.fromkeys((*office.replica.door.lineage(space), *with_below(office, space))):
        cuts = (await office.replica.view(near)).roster.revocations
        found.update({name: None for name, key in cuts.items() if key == device})
    return list(found)


async def _to_take_back(office: Office, like: Authority) -> list[DeviceCut]:
    """The revocations that a grant is to take back though the device is in: those near it, and all that is in doubt.

    What is in doubt keeps nobody out but of what this office writes for people: one word of a human's is enough. What a
    server said, the server takes back.
    """
    cuts = await standing_cuts(office, [like.key], () if like.person is None else [like.person])
    return [cut for cut in cuts if cut.is_ours or not cut.by_server]


def with_below(office: Office, space: bytes) -> list[bytes]:
    """The space and all below it."""
    door = office.replica.door
    return [other for other in door.spaces() if space in door.lineage(other)]
