"""What a server says is noted as its own in the transaction that says it: no power cut lies between (docs/adr/0406)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.model.entry import Entry, Kind
from protocol.replica.office.said_here import CUT_MARKS, LEAVE_MARKS
from tests.harness.office_devices import town


class Transactions:
    """What a store is told to write: in each transaction the entries, with the marks beside them."""

    def __init__(self, store: Any) -> None:
        self._append = store.append
        self.written: list[tuple[Sequence[Entry], Mapping[str, bytes | None]]] = []

    async def append(self, entries: Sequence[Entry], **more: Any) -> Any:
        """Note it, and write it."""
        self.written.append((entries, more.get("marks") or {}))
        return await self._append(entries, **more)

    def beside(self, kind: Kind) -> list[bool]:
        """For each entry of a kind, whether it was noted beside it as said here."""
        noted_as = {Kind.REVOKE: CUT_MARKS, Kind.PERSON: LEAVE_MARKS}[kind]
        return [
            noted_as + entry.id.hex() in marks
            for entries, marks in self.written
            for entry in entries
            if entry.header.kind == kind
        ]


async def test_a_revocation_and_who_leaves_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(tmp_path) as here:
        work = await here.class_at_work()
        store = here.office.server.store
        seen = Transactions(store)
        monkeypatch.setattr(store, "append", seen.append)
        await here.office.do("revoke", device=work.machine.agent.device.hex())
        await here.office.do("person rename", person=work.pupil, name="Zoé")
        await here.office.do("person retire", person=work.pupil)
        assert seen.beside(Kind.REVOKE) == [True]
        assert seen.beside(Kind.PERSON) == [True, True]
