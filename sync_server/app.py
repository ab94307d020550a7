"""A server's data folder, opened: its keys, its replica, and the side of it that answers.

DIR never holds its own path. The server keeps nothing of its own but keys, caches and marks: registrations and
rights are entries, so that a burnt server loses nothing that the agents cannot bring back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from protocol.entry import Entry
from protocol.errors import Code, LocalFailure
from protocol.replica.holdings import Holdings
from protocol.replica.rebuild import open_or_rebuild
from protocol.replica.replica import Draft, Entropy, Replica
from protocol.replica.second_copy import SecondCopy
from protocol.replica.serving import Report, Responder, Station
from protocol.replica.sqlite import SqliteStore
from sync_server.contacts import Contacts
from sync_server.data_folder import INTRODUCTION_FILE
from sync_server.keys import ServerKeys, Territory
from sync_server.reports import Reports
from sync_server.space_keys import SpaceKeeper
from sync_server.strong import BUDGET_BYTES


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
    ) -> None:
        """Made by `open` or `over`."""
        self.folder = folder
        self.territory = territory
        self.keys = keys
        self.store = store
        self.replica = replica
        self.holdings = holdings
        self.now_ms = now_ms
        self.entropy = entropy
        self.backing_up = asyncio.Lock()
        self.contacts = Contacts(store)
        self.reports = Reports(store)
        self.space_keeper = SpaceKeeper(replica, keys.agreement, self.grant, self.write, entropy=entropy)
        station = Station(
            signing=keys.signing,
            agreement=(keys.agreement,),
            chain=chain,
            grant=territory.certificate,
            generation=territory.generation,
            capability_key=keys.capability,
            writes_receipts=True,
        )
        self.responder = Responder(replica, holdings, station, now_ms=now_ms, entropy=entropy)
        self.responder.on_contact = self.contacts.note
        self.responder.on_report = self._note_report

    @classmethod
    async def open(cls, folder: Path, *, now_ms: Callable[[], int], entropy: Entropy) -> Self:
        """The server of DIR, whose lock the caller holds. Raises `BadInput(NOT_INITIALISED)`, `LocalFailure`."""
        territory = Territory.read(folder)
        keys = ServerKeys.read(folder)
        introduction = SecondCopy(folder / INTRODUCTION_FILE)
        opened = await open_or_rebuild(
            folder, territory.root, beside=(introduction,), keep_mark=_stays, unsent=False, now_ms=now_ms
        )
        store = opened.store
        opened.content.delta_budget_bytes = BUDGET_BYTES
        try:
            server = await cls.over(folder, territory, keys, store, opened.replica, now_ms=now_ms, entropy=entropy)
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
    ) -> Self:
        """The server over a replica that is open, with its store. Raises `LocalFailure`."""
        certificate = await _certificate(store, territory)
        holdings = Holdings(store, replica.content)
        await holdings.load()
        server = cls(folder, territory, keys, store, replica, holdings, (certificate,), now_ms=now_ms, entropy=entropy)
        await server.contacts.load()
        await server.reports.load()
        return server

    async def close(self) -> None:
        """Flush and let go."""
        try:
            await self.contacts.flush()
        finally:
            await self.replica.close()

    async def write(self, drafts: Sequence[Draft]) -> list[Entry]:
        """Say something as the server: all drafts in one durable transaction. Raises `LocalFailure`."""
        return await self.replica.write(
            drafts, author=self.keys.signing, now_ms=self.now_ms(), entropy=self.entropy, unsent=False
        )

    def _note_report(self, report: Report) -> None:
        health = self.reports.note(report.register)
        if health is not None:
            self.contacts.note_report(report, health.trouble)

    @property
    def grant(self) -> bytes:
        """The certificate under which the server writes."""
        return self.territory.certificate


def _stays(_mark: str) -> bool:
    """What the server notes of devices and administrators does not depend on the order of arrival."""
    return True


async def _certificate(store: SqliteStore, territory: Territory) -> Entry:
    found = await store.get([territory.certificate])
    if territory.certificate not in found:
        raise LocalFailure(Code.DAMAGED, "the store lacks this server's own certificate")
    return found[territory.certificate]


@asynccontextmanager
async def opened(folder: Path, *, now_ms: Callable[[], int], entropy: Entropy) -> AsyncIterator[Server]:
    """The server of DIR for as long as the context lasts."""
    server = await Server.open(folder, now_ms=now_ms, entropy=entropy)
    try:
        yield server
    finally:
        await server.close()
