"""A thief signs, keeps back, and shows a word that follows: what turns up behind it counts no more (docs/adr/0330)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.identity import SigningKey
from protocol.limits import MAX_PREV, MAX_REVOKED_ABSENT
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, SpaceChange
from protocol.replica.office.absent import Gaps
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.stays import end_stays
from protocol.roles import Role
from protocol.trust.kit import Kit
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.copied_keys import signed_with
from tests.harness.entries import SOME_RECEIPT
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

ROW = "words are kept back behind others until who signed them is cut off"


def _no_gaps(*_: object) -> Gaps:
    """Whatever the words of a key lead to counts as having been here."""
    return Gaps()


class Thief:
    """Somebody who has a copy of a key, and a device of his own."""

    def __init__(self, here: Town, key: SigningKey, grant: bytes) -> None:
        self.here, self.key, self.grant = here, key, grant
        self.spy = new_device(os.urandom)

    @property
    def kit(self) -> Kit:
        return kit_in(self.here.folder / "server" / "kit", None)

    def signs(self, kind: Kind, payload: bytes, *prev: bytes) -> Entry:
        target = bytes(32) if kind == Kind.RECEIPT_SAFE else None
        space, now_ms = self.here.space, self.here.office.clock()
        return signed_with(self.key, self.grant, space, now_ms, kind, payload, target=target, prev=prev)

    def teacher(self) -> Entry:
        """His device as a teacher's of the class."""
        keys = self.spy
        given = Grant(
            keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, os.urandom(16), None
        )
        return self.signs(Kind.GRANT, given.encode())

    def harmless(self, *after: bytes) -> Entry:
        """The class is called what it is called."""
        return self.signs(Kind.SPACE_CHANGE, SpaceChange("CM1-CM2").encode(), *after)

    async def shows(self, *words: Entry, days: int = 0) -> None:
        """To the server, which all devices ask, for so many days."""
        await self.here.office.server.replica.admit(words, source=b"a PC", now_ms=self.here.office.clock())
        for _ in range(days + 1):
            await self.here.sync()
            await note_arrivals(self.here.office.server.store, self.here.office.clock())
            self.here.office.clock.advance(DAY_MS if days else 0)

    async def keeps_back(self, *, after_days: int, for_days: int) -> Entry:
        """A grant to his device, which he shows to nobody, behind a harmless word that he shows."""
        await self.shows(days=after_days)
        kept_back = self.teacher()
        await self.shows(self.harmless(kept_back.id), days=for_days)
        return kept_back

    async def reads(self) -> bool:
        """Whether his device does, at the server or at any other."""
        replicas = [self.here.office.server.replica, *(each.agent.replica for each in self.here.devices)]
        return any([self.here.space in await each.readable(self.spy.signing.public) for each in replicas])


@attack(ROW, off={"protocol.replica.office.absent.gaps_in": _no_gaps})
@pytest.mark.parametrize("since", [None, "2d"])
async def test_what_a_stolen_servers_key_has_signed_and_kept_back_lets_nobody_in_once_keys_were_replaced(
    tmp_path: Path, since: str | None
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        thief = Thief(here, here.office.server.keys.signing, here.office.server.grant)
        kept_back = await thief.keeps_back(after_days=9, for_days=3)
        here.office.said.lines.clear()
        await here.office.with_kit("rotate server", thief.kit, **({"since": since} if since else {}))
        assert any("nobody here has" in line for line in here.office.said.lines)
        await thief.shows(days=30)
        await thief.shows(kept_back)
        assert not await thief.reads()
        await here.sync()


@attack(ROW, off={"protocol.replica.office.absent.gaps_in": _no_gaps})
async def test_a_time_said_afterwards_takes_back_what_came_since_behind_a_word_from_before(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        thief = Thief(here, here.office.server.keys.signing, here.office.server.grant)
        kept_back = await thief.keeps_back(after_days=3, for_days=6)
        await thief.shows(kept_back)
        assert await thief.reads()
        await here.office.with_kit("rotate server", thief.kit)
        assert await thief.reads(), "it was here"
        await here.office.with_kit("rotate server", thief.kit, since="2d")
        await here.sync()
        assert not await thief.reads()


@attack(ROW, off={"protocol.replica.office.absent.gaps_in": _no_gaps})
@pytest.mark.parametrize("how", ["lost", "lost, since", "revoke with the kit"])
async def test_what_a_stolen_heads_laptop_has_signed_and_kept_back_lets_nobody_in_after_the_report(
    tmp_path: Path, how: str
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        head = (await here.head_of_the_school()).agent
        (right,) = await head.replica.authorities(head.device)
        thief = Thief(here, head.keys.signing, right.grant)
        kept_back = await thief.keeps_back(after_days=3, for_days=3)
        device = head.device.hex()
        if how == "revoke with the kit":
            await here.office.with_kit("revoke", thief.kit, device=device)
        else:
            await here.office.do("lost", device=device, **({"since": "1d"} if "since" in how else {}))
        here.devices.pop()
        await head.close()
        await thief.shows(kept_back)
        assert not await thief.reads()


async def _is_never_made_anew(_server: object) -> None:
    """Every server has heard of all."""


@attack(ROW, off={"sync_server.handlers.by_kit.old_gaps.unheard_since_made": _is_never_made_anew})
async def test_a_server_made_anew_waits_for_honest_words_that_it_lacks_before_it_holds_them_back(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        await here.sync()
        old = here.office.server
        said = [each.entry for space in old.replica.door.spaces() for each in await old.store.scan(space)]
        lacking = next(
            each for each in said if each.header.kind == Kind.GRANT and each.header.author == old.keys.signing.public
        )
        folder, kit, clock = tmp_path / "anew", kit_in(tmp_path / "server" / "kit", None), here.office.clock
        folder.mkdir()
        clock.advance(DAY_MS)
        await begin_territory(folder, kit, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom, again=True)
        async with opened(folder, now_ms=clock, entropy=os.urandom) as new:
            office = Office(new, clock, here.office.space)
            await new.replica.admit([each for each in said if each != lacking], source=b"a stick", now_ms=clock())
            with pytest.raises(BadInput) as caught:
                await office.with_kit("rotate server", kit)
            assert caught.value.code is Code.NOT_YET
            here.frontage.responder = new.responder
            for _ in range(2):
                await here.sync()
            await office.with_kit("rotate server", kit)
            await here.sync()


@attack(ROW, off={"protocol.replica.office.absent.gaps_in": _no_gaps})
async def test_words_that_lead_to_more_than_a_revocation_names_are_asked_about_and_do_not_stay(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        thief = Thief(here, here.office.server.keys.signing, here.office.server.grant)
        await thief.shows(days=3)
        kept_back, flood = thief.teacher(), MAX_REVOKED_ABSENT // MAX_PREV
        decoys = [thief.harmless(*(os.urandom(32) for _ in range(MAX_PREV))) for _ in range(flood)]
        await thief.shows(*decoys, thief.harmless(kept_back.id))
        with pytest.raises(BadInput) as caught:
            await here.office.with_kit("rotate server", thief.kit)
        assert caught.value.code is Code.USAGE
        await here.office.with_kit("rotate server", thief.kit, anyway=True)
        await here.sync()
        await thief.shows(kept_back)
        assert not await thief.reads()


@attack(ROW, off={"protocol.replica.office.absent.gaps_in": _no_gaps})
async def test_what_a_substitute_has_signed_and_kept_back_counts_no_more_once_that_stay_is_over(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        office, person = here.office, await here.office.add_person("M. Roux", "teacher")
        wanted = {"role": "teacher", "space": [office.space], "person": person, "ttl": "40d", "for": "15d", "uses": 1}
        roux = await office.enrol((await office.do("invite", **wanted))["code"])
        thief = Thief(here, roux.keys.signing, roux.grants[0].id)
        kept_back = thief.signs(Kind.RECEIPT_SAFE, SOME_RECEIPT)
        await thief.shows(thief.signs(Kind.RECEIPT_SAFE, SOME_RECEIPT, kept_back.id))
        office.clock.advance(16 * DAY_MS)
        assert await end_stays(office.server) == 1
        await thief.shows(kept_back)
        assert kept_back.id in (await office.server.replica.view(here.space)).roster.held_back
