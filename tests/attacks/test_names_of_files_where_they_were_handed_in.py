"""« Mon père est malade.odt »: whoever has the disk of the PC where work was handed in reads no name of its files."""

from __future__ import annotations

from typing import Final

from protocol.canonical import Value, encode
from protocol.replica.content.kept.pack_files import DAMAGED
from protocol.replica.storage.sqlite import DATABASE
from sync_agent.hand_ins.drafts import Drafts
from sync_agent.hand_ins.handing_in import confirm_opened
from sync_agent.hand_ins.wraps import Kept, mark_of
from sync_agent.machine.key_slots import KeySlots
from sync_agent.machine.marks import DRAFT_MARKS, HAND_IN_NAMES_MARKS
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, keeps_key_of
from tests.harness.portal import portal

ROW: Final = "the names of a pupil's files on the PC where they were handed in"
NAME: Final = "Mon pere est malade.odt"


def names_it(device: Device) -> bool:
    """Whether the name is in any byte that lies there now, or would be found beside a database that is read raw."""
    files = [file for file in sorted(device.agent.folder.rglob("*")) if file.is_file()]
    return any(NAME.encode() in file.read_bytes() or NAME in file.name for file in files)


class _NoCipher:
    """As if what is sealed lay there as it is."""

    def __init__(self, _key: bytes) -> None:
        pass

    def encrypt(self, _nonce: bytes, data: bytes, _bound: bytes | None) -> bytes:
        return data + bytes(16)

    def decrypt(self, _nonce: bytes, data: bytes, _bound: bytes | None) -> bytes:
        return data[:-16]


@attack(ROW, off={"protocol.trust.sealed_chunks.ChaCha20Poly1305": _NoCipher})
async def test_no_byte_of_the_pc_names_a_file_that_was_begun_or_handed_in_there(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    page, fields = f"/item/{(await assignment(room, teacher, pc)).hex()}", {"person": room.pupil_person.hex()}
    seen = []
    async with portal(pc.agent) as surfer:
        await surfer.send("/who", "/who", {**fields, "back": "/"})
        await surfer.send(page, f"{page}/hand-in", {**fields, "later": "yes"}, [(NAME, b"ce qui n'est pas fini")])
        seen.append(names_it(pc))
        shown = await surfer.page(page)
        assert NAME in shown, "the pupil reads it all the same"
        draft = shown.partition('name="draft" value="')[2].partition('"')[0]
        sent = await surfer.send(page, f"{page}/hand-in", {**fields, "draft": draft}, [])
        seen.append(names_it(pc))
        work = sent.headers["Location"].partition("?")[0]
        assert NAME in await surfer.page(work)
        for device in (pc, teacher):
            await device.session.sync()
        done = bytes.fromhex(work.rpartition("/")[2])
        await confirm_opened(teacher.agent, done)
        for device in (teacher, pc):
            await device.session.sync()
        assert not await keeps_key_of(pc, done)
        assert NAME not in await surfer.page(work), "no longer than the PC can open it"
        seen.append(names_it(pc))
    assert not any(seen)


async def _nothing(_slots: KeySlots) -> bool:
    """What an earlier version wrote stays as it is."""
    return True


@attack(ROW, off={"sync_agent.machine.key_slots.KeySlots.seal_bare": _nothing})
async def test_what_an_earlier_version_noted_of_names_goes_at_the_next_start(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, pc)
    page, fields = f"/item/{item.hex()}", {"person": room.pupil_person.hex()}
    first, second = [await room.hand_in(pc, item, {NAME: b"mot"}) for _ in range(2)]
    async with portal(pc.agent) as surfer:
        await surfer.send(page, f"{page}/hand-in", {**fields, "later": "yes"}, [(NAME, b"ce qui n'est pas fini")])
    store, files = pc.agent.replica.store, _rows({NAME: 3})
    kept = Kept.parse(await store.mark(mark_of(second)) or b"")
    (draft,) = await store.marks(DRAFT_MARKS)
    begun = await Drafts(pc.agent).find(room.pupil_person, item)
    assert begun is not None
    noted: Value = {"sealed": begun.sealed_key, "name": bytes.fromhex(begun.name), "at": begun.at_ms, "files": files}
    # beside the keys at first, later on by themselves
    beside, alone = encode({"sealed": kept.sealed_key, "made": 5, "files": files}), encode({"files": files})
    await store.set_marks({f"{HAND_IN_NAMES_MARKS}{first.hex()}": alone, mark_of(second): beside, draft: encode(noted)})
    aside = pc.agent.folder / DAMAGED / "database-1"
    aside.mkdir(parents=True)
    (aside / DATABASE).write_bytes(NAME.encode())
    assert names_it(pc)
    await pc.starts_again()
    await destroy_erased(pc.agent)
    assert not names_it(pc)
    async with portal(pc.agent) as surfer:
        await surfer.send("/who", "/who", {**fields, "back": "/"})
        for path in (page, f"/work/{first.hex()}", f"/work/{second.hex()}"):
            assert NAME in await surfer.page(path), "and is read from what is sealed"


def _rows(files: dict[str, int]) -> list[Value]:
    return [[path, size] for path, size in files.items()]
