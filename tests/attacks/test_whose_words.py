"""Whoever has the server's key writes grants that name a teacher, for devices of others (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.folds.coursework import Version
from protocol.limits import SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, PersonKey, Revocation, Ruling
from protocol.model.work import Feedback, ItemKind, Receipt
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.coursework.own_versions import OwnVoice
from sync_agent.keys.confirming import is_unconfirmed, own_device
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Room, Shelf
from tests.harness.attack import attack
from tests.harness.classroom import WORK, work_of
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.portfolios import remarks_in
from tests.harness.spied_class import SpiedClass, heading_above, spied_class
from tests.harness.territory import new_device

ROW = "a device answers or publishes in a teacher's name by a grant that lets it do neither"
WORDS = "Viens me voir ce soir."


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def _whomever_a_grant_names(self: Shelf, grant: bytes | None, room: Room) -> str | None:
    """By the device: the first of all its grants that names somebody of the list."""
    door = self.agent.replica.door
    given = door.authority(grant)
    named = [] if given is None else [room.name_of(each.person) for each in door.authorities_of(given.key)]
    return next((name for name in named if name is not None), None)


def _everybody_speaks(self: Roster, given: Authority | None) -> bytes | None:
    """What a grant says."""
    return None if given is None else given.person


def _else_the_teacher_of_the_class(self: Visit, shelf: Shelf, room: Room, _work: object) -> str:
    """Whoever it was."""
    return self.teacher_name(room)


async def _heading(here: SpiedClass) -> str:
    """What stands above the words on the pupil's page."""
    heading = await heading_above(here, WORDS)
    assert heading is not None
    return heading


@attack(ROW, off={"sync_agent.portal.shown.shelf.Shelf.author_of": _whomever_a_grant_names})
async def test_a_grant_to_a_pc_that_names_a_teacher_makes_no_others_answer_hers(here: SpiedClass) -> None:
    territory, space = here.room.territory, here.room.space
    other = await territory.person("M. X", PersonRole.TEACHER, space)
    await territory.let_in(here.spy, Role.MACHINE, space, person=here.room.teacher_person)
    await here.name_the_spy(other)
    heading = await _heading(here)
    assert "M. X" in heading
    assert "Mme Petit" not in heading


@attack(ROW, off={"sync_agent.portal.each_page.visit.Visit.who_said": _else_the_teacher_of_the_class})
async def test_the_answer_of_somebody_whom_no_list_names_is_not_the_teachers_of_the_class(here: SpiedClass) -> None:
    await here.name_the_spy(bytes([7] * 16))
    assert "Mme Petit" not in await _heading(here)


async def _opened_by_nobody(here: SpiedClass, person: bytes) -> bytes:
    """A work that arrived at the teacher's, and that a device of the server's says it has opened."""
    here.room.territory.clock.advance(60_000)
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"encore" * 50})
    await here.sync(here.machine, here.teacher)
    await here.name_the_spy(person)
    stream = (await work_of(here.machine, here.room, work)).record.content.stream
    await here.say(Kind.RECEIPT_TEACHER, Receipt(stream).encode(), here.room.pupil_person, target=work)
    for _ in range(2):
        await here.sync()
    return work


async def _pupils_pages(here: SpiedClass, work: bytes) -> list[str]:
    """What the pupil is shown of a work: its page for the young and for others, the list, the proof."""
    async with portal(here.machine.agent) as surfer:
        await surfer.send("/who", "/who", {"person": here.room.pupil_person.hex(), "back": "/"})
        at = f"/work/{work.hex()}"
        pages = [await surfer.page(path) for path in (at, f"{at}?register=11-18", "/work", f"{at}/receipt")]
    return [page.partition("<main")[2].replace("&#39;", "'") for page in pages]


@attack(ROW, off={"sync_agent.portal.each_page.visit.Visit.answerer": _else_the_teacher_of_the_class})
async def test_what_somebody_whom_no_list_names_says_was_opened_is_not_said_to_be_by_the_teacher_of_the_class(
    here: SpiedClass,
) -> None:
    young, older, listed, proof = await _pupils_pages(here, await _opened_by_nobody(here, bytes([7] * 16)))
    assert "Mme Petit" not in young + older + proof
    assert "Une personne sans nom ici l'a vu" in young
    assert "Vu par une personne sans nom ici" in older
    assert "Vu par une personne sans nom ici" in listed
    assert "Une personne sans nom ici l'a ouvert." in proof


@attack(ROW, off={"sync_agent.hand_ins.looked_at.Eyes.count": lambda *_: True})
async def test_what_a_teacher_whom_nobody_confirmed_says_was_opened_stays_to_be_opened_at_hers(
    here: SpiedClass,
) -> None:
    work = await _opened_by_nobody(here, await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space))
    async with portal(here.teacher.agent) as surfer:
        home, listed, shown = [await surfer.page(path) for path in ("/", "/work", f"/work/{work.hex()}")]
    assert "1 travail à ouvrir" in home
    assert "Vu par M. X, à ouvrir" in listed
    assert "Vu par M. X, à ouvrir" in shown
    rows = await Desk(here.teacher.agent).ask("hand-ins")
    assert {row["id"]: (row["by"], row["to_open"]) for row in rows} == {
        here.work.hex(): ("Mme Petit", False),
        work.hex(): ("M. X", True),
    }
    young, older, _, proof = await _pupils_pages(here, work)
    assert "M. X l'a vu" in young
    assert "Vu par M. X" in older
    assert "M. X l'a ouvert." in proof
    await Desk(here.teacher.agent).ask("confirm-opened", id=work.hex())
    async with portal(here.teacher.agent) as surfer:
        assert "à ouvrir" not in await surfer.page("/work")


@attack(ROW, off={"sync_agent.hand_ins.looked_at.Eyes.count": lambda *_: True})
async def test_what_a_teacher_whom_nobody_confirmed_answers_is_not_shown_as_answered_at_hers(here: SpiedClass) -> None:
    work = await _opened_by_nobody(here, await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space))
    said = Feedback(WORDS, None, False, None).encode()
    await here.say(Kind.FEEDBACK, said, here.room.pupil_person, target=work)
    await here.sync()
    async with portal(here.teacher.agent) as surfer:
        assert "Corrigé par M. X, à ouvrir" in await surfer.page("/work")
    files = await Desk(here.teacher.agent).files("portfolio", space=here.room.space.hex())
    assert remarks_in(files) == {"M. X": f"{WORDS}\n"}
    # what she says is hers, whoever said the same before
    await Desk(here.teacher.agent).ask("feedback", id=work.hex(), text=WORDS, mark=None, redo=False)
    note = (await work_of(here.teacher, here.room, work)).feedback
    assert note is not None
    assert note.author == here.teacher.agent.device


@attack(
    ROW,
    off={
        "sync_agent.portal.shown.shelf.Shelf.author_of": _whomever_a_grant_names,
        "protocol.rights.roster.Roster.spoken_as": _everybody_speaks,
    },
)
async def test_a_grant_to_the_servers_own_key_makes_none_of_its_announcements_a_teachers(here: SpiedClass) -> None:
    territory, space, petit = here.room.territory, here.room.space, here.room.teacher_person
    keys = territory.keys
    grant = Grant(keys.signing.public, keys.agreement.public, None, Role.MACHINE, petit, None, None)
    await territory.say(space, Kind.GRANT, grant.encode())
    shown = (await here.machine.agent.replica.view(space)).coursework.items[here.item].shown
    record = replace(shown.record, kind=ItemKind.ANNOUNCEMENT, title="Sortie annulée")
    made = await territory.say(space, Kind.REVISION, record.encode())
    for _ in range(2):
        await here.sync()
    async with portal(here.machine.agent) as surfer:
        page = await surfer.page(f"/item/{made.id.hex()}")
    (row,) = [each for each in await Desk(here.machine.agent).ask("items") if each["item"] == made.id.hex()]
    assert row["author"] == keys.signing.public.hex()
    assert "Sortie annulée" in page
    assert "Publié par" not in page


@attack(ROW, off={"protocol.rights.roster.Roster.spoken_as": _everybody_speaks})
async def test_what_a_device_publishes_that_none_of_hers_confirmed_is_nowhere_said_to_be_a_teachers(
    here: SpiedClass,
) -> None:
    petit = here.room.teacher_person
    await here.name_the_spy(petit)
    shown = (await here.machine.agent.replica.view(here.room.space)).coursework.items[here.item].shown
    made = await here.say(Kind.REVISION, replace(shown.record, title="Sortie annulée").encode(), None)
    for _ in range(2):
        await here.sync()
    async with portal(here.machine.agent) as surfer:
        assert "Publié par un appareil non confirmé" in await surfer.page(f"/item/{made.id.hex()}")


@attack(ROW, off={"sync_agent.coursework.own_versions.OwnVoice.has": lambda *_: True})
async def test_a_lesson_by_a_device_that_none_of_hers_confirmed_is_not_said_again_in_her_name(
    here: SpiedClass,
) -> None:
    territory, petit = here.room.territory, here.room.teacher_person
    following = await territory.classroom("CM2")
    await territory.let_in(here.teacher.agent.keys, Role.TEACHER, following, person=petit)
    own = await here.room.publish(here.teacher, {"eau.txt": b"L'eau"})
    await here.name_the_spy(petit)
    shown = (await here.teacher.agent.replica.view(here.room.space)).coursework.items[own.item].shown
    await here.say(Kind.REVISION, replace(shown.record, title="Sortie annulée").encode(), None)
    for _ in range(2):
        await here.sync()
    known = {"from": here.room.space.hex(), "to": following.hex()}
    done = await Desk(here.teacher.agent).ask("carry-over", **known)
    assert (done["lessons"], done["unconfirmed"]) == (1, ["Sortie annulée"])
    items = (await here.teacher.agent.replica.view(following)).coursework.items.values()
    assert [item.shown.record.title for item in items] == ["Leçon"]


def _whoever_speaks_for_themselves(self: OwnVoice, version: Version) -> bool:
    """By the grant alone: an id that nobody knew has one device, which is its first."""
    return self.roster.spoken_as(self.door.authority(version.grant)) is not None


@pytest.mark.parametrize("listed", [False, True])
@attack(ROW, off={"sync_agent.coursework.own_versions.OwnVoice.has": _whoever_speaks_for_themselves})
async def test_a_lesson_by_a_teacher_of_the_servers_is_not_said_again_in_her_name(
    here: SpiedClass, *, listed: bool
) -> None:
    room, territory = here.room, here.room.territory
    person = await territory.person("M. X", PersonRole.TEACHER, room.space) if listed else bytes([7] * 16)
    stranger = await room.device(Role.TEACHER, person=person)
    await here.sync(stranger)
    await room.publish(stranger, {"faux.html": b"<h1>Ce que Mme Petit n'a jamais dit</h1>"})
    following = await territory.classroom("CM2")
    await territory.let_in(here.teacher.agent.keys, Role.TEACHER, following, person=room.teacher_person)
    await here.sync(stranger, here.teacher, here.teacher)
    desk = Desk(here.teacher.agent)
    known = {"from": room.space.hex(), "to": following.hex()}
    done = await desk.ask("carry-over", **known)
    assert (done["lessons"], done["unconfirmed"]) == (0, ["Leçon"])
    assert not (await here.teacher.agent.replica.view(following)).coursework.items
    reader = device_id(own_device(stranger.agent)).hex()
    await desk.ask("key-confirm", reader=reader, shown_as="other")
    assert (await desk.ask("carry-over", **known))["lessons"] == 1, "once somebody has looked who that is"


def _unless_a_person_is_named_whom_nobody_confirmed(self: OwnVoice, version: Version) -> bool:
    """Whoever has no person's name needs nobody to confirm it."""
    return not is_unconfirmed(self.roster, self.door.authority(version.grant))


@pytest.mark.parametrize("role", [Role.ADMIN, Role.HEAD])
@attack(ROW, off={"sync_agent.coursework.own_versions.OwnVoice.has": _unless_a_person_is_named_whom_nobody_confirmed})
async def test_a_lesson_by_an_administrator_or_a_head_without_a_name_is_not_said_again_in_her_name(
    here: SpiedClass, role: Role
) -> None:
    territory, room = here.room.territory, here.room
    made_by_the_server = await room.device(role, territory.replica.door.parent(room.space) or b"")
    await here.sync(made_by_the_server)
    await room.publish(made_by_the_server, {"eau.txt": b"L'eau"})
    following = await territory.classroom("CM2")
    await territory.let_in(here.teacher.agent.keys, Role.TEACHER, following, person=room.teacher_person)
    await here.sync(made_by_the_server, here.teacher, here.teacher)
    desk = Desk(here.teacher.agent)
    done = await desk.ask("carry-over", **{"from": room.space.hex(), "to": following.hex()})
    assert (done["lessons"], done["unconfirmed"]) == (0, ["Leçon"])
    (told,) = desk.told[1:]
    by = f"by the device {made_by_the_server.agent.device.hex()}, "
    assert f"since no computer of yours has confirmed who wrote it, {by}" in told
    assert not (await here.teacher.agent.replica.view(following)).coursework.items


async def _shown(here: SpiedClass) -> bool:
    """Whether the pupil's PC takes what the spy said for feedback."""
    for _ in range(2):
        await here.sync()
    work = (await here.machine.agent.replica.view(here.room.space)).coursework.hand_ins[here.work]
    return work.feedback is not None


def _nobody(*_: object) -> Iterable[bytes]:
    """What is over is looked at no more."""
    return ()


OVER = "a grant that is over makes its device a teacher's"


@pytest.mark.parametrize("end", ["its stay is over", "it was let back in"])
@attack(OVER, off={"protocol.rights.roster.over": _nobody})
async def test_what_was_said_under_a_grant_that_is_over_is_no_more_a_teachers_than_before(
    here: SpiedClass, end: str
) -> None:
    territory, space, petit = here.room.territory, here.room.space, here.room.teacher_person
    await here.name_the_spy(petit)
    said = await here.say(
        Kind.FEEDBACK, Feedback(WORDS, None, False, None).encode(), here.room.pupil_person, target=here.work
    )
    assert not await _shown(here)
    key = here.spy.signing.public
    target = here.grant if end == "its stay is over" else None
    over = await territory.say(space, Kind.REVOKE, Revocation(key, (said.id,)).encode(), target=target)
    if target is None:
        grant = Grant(key, here.spy.agreement.public, here.spy.tls.fingerprint, Role.TEACHER, petit, None, None)
        await territory.say(space, Kind.GRANT, grant.encode(), parents=(over.id,))
    assert not await _shown(here)


@attack(OVER, off={"protocol.rights.roster.over": _nobody})
async def test_what_is_held_back_with_the_grant_and_accepted_by_the_server_is_no_teachers_word(
    here: SpiedClass,
) -> None:
    territory, space, petit = here.room.territory, here.room.space, here.room.teacher_person
    admin = new_device(Random(7).randbytes)
    (right,) = await territory.let_in(admin, Role.ADMIN, territory.id)
    keys = here.spy
    grant = compose(
        author=admin.signing,
        space=space,
        kind=Kind.GRANT,
        grant=right.id,
        at=territory.clock() << 16,
        payload=Grant(
            keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, petit, None, None
        ).encode(),
        salt=bytes(SALT_BYTES),
    )
    await territory.replica.admit([grant], source=b"the operator", now_ms=territory.clock())
    here.grant = grant.id
    await here.say(Kind.PERSON_KEY, PersonKey(keys.agreement.public).encode(), petit)
    words = Feedback(WORDS, None, False, None).encode()
    said = await here.say(Kind.FEEDBACK, words, here.room.pupil_person, target=here.work)
    assert not await _shown(here)
    await territory.say(territory.id, Kind.REVOKE, Revocation(admin.signing.public, ()).encode())
    await territory.say(space, Kind.RULING, Ruling((said.id,), ()).encode())
    assert not await _shown(here)


def _always(*_: object) -> bool:
    """Whatever grant its device has left."""
    return True


@attack(
    OVER,
    off={
        "protocol.rights.roster.over": _nobody,
        "protocol.rights.roster._stands": _always,
        "protocol.rights.roster._not_confirmed_again": _nobody,
    },
)
async def test_a_key_said_under_a_grant_that_is_over_is_sealed_to_by_nobody(here: SpiedClass) -> None:
    territory, space, petit = here.room.territory, here.room.space, here.room.teacher_person
    await territory.let_in(here.spy, Role.MACHINE, space)
    await here.name_the_spy(petit)
    key = here.spy.signing.public
    keys = await territory.replica.store.scan_kinds([Kind.PERSON_KEY])
    (said,) = [entry for entry in keys if entry.header.author == key]
    await territory.say(space, Kind.REVOKE, Revocation(key, (said.id,)).encode(), target=here.grant)
    for _ in range(2):
        await here.sync()
    work = await here.room.hand_in(here.machine, here.item, WORK)
    for _ in range(2):
        await here.sync()
    assert not await here.opens(work)
    assert not await here.sealed_to_the_spy()
