"""Slots under which keys of works lie: each is one key's, and what is given up opens nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from protocol.canonical import Value, encode
from protocol.errors import Code, LocalFailure
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.upkeep.eraser import LEFTOVERS_MARK
from sync_agent.machine.enrolled import KEY_SLOTS_FILE, KEY_SLOTS_FILES
from sync_agent.machine.key_slots import SEALED_KEY_BYTES, KeySlots
from sync_agent.machine.marks import DRAFT_MARKS, HAND_IN_MARKS
from sync_agent.machine.secrets import SecretsOfFolder

FILE_BYTES = 1024 * 32


class Machine:
    """A folder and a store, and the slots of each process that opens them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / KEY_SLOTS_FILE
        self.secrets, self.store = SecretsOfFolder(folder), MemoryStore()
        self._random = Random(1)

    def process(self) -> KeySlots:
        return KeySlots(lambda: self.secrets, self.store, self._random.randbytes)

    async def keep(self, slots: KeySlots, name: str) -> tuple[bytes, bytes]:
        """A key, and what its mark holds of it."""
        key = self._random.randbytes(32)
        async with slots.sealing(key) as sealed:
            await self.store.set_marks({f"{HAND_IN_MARKS}{name}": encode({"sealed": sealed})})
        return key, sealed

    async def forget(self, slots: KeySlots, name: str, sealed: bytes) -> None:
        await slots.give_up([sealed])
        await self.store.set_marks({f"{HAND_IN_MARKS}{name}": None})


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def test_what_is_sealed_opens_in_each_process_until_it_is_given_up(machine: Machine) -> None:
    slots = machine.process()
    key, sealed = await machine.keep(slots, "a")
    other, others = await machine.keep(slots, "b")
    assert len(sealed) == SEALED_KEY_BYTES
    assert machine.process().open(sealed) == slots.open(sealed) == key
    await machine.forget(machine.process(), "a", sealed)
    assert machine.process().open(sealed) is slots.open(sealed) is None
    assert machine.process().open(others) == other


async def test_no_secret_ever_seals_two_keys(machine: Machine) -> None:
    seen = set[bytes]()
    for process in range(3):
        slots = machine.process()
        for number in range(4):
            _, sealed = await machine.keep(slots, f"{process}/{number}")
            at = int.from_bytes(sealed[:4], "big") * 32
            secret = machine.file.read_bytes()[at : at + 32]
            assert secret not in seen
            seen.add(secret)
            if number % 2:
                await machine.forget(slots, f"{process}/{number}", sealed)


async def test_the_file_grows_at_its_end_and_is_never_another_one(machine: Machine) -> None:
    slots = machine.process()
    kept = [await machine.keep(slots, str(number)) for number in range(3)]
    before, place = machine.file.read_bytes(), machine.file.stat().st_ino
    assert len(before) == FILE_BYTES
    kept += [await machine.keep(slots, str(number)) for number in range(3, 1026)]
    assert machine.file.read_bytes()[:FILE_BYTES] == before
    assert machine.file.stat().st_size == 2 * FILE_BYTES
    assert machine.file.stat().st_ino == place
    assert [slots.open(sealed) for _, sealed in kept] == [key for key, _ in kept]


async def test_slots_are_used_again(machine: Machine) -> None:
    slots = machine.process()
    for number in range(2_000):
        _, sealed = await machine.keep(slots, "a")
        await machine.forget(slots, "a", sealed)
        if number % 700 == 0:
            slots = machine.process()
    assert machine.file.stat().st_size == FILE_BYTES


async def test_an_old_copy_of_a_mark_takes_no_key_from_whose_slot_it_is_now(machine: Machine) -> None:
    slots = machine.process()
    _, old = await machine.keep(slots, "a")
    await machine.forget(slots, "a", old)
    key, new = await machine.keep(slots, "b")
    assert old[:4] == new[:4]
    await slots.give_up([old])
    assert slots.open(new) == key


async def test_a_process_draws_anew_what_no_mark_names_before_it_takes_a_slot(machine: Machine) -> None:
    _, named = await machine.keep(machine.process(), "a")
    before = machine.file.read_bytes()
    await machine.keep(machine.process(), "b")
    after = machine.file.read_bytes()
    at = int.from_bytes(named[:4], "big")
    same = [number for number in range(1024) if before[number * 32 :][:32] == after[number * 32 :][:32]]
    assert same == [at]


async def test_a_key_that_no_mark_holds_yet_keeps_its_slot(machine: Machine) -> None:
    slots = machine.process()
    async with slots.sealing(b"k" * 32) as sealed:
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(machine.keep(slots, str(number))) for number in range(1_100)]
        await slots.give_up([task.result()[1] for task in others])
        assert slots.open(sealed) == b"k" * 32
    assert len({task.result()[1][:4] for task in others} | {sealed[:4]}) == 1_101


@pytest.mark.parametrize("size", [None, 0, 20, 70])
async def test_where_the_file_is_lost_or_cut_short_what_lay_there_is_lost_and_it_goes_on(
    machine: Machine, size: int | None
) -> None:
    slots = machine.process()
    kept = [await machine.keep(slots, str(number)) for number in range(4)]
    if size is None:
        machine.file.unlink()
    else:
        machine.file.write_bytes(machine.file.read_bytes()[:size])
    whole = (size or 0) // 32
    assert [slots.open(sealed) for _, sealed in kept] == [key for key, _ in kept[:whole]] + [None] * (4 - whole)
    for process in (slots, machine.process()):
        key, sealed = await machine.keep(process, "later")
        assert process.open(sealed) == key
        await process.give_up([sealed for _, sealed in kept[whole:]])
        assert process.open(sealed) == key


class _NotWritten(SecretsOfFolder):
    """A folder of which one file may not be written."""

    def overwrite(self, name: str, pieces: Mapping[int, bytes]) -> None:
        if name == KEY_SLOTS_FILE:
            raise LocalFailure(Code.STORAGE_FAILED, "this account may not use it")
        super().overwrite(name, pieces)


@pytest.mark.parametrize("may_be_read", [True, False])
async def test_where_the_file_cannot_be_used_another_takes_over_and_it_stays_as_it_is(
    machine: Machine, tmp_path: Path, *, may_be_read: bool
) -> None:
    slots = machine.process()
    (key, sealed), (_, given_up) = await machine.keep(slots, "a"), await machine.keep(slots, "b")
    before, usual = machine.file.read_bytes(), machine.secrets
    if may_be_read:
        machine.secrets = _NotWritten(tmp_path)
    else:
        aside = machine.file.rename(machine.file.with_name("aside"))
        machine.file.mkdir()
    await machine.forget(slots, "b", given_up)
    later = list[tuple[bytes, bytes]]()
    for process in (slots, machine.process()):
        later.append(await machine.keep(process, f"later {len(later)}"))
        assert process.open(sealed) == (key if may_be_read else None)
        assert [process.open(each) for _, each in later] == [each for each, _ in later]
        assert list(await process.hindrances()) == [KEY_SLOTS_FILE]
    machine.secrets = usual
    if not may_be_read:
        machine.file.rmdir()
        aside.rename(machine.file)
    assert machine.file.read_bytes() == before
    await slots.draw_free()
    assert await slots.hindrances() == {}
    assert slots.open(given_up) is None
    assert [slots.open(each) for _, each in [(key, sealed), *later]] == [key, *(each for each, _ in later)]
    await slots.give_up([each for _, each in later])
    assert [slots.open(each) for _, each in later] == [None, None]


async def test_nothing_is_kept_where_no_file_can_be_used_and_it_is_said(machine: Machine) -> None:
    for file in KEY_SLOTS_FILES:
        machine.file.with_name(file).mkdir()
    with pytest.raises(LocalFailure) as caught:
        await machine.keep(machine.process(), "a")
    assert caught.value.code is Code.STORAGE_FAILED
    assert tuple(await machine.process().hindrances()) == KEY_SLOTS_FILES


async def test_whoever_is_cut_off_meanwhile_leaves_no_write_behind_that_meets_the_next(machine: Machine) -> None:
    slots = machine.process()
    tasks = [asyncio.create_task(machine.keep(slots, str(number))) for number in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    kept = [each for each in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(each, tuple)]
    assert len(kept) >= 20
    assert [slots.open(sealed) for _, sealed in kept] == [key for key, _ in kept]


async def test_keys_of_an_earlier_version_are_sealed_and_the_rest_of_a_mark_stays(machine: Machine) -> None:
    rows: dict[str, dict[str, Value]] = {
        f"{HAND_IN_MARKS}a": {"seen": 7, "proven": 8},
        f"{DRAFT_MARKS}b/c": {"name": bytes(16), "at": 5},
    }
    for number, (name, row) in enumerate(rows.items()):
        await machine.store.set_marks({name: encode({**row, "key": bytes([number]) * 32})})
    await machine.store.set_marks({f"{HAND_IN_MARKS}d": encode({"key": None, "opened": 1})})
    slots = machine.process()
    assert await slots.seal_bare()
    for number, name in enumerate(rows):
        mark = await machine.store.mark(name)
        assert mark is not None
        assert bytes([number]) * 32 not in mark
        at = mark.index(b"sealed") + len("sealed") + 2
        assert slots.open(mark[at : at + SEALED_KEY_BYTES]) == bytes([number]) * 32
    assert await machine.store.mark(f"{HAND_IN_MARKS}d") == encode({"sealed": None, "opened": 1})
    assert await machine.store.mark(LEFTOVERS_MARK) is not None


class _Full(SecretsOfFolder):
    """A disk that takes nothing."""

    is_full = True

    def keep(self, name: str, data: bytes) -> None:
        if self.is_full:
            raise LocalFailure(Code.DISK_FULL, "the disk is full")
        super().keep(name, data)


async def test_on_a_full_disk_they_stay_until_there_is_room(machine: Machine, tmp_path: Path) -> None:
    machine.secrets = disk = _Full(tmp_path)
    bare = encode({"key": bytes(32)})
    await machine.store.set_marks({f"{HAND_IN_MARKS}a": bare})
    slots = machine.process()
    assert not await slots.seal_bare()
    assert await machine.store.mark(f"{HAND_IN_MARKS}a") == bare
    disk.is_full = False
    assert await slots.seal_bare()
    assert await machine.store.mark(f"{HAND_IN_MARKS}a") != bare
