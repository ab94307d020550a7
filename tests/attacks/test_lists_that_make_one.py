"""A list that calls two people one makes neither of them the other (docs/attacks.md, docs/adr/0461)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, Revocation
from protocol.model.work import ItemKind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.people import first_names
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.hand_ins.drafts import Drafts
from sync_agent.keys.confirming import Reader
from tests.harness.attack import attack
from tests.harness.classroom import Given, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted
from tests.harness.erasures import every_name
from tests.harness.head_at_work import confirmed_head
from tests.harness.joined_lists import JOINED
from tests.harness.portal import portal
from tests.harness.sign_in import SignedClass, sign_in, signed_class
from tests.harness.spied_class import SpiedClass, heading_above, spied_class

ROW = "a list that calls two people one makes one the other"
WORDS = "Viens me voir ce soir."


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _last_names(replica: Replica, persons: Collection[bytes]) -> dict[bytes, str]:
    """What whoever writes the list calls them by now."""
    return {person: each.names[-1] for person, each in (await mentioned(replica, persons)).items() if each.names}


async def _lists(here: SpiedClass, person: bytes, name: str, *, same_as: bytes | None = None) -> Entry:
    """The list says something of somebody anew, and all hear it."""
    persons = await here.room.territory.replica.store.scan_kinds([Kind.PERSON])
    before = tuple(entry.id for entry in persons if entry.header.subject == person)
    record = PersonRecord(name, PersonRole.TEACHER, left=same_as is not None, same_as=same_as)
    said = await here.room.territory.say(
        here.room.space, Kind.PERSON, record.encode(), subject=person, parents=before[-1:]
    )
    for _ in range(2):
        await here.sync()
    return said


async def _stranger(here: SpiedClass) -> bytes:
    """M. X, whom the server lists, and whose device everybody has met as his."""
    other = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(other)
    for _ in range(2):
        await here.sync()
    return other


async def _headings(here: SpiedClass) -> str:
    """What stands above his words on the pupil's page; nothing where they are not shown."""
    return await heading_above(here, WORDS) or ""


@pytest.mark.parametrize("called", ["M. X", "Mme Petit"], ids=["as he was", "by her name from then on"])
@attack(ROW, off=JOINED)
async def test_whom_a_list_calls_the_same_as_a_teacher_answers_in_his_own_name(here: SpiedClass, called: str) -> None:
    await _lists(here, await _stranger(here), called, same_as=here.room.teacher_person)
    assert "M. X" in await _headings(here)


@attack(ROW, off={"protocol.replica.office.whose_words.first_names": _last_names})
async def test_whom_a_list_calls_somebody_else_is_called_what_he_was_called_first(here: SpiedClass) -> None:
    await _lists(here, await _stranger(here), "Mme Petit", same_as=here.room.teacher_person)
    assert "Mme Petit" not in await _headings(here)


@attack(ROW, off=JOINED)
async def test_a_grant_as_hers_beside_the_list_makes_no_more_of_it(here: SpiedClass) -> None:
    petit = here.room.teacher_person
    await _lists(here, await _stranger(here), "M. X", same_as=petit)
    await here.name_the_spy(petit)
    for _ in range(2):
        await here.sync()
    assert "Mme Petit" not in await _headings(here)


@attack(ROW, off=JOINED)
async def test_a_teacher_whom_a_list_calls_the_same_as_a_stranger_keeps_her_name(here: SpiedClass) -> None:
    other = await _stranger(here)
    await _lists(here, here.room.teacher_person, "Mme Petit", same_as=other)
    async with portal(here.machine.agent) as surfer:
        page = await surfer.page(f"/item/{here.item.hex()}")
    assert "Publié par Mme Petit" in page


async def _by_the_list(agent: Agent, readers: Sequence[Reader]) -> list[str | None]:
    rosters = [(await agent.replica.view(reader.space)).roster for reader in readers]
    return [roster.persons[roster.who(reader.person)].name for roster, reader in zip(rosters, readers, strict=True)]


@attack(ROW, off={"sync_agent.keys.returns_told._called": _by_the_list})
async def test_key_readers_names_a_strangers_computer_by_the_name_that_he_had(here: SpiedClass) -> None:
    await _lists(here, await _stranger(here), "M. X", same_as=here.room.teacher_person)
    rows = await Desk(here.teacher.agent).ask("key-readers")
    assert {row["teacher"] for row in rows} == {"Mme Petit", "M. X"}


@attack(ROW, off=JOINED)
async def test_a_strangers_device_that_says_that_hers_is_his_takes_her_name_off_nothing(here: SpiedClass) -> None:
    other = await _stranger(here)
    await _lists(here, here.room.teacher_person, "Mme Petit", same_as=other)
    hers = here.room.territory.replica.door.authorities_of(here.teacher.agent.device)
    await here.say(Kind.VOUCH, Vouch().encode(), other, target=hers[0].grant)
    for _ in range(2):
        await here.sync()
    async with portal(here.machine.agent) as surfer:
        page = await surfer.page(f"/item/{here.item.hex()}")
    assert "Publié par Mme Petit" in page


@attack(ROW, off={"sync_agent.portal.shown.shelf.Room.voice_of": lambda room, person: room.name_of(person)})
async def test_a_colleague_is_told_who_reads_by_the_name_that_he_had(here: SpiedClass) -> None:
    durand = await here.room.territory.person("Mme Durand", PersonRole.TEACHER, here.room.space)
    colleague = await here.room.device(Role.TEACHER, person=durand)
    await here.sync(colleague)
    other = await _stranger(here)
    await here.sync(colleague)
    await _lists(here, other, "M. X", same_as=here.room.teacher_person)
    await here.sync(colleague)
    async with portal(colleague.agent) as surfer:
        assert "M. X lit les travaux" in await surfer.page("/")


@attack(ROW, off={"sync_agent.portal.shown.shelf.Room.voice_of": lambda room, person: room.name_of(person)})
async def test_a_head_teacher_who_looks_for_a_lost_laptop_sees_whose_each_was_when_it_came(here: SpiedClass) -> None:
    head, _ = await confirmed_head(here)
    other = await _stranger(here)
    await here.sync(head)
    await _lists(here, other, "M. X", same_as=here.room.teacher_person)
    await here.sync(head)
    async with portal(head.agent) as surfer:
        page = await surfer.page("/lost")
    assert "M. X" in page
    assert (await Desk(head.agent).ask("lost", device=here.spy.signing.public.hex(), dry_run=True))["person"] == "M. X"


async def _first_of_what_counts(replica: Replica, persons: Collection[bytes]) -> dict[bytes, str]:
    """As if it did not matter whose word holds the first name back."""
    found: dict[bytes, str] = {}
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        if not (await replica.view(entry.header.space)).roster.hides(entry):
            found.setdefault(entry.header.subject or b"", PersonRecord.parse(entry.payload or b"").name)
    return {person: found[person] for person in persons if person in found}


@attack(ROW, off={"protocol.replica.office.losses.first_names": _first_of_what_counts})
async def test_nor_is_he_called_otherwise_because_a_copied_key_holds_back_who_listed_him(here: SpiedClass) -> None:
    (lists, _), (looks, _) = await confirmed_head(here), await confirmed_head(here)
    space, school = here.room.space, here.room.school
    await here.sync(lists)
    added = await Desk(lists.agent).ask("person add", name="M. Gris", role="teacher", space=[space.hex()])
    gris = bytes.fromhex(added["person"])
    laptop = await here.room.device(Role.TEACHER, person=gris)
    await here.sync(lists, laptop, looks)
    keys = lists.agent.keys
    cut = await here.room.territory.say(school, Kind.REVOKE, Revocation(keys.signing.public, ()).encode())
    await here.room.territory.say(school, Kind.GRANT, granted(keys, Role.HEAD, None), parents=(cut.id,))
    await _lists(here, gris, "Mme Petit", same_as=here.room.teacher_person)
    await here.sync(looks)
    loss = await Desk(looks.agent).ask("lost", device=laptop.agent.device.hex(), dry_run=True)
    assert loss["person"] == "M. Gris"


async def _nameless(_replica: Replica, persons: Collection[bytes]) -> dict[bytes, str]:
    """As if it did not matter how somebody is called."""
    return dict.fromkeys(persons, "")


@attack(ROW, off={"sync_agent.hand_ins.drafts.only_names": _nameless})
async def test_no_pupil_is_given_what_another_began_by_a_list_that_calls_the_two_one(tmp_path: Path) -> None:
    await _what_lea_began_is_not_toms(tmp_path)


@attack(
    ROW,
    off={
        "protocol.rights.roster.covering_names": every_name,
        "protocol.folds.erasing.covering_names": every_name,
        "sync_agent.hand_ins.drafts.only_names": first_names,
    },
)
async def test_what_a_pupil_was_called_first_is_erased_with_the_pupil_only(tmp_path: Path) -> None:
    await _what_lea_began_is_not_toms(tmp_path, is_erased=True)


@attack(ROW, off={"sync_agent.hand_ins.drafts.only_names": first_names})
async def test_nor_where_a_list_had_called_her_by_his_name_before_she_came_to_this_machine(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        territory, zoe = room.territory, bytes.fromhex("20e" + "0" * 29)
        item = await assignment(room, school.teacher, school.pc)
        tom = PersonRecord("Tom", PersonRole.PUPIL)
        early = await territory.say(room.school, Kind.PERSON, tom.encode(), subject=zoe)
        gone = replace(tom, left=True).encode()
        await territory.say(room.school, Kind.PERSON, gone, subject=zoe, parents=(early.id,))
        await school.agree()
        own = PersonRecord("Zoé", PersonRole.PUPIL).encode()
        listed = await territory.say(room.space, Kind.PERSON, own, subject=zoe)
        for _ in range(2):
            await school.agree()
        await Drafts(school.pc.agent).keep(zoe, item, [("recit.odt", 1)], Given({"recit.odt": b"a"}))
        same = replace(tom, left=True, same_as=school.tom).encode()
        await territory.say(room.space, Kind.PERSON, same, subject=zoe, parents=(listed.id,))
        for _ in range(2):
            await school.agree()
        async with portal(school.pc.agent) as surfer:
            await sign_in(surfer, school.tom, "4711")
            assert "recit.odt" not in await surfer.page(f"/item/{item.hex()}")


@attack(ROW, off={"sync_agent.hand_ins.drafts.only_names": _nameless})
async def test_no_pupil_is_shown_what_another_handed_in_by_a_list_that_calls_the_two_one(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        item = await assignment(room, school.teacher, school.pc)
        work = await room.hand_in(school.pc, item, {"lettre-a-papa.odt": b"secret" * 99})
        await school.agree()
        await _is_called_tom(school)
        for _ in range(2):
            await school.agree()
        async with portal(school.pc.agent) as surfer:
            await sign_in(surfer, school.tom, "4711")
            at = f"/work/{work.hex()}"
            assert [(await surfer.get(path)).status for path in (at, f"{at}/receipt", f"{at}/note/a.txt")] == [404] * 3
            for path in ("/", "/work", f"/item/{item.hex()}"):
                assert at not in await surfer.page(path)
            assert "Fini" not in await surfer.page("/")
        async with portal(school.teacher.agent) as surfer:
            assert at in await surfer.page("/work"), "who teaches sees it all the same"


async def _is_called_tom(school: SignedClass) -> bytes:
    """A list calls Léa “Tom”, and the same as Tom; the entry by which she was listed before."""
    territory = school.room.territory
    (listed,) = [
        each.id for each in await territory.replica.store.scan_kinds([Kind.PERSON]) if each.header.subject == school.lea
    ]
    record = PersonRecord("Tom", PersonRole.PUPIL, left=True, same_as=school.tom).encode()
    await territory.say(school.room.space, Kind.PERSON, record, subject=school.lea, parents=(listed,))
    return listed


async def _what_lea_began_is_not_toms(tmp_path: Path, *, is_erased: bool = False) -> None:
    """A list calls Léa “Tom”, and the same as Tom; and what she was called first is erased by its own id."""
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        item = (await room.publish(school.teacher, {"a.html": b"a"}, kind=ItemKind.ASSIGNMENT)).item
        await school.agree()
        drafts = Drafts(school.pc.agent)
        await drafts.keep(school.lea, item, [("recit.odt", 1)], Given({"recit.odt": b"a"}))
        begun = await drafts.find(school.lea, item)
        assert begun is not None
        listed = await _is_called_tom(school)
        if is_erased:
            await room.territory.say(room.territory.id, Kind.ERASE, Erasure(listed).encode())
        await school.agree()
        page = f"/item/{item.hex()}"
        async with portal(school.pc.agent) as surfer:
            await sign_in(surfer, school.tom, "4711")
            assert "recit.odt" not in await surfer.page(page)
            answer = {"person": school.tom.hex(), "draft": begun.name}
            assert (await surfer.send(page, f"{page}/hand-in", answer, [])).status == 400
