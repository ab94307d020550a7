"""A server's data folder, opened: its keys, its replica, and the side of it that answers.

DIR never holds its own path. The server keeps nothing of its own but keys, caches and marks: registrations and
rights are entries, so that a burnt server loses nothing that the agents cannot bring back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from protocol.errors import Code, LocalFailure
from protocol.identity import SigningKey
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Certificate
from protocol.replica.answering.allowances import Allowances
from protocol.replica.answering.challenges import Challenges
from protocol.replica.answering.serving import Responder
from protocol.replica.answering.station import Contact, Report, Station
from protocol.replica.at_work.forgotten import devices_of_forgotten
from protocol.replica.at_work.replica import Draft, Entropy, Notes, Replica
from protocol.replica.content.holdings import Holdings
from protocol.replica.office.acts import Trail
from protocol.replica.office.arrivals import Ran, RunningTime, noted_ran
from protocol.replica.office.bureau import Met
from protocol.replica.office.known_here import is_about_cuts, marks_of
from protocol.replica.office.said_before import following
from protocol.replica.office.servers_memory import ServersMemory
from protocol.replica.office.space_keeper import SpaceKeeper
from protocol.replica.private_file import remove_private
from protocol.replica.process.unforeseen import Unforeseen
from protocol.replica.steady import SteadyClock
from protocol.replica.storage.second_copy import SecondCopy
from protocol.replica.storage.sqlite import SqliteStore
from protocol.replica.upkeep.eraser import Eraser
from protocol.replica.upkeep.pace import Pace
from protocol.replica.upkeep.rebuild import Loss, last_loss, open_or_rebuild
from protocol.rights.vouching import Device
from protocol.roles import RANK, Role
from sync_server.opened.contacts import Contacts
from sync_server.opened.data_folder import COPY_FILE, INTRODUCTION_FILE, NEXT_KEYS_FILE
from sync_server.opened.keys import CAPABILITY_KEY_BYTES, ServerKeys, Territory
from sync_server.opened.losses import store_name, take_losses
from sync_server.opened.own_keys import replaced_own_keys
from sync_server.opened.reports import Reports
from sync_server.opened.sealed_marks import seal_bare
from sync_server.opened.spoken_elsewhere import ELSEWHERE_MARKS, SpokenElsewhere
from sync_server.opened.strong import BUDGET_BYTES

_log = logging.getLogger(__name__)


class Server:
    """What a command or the listener works with. `now_ms` and `entropy` are the rim's clock and randomness."""

    def __init__(
        self,
        folder: Path,
        territory: Territory,
        keys: ServerKeys,
        store: SqliteStore,
        replica: Replica,
        holdings: Holdings,
        chain: tuple[Entry, ...],
        *,
        now_ms: Callable[[], int],
        entropy: Entropy,
        steady: SteadyClock | None = None,
    ) -> None:
        """Made by `open` or `over`. Without a `steady` clock the own one stands for it, while this server lives."""
        self.folder = folder
        self.territory = territory
        self.keys = keys
        self.store = store
        self.replica = replica
        self.holdings = holdings
        self.now_ms = now_ms
        self.steady_ms, beginning = steady or SteadyClock(now_ms)
        """A clock that nobody sets."""
        self.pace = Pace(Eraser(replica, holdings), lambda: (self.now_ms(), self.steady_ms()), beginning)
        """Through which whatever destroys here does so."""
        self.running = RunningTime(lambda: self.steady_ms(), beginning)  # noqa: PLW0108  (tests set that clock later)
        """By which what has come when is noted, and codes end."""
        self.entropy = entropy
        self.on_new_keys: Callable[[], Awaitable[None]] = _nobody_listens
        """Called once a rotation is done, for who shows a certificate that the keys and their chain make."""
        self.unforeseen = Unforeseen(now_ms)
        """Errors that work of `run` met and nobody foresaw; the work goes on."""
        self.loss: Loss | None = None
        """That entries of its store were lost, the last time."""
        self.callers_are_unknown = False
        """Whether a proxy in front has left unsaid whose a request is."""
        self.acts = Trail(store, lambda: self.now_ms(), lambda: self.steady_ms())  # noqa: PLW0108  (as above)
        """Who has done what here, which no replica carries."""
        self.backing_up = asyncio.Lock()
        self.using_codes = asyncio.Lock()
        self.rotating = asyncio.Lock()
        self._own_keys = {keys.signing.public}
        # of this process alone: whoever has a copy of the disk issues no links (docs/adr/0559)
        self._link_key = secrets.token_bytes(CAPABILITY_KEY_BYTES)
        self.elsewhere = SpokenElsewhere(lambda: self.own_keys, lambda: self.now_ms())  # noqa: PLW0108
        """What was brought under this server's keys, and this server did not say."""
        replica.witness = self.elsewhere.witness
        self.contacts = Contacts(store)
        self.reports = Reports(store)
        replica.remember(ServersMemory(self))
        self.space_keeper = SpaceKeeper(replica, keys.agreement, self.grant, self.write, now_ms=now_ms, entropy=entropy)
        self.responder = Responder(replica, holdings, self._station(chain), now_ms=now_ms, entropy=entropy)
        self.responder.allowances = Allowances(replica, holdings, now_ms)
        # of this process alone, whatever else is drawn again elsewhere
        self.responder.challenges = Challenges(secrets.token_bytes(32), lambda: self.steady_ms())  # noqa: PLW0108
        self.responder.on_contact = self._note_contact
        self.responder.on_servers_call = self._note_servers_call
        self.responder.on_report = self._note_report
        self.responder.name_of = self._name_of
        self.responder.has_spoken_elsewhere = lambda: self.elsewhere.is_due(self.keys.signing.public)

    async def _note_servers_call(self, key: bytes) -> None:
        if marks := self.elsewhere.called(key):
            await self.store.set_marks(marks)

    def _name_of(self, device: bytes) -> str | None:
        health = self.reports.of(device)
        return self.contacts.of(device).name if health is None else health.name

    def _station(self, chain: tuple[Entry, ...]) -> Station:
        return Station(
            signing=self.keys.signing,
            agreement=(self.keys.agreement,),
            chain=chain,
            grant=self.territory.certificate,
            generation=self.territory.generation,
            capability_key=self._link_key,
            writes_receipts=True,
        )

    @asynccontextmanager
    async def changing_keys(self) -> AsyncIterator[None]:
        """While the context lasts nothing is signed by this server: no round of keys, no receipt, no command."""
        async with self.space_keeper.resting, self.responder.pen:
            yield

    async def take_certificate(self) -> None:
        """Go on under the newest certificate for the same keys; in `changing_keys`."""
        self.territory = await _with_certificate(self.folder, self.territory, self.keys, self.replica)
        await self._go_on()

    async def take_next_keys(self) -> None:
        """Go on under the keys that a rotation made and a certificate in the set names; in `changing_keys`."""
        self.territory, self.keys = await _with_next_keys(self.folder, self.territory, self.keys, self.store)
        await self._go_on()

    def signing_key(self, public: bytes) -> SigningKey | None:
        """The private half of a key in use, or of one that a rotation has made; None for anybody else's."""
        if public == self.keys.signing.public:
            return self.keys.signing
        if not (self.folder / NEXT_KEYS_FILE).exists():
            return None
        following = ServerKeys.read(self.folder, NEXT_KEYS_FILE).signing
        return following if public == following.public else None

    async def _go_on(self) -> None:
        self._own_keys.add(self.keys.signing.public)
        self.elsewhere.of_before = frozenset()  # new keys end those of before: whoever is told goes by the new one
        chain = await _chain(self.replica, self.territory)
        self.space_keeper.take(self.keys.agreement, self.grant)
        self.responder.station = self._station(chain)
        with contextlib.suppress(LocalFailure):  # a full disk: the next opening does it
            await asyncio.to_thread(SecondCopy(self.folder / INTRODUCTION_FILE, of_others=True).replace, chain)
        await self.on_new_keys()

    @classmethod
    async def open(
        cls, folder: Path, *, now_ms: Callable[[], int], entropy: Entropy, steady: SteadyClock | None = None
    ) -> Self:
        """The server of DIR, whose lock the caller holds. Raises `BadInput(NOT_INITIALISED)`, `LocalFailure`."""
        territory = Territory.read(folder)
        keys = ServerKeys.read(folder)
        # what a backup that was cut off has left: all that was erased since is in it
        with contextlib.suppress(OSError):
            await asyncio.to_thread((folder / COPY_FILE).unlink, missing_ok=True)
        introduction = SecondCopy(folder / INTRODUCTION_FILE, of_others=True)
        opened = await open_or_rebuild(
            folder, territory.root, beside=(introduction,), keep_mark=every_mark, unsent=False, now_ms=now_ms
        )
        store = opened.store
        opened.content.delta_budget_bytes = BUDGET_BYTES
        try:
            territory, keys = await _with_next_keys(folder, territory, keys, store)
            territory = await _with_certificate(folder, territory, keys, opened.replica)
            await seal_bare(store, keys, entropy)
            server = await cls.over(
                folder, territory, keys, store, opened.replica, now_ms=now_ms, entropy=entropy, steady=steady
            )
            with contextlib.suppress(LocalFailure):  # a full disk: the next opening does it
                await asyncio.to_thread(introduction.replace, server.responder.station.chain)
        except BaseException:
            await store.close()
            raise
        return server

    @classmethod
    async def over(
        cls,
        folder: Path,
        territory: Territory,
        keys: ServerKeys,
        store: SqliteStore,
        replica: Replica,
        *,
        now_ms: Callable[[], int],
        entropy: Entropy,
        steady: SteadyClock | None = None,
    ) -> Self:
        """The server over a replica that is open, with its store. Raises `LocalFailure`."""
        chain = await _chain(replica, territory)
        holdings = Holdings(store, replica.content)
        await holdings.load()
        server = cls(
            folder, territory, keys, store, replica, holdings, chain, now_ms=now_ms, entropy=entropy, steady=steady
        )
        await server.take_losses()
        server._own_keys |= await replaced_own_keys(store)
        server.elsewhere.load(await store.marks(ELSEWHERE_MARKS))
        server.running.now(await noted_ran(store))
        await server.contacts.load()
        await server.reports.load()
        return server

    async def take_losses(self) -> None:
        """Go by what is left where entries were lost: at the opening, and once bad ones were moved aside."""
        loss = await last_loss(self.store)
        await take_losses(self.store, self.replica.door.root_now, loss)
        self.replica.noted += 1
        self.loss = loss

    async def close(self) -> None:
        """Flush and let go."""
        try:
            await self.contacts.flush()
        finally:
            await self.replica.close()

    async def write(self, drafts: Sequence[Draft], notes: Notes | None = None) -> list[Entry]:
        """Say something as the server, noted as its own: all in one durable transaction. Raises `LocalFailure`."""

        def noted(said: Sequence[Entry]) -> Mapping[str, bytes | None]:
            return {**marks_of(said), **({} if notes is None else notes(said))}

        following_on = await following(self.replica, self.keys.signing.public, drafts)
        said = await self.responder.say(following_on, noted)
        self.replica.noted += any(map(is_about_cuts, said))
        return said

    async def say(self, drafts: Sequence[Draft], notes: Notes | None = None) -> list[Entry]:
        """As `Office.say`: the certificate holds everywhere."""
        return await self.write(drafts, notes)

    async def tend_keys(self, spaces: Iterable[bytes], *, let_in: bool = False, asked: bool = True) -> None:
        """As `Office.tend_keys`."""
        await self.space_keeper.tend(spaces, let_in=let_in, asked=asked)

    async def forget_names(self) -> None:
        """Let go of what machines were called that were lent to who is forgotten, in memory and marks."""
        gone = await devices_of_forgotten(self.replica, {*self.contacts.named(), *self.reports.devices})
        self.reports.forget(gone)
        self.contacts.forget_names(gone)
        await self.contacts.flush()

    async def forget_devices(self, devices: Collection[bytes]) -> None:
        """Let go of what these were called, when they were heard of and what they reported, in memory and store."""
        self.reports.forget(devices)
        self.contacts.forget_devices(devices)
        await self.store.drop_registers(devices)
        await self.contacts.flush()

    @property
    def own_keys(self) -> Collection[bytes]:
        """The keys that are this very server's, by its own notes: the one in use, and those that it has replaced."""
        return self._own_keys

    @property
    def territory_name(self) -> str:
        """What people call the territory."""
        return self.territory.name

    @property
    def home(self) -> bytes:
        """All of it."""
        return self.replica.territory

    @property
    def reach(self) -> Sequence[bytes]:
        """All of it."""
        return (self.home,)

    @property
    def rank(self) -> int:
        """A server's."""
        return RANK[Role.SERVER]

    @property
    def own_device(self) -> Device:
        """This server's keys."""
        return self.keys.signing.public, self.keys.agreement.public

    def met_first(self, _person: bytes, _without: Collection[bytes]) -> Met:
        """Nobody: a server doubts none of what it says."""
        return Met()

    def note_unknown_caller(self) -> None:
        """The proxy in front does not say whose a request is: people are told, once in the log."""
        if not self.callers_are_unknown:
            _log.warning(
                "the proxy in front names no client in X-Forwarded-For: no address is bounded, and whoever signs in "
                "waits for everybody's failures; docs/operate.md says how to set it"
            )
        self.callers_are_unknown = True

    @property
    def store_name(self) -> bytes:
        """What machines have told all that they know: this very store, as long as it loses nothing."""
        return store_name(self.territory.generation, self.loss)

    @property
    def ran_ms(self) -> int:
        """How long programs of this server have run, by a clock that nobody sets."""
        return self.running.now(Ran()).ms

    def _note_contact(self, contact: Contact) -> None:
        told = None if contact.told is None else self.store_name
        self.contacts.note(replace(contact, told=told), self.ran_ms)

    def _note_report(self, report: Report) -> None:
        health = self.reports.note(report.register)
        if health is not None:
            self.contacts.note_report(report, health.trouble, untold=health.backlog_entries > 0)

    @property
    def grant(self) -> bytes:
        """The certificate under which the server writes."""
        return self.territory.certificate


async def _with_next_keys(
    folder: Path, territory: Territory, keys: ServerKeys, store: SqliteStore
) -> tuple[Territory, ServerKeys]:
    """The keys in force: those of a rotation if a certificate in the set names them, else such are thrown away."""
    if not (folder / NEXT_KEYS_FILE).exists():
        return territory, keys
    following = ServerKeys.read(folder, NEXT_KEYS_FILE)
    for entry in await store.scan_kinds([Kind.CERTIFICATE]):
        if Certificate.parse(entry.payload or b"").signing == following.signing.public:
            territory, keys = replace(territory, certificate=entry.id), following
    with contextlib.suppress(LocalFailure):  # a full disk: what the set says holds, and the next opening does it
        if keys is following:
            keys.write(folder)
            territory.write(folder)
        remove_private(folder / NEXT_KEYS_FILE)
    return territory, keys


async def _with_certificate(folder: Path, territory: Territory, keys: ServerKeys, replica: Replica) -> Territory:
    """Under the newest certificate of these keys by the root in force: after a rotation that was cut short, say."""
    mine = [each.grant for each in replica.door.authorities_of(keys.signing.public) if each.role is Role.SERVER]
    entries = (await replica.store.get(mine)).values()
    dated = [(one.header.at, one.id) for one in entries if one.header.author == replica.door.root_now]
    if dated and max(dated)[1] != territory.certificate:
        territory = replace(territory, certificate=max(dated)[1])
        with contextlib.suppress(LocalFailure):
            territory.write(folder)
    return territory


async def _nobody_listens() -> None:
    """Nothing is shown."""


def every_mark(_mark: str) -> bool:
    """Of what the server notes all stays where entries were lost: `losses` says what of it counts no more."""
    return True


async def _chain(replica: Replica, territory: Territory) -> tuple[Entry, ...]:
    """The server's certificate, after the rotations that lead to the root that signed it."""
    chain = await replica.credentials([territory.certificate])
    if territory.certificate not in {entry.id for entry in chain}:
        raise LocalFailure(Code.DAMAGED, "the store lacks this server's own certificate")
    return chain


@asynccontextmanager
async def opened(
    folder: Path, *, now_ms: Callable[[], int], entropy: Entropy, steady: SteadyClock | None = None
) -> AsyncIterator[Server]:
    """The server of DIR for as long as the context lasts."""
    server = await Server.open(folder, now_ms=now_ms, entropy=entropy, steady=steady)
    try:
        yield server
    finally:
        await server.close()
