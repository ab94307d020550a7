"""“Mon école”: a head teacher's pages, on her own computer, with no server in reach."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import Refused
from protocol.limits import SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import Erasure, PersonRecord, Revocation, SpaceChange
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.erasures import in_force
from protocol.rights.vouching import device_words
from protocol.roles import PersonRole, Role
from sync_agent.coursework.space_folders import coursework_folders
from sync_agent.keys.confirming import own_device
from sync_agent.scheduler import Outcome
from sync_agent.status import status
from tests.harness.classroom import SMALL, Classroom, Device
from tests.harness.passing_days import pass_days
from tests.harness.portal import Surfer, portal


async def head_of(room: Classroom) -> Device:
    head = await room.head()
    await head.session.sync()
    return head


async def test_she_makes_a_class_adds_people_and_gives_codes(room: Classroom) -> None:
    head = await head_of(room)
    async with portal(head.agent) as surfer:
        assert "Mon école" in await surfer.page("/")
        assert 'name="year" maxlength="9" value="2026-2027"' in await surfer.page("/school")
        made = await surfer.send("/school", "/school", {"name": "CE2", "year": "2026-2027"})
        place = made.headers["Location"].partition("?")[0]
        assert made.headers["Location"].endswith("?done=class")
        again = await surfer.send("/school", "/school", {"name": " ce2", "year": ""})
        assert "L'école en a déjà une de ce nom" in html.unescape(await surfer.page(again.headers["Location"]))
        other_year = await surfer.send("/school", "/school", {"name": "CE2", "year": "2027-2028"})
        assert other_year.headers["Location"].endswith("?done=twin"), "one of the two has no year"
        twin = again.headers["Location"].partition("?")[0]
        refused = await surfer.send("/school", "/school", {"name": "CP", "year": "26-27"})
        assert "cette année scolaire (2026-2027)" in refused.text
        assert 'href="/school">Retour' in refused.text
        renamed = await surfer.send(twin, f"{twin}/rename", {"name": "CE2 des Hirondelles"})
        assert (renamed.status, renamed.headers["Location"]) == (303, f"{twin}?done=renamed")
        assert "<h1>CE2 des Hirondelles</h1>" in await surfer.page(twin)
        await surfer.send(twin, f"{twin}/rename", {"name": "ce0"})
        listed = re.search(r'class="place">([^<]+)', await surfer.page("/"))
        assert listed is not None
        assert listed[1].split(", ") == sorted(listed[1].split(", "), key=str.casefold)
        assert listed[1].startswith("ce0, CE2")
        await surfer.send(twin, f"{twin}/rename", {"name": "CE2 des Hirondelles"})
        assert (await surfer.send(twin, f"{twin}/rename", {"name": " "})).status == 400
        for name, role, said in (
            ("Zoé", "pupil", "person"),
            ("zoe", "pupil", "namesake"),
            ("M. Roux", "teacher", "person"),
            ("Roux M.", "teacher", "person_twice"),
        ):
            added = await surfer.send(place, f"{place}/person", {"name": name, "role": role})
            assert added.headers["Location"] == f"{place}?done={said}"
        assert "donnez à chacun l'initiale" in html.unescape(await surfer.page(f"{place}?done=namesake"))
        page = await surfer.page(place)
        assert "Peut-être ajoutés deux fois" in page
        head.agent.listens_at = "0.0.0.0:8443"
        assert "--peer 0.0.0.0" not in (await surfer.send(place, f"{place}/code", {"person": "", "uses": "1"})).text
        head.agent.listens_at = "127.0.0.1:8443"
        told = await surfer.send(place, f"{place}/code", {"person": "", "uses": "1"})
        assert "--peer 127.0.0.1:8443" in told.text
        head.agent.listens_at = None
        teacher = re.search(r'value="([0-9a-f]{32})">Le portable de M. Roux', page)
        assert teacher is not None
        code = (await surfer.send(place, f"{place}/code", {"person": teacher[1], "for": "15d"})).text
        assert re.search(r"(?:[0-9A-Z]{4}-){8}[0-9A-Z]{4}", code)
        assert "run --lan" in code
        assert 'class="qr"' in code
        assert "CE2" in code
        assert "Le portable de M. Roux" in code
        assert "enroll --stick" in code
        (given,) = set(re.findall(r"(?:[0-9A-Z]{4}-){8}[0-9A-Z]{4}", code))
        assert f"sync-agent enroll --server {head.agent.enrolment.server_url} --code {given}" in code
        shown = str((await status(head.agent))["fingerprint"])
        assert given[1:].startswith(shown)
        assert code.count(shown) > code.count(given), "what the new computer shows too"
        assert "<dt>Empreinte</dt>" in await surfer.page("/state")
        assert shown in await surfer.page("/state")
        assert re.search(r"(?:[0-9A-Z]{4}-){8}", await surfer.page(place)) is None  # shown once
        assert "CE2" in await surfer.page("/school")


async def test_a_school_without_a_name_is_the_whole_school_on_pages_and_in_folders(room: Classroom) -> None:
    school = await room.territory.school("0180009Z", "0180009Z")
    head = await room.device(Role.HEAD, school)
    await head.session.sync()
    async with portal(head.agent) as surfer:
        assert ">Toute l'école (0180009Z)<" in html.unescape(await surfer.page("/publish"))
        assert "The whole school (0180009Z)" in await surfer.page("/publish?lang=en")
        assert (await coursework_folders(head.agent, [school]))[school] == "Toute l'école (0180009Z)"
        await room.territory.say(school, Kind.SPACE_CHANGE, SpaceChange("École de Bourges").encode())
        await head.session.sync()
        page = await surfer.page("/publish")
    assert "École de Bourges" in page
    assert "0180009Z" not in page


async def test_she_sees_who_had_people_of_her_school_forgotten_while_it_can_be_undone(room: Classroom) -> None:
    head, territory = await head_of(room), room.territory
    async with portal(head.agent) as surfer:
        assert "Effacements en attente" not in await surfer.page("/school")
        for person in (room.pupil_person, room.teacher_person, bytes(16)):
            await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
        await head.session.sync()
        await pass_days(territory, 0, head)
        page = html.unescape(await surfer.page("/school"))
        assert "2 personnes de l'école, à la demande de : le serveur" in page, "who is not of the school does not count"
        await surfer.send(
            f"/school/{room.space.hex()}", f"/school/{room.space.hex()}/person", {"name": "Tom", "role": "pupil"}
        )
        people = (await head.agent.replica.view(room.space)).roster.persons.values()
        (tom,) = [person.id for person in people if person.name == "Tom"]
        place = f"/school/{room.space.hex()}"
        await surfer.send(place, f"{place}/erase", {"person": tom.hex(), "meant": "yes", "asked": "yes"})
        assert "1 personne de l'école, à la demande de : cet ordinateur" in html.unescape(await surfer.page("/school"))
        await pass_days(territory, 9, head)
        assert "Effacements en attente" not in await surfer.page("/school")


async def test_she_sees_on_how_many_lists_one_id_stands_that_is_to_be_forgotten_and_how_many_children_these_name(
    room: Classroom,
) -> None:
    head, territory = await head_of(room), room.territory
    classes = [room.space, await territory.classroom("CE1"), await territory.classroom("CE2")]
    for space, name in zip(classes, ("Léa", "Tom", "LÉA"), strict=True):
        said = PersonRecord(name, PersonRole.PUPIL).encode()
        await territory.say(space, Kind.PERSON, said, subject=room.pupil_person)
    await territory.say(territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    await head.session.sync()
    await pass_days(territory, 0, head)
    async with portal(head.agent) as surfer:
        page = html.unescape(await surfer.page("/school"))
    assert "2 personnes de l'école (sur 3 listes en tout), à la demande de : le serveur" in page
    assert "cinq par jour, une fois par liste" in page


async def test_whom_a_key_had_forgotten_that_was_replaced_since_she_is_not_told_to_be_gone_for_good(
    room: Classroom,
) -> None:
    head, territory = await head_of(room), room.territory
    await territory.say(territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    await head.session.sync()
    server, replica = territory.keys.signing.public, territory.replica
    said = [tip for space in replica.door.spaces() for tip in await replica.tips(space, server)]
    word = compose(
        author=territory.keys.root,
        space=territory.id,
        kind=Kind.REVOKE,
        grant=None,
        at=at_from(territory.clock()),
        payload=Revocation(server, tuple(said)).encode(),
        salt=bytes(SALT_BYTES),
    )
    async with portal(head.agent) as surfer:
        assert "Définitif sur cet ordinateur" in html.unescape(await surfer.page("/school"))
        await head.agent.replica.admit([word], source=b"a neighbour", now_ms=territory.clock())
        page = html.unescape(await surfer.page("/school"))
        assert "1 personne de l'école, à la demande de : le serveur" in page
        assert "elle reste cachée" in page
        assert "Définitif" not in page


async def test_she_makes_doubles_one_takes_somebody_off_and_forgets_only_what_is_meant(room: Classroom) -> None:
    head = await head_of(room)
    place, lea = f"/school/{room.space.hex()}", room.pupil_person.hex()
    async with portal(head.agent) as surfer:
        await surfer.send(place, f"{place}/person", {"name": "LEA", "role": "pupil"})
        (other,) = set(re.findall(r'/erase.*?value="([0-9a-f]{32})"', await surfer.page(place), re.DOTALL)) - {lea}
        page = html.unescape(await surfer.page(place))
        for said in ("Léa (1) · LEA (2)", "Léa (1) · 0 travail rendu", "Réunir LEA (2) avec Léa (1)</button>"):
            assert said in page
        assert (await surfer.send(place, f"{place}/merge", {"person": other, "into": lea})).status == 400
        assert "Élèves (2)" in await surfer.page(place), "one click makes nobody one"
        answer = {"person": other, "into": lea, "meant": "yes"}
        assert (await surfer.send(place, f"{place}/merge", answer)).status == 303
        assert "Élèves (1)" in await surfer.page(place)
        page = html.unescape(await surfer.page(place))
        assert re.search(r"Avant le \w+ (?:1er|\d+) \w+.*peut encore revenir en arrière", page)
        assert (await surfer.send(place, f"{place}/erase", {"person": lea})).status == 400
        assert "Léa" in await surfer.page(place)
        asked = await surfer.send(place, f"{place}/erase", {"person": lea, "meant": "yes"})
        assert "Est-ce une seule personne" in asked.text
        assert "LEA<br>CM1 · 0 travail rendu</span>" in asked.text
        assert "Léa" in await surfer.page(place), "nobody is forgotten yet"
        answer = {"person": lea, "meant": "yes", "asked": "yes", f"also-{other}": "yes"}
        assert (await surfer.send(place, f"{place}/erase", answer)).status == 303
        assert {covers.hex() for _, covers in await in_force(head.agent.replica)} == {lea, other}
        assert "Léa" not in await surfer.page(place)
        petit = room.teacher_person.hex()
        assert (await surfer.send(place, f"{place}/leave", {"person": petit})).status == 303
        assert "Mme Petit" not in await surfer.page(place)


async def test_she_corrects_a_name_where_two_share_one(room: Classroom) -> None:
    head = await head_of(room)
    place = f"/school/{room.space.hex()}"
    async with portal(head.agent) as surfer:
        for _ in range(2):
            await surfer.send(place, f"{place}/person", {"name": "Noé", "role": "pupil"})
        second = re.search(
            r'<h3>Noé \(2\)</h3>.*?name="person" value="([0-9a-f]{32})"', await surfer.page(place), re.DOTALL
        )
        assert second is not None
        done = await surfer.send(place, f"{place}/name", {"person": second[1], "name": "Noé D.", "was": "Noé"})
        assert done.headers["Location"] == f"{place}?done=person_renamed"
        page = await surfer.page(place)
        assert "<h3>Noé</h3>" in page
        assert "<h3>Noé D.</h3>" in page


async def test_there_is_no_such_page_on_other_devices_nor_for_other_schools(room: Classroom) -> None:
    head, teacher, pc = await head_of(room), await room.teacher(), await room.machine()
    for device in (teacher, pc):
        await device.session.sync()
        async with portal(device.agent) as surfer:
            assert "/school" not in await surfer.page("/")
            for path in ("/school", f"/school/{room.space.hex()}"):
                assert (await surfer.get(path)).status == 404
            form = {"name": "CE2"}
            assert (await surfer.send("/who", "/school", form)).status == 404
    async with portal(head.agent) as surfer:
        assert (await surfer.get(f"/school/{'ab' * 32}")).status == 400
        wrong = await surfer.send("/school", f"/school/{room.space.hex()}/code", {"uses": "0"})
        assert wrong.status == 400


async def test_a_code_for_many_says_for_how_many(room: Classroom) -> None:
    head, place = await head_of(room), f"/school/{room.space.hex()}"
    async with portal(head.agent) as surfer:
        page = (await surfer.send(place, f"{place}/code", {"uses": "28"})).text
    assert "28 ordinateurs de la classe" in page


async def test_a_substitutes_laptop_says_that_its_access_will_end_that_it_is_over_and_that_it_has_ended(
    room: Classroom,
) -> None:
    until_ms = room.territory.clock.ms + 15 * DAY_MS
    laptop = await room.device(Role.TEACHER, person=room.teacher_person, until_ms=until_ms)
    await laptop.session.sync()
    pc = await room.machine()
    assert (await status(pc.agent))["stay"] is None
    async with portal(laptop.agent) as surfer:
        for days, words in ((0, None), (8, "prend fin"), (7, "a pris fin")):
            room.territory.clock.advance(days * DAY_MS)
            page = await surfer.page("/")
            assert ('id="stay"' in page) == (words is not None), days
            assert words is None or words in page
        told: Any = (await status(laptop.agent))["stay"]
        assert (told["space"], told["over"], told["ended"]) == (room.space.hex(), True, False)
        assert "Mme Petit" in await surfer.page("/"), "a date refuses nothing"
        cut = Revocation(laptop.agent.device, ()).encode()
        await room.territory.say(room.space, Kind.REVOKE, cut)
        with pytest.raises(Refused):
            await laptop.session.sync()
    async with portal(laptop.agent, Outcome.REFUSED) as surfer:
        page = await surfer.page("/")
        assert "l'école l'a retiré" in html.unescape(page)
    await laptop.agent.replica.admit(
        [*(await room.territory.replica.store.scan_kinds([Kind.REVOKE]))],
        source=room.territory.keys.signing.public,
        now_ms=room.territory.clock(),
    )
    told = (await status(laptop.agent))["stay"]
    assert (told["over"], told["ended"]) == (True, True)
    async with portal(laptop.agent) as surfer:
        page = html.unescape(await surfer.page("/"))
    assert "l'école l'a retiré" in page
    assert "pas encore de classe" not in page


async def test_she_lets_a_known_computer_and_a_teacher_of_another_class_into_a_class(room: Classroom) -> None:
    head, teacher, pc = await head_of(room), await room.teacher(), await room.machine()
    for device in (teacher, pc, head):
        await device.session.sync()
    await pass_days(room.territory, 7, head)
    async with portal(head.agent) as surfer:
        place = await a_class_more(surfer)
        page = await surfer.page(place)
        assert "0 ordinateur dans cette classe" in page
        assert f'value="device:{pc.agent.device.hex()}"' in page
        pc_in = await surfer.send(place, f"{place}/let-in", {"who": f"device:{pc.agent.device.hex()}"})
        assert pc_in.status == 303
        teacher_in = await surfer.send(place, f"{place}/let-in", {"who": f"person:{room.teacher_person.hex()}"})
        assert device_words(own_device(teacher.agent)) in teacher_in.text, "that is told once"
        page = await surfer.page(f"{place}?done=let_in")
        assert "2 ordinateurs dans cette classe" in page
        assert "(Mme Petit)" in page
        assert "Enseignants (1)" in page
        assert "Faire entrer quelqu" not in page, "nobody is left to let in"
        assert (await surfer.send(place, f"{place}/let-in", {"who": "nobody"})).status == 400


async def test_she_is_offered_the_times_of_which_her_computer_knows_what_had_come(room: Classroom) -> None:
    head, laptop = await head_of(room), await room.teacher()
    await laptop.session.sync()
    lesson = (await room.publish(laptop, SMALL)).item
    await laptop.session.sync()
    await head.session.sync()
    clock = room.territory.clock
    await note_arrivals(head.agent.replica.store, clock())
    clock.advance(4 * DAY_MS)
    async with portal(head.agent) as surfer:
        page = await surfer.page("/lost")
        assert set(re.findall(r'<option value="([0-9a-z]*)"', page)) == {"", "24h", "3d"}
        form = {"device": laptop.agent.device.hex(), "meant": "yes"}
        refused = await surfer.send("/lost", "/lost", {**form, "since": "7d"})
        assert refused.status == 400
        assert "Rien n'a été fait" in html.unescape(refused.text)
        assert (await head.agent.replica.view(room.space)).roster.may_read(laptop.agent.device)
        assert (await surfer.send("/lost", "/lost", {**form, "since": "3d"})).status == 200
    view = await head.agent.replica.view(room.space)
    assert not view.roster.may_read(laptop.agent.device)
    assert lesson in view.coursework.items


async def test_a_teachers_computer_comes_in_from_the_list_once_its_six_words_were_seen(room: Classroom) -> None:
    head, teacher = await head_of(room), await room.teacher()
    for device in (teacher, head):
        await device.session.sync()
    who = {"who": f"device:{teacher.agent.device.hex()}"}
    async with portal(head.agent) as surfer:
        place = await a_class_more(surfer)
        page = (await surfer.send(place, f"{place}/let-in", who)).text
        assert device_words(own_device(teacher.agent)) in page
        assert "0 ordinateur dans cette classe" in page
        (seen,) = re.findall(r'name="seen" value="([^"]+)"', page)
        assert (await surfer.send(place, f"{place}/let-in", who | {"seen": seen})).status == 303
        assert "1 ordinateur dans cette classe" in await surfer.page(place)


async def test_she_is_told_which_of_a_teachers_computers_have_not_come_in_with_her(room: Classroom) -> None:
    head, teacher = await head_of(room), await room.teacher()
    for device in (teacher, head):
        await device.session.sync()
    await pass_days(room.territory, 7, head)
    other = await room.device(Role.TEACHER, room.space, person=room.teacher_person)
    for device in (other, head):
        await device.session.sync()
    async with portal(head.agent) as surfer:
        place = await a_class_more(surfer)
        who = {"who": f"person:{room.teacher_person.hex()}"}
        page = (await surfer.send(place, f"{place}/let-in", who)).text
        assert "1 ordinateur dans cette classe" in page
        assert device_words(own_device(other.agent)) in page
        assert "Il n'est pas entré" in html.unescape(page)
        assert "Il est entré" in html.unescape(page)
        place = await a_class_more(surfer)
        page = (await surfer.send(place, f"{place}/let-in", who)).text
        assert device_words(own_device(other.agent)) in page
        assert device_words(own_device(teacher.agent)) not in page, "of the one that was met first it is told once"


async def test_who_learns_later_since_when_a_reported_laptop_was_in_wrong_hands_says_so_on_the_same_page(
    room: Classroom,
) -> None:
    head, laptop = await head_of(room), await room.teacher()
    await laptop.session.sync()
    await head.session.sync()
    clock = room.territory.clock
    await note_arrivals(head.agent.replica.store, clock())
    clock.advance(2 * DAY_MS)
    lesson = (await room.publish(laptop, SMALL)).item
    await laptop.session.sync()
    await head.session.sync()
    form = {"device": laptop.agent.device.hex(), "meant": "yes"}
    async with portal(head.agent) as surfer:
        assert "déjà retiré" not in await surfer.page("/lost")
        await surfer.send("/lost", "/lost", form)
        assert lesson in (await head.agent.replica.view(room.space)).coursework.items
        gone = (await surfer.page("/lost")).partition("1 poste déjà retiré")[2]
        assert f'value="{form["device"]}"' in gone
        assert set(re.findall(r'<option value="([0-9a-z]*)"', gone)) == {"24h"}
        assert (await surfer.send("/lost", "/lost", {**form, "since": "24h"})).status == 200
    assert lesson not in (await head.agent.replica.view(room.space)).coursework.items


async def a_class_more(surfer: Surfer) -> str:
    """The address of its page."""
    made = await surfer.send("/school", "/school", {"name": "CE2", "year": "2026-2027"})
    return made.headers["Location"].partition("?")[0]


async def test_she_reports_a_stolen_laptop_and_reads_what_it_held(room: Classroom) -> None:
    head, laptop, pc = await head_of(room), await room.teacher(), await room.machine()
    for device in (laptop, pc, laptop, head):
        await device.session.sync()
    async with portal(head.agent) as surfer:
        assert 'href="/lost"' in await surfer.page("/school")
        page = await surfer.page("/lost")
        assert set(re.findall(r'name="device" value="([0-9a-f]{64})"', page)) == {
            device.agent.device.hex() for device in (laptop, pc)
        }
        assert "Mme Petit" in page
        assert set(re.findall(r'<option value="([0-9a-z]*)"', page)) == {""}, "she has noted nothing yet"
        assert "n'a encore rien noté" in html.unescape(page)
        stolen = {"device": laptop.agent.device.hex(), "since": ""}
        assert (await surfer.send("/lost", "/lost", stolen)).status == 400
        assert laptop.agent.device.hex() in await surfer.page("/lost"), "it has to be meant"
        report = html.unescape((await surfer.send("/lost", "/lost", {**stolen, "meant": "yes"})).text)
        assert "2 noms" in report
        assert "clé de lecture" in report
        assert "Rien : ni accès donné" in report
        assert laptop.agent.device.hex() not in await surfer.page("/lost")
        assert (await surfer.send("/lost", "/lost", {"device": "ab" * 32, "meant": "yes"})).status == 400
    assert not (await head.agent.replica.view(room.space)).roster.may_read(laptop.agent.device)
    async with portal(pc.agent) as surfer:
        assert (await surfer.get("/lost")).status == 404


async def test_who_is_to_be_forgotten_is_shown_once_more_with_the_only_name_that_the_lists_had(
    room: Classroom,
) -> None:
    head = await head_of(room)
    place, lea = f"/school/{room.space.hex()}", room.pupil_person
    async with portal(head.agent) as surfer:
        asked = await surfer.send(place, f"{place}/erase", {"person": lea.hex(), "meant": "yes"})
        assert "Les listes n'ont jamais donné à cette personne d'autre nom que Léa." in html.unescape(asked.text)
        assert not await in_force(head.agent.replica), "nobody is forgotten yet"
        answer = {"person": lea.hex(), "meant": "yes", "asked": "yes"}
        assert (await surfer.send(place, f"{place}/erase", answer)).status == 303
    assert [covers for _, covers in await in_force(head.agent.replica)] == [lea]
