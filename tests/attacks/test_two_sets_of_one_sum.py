"""A fingerprint of ranges is a sum: who computes for an hour makes two sets of one, and would hide others' words."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from protocol.clock import DAY_MS, at_from
from protocol.model.entry import DOMAIN, Entry, restore, unsigned
from protocol.reconcile import negentropy
from protocol.reconcile.sorted_records import SortedRecords
from sync_agent.sync.reconciling import Reconciling
from sync_agent.transport.sealed_calls import SealedCalls
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.named import Named
from tests.harness.office_devices import Town, town

ROW = "a member makes two sets of one sum"
SUM_BITS = 24
"""Stand for 256: generalised birthday search finds 32,769 such words by 2**31 hashes."""
A_KIND = 0x3E
TRIED = 1 << 15
LATER = 200


@pytest.fixture(autouse=True)
def few_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negentropy, "_SUM_MASK", (1 << SUM_BITS) - 1)


def _by_sum(records: SortedRecords, without: Collection[bytes] = ()) -> bytes:
    kept = SortedRecords(record for record in records if record.id not in without)
    return kept.fingerprint(0, len(kept))


SUMS: dict[str, object] = {
    f"{module}.fingerprint_of": _by_sum
    for module in (
        "protocol.replica.at_work.replica",
        "protocol.replica.answering.news",
        "protocol.replica.answering.serving",
        "sync_agent.sync.repair",
        "sync_agent.sync.reconciling",
    )
}


class Words:
    """What a teacher's laptop can say of a class, in as many ways as it likes."""

    def __init__(self, device: Device, space: bytes, at_ms: int) -> None:
        self._key = device.agent.keys.signing
        held = device.agent.replica.door.authorities_of(device.agent.device)
        grant = next(each.grant for each in held if each.space == space)
        mark = os.urandom(32)
        said = unsigned(
            author=self._key.public,
            space=space,
            kind=A_KIND,
            grant=grant,
            at=at_from(at_ms),
            payload=b"",
            salt=bytes(16),
            target=mark,
        )
        self._before, self._after = said.header_bytes.split(mark)

    def to_hide(self, names: Sequence[bytes]) -> tuple[list[Entry], list[Entry]]:
        """Some for who is not to hear of these, and some for who has them: both then have as many, and one sum."""
        least = len(names) + 1
        for_who_lacks = [os.urandom(32) for _ in range(least - 2)]
        for_who_has = os.urandom(32)
        wanted = sum(map(_low, names)) + self._low(for_who_has) - sum(map(self._low, for_who_lacks))
        known = {self._low(one): one for one in (os.urandom(32) for _ in range(TRIED))}
        for low, one in known.items():
            other = known.get((wanted - low) % (1 << SUM_BITS), one)
            if other != one:
                return [self._word(each) for each in (one, other, *for_who_lacks)], [self._word(for_who_has)]
        raise AssertionError("less likely than one in 10**12")

    def many(self, count: int) -> list[Entry]:
        """So many, of no use but to stand there."""
        return [self._word(os.urandom(32)) for _ in range(count)]

    def _low(self, target: bytes) -> int:
        return _low(blake3(self._before + target + self._after).digest())

    def _word(self, target: bytes) -> Entry:
        header = self._before + target + self._after
        return restore(header, self._key.sign(DOMAIN, header), bytes(16), b"")


def _low(name: bytes) -> int:
    return int.from_bytes(name, "little") % (1 << SUM_BITS)


async def _in_step(here: Town) -> tuple[Device, Device, str, bytes]:
    """A pupils' PC and the laptop of M. X, who teaches there; a pupil, and an assignment."""
    _, machine, _, pupil, item = await here.class_in_step()
    laptop = await here.device("teacher", await here.office.add_person("M. X", "teacher"))
    for _ in range(3):
        here.office.clock.advance(60_000)
        await here.sync()
    return machine, laptop, pupil, item


@attack(ROW, off=SUMS)
async def test_a_pc_hears_that_a_laptop_was_cut_off_whatever_sums_that_laptop_makes(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        office, clock, server = here.office, here.office.clock, here.office.server.replica
        machine, laptop, *_ = await _in_step(here)
        before = {record.id for record in await server.records(here.space)}
        words = Words(laptop, here.space, clock())
        await office.do("revoke", device=laptop.agent.device.hex())
        reported = [record.id for record in await server.records(here.space) if record.id not in before]
        for_the_pc, for_the_server = words.to_hide(reported)
        await server.admit(for_the_server, source=b"any computer", now_ms=clock())
        await machine.agent.replica.admit(for_the_pc, source=b"the laptop, on the school's network", now_ms=clock())
        machine.session.sharing = Named(["another computer of the school"]).sharing("PC")
        await machine.session.sync()
        machine.session.sharing = None
        for _ in range(3):
            clock.advance(DAY_MS)
            await machine.session.sync()
        assert await machine.agent.replica.store.present(reported) == set(reported)


@attack(ROW, off={"sync_agent.sync.reconciling._Dialogue.has_found_all": lambda _dialogue: True})
async def test_work_that_a_server_never_had_is_brought_whatever_sums_a_laptop_makes(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        clock, server = here.office.clock, here.office.server.replica
        machine, laptop, pupil, item = await _in_step(here)
        store = machine.agent.replica.store
        work = await here.work(machine, item, pupil)
        taken = (await store.unsent_ids())[here.space]
        await store.mark_sent(taken)
        for_the_server, for_the_pc = Words(laptop, here.space, clock()).to_hide(sorted(taken))
        # all that is summed up lies in one range then
        later = Words(laptop, here.space, clock() + 60_000).many(LATER)
        clock.advance(2 * 60_000)
        await server.admit([*for_the_server, *later], source=b"any computer", now_ms=clock())
        here_now = [*for_the_pc, *later]
        await machine.agent.replica.admit(here_now, source=b"the laptop, on the school's network", now_ms=clock())
        await Reconciling(machine.agent, SealedCalls(machine.agent, machine.way)).reconcile(here.space)
        assert work in (await store.unsent_ids()).get(here.space, ()), "it is left to send"
