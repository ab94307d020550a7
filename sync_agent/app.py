"""An enrolled agent, opened: its keys, its replica, and what it may do and lacks.

What enrolling left in DIR is `enrolled`; the notes that it makes in its store are `marks`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, LocalFailure, Refused
from protocol.folds.coursework import Work, live_content, sealed_content
from protocol.identity import DeviceKeys
from protocol.limits import MAX_NAME_CHARS
from protocol.messages.lives import NONCE_BYTES, Life, Twin
from protocol.model.entry import Entry, Kind, class_of
from protocol.replica.answering.allowances import Allowances
from protocol.replica.at_work.bare_entries import Rounds
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.readers import ever_opened_to
from protocol.replica.at_work.replica import Draft, Entropy, Notes, Replica
from protocol.replica.ballast import Ballast, Rank
from protocol.replica.console.operation import JSON
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.office.acts import Trail
from protocol.replica.office.arrivals import RunningTime
from protocol.replica.office.said_before import following
from protocol.replica.process.unforeseen import Unforeseen
from protocol.replica.steady import SteadyClock
from protocol.replica.storage.second_copy import MAX_FILE_BYTES, SecondCopy
from protocol.replica.upkeep.eraser import Eraser
from protocol.replica.upkeep.pace import Pace
from protocol.replica.upkeep.rebuild import open_or_rebuild
from protocol.rights.door import WRITERS, Authority
from protocol.rights.precedence import in_order
from protocol.roles import RANK, READS_HAND_INS, SHARED, Role
from protocol.transfer.deflate_parameters import Profile
from sync_agent.machine import backups_said
from sync_agent.machine.acquainted import Acquainted, InMind
from sync_agent.machine.around import Around
from sync_agent.machine.backups_said import Backups
from sync_agent.machine.called import called_anothers
from sync_agent.machine.enrolled import (
    DEVICE_KEYS_FILE,
    INTRODUCTION_FILE,
    OUTBOX_FILE,
    Enrolment,
    LetIn,
    device_keys,
)
from sync_agent.machine.eviction import SEEN_BYTES, Seen
from sync_agent.machine.fetching import Fetching, Sending
from sync_agent.machine.former import former_keys
from sync_agent.machine.key_slots import KeySlots
from sync_agent.machine.marks import (
    BACKUP_MARK,
    DISK_FULL_MARK,
    EVICTED_MARKS,
    HAND_IN_MARKS,
    OPENED_MARKS,
    STORE_SINCE_MARK,
    evicted_mark,
    stays,
)
from sync_agent.machine.progress import TransferProgress
from sync_agent.machine.reading_keys import ReadingKeys
from sync_agent.machine.secrets import Secrets, SecretsOfFolder
from sync_agent.machine.watched import WATCHED_MARK, WatchedTime
from sync_agent.pacing.spending import Budget

_UNASKED_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What the operator set: the most that packs may take, and what is left free of the disk (None: the usual)."""

    budget_bytes: int | None = None
    reserve_bytes: int | None = None


class Agent:
    """Everything a command or the daemon works with. `now_ms` and `entropy` are the rim's clock and randomness.

    Who reads the state and writes what follows from it holds `writing` meanwhile. `on_change` is called after every
    write of this device; where a scheduler is running, it wakes it. `on_watch` is called when a command has changed
    what is watched. `stick` is how the courier disk stands that is plugged in (`courier.watch`), None without one.
    """

    def __init__(
        self,
        folder: Path,
        enrolment: Enrolment,
        keys: DeviceKeys,
        replica: Replica,
        holdings: Holdings,
        budget: Budget,
        *,
        now_ms: Callable[[], int],
        entropy: Entropy,
        steady: SteadyClock | None = None,
    ) -> None:
        """Made by `open` or `over`. Without a `steady` clock the own one stands for it, while this agent lives."""
        self.folder = folder
        self.enrolment = enrolment
        self.keys = keys
        self.replica = replica
        self.holdings = holdings
        self.carried = Allowances(replica, holdings)
        """How much content sticks may still bring."""
        self.secrets: Secrets = SecretsOfFolder(folder)
        self.reading_keys = ReadingKeys(self.secrets)
        self.key_slots = KeySlots(lambda: self.secrets, replica.store, entropy)
        """Under which the keys of works and drafts lie here."""
        self.acquainted = Acquainted()
        former = former_keys(folder)
        self.agreements = (keys.agreement, *(each.agreement for each in former))
        """The keys that open what was sealed to this device, the newest first."""
        self.keyring = Keyring(replica, self.agreements, (keys.signing.public,))
        self.rounds = Rounds()
        """Whom this device has asked for payloads that it lacks, over whichever link."""
        self.former = frozenset(each.device for each in former)
        """Keys that this device had before: what they wrote before it had its own is its own too."""
        self._made_before: frozenset[bytes] = frozenset()
        self.now_ms = now_ms
        self.steady_ms, beginning = steady or SteadyClock(now_ms)
        """A clock that nobody sets."""
        self.acts = Trail(replica.store, lambda: self.now_ms())  # noqa: PLW0108  (tests set that clock later)
        """Who had somebody's work written into an archive here."""
        self.pace = Pace(Eraser(replica, holdings), lambda: (self.now_ms(), self.steady_ms()), beginning)
        """Through which whatever destroys here does so."""
        self.watched = WatchedTime(lambda: (self.now_ms(), self.steady_ms()), beginning)
        """By which whom this device has met becomes known."""
        self.running = RunningTime(lambda: self.steady_ms(), beginning)  # noqa: PLW0108  (tests set that clock later)
        """By which what has come when is noted, and codes end, where this device runs a school."""
        self.entropy = entropy
        self.budget = budget
        self._introduction = SecondCopy(folder / INTRODUCTION_FILE, of_others=True)
        self._introduced: list[bytes] = []
        self._outbox = SecondCopy(folder / OUTBOX_FILE, of_others=False)
        self._outbox_used = True
        self.unforeseen = Unforeseen(now_ms)
        """Errors that work of the daemon met and nobody foresaw; the work goes on."""
        self.room_limits = RoomLimits()
        self.is_quarantined = False
        """Whether the school's network and sticks are off."""
        self.ballast = Ballast(folder)
        self.is_disk_full = False
        """Whether content is not fetched for want of room on the disk."""
        self.evicted: set[tuple[bytes, bytes]] = set()
        """Content of (space, stream) that made way for other."""
        self.sealed_in_vain: dict[bytes, tuple[bytes, ...]] = {}
        """Of works that lie here and that none of these wraps opens: they are not tried again at each look."""
        self.without_copies = 0
        """How many titles have no readable copy in DIR/coursework, because the disk budget has no room for it."""
        self.backups: Backups = ()
        """Which proven backups the server has said that it has, and since when."""
        self.store_since: Seen | None = None
        """Since when the server's store is the one that it is: that of `store_generation`."""
        self.store_generation: bytes | None = None
        self.fetch_now: Callable[[], Awaitable[object]] | None = None
        """Syncs at once, where a scheduler runs."""
        self.tell_drill: Callable[[], Awaitable[bool]] | None = None
        """Brings the order of a drill to the server before this device falls silent; whether it is there."""
        self._asked: dict[tuple[bytes, bytes], Need] = {}
        self.rebuilt: int | None = None
        """How many entries came out of a damaged database when this was opened; None if it was whole."""
        self.writing = asyncio.Lock()
        self.noting_drafts = asyncio.Lock()
        self.fetching = Fetching()
        self.sending = Sending(replica.content.part_size)
        self.progress = TransferProgress()
        """How far what is on its way to or from the server has come."""
        self.levels: Profile | None = None
        """Those of deflate that this machine reproduces (`deflating`); None until somebody has asked."""
        self.neighbours: Callable[[], list[JSON]] = list
        self.around = Around()
        """Who is on the school's network, once `run` is there too."""
        self.life = Life(entropy(NONCE_BYTES))
        """The process that speaks, as others tell it from a clone's."""
        self.on_twin: Callable[[Twin], object] = _no_twin
        """The server says that another lives with this device's key."""
        self.on_twin_nearby: Callable[[Twin], bool] = _no_twin
        """A device on the school's network has shown that it lives with this key; whether this one gives way."""
        self.network_problem: Callable[[], tuple[Code, str, str] | None] = _no_problem
        self.on_change: Callable[[], None] = _nothing
        self.on_watch: Callable[[], None] = _nothing
        self.stick: str | None = None
        self.stick_without: tuple[str, ...] = ()
        """The names of the spaces of which nothing could be written onto it."""
        self.listens_at: str | None = None
        """Where other devices of the school reach this one."""

    @classmethod
    async def open(
        cls, folder: Path, *, now_ms: Callable[[], int], entropy: Entropy, steady: SteadyClock | None = None
    ) -> Self:
        """The agent of DIR, whose lock the caller holds. Raises `BadInput(NOT_ENROLLED)`, `LocalFailure`."""
        enrolment = Enrolment.read(folder)
        keys = device_keys(folder / DEVICE_KEYS_FILE)
        beside = [
            SecondCopy(folder / INTRODUCTION_FILE, of_others=True),
            SecondCopy(folder / OUTBOX_FILE, of_others=False),
        ]
        opened = await open_or_rebuild(
            folder, enrolment.root, beside=beside, keep_mark=stays, unsent=True, now_ms=now_ms
        )
        store = opened.store
        try:
            agent = await cls.over(
                folder, enrolment, keys, opened.replica, now_ms=now_ms, entropy=entropy, steady=steady
            )
            agent.rebuilt = opened.rebuilt
            agent.evicted = {
                (bytes.fromhex(key[len(EVICTED_MARKS) : len(EVICTED_MARKS) + 64]), bytes.fromhex(key[-64:]))
                for key in await store.marks(EVICTED_MARKS)
            }
            agent.is_disk_full = await store.mark(DISK_FULL_MARK) is not None
            agent.backups = backups_said.parsed(await store.mark(BACKUP_MARK))
            since = await store.mark(STORE_SINCE_MARK)
            if since is not None:
                agent.store_since, agent.store_generation = Seen.parse(since[:SEEN_BYTES]), since[SEEN_BYTES:]
            await agent.keep_copies()
            await agent.key_slots.seal_bare()
        except BaseException:
            # the connection's thread would keep the process from ending, and nobody else could open the store
            await store.close()
            raise
        return agent

    @classmethod
    async def over(
        cls,
        folder: Path,
        enrolment: Enrolment,
        keys: DeviceKeys,
        replica: Replica,
        *,
        now_ms: Callable[[], int],
        entropy: Entropy,
        steady: SteadyClock | None = None,
    ) -> Self:
        """The agent over a replica that is open. Raises `LocalFailure`."""
        await replica.recall_time()
        holdings = Holdings(replica.store, replica.content)
        await holdings.load()
        budget = await Budget.open(replica.store, now_ms)
        agent = cls(folder, enrolment, keys, replica, holdings, budget, now_ms=now_ms, entropy=entropy, steady=steady)
        agent.acquainted = await Acquainted.of(replica.store)
        latest_ms = max(agent.acquainted.meetings_ms(), default=0)
        agent.watched.resume(await replica.store.mark(WATCHED_MARK), latest_ms)
        agent.bear_in_mind()
        names = await replica.store.marks(HAND_IN_MARKS)
        agent._made_before = frozenset(bytes.fromhex(name.removeprefix(HAND_IN_MARKS)) for name in names)
        return agent

    def bear_in_mind(self) -> None:
        """Let folds go by what this device has seen first, and since when it knows whom, from now on."""
        self.acquainted.remember(self.watched.now_ms(), self.replica.door.lineage)
        self.replica.remember(InMind(self.acquainted, self.watched.now_ms, self.bear_in_mind))

    async def keep_copies(self) -> None:
        """Keep beside the database what is needed to be known anywhere, and what the server does not hold yet.

        The former are this device's grants as they came, up to the root, and which was the first, once; the latter is
        forgotten once the server holds all of it.
        """
        self._note_let_in()
        grants = [authority.grant for authority in self.replica.door.authorities_of(self.device)]
        if grants and grants != self._introduced:
            with contextlib.suppress(LocalFailure):  # a full disk: the next sync does it
                await asyncio.to_thread(self._introduction.replace, await self.replica.credentials(grants))
                self._introduced = grants
        if self._outbox_used and (await self.replica.store.unsent_totals())[0] == 0:
            self._outbox_used = False
            await asyncio.to_thread(self._outbox.clear)

    def _note_let_in(self) -> None:
        first = self.first_right
        if self.enrolment.let_in is None and first is not None:
            noted = replace(self.enrolment, let_in=LetIn.of(first))
            with contextlib.suppress(LocalFailure):  # a full disk: the next sync does it
                noted.write(self.folder)
                self.enrolment = noted

    async def forget_copies(self) -> None:
        """Hold beside the database what it holds itself, and no more: something in it has been let go of for good.

        What was moved aside as damaged goes: it may hold that still, and what could be read of it is here. The caller
        holds `writing`. May be repeated. Raises `LocalFailure`.
        """
        await self.replica.content.forget_damaged()
        store = self.replica.store
        unsent = _own_words(await store.unsent(MAX_FILE_BYTES), self.own_keys)
        names = [f"{HAND_IN_MARKS}{entry.id.hex()}" for entry in unsent if entry.header.kind == Kind.HAND_IN]
        marks = {name: mark for name in names if (mark := await store.mark(name)) is not None}
        self._outbox_used = bool(unsent)
        await asyncio.to_thread(self._outbox.replace, unsent, marks)
        await store.scrub()

    async def close(self) -> None:
        """Flush and let go."""
        await self.replica.close()

    @property
    def device(self) -> bytes:
        """The device's id: its Ed25519 public key."""
        return self.keys.signing.public

    def made(self, work: Work) -> bool:
        """Whether a hand-in was made here: with this device's key, or it has kept its key since it had another one.

        Such a mark is written where a work is made, and nowhere else: whichever of its keys that was (docs/adr/0567).
        """
        return work.author == self.device or work.id in self._made_before

    def rename(self, name: str) -> None:
        """Call this device something else; the server hears of it with the next report. Raises `BadInput(BAD_NAME)`."""
        name = " ".join(name.split())
        if not name or len(name) > MAX_NAME_CHARS:
            raise BadInput(Code.BAD_NAME, f"a device's name has 1 to {MAX_NAME_CHARS} characters")
        self.enrolment = replace(self.enrolment, device_name=name)
        self.enrolment.write(self.folder)
        self.on_change()

    def live_neighbours(self) -> int:
        """With how many devices of the school a link stands now."""
        standing = {"live", "resting"}
        return sum(isinstance(row, dict) and row.get("state") in standing for row in self.neighbours())

    async def spaces(self) -> dict[bytes, Authority]:
        """The spaces of this device, parents before children, each with the grant that opens it."""
        return await self.replica.readable(self.device)

    async def ended_classes(self) -> list[bytes]:
        """The classes that this device was let into and may read no more; what it holds of them goes first."""
        door, mine = self.replica.door, await self.spaces()
        granted = ever_opened_to(door, self.device)
        return sorted(space for space in granted - mine.keys() if door.parent(space) not in (None, door.territory))

    async def check_space(self, space: bytes) -> None:
        """Raise `BadInput(UNKNOWN_SPACE)` for a space that it never had, `Refused(NO_RIGHT)` for one that it lost."""
        if space in await self.spaces():
            return
        if space in await self.ended_classes():
            sentence = f"the access of this device to that class has ended: {space.hex()}"
            raise Refused(Code.NO_RIGHT, sentence, space=space.hex())
        raise BadInput(Code.UNKNOWN_SPACE, f"this device has no space: {space.hex()}", space=space.hex())

    async def own_rights(self) -> list[Authority]:
        """The grants of this device that hold, name its own pair of keys, and call it nobody else's.

        Whoever has the server writes others, with an X25519 key of theirs beside the key that signs: what is said under
        such a one is said by a pair that is nobody's (docs/adr/0193); or as somebody else's (docs/adr/0513).
        """
        rights = await self.replica.authorities(self.device)
        return [each for each in rights if not (self._is_of_another_pair(each) or self.is_anothers(each))]

    @property
    def first_right(self) -> Authority | None:
        """What this was let in as first, or the device that it is a copy of; it may have ended since.

        Where that is not noted yet, or not here, what came first of those that say the same of this device, or of all.
        """
        door, noted = self.replica.door, self.enrolment.let_in
        if noted is not None and (right := door.authority(noted.grant)) is not None:
            return right

        def place(right: Authority) -> tuple[bool, bool]:
            return self._is_of_another_pair(right), noted is not None and not noted.fits(right)

        first = min(door.authorities_of(self.device), key=place, default=None)
        return None if first is None else door.began_with(first)

    @property
    def let_in(self) -> LetIn | None:
        """As what it was let in, whichever of its rights are here."""
        if self.enrolment.let_in is None and (first := self.first_right) is not None:
            return LetIn.of(first)
        return self.enrolment.let_in

    @property
    def person(self) -> bytes | None:
        """Whose it was let in as; None of a machine that is nobody's own."""
        return None if self.let_in is None else self.let_in.person

    def is_anothers(self, right: Authority) -> bool:
        """Whether one of its rights calls it somebody else's than whose it was let in as."""
        return self.let_in is not None and self.let_in.is_anothers(right)

    def _is_of_another_pair(self, right: Authority) -> bool:
        return right.agreement != self.keys.agreement.public

    def in_order(self, rights: Iterable[Authority]) -> list[Authority]:
        """These rights, given as they came: those first under which this device speaks, those of its own pair."""
        return sorted(in_order(rights, self.first_right, self.replica.door), key=self._is_of_another_pair)

    async def counting_first(self, rights: Iterable[Authority], space: bytes) -> list[Authority]:
        """Of these rights those that cover a space, in order: what counts there before what is held back in it.

        One in the whole school is held back in a class from which the device was taken, where it was let in again.
        """
        covering = [right for right in rights if self.replica.door.covers(right, space)]
        if len(covering) <= 1:
            return covering
        counting = {right.grant for right in (await self.replica.view(space)).roster.authorities}
        return sorted(
            self.in_order(covering),
            key=lambda right: (self._is_of_another_pair(right), right.grant not in counting),
        )

    async def right(self, space: bytes, kind: Kind) -> Authority:
        """The grant under which this device may write `kind` in `space`: one of its own pair of keys before others.

        Raises `BadInput(UNKNOWN_SPACE)` for a space that it never had, `Refused(NO_RIGHT)`, also where what counts
        there calls it somebody else's: what no machine may say is said in a name. Nothing is published in a closed
        class: nobody would be shown it.
        """
        await self.check_space(space)
        writers = WRITERS[class_of(kind)]
        rights = await self.counting_first(await self.replica.authorities(self.device), space)
        grant = next((each for each in rights if each.role in writers), None)
        if grant is None or (Role.MACHINE not in writers and self.is_anothers(grant)):
            raise await self.refusal("this device does not have the right to do that here", writers, space)
        if kind is Kind.REVISION and space in (await self.replica.view(space)).roster.erased:
            raise BadInput(Code.UNKNOWN_SPACE, f"that class has been closed: {space.hex()}", space=space.hex())
        return grant

    async def refusal(self, sentence: str, roles: Collection[Role], space: bytes | None = None) -> Refused:
        """Why what takes one of these roles is not done: a right to it calls this somebody else's; or `sentence`."""
        for right in await self.replica.authorities(self.device):
            where = right.space if space is None else space
            if right.role in roles and self.is_anothers(right) and self.replica.door.covers(right, where):
                return called_anothers(right, (await self.replica.view(where)).roster)
        return Refused(Code.NO_RIGHT, sentence)

    async def write(
        self,
        *drafts: Draft,
        marks: Notes | None = None,
        follows: bool = True,
    ) -> list[Entry]:
        """Say something as this device, all of it or nothing, durably (`Replica.write`).

        What nobody asked for follows on nothing that is not shown (`said_before`).
        """
        noted: Mapping[str, bytes | None] = {}

        def note(entries: Sequence[Entry]) -> Mapping[str, bytes | None]:
            nonlocal noted
            noted = {} if marks is None else marks(entries)
            return noted

        said = await following(self.replica, self.device, drafts) if follows else drafts
        entries = await self.replica.write(
            said, author=self.keys.signing, now_ms=self.now_ms(), entropy=self.entropy, marks=note
        )
        self._outbox_used = True
        await asyncio.to_thread(self._outbox.append, entries, noted)
        self.on_change()
        return entries

    async def write_unasked(self, *drafts: Draft) -> int:
        """Say what others' words alone call for; how many of the drafts were said.

        Half of what a device may say in a space is kept for what people here do (docs/adr/0240).
        """
        number = 0
        for start in range(0, len(drafts), _UNASKED_AT_ONCE):
            # what was said before this part counts: a flood that one look finds would spend all of it
            part = drafts[start : start + _UNASKED_AT_ONCE]
            rights = {(draft.space, draft.grant): draft for draft in part}
            spent = {right for right, one in rights.items() if await self.replica.has_said_half(one, self.device)}
            said = [draft for draft in part if (draft.space, draft.grant) not in spent]
            if said:
                await self.write(*said, follows=False)
            number += len(said)
        return number

    @property
    def own_keys(self) -> frozenset[bytes]:
        """The keys that sign for this device, and those that did."""
        return self.former | {self.device}

    @property
    def is_shared(self) -> bool:
        """Whether this was first let in as a machine that is nobody's own, or is a copy of one.

        It stays one, whoever calls it a teacher's later: nobody honest does (docs/adr/0287).
        """
        return self.let_in is not None and self.let_in.role in SHARED

    async def roles(self) -> frozenset[Role]:
        """The roles that the device has somewhere, and may have (`is_shared`).

        What one of them lets it do, none of the others takes away: whoever has the server gives it more.
        """
        roles = frozenset(grant.role for grant in await self.replica.authorities(self.device))
        return (roles & SHARED or frozenset({Role.MACHINE})) if roles and self.is_shared else roles

    async def role(self) -> Role | None:
        """The highest of these: a relay is more than a machine."""
        return max(await self.roles(), key=lambda role: (RANK[role], role is Role.RELAY), default=None)

    async def needs(self, space: bytes, authority: Authority) -> list[Need]:
        """The content that this device should hold of a space (R1).

        Coursework; hand-ins where it reads or made them.
        """
        coursework = (await self.replica.view(space)).coursework
        author = None if authority.role in READS_HAND_INS else self.device
        return [
            *(Need(space, ref.stream, sealed=False) for ref in live_content(coursework)),
            *(Need(space, ref.stream, sealed=True) for ref in sealed_content(coursework, author)),
        ]

    async def missing(self) -> list[Need]:
        """The content that this device should hold and does not, in the order in which to fetch it."""
        missing: list[Need] = []
        for space, authority in (await self.spaces()).items():
            missing += await self.holdings.incomplete(await self.needs(space, authority))
        missing = [need for need in missing if (need.space, need.stream) not in self.evicted]
        if self._asked:
            asked = await self.holdings.incomplete(self._asked.values())
            self._asked = {(need.space, need.stream): need for need in asked}
            missing = list(dict.fromkeys([*asked, *missing]))
        return missing

    # --- what makes way, and comes back -------------------------------------------------------------------------------

    async def put_away(self, contents: Collection[tuple[bytes, bytes]]) -> None:
        """Note content of (space, stream) that is not to be fetched again by itself."""
        if contents:
            await self.replica.store.set_marks(dict.fromkeys(map(evicted_mark, contents), b"\x01"))
            self.evicted.update(contents)

    async def ask_for(self, need: Need) -> None:
        """Fetch this with the next sync, although it made way, or is no content that every device holds."""
        wanted = (need.space, need.stream)
        if wanted in self.evicted:
            await self.replica.store.set_marks({evicted_mark(wanted): None})
            self.evicted.discard(wanted)
        self._asked[wanted] = need
        await self.note_opened(need.stream)

    async def note_store(self, generation: bytes, server_ms: int, *, is_another: bool) -> None:
        """A store of the server's has answered: what has waited with another one waits anew, its backups are none.

        To be called before anything that the answer says is noted.
        """
        if not is_another and self.store_generation == generation:
            return
        since = Seen(self.watched.now_ms(), server_ms)
        marks = {STORE_SINCE_MARK: since.encode() + generation, BACKUP_MARK: None, **self.watched.marks()}
        await self.replica.store.set_marks(marks)
        self.store_since, self.store_generation, self.backups = since, generation, ()

    def seen_now(self) -> Seen | None:
        """What is to be noted of something that the server is seen to hold now; None before it has ever answered."""
        server_ms = self.replica.proven_ms
        return None if server_ms is None else Seen(self.watched.now_ms(), server_ms)

    async def note_backup(self, begun_ms: int | None, server_ms: int) -> None:
        """The server has said then when its newest proven backup was begun; one that has none says nothing."""
        backups = backups_said.with_said(self.backups, begun_ms, Seen(self.watched.now_ms(), server_ms))
        if backups != self.backups:
            marks = {BACKUP_MARK: backups_said.encoded(backups), **self.watched.marks()}
            await self.replica.store.set_marks(marks)
            self.backups = backups

    def comes_on_demand(self, need: Need) -> bool:
        """Whether this made way for other content, or is awaited because somebody asked for it."""
        wanted = (need.space, need.stream)
        return wanted in self.evicted or wanted in self._asked

    @property
    def has_no_room(self) -> bool:
        """Whether people are told that the disk is full: what is missing, or what they do, finds no place."""
        return self.is_disk_full or self.ballast.is_kept_from(Rank.OTHER)

    async def opened_ms(self, stream: bytes) -> int:
        """When somebody last opened this content here; 0 if nobody has."""
        return int.from_bytes(await self.replica.store.mark(f"{OPENED_MARKS}{stream.hex()}") or b"", "big")

    async def note_opened(self, stream: bytes) -> None:
        """Somebody opens this content; written once a day, so that reading stays reading, on a full disk too."""
        now_ms = self.now_ms()
        if 0 <= now_ms - await self.opened_ms(stream) < DAY_MS:
            return
        try:
            await self.replica.store.set_marks({f"{OPENED_MARKS}{stream.hex()}": now_ms.to_bytes(8, "big")})
        except LocalFailure as failure:
            if failure.code not in (Code.DISK_FULL, Code.READ_ONLY):
                raise


def _own_words(entries: Iterable[Entry], own: Collection[bytes]) -> list[Entry]:
    """Those that this device has said: what a server says that it lacks of others' waits to be sent as well."""
    return [entry for entry in entries if entry.header.author in own]


def _no_twin(_place: Twin) -> bool:
    """Nobody takes other keys."""
    return False


def _no_problem() -> tuple[Code, str, str] | None:
    """Nobody looks at the network."""
    return None


def _nothing() -> None:
    """Nobody waits for changes."""
