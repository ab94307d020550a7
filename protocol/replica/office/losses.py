"""A device is lost: what did it hold, what has it said, and it is cut off (§5); at the server or a head teacher's.

Rules:
- whose it was is what its first right said, and as whose others have it is told beside it (docs/adr/0515);
- only spaces of this office count, and a device is cut off where it is of lower rank; what it keeps is said;
- what came by a given time is what had arrived at *this* replica by then (`protocol.replica.office.arrivals`): a head
  teacher's device knows less of it than the server, and then more of what is good waits, never more counts;
- a second report takes back what a first one had let stand, wherever it is made: revocations intersect;
- a copy of it that somebody has let in by name is a device like any other, and stays: that is said (docs/adr/0235);
- so does the key of which its own came, which lay on its disk: whose that is now is said too (docs/adr/0339);
- so does whom it alone has confirmed as its person's, unless a time is given: that is said too (docs/adr/0247);
- and who is called the same person's by nobody's word goes on in that name: that is said too (docs/adr/0397);
- and so do the phrases that it drew: the day of each is said (docs/adr/0247);
- and by what pupils sign in goes on, which it could open: the classes are said (docs/adr/0281).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, PeerFault, Refused
from protocol.folds.coursework import Work, fold_coursework
from protocol.model.entry import Kind, kind_name, parsed
from protocol.model.structure import PersonKey, RecoveryKey
from protocol.replica.at_work.destroyed import destroyed_names
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import SpaceView
from protocol.replica.console.operation import JSON
from protocol.replica.office.bureau import Office
from protocol.replica.office.confirmed_by_lost import Confirmed, called_so_besides, confirmed_by_lost
from protocol.replica.office.grants import standing_grants
from protocol.replica.office.held_codes import let_in_by_held_codes
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN
from protocol.replica.office.opened import is_opened_by_the_listed
from protocol.replica.office.people import first_names
from protocol.replica.office.phrases_of_lost import Drawn, phrases_of_lost
from protocol.replica.office.sign_ins_of_lost import OpenedSignIns, sign_ins_of_lost
from protocol.replica.office.spaces import space_records
from protocol.replica.office.whose_device import whose_device
from protocol.replica.office.withdrawals import Kept, came_of, copies_let_in, revoke_device, rights_beyond
from protocol.replica.office.words_of_office import NameOf, Said, words_of_office
from protocol.roles import DEVICES, HAS_READING_KEYS, Role
from protocol.trust.person_keys import KeyWraps

NEW_KEYS: Final = "what is handed in from now on is sealed to new keys, which the teacher's other devices make"
"""What people are told when a teacher's device was cut off."""


@dataclass(frozen=True, slots=True)
class HeldSpace:
    """What a device could read in one space, as far as this office knows.

    `people` are the names on the list; `made` the hand-ins that were made on it: the names of their files are there;
    `opened` those that can be read with it, by its teacher's keys, or because it made them and keeps their keys until a
    teacher has opened them: who teaches by the class's list, and for whom they were meant. A machine is told by a
    server that somebody has, and believes it of nobody else. Both count what is hidden, and not destroyed yet: whoever
    has the device is shown it.
    """

    space: bytes
    name: str
    people: int
    items: int
    made: int
    opened: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What somebody who has the device, and gets past its own locks, can read; what it has said, and what it keeps.

    `person` is as whose it came in, `others` are called so by further rights (`whose_device`): their names, if any.
    `remains` are rights that were not this office's to take, of it and of whoever came in by its codes. `copies` are
    those of devices whose keys came of it, and that somebody has let in by name: after a report since a time, of those
    that came of it since. `image` are those of the keys that its own came of. `confirmed` are the devices that go on as
    somebody's by its word alone: none after such a report, since what it said since then counts no more. `besides` are
    those that are called the same person's, and that it has not confirmed. `phrases` are those that it drew.
    """

    role: Role
    person: str | None
    others: tuple[str | None, ...]
    spaces: tuple[HeldSpace, ...]
    said: tuple[Said, ...]
    remains: tuple[Kept, ...]
    copies: tuple[Kept, ...]
    image: tuple[Kept, ...]
    confirmed: tuple[Confirmed, ...]
    besides: tuple[Confirmed, ...]
    phrases: tuple[Drawn, ...]
    sign_ins: tuple[OpenedSignIns, ...]

    @property
    def teaches(self) -> bool:
        """Whether it held a key that opens pupils' work."""
        return self.role in HAS_READING_KEYS

    def rows(self) -> dict[str, JSON]:
        """As commands say it."""
        return {
            "role": self.role.value,
            "person": self.person,
            "others": list(self.others),
            "held": [
                {
                    "space": each.space.hex(),
                    "name": each.name,
                    "people": each.people,
                    "items": each.items,
                    "hand_ins_made": each.made,
                    "hand_ins_readable": each.opened,
                }
                for each in self.spaces
            ],
            "said": [
                {
                    "id": each.entry.id.hex(),
                    "kind": kind_name(each.entry.header.kind),
                    "at": rfc3339(each.entry.timestamp_ms),
                    "about": each.about,
                    "counts": each.counts,
                }
                for each in self.said
            ],
            "remains": [each.row() for each in self.remains],
            "copies": [each.row() for each in self.copies],
            "image": [each.row() for each in self.image],
            "confirmed": [each.row() for each in self.confirmed],
            "besides": [each.row() for each in self.besides],
            "phrases": [each.row() for each in self.phrases],
            "sign_ins": [each.row() for each in self.sign_ins],
        }


def _nameless(_device: bytes) -> str | None:
    return None


def _everywhere(_space: bytes) -> bool:
    return True


async def lost(
    office: Office,
    device: bytes,
    *,
    cut: bool,
    since_ms: int | None = None,
    anyway: bool = False,
    name_of: NameOf = _nameless,
    governs: Callable[[bytes], bool] = _everywhere,
) -> Loss:
    """What the device held, and what it has said that others are bound by; with `cut` it is revoked as well.

    With `since_ms`, what it has brought since then counts no more either, and whoever came in by codes that it made
    since, and by nothing else, is cut off too. Raises `BadInput(UNKNOWN_DEVICE)`, `Refused(NO_RIGHT)` for a device that
    this office may not cut off, and, if not `anyway`, as `revoke_device` does.
    """
    replica = office.replica
    grants = [
        grant
        for grant in replica.door.authorities_of(device)
        if grant.role in DEVICES and any(map(governs, replica.door.below(grant.space)))
    ]
    if not grants:
        raise BadInput(Code.UNKNOWN_DEVICE, f"there is no device {device.hex()}; `devices` shows those that there are")
    records = await space_records(office)
    persons = {grant.person for grant in grants if grant.person is not None}
    whose = await whose_device(replica, device)
    spaces = []
    within = dict.fromkeys(space for grant in grants for space in replica.door.below(grant.space) if governs(space))
    agreements = {grant.agreement for grant in grants}
    forgotten = await destroyed_names(replica.store)
    for space in within:
        view = await replica.view(space)
        works = [*view.coursework.hand_ins.values(), *(await _hidden_works(replica, view))]
        keys = await _keys_held(replica, space, device, agreements)
        if not forgotten.isdisjoint(persons):
            keys |= await _keys_of_nobody(replica, space, works)
        is_opened = await is_opened_by_the_listed(replica, view.roster)
        spaces.append(
            HeldSpace(
                space,
                records[space].name if space in records else "",
                len(view.roster.persons),
                sum(not item.withdrawn for item in view.coursework.items.values()),
                sum(work.author == device for work in works),
                sum(
                    not keys.isdisjoint(work.readers)
                    or (work.author == device and not (work.id in view.coursework.hand_ins and is_opened(work)))
                    for work in works
                ),
            )
        )
    kept = await rights_beyond(office, device, governs)
    if cut:
        kept = await revoke_device(office, device, governs, since_ms=since_ms, anyway=anyway)
        kept += await _cut_off_with_it(office, device, governs)
    role = max(await standing_grants(office, device), key=lambda grant: grant.rank).role
    said = await words_of_office(office, device, name_of)
    is_dated = cut and since_ms is not None
    copies = await copies_let_in(office, device, governs, only_held_back=is_dated)
    image = await came_of(office, device, governs)
    confirmed = () if is_dated else await confirmed_by_lost(office, device, within)
    besides = await called_so_besides(office, device, within)
    phrases = await phrases_of_lost(office, device, within)
    sign_ins = await sign_ins_of_lost(office, device, agreements, [(each.space, each.name) for each in spaces])
    return Loss(
        role,
        None if whose.person is None else await _called(replica, whose.person, within),
        tuple([await _called(replica, other, within) for other in whose.others[:MAX_NAMES_SHOWN]]),
        tuple(spaces),
        said,
        tuple(kept),
        copies=tuple(copies),
        image=tuple(image),
        confirmed=confirmed,
        besides=besides,
        phrases=phrases,
        sign_ins=sign_ins,
    )


async def _called(replica: Replica, person: bytes, within: Iterable[bytes]) -> str | None:
    """What the first of these spaces' lists that has somebody calls them.

    Who is on none, or is listed as somebody else, has the name under which they came here.
    """
    for space in within:
        listed = (await replica.view(space)).roster.persons.get(person)
        if listed is not None:
            return listed.name
    return (await first_names(replica, [person])).get(person)


async def _cut_off_with_it(office: Office, device: bytes, governs: Callable[[bytes], bool]) -> list[Kept]:
    """Cut off whoever came in by its codes, as far as those are held back; what they keep."""
    kept = []
    for other in await let_in_by_held_codes(office, device):
        try:
            kept += await revoke_device(office, other, governs)
        except Refused:  # elsewhere, or not below this office
            kept += await rights_beyond(office, other, governs)
    return kept


async def _hidden_works(replica: Replica, view: SpaceView) -> Iterable[Work]:
    """What was handed in and is held back or erased, and not destroyed here."""
    said = [one.entry for one in await replica.store.of_kinds(view.roster.space, [Kind.HAND_IN, Kind.WRAP])]
    if not any(map(view.roster.hides, said)):
        return ()
    revealed = replace(view.roster, held_back=frozenset(), erased=frozenset(), frozen=frozenset())
    found = fold_coursework(view.roster.space, said, revealed).hand_ins
    return (work for name, work in found.items() if name not in view.coursework.hand_ins)


async def _keys_held(replica: Replica, space: bytes, device: bytes, agreements: set[bytes]) -> set[bytes]:
    """The reading keys that the device made, or was given, in a space; what is held back it has all the same."""
    found = set()
    for entry in await replica.store.scan_kinds([Kind.PERSON_KEY, Kind.KEY_WRAP]):
        if entry.header.space != space:
            continue
        try:
            if entry.header.kind == Kind.PERSON_KEY:
                if entry.header.author == device:
                    found.add(PersonKey.parse(entry.payload or b"").agreement)
            else:
                wrap = KeyWraps.parse(entry.payload or b"")
                if any(recipient in agreements for recipient, _ in wrap.wraps):
                    found.add(wrap.agreement)
        except PeerFault:
            continue
    return found


async def _keys_of_nobody(replica: Replica, space: bytes, works: Iterable[Work]) -> set[bytes]:
    """The keys to which these were sealed of which nothing says any more whose they are.

    Whose teacher was destroyed here has its keys all the same, and those that it was given.
    """
    entries = await replica.said(Kind.PERSON_KEY, space)
    said = {key.agreement for each in entries if (key := parsed(each, PersonKey.parse)) is not None}
    kits = await replica.said(Kind.RECOVERY_KEY)
    said |= {kit.agreement for each in kits if (kit := parsed(each, RecoveryKey.parse)) is not None}
    return {reader for work in works for reader in work.readers} - said
