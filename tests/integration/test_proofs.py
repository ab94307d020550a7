"""A proof of hand-in: given by the pupil's machine, judged by the server, also by one that was made anew."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.folds.coursework import HandInState, Witness
from protocol.replica.office.further_words import merge_persons
from protocol.trust.receipt_code import proof_code
from sync_agent.coursework.reading import find_work
from sync_agent.portal.shown.proof import page
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.opened.app import opened
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as found:
        yield found


async def handed_in(here: Town) -> tuple[Device, Device, str, str]:
    """A teacher, a pupils' machine, the proof and the id of what was handed in there and has gone nowhere yet."""
    teacher, machine, _, pupil, item = await here.class_at_work()
    work = (await here.work(machine, item, pupil)).hex()
    return teacher, machine, (await Desk(machine.agent).ask("receipt", id=work))["code"], work


async def test_a_proof_tells_how_far_the_work_has_come(here: Town) -> None:
    teacher, machine, code, work = await handed_in(here)
    assert code == proof_code(bytes.fromhex(work))
    assert await here.office.do("check-receipt", code=code) == {
        "valid": False,
        "why": "unknown",
        "message": "no hand-in of this proof is here: it was made elsewhere, or no machine has brought it yet",
    }
    await here.sync(machine, teacher)
    found = await here.office.do("check-receipt", code=code.lower())
    assert found["valid"] is True
    assert (found["id"], found["name"], found["title"], found["state"]) == (work, "Léa", "Racontez", "server")
    assert found["listed_as"] is None
    assert found["content_here"] is True
    assert [each["state"] for each in found["receipts"]] == ["server"]
    await Desk(teacher.agent).ask("confirm-opened", id=work)
    await here.sync(teacher, machine)
    found = await here.office.do("check-receipt", code=code)
    assert [each["state"] for each in found["receipts"]] == ["server", "teacher"]
    assert found["receipts"][1]["device"] == teacher.agent.device.hex()
    told = await Desk(machine.agent).ask("receipt", id=work)
    assert told["receipts"] == found["receipts"]
    assert {key: told[key] for key in ("id", "title", "name", "at", "state")} == {
        key: found[key] for key in ("id", "title", "name", "at", "state")
    }


async def test_a_proof_of_who_was_added_twice_has_the_name_of_the_list(here: Town) -> None:
    teacher, machine, code, work = await handed_in(here)
    await here.sync(machine, teacher)
    own = (await here.office.do("check-receipt", code=code))["person"]
    other = await here.office.add_person("Léa Martin", "pupil")
    await merge_persons(here.office.server, bytes.fromhex(own), bytes.fromhex(other))
    await here.sync(machine)
    found = await here.office.do("check-receipt", code=code)
    assert (found["name"], found["person"], found["listed_as"]) == ("Léa Martin", own, other)
    await here.office.add_person("MARTIN Léa", "pupil")
    assert (await here.office.do("check-receipt", code=code))["called"] == "Léa Martin (1)"
    (row,) = await here.office.do("hand-ins", space=here.office.space)
    assert (row["name"], row["called"]) == ("Léa Martin", "Léa Martin (1)")
    told = await Desk(machine.agent).ask("receipt", id=work, page="fr")
    assert told["name"] == "Léa Martin"
    assert "Léa Martin" in told["page"]


async def test_on_paper_machines_that_keep_a_copy_are_one_line_with_their_number(here: Town) -> None:
    _, machine, _, work = await handed_in(here)
    found = await find_work(machine.agent, bytes.fromhex(work))
    copies = tuple(Witness(HandInState.SAFE, bytes([each]) * 32, found.at_ms) for each in range(7))
    opened_by = Witness(HandInState.TEACHER, b"t" * 32, found.at_ms)

    def told(*witnesses: Witness) -> str:
        kept = replace(found, witnesses=witnesses)
        return page(kept, title="Raconte", name="Léa", left=None, place=None, language="en", names={}).partition(
            "proof-says"
        )[2]

    assert told(*copies, opened_by).count("<li>") == 2
    assert "7 other devices" in told(*copies, opened_by)
    assert told(copies[0]).count("<li>") == told().count("<li>") == 1
    assert "Another device" in told(copies[0])


@pytest.mark.parametrize("typed", ["", "bonjour", "0000-0000-0000-0000-0000", "1" * 300])
async def test_what_is_no_proof_is_not_valid_and_says_so(here: Town, typed: str) -> None:
    found = await here.office.do("check-receipt", code=typed)
    assert (found["valid"], found["why"]) == (False, "unreadable")


async def test_work_of_somebody_who_was_erased_is_not_shown_by_its_proof(here: Town) -> None:
    _, machine, code, _ = await handed_in(here)
    await here.sync(machine)
    pupil = (await here.office.do("check-receipt", code=code))["person"]
    await here.office.do("erase", person=[pupil])
    found = await here.office.do("check-receipt", code=code)
    assert (found["valid"], found["why"]) == (False, "erased")
    assert "Léa" not in str(found)


@pytest.mark.parametrize(("language", "heading"), [("fr", "Preuve de dépôt"), ("en", "Proof of hand-in")])
async def test_the_page_to_print_stands_alone_with_the_code_as_text_and_as_a_picture(
    here: Town, language: str, heading: str
) -> None:
    _, machine, code, work = await handed_in(here)
    page = (await Desk(machine.agent).ask("receipt", id=work, page=language))["page"]
    assert f"<h1>{heading}</h1>" in page
    assert code in page
    assert "Léa" in page
    assert "<path" in page
    assert "http://" not in page
    assert "https://" not in page


async def test_a_hand_in_that_is_not_here_has_no_proof(here: Town) -> None:
    _, machine, _, _ = await handed_in(here)
    with pytest.raises(BadInput):
        await Desk(machine.agent).ask("receipt", id="00" * 32)


async def test_a_server_made_anew_from_its_kit_judges_the_paper_once_a_machine_has_synced(
    here: Town, tmp_path: Path
) -> None:
    _, machine, code, _ = await handed_in(here)
    await here.sync(machine)
    kit = kit_in(tmp_path / "server" / "kit", None)
    here.office.clock.advance(60_000)
    reborn = tmp_path / "reborn"
    reborn.mkdir()
    await begin_territory(reborn, kit, kit_file=None, passphrase=None, now_ms=here.office.clock, entropy=os.urandom)
    async with opened(reborn, now_ms=here.office.clock, entropy=os.urandom) as server:
        office = Office(server, here.office.clock)
        assert (await office.do("check-receipt", code=code))["valid"] is False
        here.frontage.responder = server.responder
        await here.sync(machine)
        found = await office.do("check-receipt", code=code)
        assert (found["valid"], found["name"], found["content_here"]) == (True, "Léa", True)
        # what the burnt server had signed still counts: its key was certified under the same root
        assert [each["device"] for each in found["receipts"]] == [here.office.server.keys.signing.public.hex()]
