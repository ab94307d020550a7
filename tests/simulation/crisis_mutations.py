"""Rules of an outage broken on purpose: couriers, orders of a school, the kit, new keys; as `mutations` does it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from protocol.model.entry import Entry
from protocol.replica.at_work.bare_entries import BareEntries, Lacking
from protocol.replica.at_work.replica import Entropy, Replica
from protocol.replica.office.absent import Gaps
from protocol.rights.door import Authority, Door
from protocol.rights.root_rotation import RootRotation, accounted
from protocol.rights.roster import Roster
from protocol.roles import Role
from sync_agent.courier.disk import ENDING, BundlesOut
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.machine.eviction import Piece, Plan, Worth, plan
from sync_agent.machine.sync_result import SyncResult
from sync_agent.school.measures import NOTHING_ORDERED, DrillTransport, Ordered
from sync_agent.sync.line_of_rights import LineOfRights
from sync_agent.sync.repair import SyncRepair
from sync_server.opened.spoken_elsewhere import SpokenElsewhere
from tests.simulation.mutations import nothing_is_counted


def keeps_what_neighbours_brought() -> AbstractContextManager[object]:
    """A laptop takes nothing home but what it says itself."""

    def nothing(_spaces: Iterable[bytes], _entropy: Entropy) -> dict[str, bytes | None]:
        return {}

    async def unseen(_self: SyncRepair, _run: object, _page: object) -> None:
        return

    async def no_doubts(_self: SyncRepair, _pages: object) -> dict[str, bytes]:
        return {}

    patches = contextlib.ExitStack()
    patches.enter_context(mock.patch("sync_agent.lan.exchange.peer_session.news_of", return_value=lambda _spaces: {}))
    patches.enter_context(mock.patch("sync_agent.lan.exchange.scope.news_marks", nothing))
    # … nor looks whether the server holds the same, or as much
    patches.enter_context(nothing_is_counted())
    patches.enter_context(mock.patch.object(SyncRepair, "compare", unseen))
    patches.enter_context(mock.patch.object(SyncRepair, "doubts_in", no_doubts))
    return patches


def leaves_halves_on_sticks() -> AbstractContextManager[object]:
    """What was not finished on a stick stays there as if it were."""
    plain = BundlesOut.__aexit__

    async def leave(self: BundlesOut, *raised: object) -> None:
        half: Path | None = None
        if self._file is not None:
            half = self._passing.with_name(f"{self._passing.stem * 2}{ENDING}")
            half.write_bytes(self._passing.read_bytes())
        await plain(self, *raised)

    return mock.patch.object(BundlesOut, "__aexit__", leave)


def hears_no_quarantine() -> AbstractContextManager[object]:
    """Whoever is told to be silent goes on."""

    async def nothing(_agent: object) -> Ordered:
        return NOTHING_ORDERED

    patches = contextlib.ExitStack()
    for place in ("sync_agent.school.measures", "sync_agent.courier.commands", "tests.simulation.neighbours"):
        patches.enter_context(mock.patch(f"{place}.ordered", nothing))
    return patches


def rehearses_nothing() -> AbstractContextManager[object]:
    """A drill cuts nobody off."""
    return mock.patch.object(DrillTransport, "_check", return_value=None)


def asks_for_no_payloads() -> AbstractContextManager[object]:
    """What an erasure made bare stays so when it is taken back."""

    async def nothing(_self: BareEntries) -> Lacking:
        return ()

    return mock.patch.object(BareEntries, "lacking", nothing)


def closes_no_class() -> AbstractContextManager[object]:
    """A class goes on after the end of its year."""

    def hides(self: Roster, entry: Entry) -> bool:
        header = entry.header
        return entry.id in self.held_back or not self.erased.isdisjoint((header.subject, header.target, entry.id))

    return mock.patch.object(Roster, "hides", hides)


def folds_do_not_grow() -> AbstractContextManager[object]:
    """What was folded once stays as it was, whatever comes in."""

    def stays(fold: object, *_heard: object) -> object:
        return fold

    return mock.patch("protocol.replica.at_work.views.grown", stays)


def cuts_no_former_server_off() -> AbstractContextManager[object]:
    """The keys that a rotation replaces are worth what they were."""

    async def nobody(*_: object, **__: object) -> dict[bytes, None]:
        return {}

    return mock.patch("sync_server.handlers.by_kit.rotation.replaced_keys", nobody)


def names_nothing_absent() -> AbstractContextManager[object]:
    """What turns up behind a word of a key counts with it, whoever had kept it back."""

    def nothing(*_: object) -> Gaps:
        return Gaps()

    return mock.patch("protocol.replica.office.absent.gaps_in", nothing)


def counts_servers_unheard_of() -> AbstractContextManager[object]:
    """A certificate that somebody has kept back counts whenever it turns up, whatever the latest one names."""

    def nothing(*_: object) -> set[bytes]:
        return set()

    return mock.patch("protocol.rights.revocations.unnamed", nothing)


def counts_the_earlier_rotation_alone() -> AbstractContextManager[object]:
    """Of several rotations to one root the earlier decides what stays, whenever it turns up."""
    return mock.patch.object(Door, "is_followed", lambda door, name: name in {step.entry for step in door._steps})


def stays_by_what_led_to_a_rotation() -> AbstractContextManager[object]:
    """What led to an entry that rotates the root stays, whoever has written it around the new root's word."""

    def all_of_it(entry: bytes, rotation: RootRotation, said: Mapping[bytes, Entry]) -> tuple[bytes, ...]:
        return (*accounted(rotation.heads, said), entry)

    return mock.patch("protocol.rights.revocations._left_by", all_of_it)


def follows_no_new_root() -> AbstractContextManager[object]:
    """A device believes for ever the root that it knew first."""

    def same(_chain: object, root: bytes, _territory: bytes) -> bytes:
        return root

    return mock.patch("sync_agent.transport.server_chain.root_after", same)


def lets_everybody_back() -> AbstractContextManager[object]:
    """Whoever was let go reads on what lies above the classes."""

    async def all_of_them(door: Door, _view: object, key: bytes) -> list[Authority]:
        return list(door.authorities_of(key))

    return mock.patch("protocol.replica.at_work.readers.authorities_in_force", all_of_them)


def believes_every_refusal() -> AbstractContextManager[object]:
    """Whom a server made anew takes for cut off brings it nothing that shows the opposite. (A bug that this found.)"""

    async def nothing(_self: LineOfRights, _spaces: Iterable[bytes]) -> bool:
        return False

    return _with_room_for_heads_alone(mock.patch.object(LineOfRights, "bring", nothing))


def hears_nobody_in_doubt() -> AbstractContextManager[object]:
    """Who takes a neighbour for cut off because of who let it in is brought nothing by it. (A bug that this found.)"""

    async def refused(self: PeerSession, done: object) -> None:
        await self._run(done)  # type: ignore[arg-type]

    return _with_room_for_heads_alone(mock.patch.object(PeerSession, "_run_with_rights", refused))


@contextlib.contextmanager
def _with_room_for_heads_alone(broken: AbstractContextManager[object]) -> Iterator[None]:
    """As in a territory of a thousand classes: elsewhere hardly anybody is refused so (docs/adr/0184)."""
    with broken, mock.patch("protocol.replica.office.heads.MOST_EARLIER_HEADS", 0):
        yield


def names_the_last_words_only() -> AbstractContextManager[object]:
    """What the old keys had said hangs on words that burnt with the server. (A bug that this simulator found.)"""
    return mock.patch("protocol.replica.office.heads.MOST_EARLIER_HEADS", 0)


def forgets_what_was_closed() -> AbstractContextManager[object]:
    """What was closed when another server was met is compared with nothing afterwards. (A bug that this found.)"""

    def nothing(_spaces: Iterable[bytes], _entropy: Entropy) -> dict[str, bytes | None]:
        return {}

    patches = contextlib.ExitStack()
    patches.enter_context(nothing_is_counted())
    patches.enter_context(mock.patch("sync_agent.sync.repair.news_marks", nothing))
    # one question more in the same sync would often find it
    patches.enter_context(mock.patch("sync_agent.sync.session._is_to_be_told", return_value=False))
    return _with_room_for_heads_alone(patches)


def speaks_to_relays_only() -> AbstractContextManager[object]:
    """Machines of a school exchange with a relay, and with nobody else."""
    plain = PeerSession.exchange

    async def exchange(self: PeerSession) -> SyncResult:
        is_relay = Role.RELAY in (self.device.role, await self.agent.role())
        return await plain(self) if is_relay else SyncResult()

    return mock.patch.object(PeerSession, "exchange", exchange)


def leaves_work_to_the_relay() -> AbstractContextManager[object]:
    """What a relay has signed for, its author throws away."""
    plain = PeerSession.exchange

    async def exchange(self: PeerSession) -> SyncResult:
        result = await plain(self)
        for space in await self.agent.spaces() if self.device.role is Role.RELAY else ():
            for work in (await self.agent.replica.view(space)).coursework.hand_ins.values():
                if self.device.key in work.copies and self.agent.made(work):
                    packs = await self.agent.replica.content.packs_holding(space, (), [work.record.content.stream])
                    await self.agent.replica.content.drop([pack.hash for pack in packs])
        return result

    return mock.patch.object(PeerSession, "exchange", exchange)


def lets_everything_make_way() -> AbstractContextManager[object]:
    """Where a disk is full what a device made goes as what it was given does."""

    def lax(
        sizes: Mapping[bytes, int], pieces: Collection[Piece], wanted_bytes: int, before: tuple[Worth, int]
    ) -> Plan:
        worthless = [replace(piece, worth=min(piece.worth, Worth.SUPERSEDED)) for piece in pieces]
        return plan(sizes, worthless, wanted_bytes, before)

    return mock.patch("sync_agent.sync.room.plan", lax)


def notes_nothing_from_elsewhere() -> AbstractContextManager[object]:
    """A word under the server's own key is like any other, whoever brings it."""
    return mock.patch.object(SpokenElsewhere, "witness", return_value={})


def takes_its_own_words_for_anothers() -> AbstractContextManager[object]:
    """The server is shown what it says itself as well."""
    plain = Replica.write

    async def write(self: Replica, *args: Any, **options: Any) -> list[Entry]:
        said = await plain(self, *args, **options)
        self.witness(said)
        return said

    return mock.patch.object(Replica, "write", write)
