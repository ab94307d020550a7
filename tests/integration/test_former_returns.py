"""“Était-ce bien vous ?”: a found laptop is lost or retired, and her next one asks about what was said since."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.folds.coursework import HandInState
from protocol.model.entry import Entry, Kind
from protocol.rights.vouching import device_id, device_words
from protocol.roles import Role
from protocol.trust.kit import Argon2Cost
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.former_returns import ASKED, DECLINED
from sync_agent.keys.phrases import new_phrase
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    a_year_on_a_found_laptop,
    another_laptop,
    confirm_each_other,
    cut_off,
    her_next_laptop,
    let_in_again,
    lost_and_found,
    report_on_a_heads,
)
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

CHEAP = Argon2Cost(8, 1, 1)
WORDS = "Bravo, Léa"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _is_on_the_pupils_page(here: Here) -> bool:
    pupil = here.room.pupil_person
    async with portal(here.machine.agent) as surfer:
        await surfer.send("/who", "/who", {"person": pupil.hex(), "back": "/"})
        return WORDS in await surfer.page(f"/work/{here.work.hex()}")


async def _state(here: Here) -> HandInState:
    return (await here.machine.agent.replica.view(here.room.space)).coursework.hand_ins[here.work].state


async def _vouches(here: Here, by: Device) -> int:
    return len(
        [
            each
            for each in await by.agent.replica.store.scan_kinds([Kind.VOUCH])
            if each.header.author == by.agent.device
        ]
    )


async def test_what_she_said_since_her_laptop_was_found_counts_again_once_her_next_one_is_told_so(here: Here) -> None:
    paper, head = await a_year_on_a_found_laptop(here, WORDS)
    assert await _is_on_the_pupils_page(here)
    new, desk, _ = await her_next_laptop(here, paper, head)
    assert not await _is_on_the_pupils_page(here), "by the set it may have been a thief"
    async with portal(new.agent) as surfer:
        home = html.unescape(await surfer.page("/"))
        assert "a été signalé, puis remis en service. Était-ce bien vous ?" in home
        asked = html.unescape(await surfer.page("/readers")).partition('id="h-former"')[2].partition("</section>")[0]
        assert device_words(own_device(here.teacher.agent)) in asked
        assert "Signalé perdu ou volé : " in asked
        assert "Remis en service : " in asked
        assert "nommé par un appareil inscrit pour la direction" in asked
        assert "Il a parlé en votre nom jusqu'à : " in asked
        assert "Il a écrit 1 réponse à un élève" in asked
        before = await _vouches(here, new)
        (row,) = [row for row in await desk.ask("key-readers") if row["state"] == "was that you?"]
        said = await surfer.send("/readers", "/readers/was-me", {"reader": row["id"], "shown_as": "own"})
        assert said.status == 303
        assert "compte de nouveau comme venant de vous" in html.unescape(await surfer.page(said.headers["Location"]))
        assert 'id="h-former"' not in await surfer.page("/readers")
    assert await _vouches(here, new) == before + 1
    await here.sync(new, here.machine)
    assert await _is_on_the_pupils_page(here)
    assert await _state(here) is HandInState.MARKED


async def test_a_no_stays_on_this_laptop_among_her_computers_and_a_yes_may_follow_it(here: Here) -> None:
    paper, head = await a_year_on_a_found_laptop(here, WORDS)
    new, desk, _ = await her_next_laptop(here, paper, head)
    (row,) = [row for row in await desk.ask("key-readers") if row["state"] == ASKED]
    before = await _vouches(here, new)
    async with portal(new.agent) as surfer:
        page, action = "/readers", "/readers/not-me"
        assert (await surfer.send(page, action, {"reader": row["id"]})).headers["Location"] == "/readers?done=not-me"
        assert "Était-ce bien vous ?" not in html.unescape(await surfer.page("/"))
        page_now = html.unescape(await surfer.page("/readers"))
        assert 'id="h-former"' not in page_now
        assert "vous avez répondu « Non, ou je ne sais pas »" in page_now
        assert (await surfer.send(page, action, {"reader": bytes(32).hex()})).status == 400
    assert await _vouches(here, new) == before
    desk.told.clear()
    assert [each["state"] for each in await desk.ask("key-readers", reader=row["id"])] == [DECLINED]
    assert "You have said on this one that this was not you" in "".join(desk.told)
    assert await desk.ask("key-confirm", reader=row["id"], shown_as="own") == {"spaces": 1}
    await here.sync(new, here.machine)
    assert await _is_on_the_pupils_page(here)


async def test_who_types_the_paper_is_asked_in_words_and_nothing_is_said_without_an_answer(here: Here) -> None:
    paper, head = await a_year_on_a_found_laptop(here, WORDS)
    new, desk, opened = await her_next_laptop(here, paper, head)
    (asked,) = opened["asked"]
    told = "".join(desk.told)
    assert device_words(own_device(here.teacher.agent)) in told
    assert "and wrote 1 answer. Was that you?" in told
    assert f"`key confirm {asked['id']} --as own`" in told
    before = await _vouches(here, new)
    here.room.territory.clock.advance(8 * DAY_MS)
    for _ in range(3):
        await here.sync(new, head, here.machine)
    assert await _vouches(here, new) == before
    assert not await _is_on_the_pupils_page(here)
    with pytest.raises(BadInput) as caught:
        await desk.ask("key-confirm", reader=asked["id"])
    assert caught.value.code is Code.USAGE
    assert await desk.ask("key-confirm", reader=asked["id"], shown_as="own") == {"spaces": 1}
    await here.sync(new, here.machine)
    assert await _is_on_the_pupils_page(here)
    assert not [row for row in await desk.ask("key-readers") if row["state"] == "was that you?"]
    with pytest.raises(BadInput) as caught:
        await desk.ask("key-confirm", reader=asked["id"], shown_as="own")
    assert caught.value.code is Code.UNKNOWN_DEVICE, "it is asked no more"


async def test_whom_the_found_laptop_called_hers_is_named_with_six_words_before_she_answers(here: Here) -> None:
    head, _ = await confirmed_head(here)
    paper = await new_phrase(here.teacher.agent, CHEAP)
    await here.sync()
    await lost_and_found(here, head, here.teacher)
    second = await another_laptop(here, here.teacher)
    await report_on_a_heads(here, head, second)
    await here.sync(here.teacher)
    await report_on_a_heads(here, head, here.teacher)
    new, desk, opened = await her_next_laptop(here, paper, head)
    (asked,) = opened["asked"]
    words = device_words(own_device(second.agent))
    assert [each["words"] for each in asked["return"]["called_hers"]] == [words]
    assert words in "".join(desk.told)
    async with portal(new.agent) as surfer:
        assert words in (await surfer.page("/readers")).partition('id="h-former"')[2].partition("</section>")[0]


async def test_her_third_laptop_that_has_the_same_paper_asks_and_the_second_that_has_said_so_does_not(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    paper = await new_phrase(here.teacher.agent, CHEAP)
    await here.sync()
    await lost_and_found(here, head, here.teacher)
    await Desk(here.teacher.agent).ask("feedback", id=here.work.hex(), text=WORDS)
    await here.sync(here.teacher, here.machine)
    second, of_second, opened = await her_next_laptop(here, paper, head)
    assert "asked" not in opened
    await confirm(second.agent, device_id(own_device(here.teacher.agent)), shown_as="own")
    await here.sync(second, here.machine)
    await report_on_a_heads(here, head, here.teacher)
    await here.sync(second)
    assert await _is_on_the_pupils_page(here)
    third, of_third, opened = await her_next_laptop(here, paper, head)
    await here.sync(second)
    assert not await _is_on_the_pupils_page(here)
    assert not [row for row in await of_second.ask("key-readers") if row["state"] == "was that you?"]
    (asked,) = opened["asked"]
    await of_third.ask("key-confirm", reader=asked["id"], shown_as="own")
    await here.sync(third, here.machine)
    assert await _is_on_the_pupils_page(here)


async def test_who_has_two_laptops_that_speak_for_each_other_is_asked_nothing_when_one_leaves(here: Here) -> None:
    head, _ = await confirmed_head(here)
    second = await another_laptop(here, here.teacher)
    await lost_and_found(here, head, here.teacher, second)
    await confirm_each_other(here, here.teacher, second)
    await report_on_a_heads(here, head, here.teacher)
    await here.sync(second)
    assert not [row for row in await Desk(second.agent).ask("key-readers") if row["state"] == "was that you?"]


async def test_a_found_laptop_says_on_which_of_hers_she_has_still_to_answer_and_the_one_that_said_so_asks_no_more(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    first = here.teacher
    second = await another_laptop(here, first)
    drawer = await another_laptop(here, first)
    await here.sync(second, drawer, first, second, drawer)
    await confirm(second.agent, device_id(own_device(drawer.agent)), shown_as="own")
    await here.sync(second)
    await lost_and_found(here, head, first, second)
    await confirm(second.agent, device_id(own_device(first.agent)), shown_as="own")
    await here.sync(second, first, here.machine)
    words = device_words(own_device(drawer.agent))
    for laptop in (first, second):
        rows = {row["device"]: row for row in await Desk(laptop.agent).ask("key-readers")}
        state = "this" if laptop is first else "waits"
        row = rows[first.agent.device.hex()]
        assert (row["state"], [each["words"] for each in row["waits_for"]]) == (state, [words])
        desk = Desk(laptop.agent)
        await desk.ask("key-readers")
        assert f"waits for {words} (calls itself “{drawer.agent.enrolment.device_name}”)" in "".join(desk.told)
    (waits_for,) = (await Desk(first.agent).ask("status"))["waits_for"]
    assert waits_for["words"] == words
    assert (await Desk(second.agent).ask("status"))["waits_for"] == []
    async with portal(first.agent) as surfer:
        assert "Il attend votre réponse sur un autre des vôtres" in html.unescape(await surfer.page("/"))
        page = html.unescape(await surfer.page("/readers"))
        own, row = (_row_of(page, device_words(own_device(each.agent))) for each in (first, drawer))
        assert "jusqu'à votre réponse sur" in own
        assert words in own
        assert "Il n'a pas encore dit que cet ordinateur est le vôtre" in row
        assert "Confirmé : il lit ce que vous lisez" not in row
    async with portal(second.agent) as surfer:
        assert "Est-ce bien votre nouvel ordinateur" not in html.unescape(await surfer.page("/"))
        row = _row_of(html.unescape(await surfer.page("/readers")), device_words(own_device(first.agent)))
        assert "Vous avez répondu ici. Il attend encore votre réponse sur" in row
        assert words in row
        assert "Oui, c'est le mien" not in row
    await here.sync(drawer)
    assert {row["state"] for row in await Desk(drawer.agent).ask("key-readers", reader=first.agent.device.hex())} == {
        "yours?"
    }
    await confirm(drawer.agent, device_id(own_device(first.agent)), shown_as="own")
    await here.sync(drawer, first, second, here.machine)
    assert (await Desk(first.agent).ask("status"))["waits_for"] == []
    assert {row["state"] for row in await Desk(second.agent).ask("key-readers")} == {"this", "confirmed"}


async def test_of_two_that_were_lost_together_the_one_that_nobody_else_is_asked_about_reads_at_once(here: Here) -> None:
    head, _ = await confirmed_head(here)
    drawer, second = here.teacher, await here.room.teacher()
    await here.sync(second, drawer)
    await confirm(drawer.agent, device_id(own_device(second.agent)), shown_as="own")
    await here.sync(drawer, second)
    first = await another_laptop(here, second)
    await here.sync(head, here.machine)
    await lost_and_found(here, head, first)
    await lost_and_found(here, head, second)
    await here.sync(first, second)
    of_second, of_drawer = (device_words(own_device(each.agent)) for each in (second, drawer))
    for laptop, others in ((first, set[str]()), (second, {of_drawer})):
        assert {each["words"] for each in (await Desk(laptop.agent).ask("status"))["waits_for"]} == others
    async with portal(second.agent) as surfer:
        assert "Il attend votre réponse sur un autre des vôtres" in html.unescape(await surfer.page("/"))
        row = _row_of(html.unescape(await surfer.page("/readers")), of_drawer)
        assert "Il n'a pas encore dit que cet ordinateur est le vôtre" in row
    async with portal(first.agent) as surfer:
        row = _row_of(html.unescape(await surfer.page("/readers")), of_second)
        assert "Il n'a pas encore dit" not in row
    await here.sync(drawer)
    await confirm(drawer.agent, device_id(own_device(second.agent)), shown_as="own")
    await here.sync(drawer, first, second, here.machine)
    for laptop in (first, second):
        assert (await Desk(laptop.agent).ask("status"))["waits_for"] == []


async def test_who_has_said_that_it_was_she_is_told_on_which_other_laptop_she_is_still_asked(here: Here) -> None:
    head, _ = await confirmed_head(here)
    paper = await new_phrase(here.teacher.agent, CHEAP)
    await here.sync()
    await lost_and_found(here, head, here.teacher)
    await Desk(here.teacher.agent).ask("feedback", id=here.work.hex(), text=WORDS)
    await here.sync(here.teacher, here.machine, head)
    await report_on_a_heads(here, head, here.teacher)
    second, of_second, _ = await her_next_laptop(here, paper, head)
    third, of_third, _ = await her_next_laptop(here, paper, head)
    await here.sync(second)
    asked = [row for row in await of_second.ask("key-readers") if row["state"] == "was that you?"]
    await of_second.ask("key-confirm", reader=asked[0]["id"], shown_as="own")
    words = device_words(own_device(third.agent))
    (row,) = [row for row in await of_second.ask("key-readers") if row["state"] == "waits"]
    assert [each["words"] for each in row["return"]["waits_for"]] == [words]
    async with portal(second.agent) as surfer:
        assert "Était-ce bien vous" not in html.unescape(await surfer.page("/"))
        page = html.unescape(await surfer.page("/readers")).partition('id="h-former"')[2].partition("</section>")[0]
        assert "Il manque encore votre réponse sur" in page
        assert words in page
        assert "Oui, c'était moi" not in page
    assert not await _is_on_the_pupils_page(here)
    await here.sync(second, third)
    (row,) = [row for row in await of_third.ask("key-readers") if row["state"] == "was that you?"]
    await of_third.ask("key-confirm", reader=row["id"], shown_as="own")
    await here.sync(third, here.machine)
    assert await _is_on_the_pupils_page(here)


def _row_of(page: str, words: str) -> str:
    """What a page says of the device that shows these words."""
    rows = [
        row.partition("</li>\n    </ul>")[0]
        for row in page.split("<li><div><h3>")
        if row.startswith(f"Six mots : <strong>{words}")
    ]
    (row,) = rows
    return row


async def test_what_a_former_laptop_said_is_read_once_for_all_its_returns_and_again_once_more_has_come(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await another_laptop(here, here.teacher)
    await here.sync(lost, here.teacher)
    for day in range(3):
        await cut_off(here, lost)
        await let_in_again(here, lost, Role.TEACHER, here.room.teacher_person)
        here.room.territory.clock.advance(2 * DAY_MS if day < 2 else 0)
    await cut_off(here, lost)
    await here.sync(here.teacher)
    store, read = here.teacher.agent.replica.store, list[bytes]()
    authored = store.authored

    async def reading(space: bytes, author: bytes) -> list[Entry]:
        read.append(author)
        return await authored(space, author)

    monkeypatch.setattr(store, "authored", reading)
    async with portal(here.teacher.agent) as surfer:
        for _ in range(3):
            assert html.unescape(await surfer.page("/")).count("Était-ce bien vous ?") == 1
        assert read == [lost.agent.device]
        await here.room.publish(here.teacher, {"a.html": b"<p>"})
        read.clear()
        await surfer.page("/")
        await surfer.page("/readers")
    assert read == [lost.agent.device]
