"""A PC with no network at all is let in by a stick that goes to and fro, by whoever the code's root has made."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.canonical import decode, encode
from protocol.errors import BadInput, Code, NoAnswer, RelaisError
from protocol.limits import MAX_LETTER_BYTES, MAX_LETTERS_PER_DISK
from protocol.messages.enrollment import encode_chain, parse_chain
from protocol.messages.wire import Call
from protocol.model.entry import Kind
from sync_agent.app import Agent
from sync_agent.courier.letters import Letter, name_of, read_letters
from sync_agent.machine.enrolled import ENROLMENT_FILE, Enrolment
from sync_agent.operations import table
from tests.harness.classroom import Device
from tests.harness.couriers import bring
from tests.harness.office_devices import Town, town

SCHOOL = "0180001D"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        made.office.server.responder.add_handler(Call.ENROLL, made.office.enrolment.answer)
        yield made


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick" / "Relais"


async def visit(here: Town, device: Device, stick: Path, *, online: bool = True) -> None:
    await here.write_stick(device, stick, online=online)


async def lessons_on(here: Town, folder: Path) -> list[bool]:
    """The lessons that a device has, and whether each is whole."""
    agent = await Agent.open(folder, now_ms=here.office.clock, entropy=os.urandom)
    try:
        missing = {need.stream for need in await agent.missing()}
        items = (await agent.replica.view(here.space)).coursework.items.values()
        return [item.shown.record.content.stream not in missing for item in items]
    finally:
        await agent.close()


async def published(here: Town, stick: Path) -> Device:
    """A teacher's laptop that has a lesson, at the server and on the stick."""
    person = await here.office.add_person("Mme Petit", "teacher")
    teacher = await here.device("teacher", person)
    await here.assignment(teacher)
    await visit(here, teacher, stick)
    return teacher


async def test_a_pc_without_any_network_is_let_in_by_the_server_through_whoever_reaches_it(
    here: Town, stick: Path, tmp_path: Path
) -> None:
    teacher = await published(here, stick)
    code, pc = await here.office.invite("machine", ttl="7d"), tmp_path / "pc"
    with pytest.raises(NoAnswer, match="bring the stick"):
        await here.enrol_by_stick(pc, stick, code)
    await visit(here, teacher, stick, online=False)
    with pytest.raises(NoAnswer):
        await here.enrol_by_stick(pc, stick, code)
    assert len(read_letters(here.place_on(stick), Letter.ASK)) == 1, "who asks twice asks once"
    await visit(here, teacher, stick)
    enrolled = await here.enrol_by_stick(pc, stick, code)
    assert here.space in enrolled.spaces
    assert await lessons_on(here, pc) == [True], "what it may read came along"
    assert await here.enrol_by_stick(pc, stick, code) == enrolled, "again is no error"
    left = {kind: read_letters(here.place_on(stick), kind) for kind in Letter}
    assert (left[Letter.ASK], left[Letter.ANSWER]) == ({}, {})


async def test_the_head_teachers_device_lets_in_with_no_server_anywhere(
    here: Town, stick: Path, tmp_path: Path
) -> None:
    head = await here.device("head", space=SCHOOL)
    await published(here, tmp_path / "elsewhere")
    await here.sync(head)
    await visit(here, head, stick, online=False)
    made = await table(head.agent)["invite"](
        {"role": "machine", "space": [here.space.hex()], "person": None, "uses": 1, "ttl": "7d", "for": None},
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
    )
    code = str(made["code"])  # type: ignore[index,call-overload]
    with pytest.raises(NoAnswer):
        await here.enrol_by_stick(tmp_path / "pc", stick, code)
    await visit(here, head, stick, online=False)
    enrolled = await here.enrol_by_stick(tmp_path / "pc", stick, code)
    assert here.space in enrolled.spaces
    assert await lessons_on(here, tmp_path / "pc") == [True]


async def test_a_teachers_new_laptop_leaves_its_reading_key_on_the_stick(
    here: Town, stick: Path, tmp_path: Path
) -> None:
    carrier = await published(here, stick)
    person = await here.office.add_person("M. Roux", "teacher")
    code = await here.office.invite("teacher", person=person, ttl="7d")
    with pytest.raises(NoAnswer):
        await here.enrol_by_stick(tmp_path / "laptop", stick, code)
    await visit(here, carrier, stick)
    await here.enrol_by_stick(tmp_path / "laptop", stick, code)
    await bring(carrier, stick)
    await here.sync(carrier)
    keys = await here.office.server.replica.store.scan_kinds([Kind.PERSON_KEY])
    assert person in {key.header.subject.hex() for key in keys if key.header.subject is not None}


async def test_a_refusal_comes_back_in_words_and_another_code_may_ask(here: Town, stick: Path, tmp_path: Path) -> None:
    teacher = await published(here, stick)
    code, pc = await here.office.invite("machine", ttl="1h"), tmp_path / "pc"
    with pytest.raises(NoAnswer):
        await here.enrol_by_stick(pc, stick, code)
    here.office.clock.advance(2 * 3_600_000)
    await visit(here, teacher, stick)
    with pytest.raises(RelaisError) as refused:
        await here.enrol_by_stick(pc, stick, code)
    assert refused.value.code is Code.CODE_EXPIRED
    assert not (pc / ENROLMENT_FILE).exists()
    fresh = await here.office.invite("machine", ttl="7d")
    with pytest.raises(NoAnswer):
        await here.enrol_by_stick(pc, stick, fresh)
    await visit(here, teacher, stick)
    assert here.space in (await here.enrol_by_stick(pc, stick, fresh)).spaces


async def test_nothing_is_asked_of_who_is_not_under_the_codes_root(here: Town, stick: Path, tmp_path: Path) -> None:
    await published(here, stick)
    place = here.place_on(stick)
    code = await here.office.invite("machine")
    async with town(foreign_folder(tmp_path)) as foreign:
        person = await foreign.office.add_person("Mallory", "teacher")
        other = await foreign.device("teacher", person)
        await visit(foreign, other, tmp_path / "theirs")
        (chain,) = read_letters(foreign.place_on(tmp_path / "theirs"), Letter.WHO).values()
    for kept in place.glob("*.who"):
        kept.unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="names nobody"):
        await here.enrol_by_stick(tmp_path / "pc", tmp_path / "empty", code)
    (place / f"{name_of(chain)}.who").write_bytes(chain)
    with pytest.raises(RelaisError) as refused:
        await here.enrol_by_stick(tmp_path / "pc", stick, code)
    assert refused.value.code is Code.WRONG_TERRITORY
    assert not list(place.glob("*.ask"))
    with pytest.raises(BadInput, match="does not exist"):
        await here.enrol_by_stick(tmp_path / "pc", tmp_path / "nowhere", code)


async def test_letters_that_are_damaged_changed_or_too_many_harm_nobody(
    here: Town, stick: Path, tmp_path: Path
) -> None:
    teacher = await published(here, stick)
    place, pc = here.place_on(stick), tmp_path / "pc"
    code = await here.office.invite("machine", ttl="7d")
    for _ in range(MAX_LETTERS_PER_DISK - 5):
        junk = os.urandom(200)
        (place / f"{name_of(junk)}.ask").write_bytes(junk)
    (place / f"{'e' * 32}.ask").write_bytes(bytes(MAX_LETTER_BYTES + 1))
    (place / f"{'f' * 32}.who").write_bytes(os.urandom(300))
    (place / f"{'d' * 32}.ask").mkdir()
    with pytest.raises(NoAnswer):
        await here.enrol_by_stick(pc, stick, code)
    await visit(here, teacher, stick)
    (name,) = read_letters(place, Letter.ANSWER)
    right = (place / f"{name}.ans").read_bytes()
    fields = decode(right, max_bytes=MAX_LETTER_BYTES)
    assert isinstance(fields, dict)
    *before, last = bytes(fields["answer"])
    forged = encode({**fields, "answer": bytes([*before, last ^ 1])})
    for wrong in (b"", forged, right[:-1]):
        (place / f"{name}.ans").write_bytes(wrong)
        with pytest.raises(NoAnswer, match="was of nobody who was asked"):
            await here.enrol_by_stick(pc, stick, code)
        assert not (pc / ENROLMENT_FILE).exists()
        assert read_letters(place, Letter.ANSWER) == {}, "so that whoever was asked answers anew"
        assert name in read_letters(place, Letter.ASK)
    (place / f"{name}.ans").write_bytes(right)
    assert here.space in (await here.enrol_by_stick(pc, stick, code)).spaces


async def test_an_address_that_a_carrier_changed_is_told_and_another_may_be_given(
    here: Town, stick: Path, tmp_path: Path
) -> None:
    teacher = await published(here, stick)
    place, heard = here.place_on(stick), list[str]()
    for folder, url in ((tmp_path / "one", None), (tmp_path / "two", "relais.example.org")):
        code = await here.office.invite("machine", ttl="7d")
        with pytest.raises(NoAnswer):
            await here.enrol_by_stick(folder, stick, code)
        await visit(here, teacher, stick)
        ((name, letter),) = read_letters(place, Letter.ANSWER).items()
        fields = decode(letter, max_bytes=MAX_LETTER_BYTES)
        assert isinstance(fields, dict)
        (place / f"{name}.ans").write_bytes(encode({**fields, "server": "https://evil.example"}))
        await here.enrol_by_stick(folder, stick, code, url=url, say=heard.append)
    assert any("https://evil.example" in line for line in heard)
    assert Enrolment.read(tmp_path / "two").server_url == "https://relais.example.org"


async def test_of_a_stick_that_several_use_nothing_is_said_twice(here: Town, stick: Path, tmp_path: Path) -> None:
    teacher, told, heard = await published(here, stick), list[str](), list[str]()
    other = (await here.office.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    await visit(here, await here.device("machine", None, other), stick)
    codes = [await here.office.invite("machine", ttl="7d") for _ in range(2)]
    for code in codes:
        with pytest.raises(NoAnswer):
            await here.enrol_by_stick(tmp_path / code, stick, code)
    await here.write_stick(teacher, stick, online=True, say=told.append)
    assert "answered on this disk: 2 requests to be let in; a computer writes one to each who may let it in" in told
    await here.enrol_by_stick(tmp_path / codes[0], stick, codes[0], say=heard.append)
    assert len([line for line in heard if "for others, and left alone" in line]) == 1


async def test_a_chain_that_ends_with_a_machine_lets_nobody_in(here: Town, stick: Path, tmp_path: Path) -> None:
    teacher = await published(here, stick)
    place = here.place_on(stick)
    grants = [each.grant for each in await teacher.agent.replica.authorities(teacher.agent.device)]
    chain = encode_chain(await teacher.agent.replica.credentials(grants))
    for kept in place.glob("*.who"):
        kept.unlink()
    (place / f"{name_of(chain)}.who").write_bytes(chain)
    with pytest.raises(NoAnswer):
        await here.enrol_by_stick(tmp_path / "pc", stick, await here.office.invite("machine"))
    # the chain proves a server above that teacher; it is the server that was asked, and nobody else can open it
    (asked,) = read_letters(place, Letter.ASK).values()
    assert asked[1:9] != teacher.agent.keys.agreement.public[:8]
    assert parse_chain(chain)


def foreign_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "foreign"
    folder.mkdir()
    return folder
