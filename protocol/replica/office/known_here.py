"""What an office itself knows of its own words, and of whose devices are: a server's key's word alone is a thief's too.

Rules:
- known is what came in by a code that was made here, by hand or by a school's computer that is known itself, and what
  somebody let in by the device's own name: noted as that happens, for whoever has a copy of the key says all the rest;
- of a machine that is nobody's people compare no words: its name says something once it is known that what let it in
  first counts no more, and not before; and it is known as a machine, and as nothing else (docs/adr/0394). That somebody
  let it in by that name is noted as told: it ends what is told of it (docs/adr/0497);
- so is what such a computer has let in itself, unless by a code of nobody's;
- of what was here before anything was noted: whom the key let in that is the server's now, and who came first;
- who came along and was told of counts until somebody is known: told, once the line was given (docs/adr/0417);
- a head teacher's computer notes likewise whom somebody let in there by its name, and of whom was told; codes that
  others have made it honours, and is made surer of nobody by them (docs/adr/0396);
- out of a backup, or on a server of the kit alone, nothing is known but what is noted since, whatever came first, and
  whatever comes later: both are the word of whoever wrote it, or called first (docs/adr/0329, 0347, 0416);
- which revocations were said here is noted likewise: by others a thief has a device seem gone (docs/adr/0332); and
  which grants take them back, by others one that is gone seems back (docs/adr/0406); and which words take somebody off
  a list, or make two one, by others a pupil who is there seems to have left, or to be another (docs/adr/0439, 0451);
  and which call somebody something, by others one child is called like another (docs/adr/0489).

docs/adr/0293. Notes are marks of this replica, by pseudonymous ids, and no part of any set. docs/protocol.md,
"Confirmed devices".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Final, Self

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord, Ruling
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import cuts_said_here, orders_by_key
from protocol.replica.office.held_in_space import fallen, grants_not_held_back, not_held_back
from protocol.replica.office.made_anew import came_at_once
from protocol.replica.office.said_here import (
    BACK_MARKS,
    CUT_MARKS,
    CUTS_SINCE_MARK,
    LEAVE_MARKS,
    LEAVES_SINCE_MARK,
    REFUSED_MARKS,
    leaves_said_here,
    noting_since,
    since_mark,
)
from protocol.rights.door import Authority
from protocol.rights.vouching import Device
from protocol.roles import HAS_READING_KEYS, RANK, SHARED, Role

WHOSE_MARKS: Final = "whose-device/"
"""+ whose-device-agreement, in hex but for `_NOBODYS` → `How`: by what it is known as that."""
CODE_MARKS: Final = "codes-made/"
"""+ entry in hex: the codes that this server has made."""
WHOSE_SINCE_MARK: Final = "whose-device-since"
"""Since what arrival devices and codes are noted (as `EntryStore.latest` says it)."""
_NOTED_AS: Final[Mapping[int, str]] = {
    Kind.INVITE: CODE_MARKS,
    Kind.REVOKE: CUT_MARKS,
    Kind.GRANT: BACK_MARKS,
}
_NOBODYS: Final = "machine"
"""As whose a machine is noted that is nobody's own: who runs a school is nobody's either, and something else."""
_BEFORE_ALL: Final = (0, b"")
MOST_AT_ONCE: Final = 8
"""Of more devices that one person's could be nobody asks to whom each leads: grants name as many as a thief likes."""


class How(Enum):
    """By what a device is known as somebody's."""

    CODE = b"code"
    NAME = b"name"
    TOLD = b"told"


async def begin_noting(store: EntryStore, root: bytes, *, is_whole: bool = True) -> None:
    """From here on what comes in is noted; of a store that has lost entries nothing counts as of before that."""
    for mark in (WHOSE_SINCE_MARK, CUTS_SINCE_MARK, LEAVES_SINCE_MARK):
        since = await noting_since(store, mark)
        if since is not None and await store.authored_by_then(root, since) is not None:
            continue
        latest = await store.latest() if is_whole else _BEFORE_ALL
        if latest is not None:
            await store.set_marks({mark: since_mark(latest)})


def marks_of(said: Iterable[Entry]) -> dict[str, bytes | None]:
    """Those of these that are codes, revocations, or take these back, were made here."""
    return {noted + one.id.hex(): b"" for one in said if (noted := _noted_as(one)) is not None}


def leave_marks(said: Iterable[Entry]) -> dict[str, bytes | None]:
    """A command takes somebody off a list by these words, or makes two one; by others that repeat that it does not.

    `person freeze` says of who is off a list that they are off it still, whoever said so first.
    """
    return {LEAVE_MARKS + one.id.hex(): b"" for one in said if (record := _listed(one)) is not None and record.left}


def listed_marks(said: Iterable[Entry]) -> dict[str, bytes | None]:
    """A command puts somebody on a list, or calls them something, by these words: whose they are `list_words` says."""
    listed = [one for one in said if (record := _listed(one)) is not None and not record.left]
    return {LEAVE_MARKS + one.id.hex(): b"" for one in listed}


def ruled_marks(said: Iterable[Entry]) -> dict[str, bytes | None]:
    """A command refuses what is held back by these words, or lets it count after all."""
    marks: dict[str, bytes | None] = {}
    for one in said:
        if (ruling := parsed(one, Ruling.parse) if one.header.kind == Kind.RULING else None) is not None:
            marks |= {REFUSED_MARKS + name.hex(): None for name in ruling.accepted}
            marks |= {REFUSED_MARKS + name.hex(): b"" for name in ruling.refused}
    return marks


def is_about_cuts(said: Entry) -> bool:
    """Whether an entry of an office's cuts off, or names what it takes back of that."""
    return said.header.kind == Kind.REVOKE or (said.header.kind == Kind.GRANT and bool(said.header.parents))


def _listed(said: Entry) -> PersonRecord | None:
    return parsed(said, PersonRecord.parse) if said.header.kind == Kind.PERSON else None


def _noted_as(said: Entry) -> str | None:
    is_noted = said.header.kind == Kind.INVITE or is_about_cuts(said)
    return _NOTED_AS[said.header.kind] if is_noted else None


async def own_leaves(office: Office, names: Collection[bytes]) -> set[bytes]:
    """Which of these words that take somebody off a list are surely this office's own."""
    is_said, said = await leaves_said_here(office), await office.replica.store.get(list(names))
    leaves = {name: each for name, each in said.items() if (record := _listed(each)) is not None and record.leaves}
    return {name for name, each in leaves.items() if is_said(each)}


async def made_here(store: EntryStore, codes: Iterable[Entry]) -> list[Entry]:
    """Which of these codes were noted as made here."""
    noted = await store.marks(CODE_MARKS)
    return [code for code in codes if CODE_MARKS + code.id.hex() in noted]


async def note_device(office: Office, person: bytes | None, device: Device, role: Role, how: How) -> None:
    """How a device came in here as somebody's, as nobody's who runs a school, or as a machine.

    What was known better stays.
    """
    mark = _mark(person, device, role)
    before = (await office.replica.store.marks(mark)).get(mark)
    if before is None or how is How.NAME or before == How.TOLD.value:
        await office.replica.store.set_marks({mark: how.value})
        if role not in SHARED or how is How.TOLD:  # whose devices are in which order hangs on no machine
            office.replica.noted += 1


async def note_named(office: Office, person: bytes | None, device: Device, role: Role) -> None:
    """Somebody lets a device in by its own name, in a role; to be said before it is.

    Of a machine that says nothing while what let it in first counts; that somebody did is noted all the same.
    """
    if role in SHARED and office.rank < RANK[Role.SERVER]:
        return
    is_known = role not in SHARED or await _counts_no_more(office, device[0])
    await note_device(office, person, device, role, How.NAME if is_known else How.TOLD)


async def _counts_no_more(office: Office, key: bytes) -> bool:
    """Whether this server, or the root, has held back what let a device in first; or its code, and has cut it off."""
    replica, given = office.replica, office.replica.door.authorities_of(key)
    if not given:
        return False
    first, ended = given[0], orders_by_key(await cuts_said_here(office))
    if not await grants_not_held_back(replica, [first]):
        return first.grant in await fallen(replica, ended)
    codes = [] if first.invite is None else list((await replica.store.get([first.invite])).values())
    return key in ended and await not_held_back(replica, codes) != codes


async def note_told(office: Office, person: bytes, device: Device) -> None:
    """People were told that a device came along as somebody's; to be said once they were."""
    await note_device(office, person, device, Role.TEACHER, How.TOLD)


async def note_enrolled(office: Office, person: bytes | None, device: Device, role: Role, code: Entry) -> None:
    """The same of one that shows a code, if that is none that somebody else has made with this server's key."""
    if office.rank < RANK[Role.SERVER]:
        return
    is_made_here = bool(await made_here(office.replica.store, [code]))
    if is_made_here or await (await KnownHere.of(office)).is_made_by_somebody_known(code):
        await note_device(office, person, device, role, How.CODE)


async def noted_of(office: Office, person: bytes, how: How) -> set[Device]:
    """Which devices are noted here as a person's own in this way."""
    noted = await office.replica.store.marks(f"{WHOSE_MARKS}{person.hex()}-")
    return {_device(mark) for mark, known in noted.items() if known == how.value}


async def let_in_by_name(store: EntryStore) -> Callable[[Authority], bool]:
    """Whether somebody has let the device of a grant in by its own name."""
    return await _let_in(store, How.NAME)


async def agreed_to(store: EntryStore) -> Callable[[Authority], bool]:
    """Whether somebody has ever let the device of a grant in by its own name, or was told that it came along."""
    return await _let_in(store, How.NAME, How.TOLD)


async def let_in_by_code(store: EntryStore) -> Callable[[Authority], bool]:
    """Whether it came in by a code of somebody whom this server knew, and nobody has let it in by name."""
    return await _let_in(store, How.CODE)


async def _let_in(store: EntryStore, *by: How) -> Callable[[Authority], bool]:
    """As whosever; of what is known as a machine only where a grant lets it in as that."""
    noted = [mark for mark, how in (await store.marks(WHOSE_MARKS)).items() if how in {each.value for each in by}]
    own = {_device(mark) for mark in noted if not mark.startswith(f"{WHOSE_MARKS}{_NOBODYS}-")}
    machines = {_device(mark) for mark in noted}

    def is_let_in(given: Authority) -> bool:
        return given.pair in (machines if given.role in SHARED else own)

    return is_let_in


class KnownHere:
    """What a server knows of whose devices are. Made by `of`."""

    def __init__(
        self,
        office: Office,
        notes: Mapping[str, bytes],
        codes: Collection[str],
        later: frozenset[bytes],
        looked: tuple[int, int] | None,
        *,
        at_once: bool,
    ) -> None:
        """`later` are the grants and codes that came after the first note; what was here may have come `at_once`.

        `looked` says between which arrivals they were looked for.
        """
        self._office = office
        self._notes = notes
        self._codes = codes
        self._later = later
        self._looked = looked
        self.at_once = at_once
        """Whether nothing says what was first, and nobody is known but by notes."""

    @classmethod
    async def of(cls, office: Office) -> Self:
        """As things stand."""
        return await cls(office, {}, (), frozenset(), None, at_once=False).again()

    async def again(self) -> Self:
        """The same as things stand now; what was read is not read again."""
        store = self._office.replica.store
        since, latest = await noting_since(store, WHOSE_SINCE_MARK), await store.latest()
        first = 0 if since is None else since[0]
        looked = self._looked if self._looked is not None and self._looked[0] == first else None
        later, after = (frozenset[bytes](), first) if looked is None else (self._later, looked[1])
        came = await store.scan_kinds([Kind.GRANT, Kind.INVITE], after)
        notes, codes = await store.marks(WHOSE_MARKS), await store.marks(CODE_MARKS)
        return type(self)(
            self._office,
            notes,
            codes.keys(),
            later.union(entry.id for entry in came),
            (first, after if latest is None else max(after, latest[0])),
            at_once=await came_at_once(store),
        )

    async def known_of(self, called: Sequence[Authority]) -> set[Device]:
        """Which of the devices that these grants `called` one person's are so; the grants in order of arrival."""
        known = {each.pair for each in called if self._is_noted(each, How.CODE, How.NAME)}
        known |= {each.pair for each in called[:1] if self._is_of_before(each.grant)}
        own = self._office.own_device[0]
        known |= {each.pair for each in called if each.author == own and self._is_of_before(each.grant)}
        for each in called:
            if each.pair not in known and await self.is_by_a_school(each):
                known.add(each.pair)
        return known

    def named_of(self, called: Sequence[Authority]) -> set[Device]:
        """Which of these devices somebody has let in by their own names."""
        return {each.pair for each in called if self._is_noted(each, How.NAME)}

    def told_of(self, called: Sequence[Authority]) -> set[Device]:
        """Which of these devices came along, and were told of: they count until somebody is known."""
        return {each.pair for each in called if self._is_noted(each, How.TOLD)}

    def has_met(self, right: Authority | None, *, since_noted: bool) -> bool:
        """Whether it is noted how a right came in here; or, unless it has to be `since_noted`, it is of before."""
        if right is None:
            return False
        return self._is_noted(right, How.CODE, How.NAME) if since_noted else self._is_known(right)

    async def knows(self, right: Authority) -> bool:
        """Whether a device that has a right is known, by itself or through a school's computer; by its first keys."""
        first = self._office.replica.door.began_with(right)
        return self._is_known(first) or await self.is_by_a_school(first)

    async def is_made_by_somebody_known(self, code: Entry) -> bool:
        """Whether a code was made here, or by a school's computer that is known."""
        return self._is_made_here(code) or self._is_school(self._office.replica.door.authority(code.header.grant))

    async def is_from_known_hands(self, right: Authority | None) -> bool:
        """Whether a right comes of somebody whom this server knows, of a root, or of a server's key that still counts.

        Through any number of steps; what a replaced key said, and nothing here knows, is as good as a thief's
        (docs/adr/0299).
        """
        door = self._office.replica.door
        while right is not None and right.rank < RANK[Role.SERVER]:
            if self._is_known(right):
                return True
            if right.predecessor is None and right.invite is not None and not await self._is_by_known_code(right):
                return False
            right = door.authority(right.under)
        return right is None or right.key not in (await self._office.replica.view(door.territory)).roster.cut

    async def is_by_a_school(self, given: Authority) -> bool:
        """Whether a school's computer that is known has let a device in, by no code of nobody's."""
        door = self._office.replica.door
        if given.predecessor is not None or not self._is_school(door.authority(given.under)):
            return False
        if given.invite is None:
            return True
        code = await self._code_of(given)
        return code is not None and await self.is_made_by_somebody_known(code)

    async def _is_by_known_code(self, right: Authority) -> bool:
        """Whether what a right names as its code is one, and of somebody known; whose makers stand above it each."""
        code = await self._code_of(right)
        if code is None or code.header.kind != Kind.INVITE:
            return False
        if self._is_made_here(code):
            return True
        maker = self._office.replica.door.authority(code.header.grant)
        return maker is not None and right.rank < maker.rank and await self.is_from_known_hands(maker)

    def _is_school(self, right: Authority | None) -> bool:
        """Whether a right to let in is a school's, and of a computer that is known."""
        if right is None or right.rank >= RANK[Role.SERVER]:
            return False
        return self._is_known(right)

    async def _code_of(self, given: Authority) -> Entry | None:
        """The entry that a right names as its code."""
        name = given.invite or b""
        return (await self._office.replica.store.get([name])).get(name)

    def _is_made_here(self, code: Entry) -> bool:
        """Whether a code was made here, or is known by having come before that was noted."""
        return self._is_of_before(code.id) or CODE_MARKS + code.id.hex() in self._codes

    def _is_known(self, right: Authority) -> bool:
        """Whether it is noted how a right came in here, or it is known by having come before that was noted."""
        return self._is_of_before(right.grant) or self._is_noted(right, How.CODE, How.NAME)

    def _is_of_before(self, name: bytes) -> bool:
        """Whether a grant or code is believed for having been here before notes began: out of a backup none is."""
        return not self.at_once and name not in self._later

    def _is_noted(self, given: Authority, *hows: How) -> bool:
        return self._notes.get(_mark(given.person, given.pair, given.role)) in {each.value for each in hows}


def teachers_devices(office: Office, person: bytes) -> list[Authority]:
    """All grants that ever called a device a teacher's own, in order of arrival, held back or not."""
    given = office.replica.door.authorities()
    return [each for each in given if each.person == person and each.role in HAS_READING_KEYS]


def _mark(person: bytes | None, device: Device, role: Role) -> str:
    return f"{WHOSE_MARKS}{_whose(person, role)}-{device[0].hex()}-{device[1].hex()}"


def _whose(person: bytes | None, role: Role) -> str:
    """As whose a device is noted that has such a right."""
    if role in SHARED:
        return _NOBODYS
    return "" if person is None else person.hex()


def _device(mark: str) -> Device:
    _, key, agreement = mark.removeprefix(WHOSE_MARKS).split("-")
    return bytes.fromhex(key), bytes.fromhex(agreement)
