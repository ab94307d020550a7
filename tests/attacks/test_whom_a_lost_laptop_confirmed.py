"""Whom a teacher's stolen laptop confirmed as hers before anybody reported it (docs/adr/0247)."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Collection, Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS, rfc3339
from protocol.errors import Refused
from protocol.limits import READING_KEY_PAUSE_MS, SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonKey, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.text import local_time
from protocol.replica.office import confirmed_by_lost
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import Vouch, device_words
from protocol.roles import Role
from protocol.trust.person_keys import KeyWraps
from sync_agent.keys.confirming import circle_of, own_device
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import CHEAP, another_laptop, keys_said, opens_what_is_handed_in_now
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, own_keys, spied_class
from tests.harness.territory import new_device

LOST = "a device is lost"


async def confirmed_by_the_thief(here: SpiedClass, *, back_ms: int = 0) -> tuple[Device, Device]:
    """Her other laptop, and the head's; her third is stolen, and says that a device of the thief's is hers.

    A code for one more computer of hers lay in its mail: an honest server lets the device in.
    """
    lost = await another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, here.teacher, lost, here.teacher, here.machine)
    await here.name_the_spy(here.room.teacher_person, back_ms=back_ms)
    await here.sync(lost)
    right = (await lost.agent.right(here.room.space, Kind.VOUCH)).grant
    hers = here.room.teacher_person
    await lost.agent.write(Draft(here.room.space, Kind.VOUCH, right, Vouch().encode(), subject=hers, target=here.grant))
    await here.sync(lost, head, here.teacher, here.machine)
    return lost, head


async def _nobody(*_: object) -> tuple[()]:
    return ()


def _whoever_is_led_to(agent: object, roster: object, person: bytes) -> Iterable[object]:
    return circle_of(agent, roster, person).own  # type: ignore[arg-type]


@attack(LOST, off={"protocol.replica.office.losses.confirmed_by_lost": _nobody})
async def test_whom_a_stolen_laptop_alone_confirmed_is_named_with_six_words_as_it_is_reported(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head = await confirmed_by_the_thief(here)
        desk = Desk(head.agent)
        loss = await desk.ask("lost", device=lost.agent.device.hex())
        assert [row["device"] for row in loss["confirmed"]] == [here.spy.signing.public.hex()], "of hers none else"
        assert loss["confirmed"][0]["words"] == device_words(own_keys(here.spy))
        assert f"({device_words(own_keys(here.spy))})" in "".join(desk.told)
        await desk.ask("lost", device=here.spy.signing.public.hex())
        await here.sync(head, here.teacher, here.machine)
        assert (await desk.ask("lost", device=lost.agent.device.hex()))["confirmed"] == []


@attack(LOST, off={"protocol.replica.office.losses.called_so_besides": _nobody})
async def test_whom_a_stolen_key_called_hers_is_named_with_six_words_as_her_one_laptop_is_reported(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        await here.name_the_spy(here.room.teacher_person)
        await here.sync(head, here.teacher, here.machine)
        desk = Desk(head.agent)
        loss = await desk.ask("lost", device=here.teacher.agent.device.hex())
        assert [(row["device"], row["words"]) for row in loss["besides"]] == [
            (here.spy.signing.public.hex(), device_words(own_keys(here.spy)))
        ]
        assert f"({device_words(own_keys(here.spy))}) is called the same person's" in "".join(desk.told)
        async with portal(head.agent) as surfer:
            page = await surfer.send("/lost", "/lost", {"device": here.teacher.agent.device.hex(), "meant": "yes"})
        assert device_words(own_keys(here.spy)) in html.unescape(page.text)


async def test_whom_a_lost_laptop_had_confirmed_is_not_named_besides(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head = await confirmed_by_the_thief(here)
        assert (await Desk(head.agent).ask("lost", device=here.teacher.agent.device.hex()))["besides"] == [], lost


async def named_at_the_server(here: SpiedClass, lost: Device) -> list[VouchedDevice]:
    """Whom `lost` names there."""
    replica = here.room.territory.replica
    roster = (await replica.view(here.room.space)).roster
    keys = await replica.store.scan_kinds([Kind.PERSON_KEY])
    starts = confirmed_by_lost._came_first(replica.door, keys, roster, frozenset())
    return list(confirmed_by_lost._by_its_word_alone(roster, lost.agent.device, starts))


def _by_dates(_door: object, _keys: object, roster: Roster, _held: object) -> dict[bytes, VouchedDevice]:
    return {person: starts[0] for person, starts in roster.starts.items() if starts}


@attack(LOST, off={"protocol.replica.office.confirmed_by_lost._came_first": _by_dates})
async def test_at_the_server_too_whose_key_bears_an_early_date_is_named(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, _ = await confirmed_by_the_thief(here, back_ms=10**9)
        replica, spy = here.room.territory.replica, own_keys(here.spy)
        roster = (await replica.view(here.room.space)).roster
        assert roster.starts[here.room.teacher_person] == (spy,), "by dates it would be hers before all others"
        assert await named_at_the_server(here, lost) == [spy]


class _NobodyElsewhere:
    def __init__(self, *_: object) -> None: ...

    def own(self, _person: bytes) -> frozenset[VouchedDevice]:
        return frozenset()


@attack(LOST, off={"protocol.replica.office.confirmed_by_lost._Led": _NobodyElsewhere})
async def test_a_device_that_dates_its_key_before_all_hides_nobody_whom_a_stolen_one_confirmed(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head = await confirmed_by_the_thief(here)
        territory, space, hers = here.room.territory, here.room.space, here.room.teacher_person
        decoy = new_device(Random(7).randbytes)
        (grant,) = await territory.let_in(decoy, Role.TEACHER, space, person=hers)
        said = compose(
            author=decoy.signing,
            space=space,
            kind=Kind.PERSON_KEY,
            grant=grant.id,
            at=1 << 16,
            payload=PersonKey(decoy.agreement.public).encode(),
            salt=bytes(SALT_BYTES),
            subject=hers,
        )
        assert (await territory.replica.admit([said], source=b"a stranger", now_ms=territory.clock())).admitted
        await here.sync(here.teacher, here.machine, head)
        at_server = (await territory.replica.view(space)).roster
        assert set(at_server.speaking[hers]) == {(decoy.signing.public, decoy.agreement.public)}, (
            "at the server it alone"
        )
        assert own_keys(here.spy) in (await here.machine.agent.replica.view(space)).roster.speaking[hers], "she, on PCs"
        assert await named_at_the_server(here, lost) == [own_keys(here.spy)]


async def _decoy_of_hers(here: SpiedClass) -> None:
    """Whoever has a copy of the server's key lets in one more device as hers, which says that the thief's is hers."""
    territory, space, hers = here.room.territory, here.room.space, here.room.teacher_person
    decoy = new_device(Random(7).randbytes)
    (grant,) = await territory.let_in(decoy, Role.TEACHER, space, person=hers)
    key, word = PersonKey(decoy.agreement.public).encode(), Vouch().encode()
    said = [
        compose(
            author=decoy.signing,
            space=space,
            kind=kind,
            grant=grant.id,
            at=(territory.clock() << 16) + n,
            payload=payload,
            salt=bytes(SALT_BYTES),
            subject=hers,
            target=target,
        )
        for n, (kind, payload, target) in enumerate([(Kind.PERSON_KEY, key, None), (Kind.VOUCH, word, here.grant)])
    ]
    assert (await territory.replica.admit(said, source=b"a stranger", now_ms=territory.clock())).admitted


async def _copied_key_hides_the_key_of(here: SpiedClass, lost: Device) -> None:
    """It cuts her off as one who stays, but for her reading key, and lets her back in the same breath."""
    territory, space, keys = here.room.territory, here.room.space, lost.agent.keys
    said = await territory.replica.said(Kind.PERSON_KEY, space)
    hers = tuple(each.id for each in said if each.header.author == lost.agent.device)
    heads = tuple(await territory.replica.tips(space, lost.agent.device))
    cut = await territory.say(space, Kind.REVOKE, Revocation(lost.agent.device, heads, absent=hers).encode())
    back = granted(keys, Role.TEACHER, here.room.teacher_person.hex())
    await territory.say(space, Kind.GRANT, back, parents=(cut.id,))
    assert hers
    assert set(hers) <= (await territory.replica.view(space)).roster.held_back


async def _whoever_holds_it_back(office: Office, spaces: Iterable[bytes]) -> dict[bytes, Collection[bytes]]:
    """As if it did not matter whose word holds another back."""
    return {space: (await office.replica.view(space)).roster.held_back for space in spaces}


@attack(LOST, off={"protocol.replica.office.confirmed_by_lost.held_surely": _whoever_holds_it_back})
async def test_nobody_comes_before_a_stolen_laptop_because_a_copied_key_holds_back_hers(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, hers, space = here.teacher, here.room.teacher_person, here.room.space
        head, _ = await confirmed_head(here)
        await here.sync(head, lost, here.machine)
        await here.name_the_spy(hers)
        await here.sync(lost)
        right = (await lost.agent.right(space, Kind.VOUCH)).grant
        await lost.agent.write(Draft(space, Kind.VOUCH, right, Vouch().encode(), subject=hers, target=here.grant))
        await here.sync(lost, head, here.machine)
        await _decoy_of_hers(here)
        await _copied_key_hides_the_key_of(here, lost)
        await here.sync(head, here.machine)
        loss = await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
        assert [row["device"] for row in loss["confirmed"]] == [here.spy.signing.public.hex()]


@attack(LOST, off={"protocol.replica.office.losses.confirmed_by_lost": _nobody})
async def test_a_heads_page_names_whom_a_stolen_laptop_alone_confirmed(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head = await confirmed_by_the_thief(here)
        async with portal(head.agent) as surfer:
            told = await surfer.send("/lost", "/lost", {"device": lost.agent.device.hex(), "meant": "yes"})
        named = html.unescape(told.text).partition('id="h-confirmed"')[2].partition("</section>")[0]
        assert device_words(own_keys(here.spy)) in named


async def _a_stolen_laptop_draws(here: SpiedClass) -> tuple[Device, Device, str]:
    """Her second laptop is stolen, and a phrase is drawn on it; the head's computer, which knows of both; the words."""
    lost = await another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, here.teacher, lost, here.teacher, here.machine)
    await note_arrivals(head.agent.replica.store, here.room.territory.clock())
    here.room.territory.clock.advance(2 * DAY_MS)
    words = await new_phrase(lost.agent, CHEAP)
    await here.sync(lost, head, here.teacher, here.machine)
    return lost, head, words


@attack(LOST, off={"protocol.replica.office.losses.phrases_of_lost": _nobody})
async def test_phrases_that_were_drawn_on_a_stolen_laptop_are_named_with_the_day_as_it_is_reported(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head, words = await _a_stolen_laptop_draws(here)
        desk, drawn_ms = Desk(head.agent), here.room.territory.clock()
        rows = (await desk.ask("lost", device=lost.agent.device.hex()))["phrases"]
        day = (rfc3339(drawn_ms) or "")[:10]
        assert [(each["drawn"][:10], each["counts"]) for each in rows] == [(day, True)]
        told = "".join(desk.told)
        assert f"phrases were drawn on it: {local_time(rows[0]['drawn'])}" in told
        assert f"`lost {lost.agent.device.hex()} --since TIME`" in told
        again = await desk.ask("lost", device=lost.agent.device.hex(), since="36h")
        assert [each["counts"] for each in again["phrases"]] == [False]
        await here.sync(head, here.teacher, here.machine)
        thiefs = await here.room.teacher()
        await here.sync(thiefs)
        with contextlib.suppress(Refused):
            await open_with_phrase(thiefs.agent, words)
        await here.sync(thiefs, here.teacher, head, here.machine)
        roster = (await here.machine.agent.replica.view(here.room.space)).roster
        assert own_device(thiefs.agent) not in roster.speaking[here.room.teacher_person], "the paper proves nothing"


@attack(LOST, off={"protocol.replica.office.phrases_of_lost.held_surely": _whoever_holds_it_back})
async def test_also_one_that_a_copied_key_holds_back_as_it_cuts_the_laptop_off_and_lets_it_in_again(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head, _ = await _a_stolen_laptop_draws(here)
        territory, space = here.room.territory, here.room.space
        cut = await territory.say(space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
        back = granted(lost.agent.keys, Role.TEACHER, here.room.teacher_person.hex())
        await territory.say(space, Kind.GRANT, back, parents=(cut.id,))
        await here.sync(head)
        desk = Desk(head.agent)
        rows = (await desk.ask("lost", device=lost.agent.device.hex()))["phrases"]
        assert f"phrases were drawn on it: {local_time(rows[0]['drawn'])}" in "".join(desk.told)


@attack(LOST, off={"protocol.replica.office.losses.phrases_of_lost": _nobody})
async def test_a_heads_page_names_phrases_that_were_drawn_on_a_stolen_laptop(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head, _ = await _a_stolen_laptop_draws(here)
        async with portal(head.agent) as surfer:
            told = await surfer.send("/lost", "/lost", {"device": lost.agent.device.hex(), "meant": "yes"})
        named = html.unescape(told.text).partition('id="h-phrases"')[2].partition("</section>")[0]
        assert "Phrase tirée à " in named
        assert "dites depuis quand ce poste était entre de mauvaises mains" in named


@attack(LOST, off={"sync_agent.keys.confirming.own_in_use": _whoever_is_led_to})
async def test_her_other_laptop_asks_about_whom_a_reported_one_confirmed(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head = await confirmed_by_the_thief(here)
        await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
        await here.sync(head, here.teacher, here.machine)
        rows = await Desk(here.teacher.agent).ask("key-readers")
        states = {row["device"]: row["state"] for row in rows}
        assert states[here.spy.signing.public.hex()] == "yours?"
        assert states[here.teacher.agent.device.hex()] == "this"


async def test_what_whom_it_confirmed_says_was_given_leaves_her_keys_to_make_once_that_is_cut_off_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.keys.reading_key.MAX_OWN_READING_KEYS", 8)
    async with spied_class(tmp_path) as here:
        lost, head = await confirmed_by_the_thief(here)
        territory, first, hers = here.room.territory, here.teacher, here.room.teacher_person
        await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
        await here.sync(head, first, here.machine)
        for _ in range(10):
            for key in await keys_said(here, first.agent.device):
                gift = KeyWraps(key, ((lost.agent.keys.agreement.public, bytes(80)),))
                await here.say(Kind.KEY_WRAP, gift.encode(), hers)
            await here.sync(first)
            territory.clock.advance(READING_KEY_PAUSE_MS)
        await Desk(head.agent).ask("lost", device=here.spy.signing.public.hex())
        await here.sync(head, first, here.machine, first)
        assert not await opens_what_is_handed_in_now(here, lost, first)
