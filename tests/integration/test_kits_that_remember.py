"""What the kit says is noted in its file, where that can be written, and a server that is made anew knows it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.limits import MAX_ROTATION_HEADS
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure
from protocol.replica.at_work.replica import Draft
from protocol.trust.kit_memory import memory_in
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.beginning import begin
from sync_server.keeping.kit_file import KitInFile
from sync_server.keeping.new_root import NewKit
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from sync_server.opened.app import opened
from tests.harness.backups import make_backup, restore_backup
from tests.harness.kept_town import town_at_work
from tests.harness.machines import Machine
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office


def _server_in(folder: Path) -> Machine:
    return Machine("server", folder, "sync-server")


@pytest.fixture
def server(tmp_path: Path) -> Machine:
    """A class of two pupils; its kit has a passphrase."""
    (tmp_path / "secret").write_text("sept oies blanches\n", encoding="utf-8")
    made = _server_in(tmp_path / "server")
    made.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"), "--passphrase-file", str(tmp_path / "secret"))
    return made


def _pupil(server: Machine, name: str) -> str:
    space = server.ok("space", "add", f"Classe de {name}", "--school", "0180001D")["space"]
    return str(server.ok("person", "add", name, "--role", "pupil", "--space", space)["person"])


def test_what_the_kit_has_forgotten_stays_so_on_a_server_that_is_made_of_it_alone(
    server: Machine, tmp_path: Path
) -> None:
    lea, kit = _pupil(server, "Léa"), ("--passphrase-file", str(tmp_path / "secret"))
    begun = (tmp_path / "kit").read_text(encoding="utf-8")
    done = server.run("erase", "--person", lea, "--named", "Léa", "--kit", str(tmp_path / "kit"), *kit)
    assert (done.status, done.json) == (0, {})
    assert "noted in" in done.err
    assert (tmp_path / "kit").read_text(encoding="utf-8").startswith(begun.rstrip("\n")), "its own text stays"
    assert (tmp_path / "kit").stat().st_mode & 0o777 == 0o600
    checked = server.run("kit", "check", str(tmp_path / "kit"), *kit)
    assert "remembers 1 of its own words" in checked.err
    again = _server_in(tmp_path / "again")
    made = again.run("init", "--recover", str(tmp_path / "kit"), "--kit", str(tmp_path / "kit-2"), *kit)
    assert set(made.json) == {"territory", "fingerprint", "kit"}
    assert "remembers 1 of its own words" in made.err
    assert [row["covers"] for row in again.ok("erasures")] == [lea]
    assert memory_in((tmp_path / "kit-2").read_text(encoding="utf-8")), "a copy remembers it as well"


def test_a_kit_that_cannot_be_written_keeps_nothing_from_being_done_and_says_so(
    server: Machine, tmp_path: Path
) -> None:
    lea, tom, kit = _pupil(server, "Léa"), _pupil(server, "Tom"), ("--passphrase-file", str(tmp_path / "secret"))
    text = (tmp_path / "kit").read_bytes()
    (tmp_path / "kit.new").mkdir()  # nothing can be written beside it
    done = server.run("erase", "--person", lea, "--named", "Léa", "--kit", str(tmp_path / "kit"), *kit)
    assert (done.status, done.json) == (0, {})
    assert "could not be noted" in done.err
    assert (tmp_path / "kit").read_bytes() == text
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(text,))
    writer.start()
    done = server.run("erase", "--person", tom, "--named", "Tom", "--kit", str(tmp_path / "pipe"), *kit)
    writer.join()
    assert (done.status, done.json) == (0, {})
    assert "could not be noted" in done.err
    assert {row["covers"] for row in server.ok("erasures")} == {lea, tom}


async def test_a_kit_whose_text_would_be_changed_by_noting_anything_stays_as_it_is(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        kit, device = tmp_path / "server" / "kit", at_work.teacher.agent.device.hex()
        written = kit.read_bytes().replace(b"Territoire : Cher", "Territoire : Nièvre".encode("latin-1"))
        kit.write_bytes(written)
        await here.office.with_kit_in("revoke", kit, device=device)
        assert kit.read_bytes() == written
        assert "could not be noted" in here.office.said.lines[-1]


async def test_a_new_kit_remembers_what_the_one_before_it_did(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (laptop, _, _, pupil, _)):
        await make_backup(here.office.server, tmp_path / "backup")
        old, new = tmp_path / "server" / "kit", tmp_path / "kit-2"
        await here.office.with_kit_in("erase", old, person=[pupil])
        await here.office.with_kit_in("revoke", old, device=laptop.agent.device.hex())
        made = NewKit(old, None, new, None, os.urandom)
        made.keep(await here.office.with_kit("rotate root", kit_in(old, None), made.kit))
        assert {Kind(each.header.kind) for each in KitInFile.read(new, None).said} >= {Kind.ERASE, Kind.REVOKE}
        here.office.clock.advance(DAY_MS)
        await restore_backup(tmp_path / "anew", tmp_path / "backup", new, here.office.clock)
        async with opened(tmp_path / "anew", now_ms=here.office.clock, entropy=os.urandom) as anew:
            office = Office(anew, here.office.clock, here.office.space)
            assert {row["name"] for row in await office.do("person list", space=office.space)} == {"Mme Petit"}
            assert here.space not in await anew.replica.readable(laptop.agent.device)


async def test_a_person_whom_the_kit_shows_again_is_shown_on_a_server_that_is_made_anew(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        pupil = at_work.pupil
        await make_backup(here.office.server, tmp_path / "backup")
        kit = tmp_path / "server" / "kit"
        await here.office.with_kit_in("erase", kit, person=[pupil])
        await here.office.with_kit_in("unerase", kit, covers=pupil, counting_too=True)
        here.office.clock.advance(DAY_MS)
        await restore_backup(tmp_path / "anew", tmp_path / "backup", kit, here.office.clock)
        async with opened(tmp_path / "anew", now_ms=here.office.clock, entropy=os.urandom) as anew:
            office = Office(anew, here.office.clock, here.office.space)
            assert {row["name"] for row in await office.do("person list", space=office.space)} == {"Mme Petit", "Léa"}


def _noted(found: KitInFile, words: Sequence[Entry], here: Town) -> None:
    notes = found.notes()
    notes.take(words)
    notes.tell(here.office.said.lines.append)


async def _replaced(here: Town, new: Path) -> NewKit:
    """Another root has taken over; its kit notes what was signed for that."""
    old = here.folder / "server" / "kit"
    made, office = NewKit(old, None, new, None, os.urandom), here.office
    errand = errand_of("rotate root", kit_in(old, None), {}, made.kit, os.urandom)
    desk = KitDesk(errand, office.said, office.clock, made.take)
    made.keep(await office.table["rotate root"]({"kit": desk.keys}, desk, desk))
    office.clock.advance(DAY_MS)
    return made


async def test_a_new_kit_keeps_the_lists_by_which_its_rotation_names_what_the_one_before_had_said(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        pupil, new = at_work.pupil, tmp_path / "kit-2"
        found = KitInFile.read(tmp_path / "server" / "kit", None)
        old_copy = [each for space in here.office.server.replica.door.spaces() for each in await _all_in(here, space)]
        others = [
            Draft(found.kit.territory, Kind.ERASE, None, Erasure(os.urandom(16)).encode())
            for _ in range(MAX_ROTATION_HEADS)
        ]
        server, clock = here.office.server, here.office.clock
        words = await server.replica.write(
            others, author=found.kit.root, now_ms=clock(), entropy=os.urandom, unsent=False
        )
        _noted(found, words, here)
        await here.office.with_kit_in("erase", found.place, person=[pupil])
        await _replaced(here, new)
        again = {"kit": None, "passphrase_file": None, "recover": new}
        await begin(tmp_path / "anew", None, **again, now_ms=clock, entropy=os.urandom, tell=lambda _: None)
        async with opened(tmp_path / "anew", now_ms=clock, entropy=os.urandom) as anew:
            await anew.replica.admit(old_copy, source=b"a PC", now_ms=clock(), bounded=False)
            assert len(await anew.store.scan_kinds([Kind.ROOT_ACCOUNT])) == 1
            rows = await Office(anew, clock, here.office.space).do("person list", space=here.office.space)
            assert {row["name"] for row in rows} == {"Mme Petit"}


async def _all_in(here: Town, space: bytes) -> list[Entry]:
    return [each.entry for each in await here.office.server.store.scan(space)]


async def test_what_a_new_kit_has_no_room_for_is_named(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        found, new = KitInFile.read(tmp_path / "server" / "kit", None), tmp_path / "kit-2"
        persons = [os.urandom(16) for _ in range(450)]
        words = [
            compose(
                author=found.kit.root,
                space=found.kit.territory,
                kind=Kind.ERASE,
                grant=None,
                at=at_from(here.office.clock()),
                payload=Erasure(person).encode(),
                salt=os.urandom(16),
            )
            for person in persons
        ]
        _noted(found, words, here)
        remembered = {each.id for each in KitInFile.read(found.place, None).said}
        assert f"no room for {len(words) - len(remembered)} of the 450 words" in here.office.said.lines[-1]
        made = await _replaced(here, new)
        _, told = made.advice
        gone = remembered - {each.id for each in KitInFile.read(new, None).said}
        assert f"no room any more for {len(gone)} of the words that the kit had remembered" in told
        first = next(person for person, word in zip(persons, words, strict=True) if word.id in remembered)
        assert f"erase of {first.hex()}" in told
