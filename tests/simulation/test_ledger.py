"""What counts as lost when a disk goes: what nobody is left to hand on, and nothing else."""

from __future__ import annotations

import pytest

from protocol.model.entry import Entry, Kind
from tests.harness.entries import EntryMaker
from tests.simulation.command import simulate
from tests.simulation.disk import Disk
from tests.simulation.ledger import Ledger

MAKER = EntryMaker()


async def _disk(*entries: Entry) -> Disk:
    disk = Disk()
    await disk.store.append(entries)
    return disk


async def _lost(entry: Entry, *also_on_the_other: Entry, burnt: Disk | None = None) -> bool:
    ledger = Ledger()
    ledger.acknowledge([entry])
    ledger.burn(burnt or await _disk(entry), [await _disk(entry, *also_on_the_other)])
    return entry.id not in ledger.kept


@pytest.mark.parametrize("kind", [Kind.GRANT, Kind.SUCCESSOR])
async def test_what_a_neighbour_has_only_shown_goes_with_the_last_machine_of_its_class(kind: Kind) -> None:
    assert await _lost(MAKER.entry(kind=kind))
    assert await _lost(MAKER.entry(kind=kind), MAKER.entry(kind=Kind.GRANT), MAKER.entry(kind=Kind.REVOKE))


@pytest.mark.parametrize("kind", [Kind.GRANT, Kind.SUCCESSOR])
async def test_whoever_reads_a_class_owes_the_server_whom_it_was_told_to_let_in(kind: Kind) -> None:
    assert not await _lost(MAKER.entry(kind=kind), MAKER.entry(kind=Kind.SPACE))


@pytest.mark.parametrize("kind", [Kind.REVISION, Kind.HAND_IN, Kind.RECEIPT_SAFE, Kind.REVOKE])
async def test_anything_else_is_owed_by_whoever_has_it(kind: Kind) -> None:
    assert not await _lost(MAKER.entry(kind=kind))


async def test_what_did_not_lie_on_the_disk_that_went_is_not_lost_with_it() -> None:
    assert not await _lost(MAKER.entry(kind=Kind.GRANT), burnt=await _disk())


def test_grants_that_never_leave_whoever_made_them_are_noticed_as_lost() -> None:
    _, said = simulate("--broken", "keeps_to_itself_whom_it_let_in", "--seed", "3")
    assert "BROKEN: acknowledged: GRANT " in said
