"""Keys of spaces over a real server's rules: who can open them, before and after somebody is let go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import PeerFault
from protocol.folds.space_keys import SpaceWraps, unwrap
from protocol.identity import AgreementKey
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.replica import Draft
from protocol.rights.roster import Roster, fold_roster, roster_below
from protocol.trust.kit import Kit, parse_kit
from sync_server.handlers.by_kit.closing import close_space
from tests.harness.server_in_process import Member, Office, office


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as made:
        yield made


def ring(here: Office, key: AgreementKey) -> Keyring:
    """What somebody who has this X25519 key, and all entries, can open."""
    return Keyring(here.server.replica, (key,))


def line(here: Office) -> tuple[bytes, ...]:
    return here.server.replica.door.lineage(bytes.fromhex(here.space))


async def opens(here: Office, key: AgreementKey) -> list[bool]:
    """Whether the keys in force of class, school and territory open."""
    keys = ring(here, key)
    return [await keys.current(space) is not None for space in line(here)]


async def machine(here: Office) -> Member:
    return await here.enrol(await here.invite("machine"))


async def test_a_member_of_a_class_opens_its_key_and_those_above_and_a_stranger_none(here: Office) -> None:
    member = await machine(here)
    assert await opens(here, member.keys.agreement) == [True, True, True]
    assert await opens(here, AgreementKey(os.urandom(32))) == [False, False, False]


async def test_the_recovery_kit_opens_every_key(here: Office) -> None:
    kit: Kit = parse_kit((here.server.folder / "kit").read_text(), passphrase=None)
    assert await opens(here, kit.recovery) == [True, True, True]


async def test_a_member_of_one_class_does_not_open_another_of_the_same_school(here: Office) -> None:
    other = (await here.do("space add", name="CE1", school="0180001D", year="none"))["space"]
    member = await here.enrol(await here.invite("machine", other))
    assert await opens(here, member.keys.agreement) == [False, True, True]


async def test_a_device_that_is_let_go_opens_no_key_made_later_and_the_others_do(here: Office) -> None:
    lost, kept = await machine(here), await machine(here)
    other = (await here.do("space add", name="CE1", school="0180001D", year="none"))["space"]
    beside = await here.enrol(await here.invite("machine", other))
    before = [await ring(here, lost.keys.agreement).current(space) for space in line(here)]
    await here.do("revoke", device=lost.id)
    assert await opens(here, lost.keys.agreement) == [False, False, False]
    assert await opens(here, kept.keys.agreement) == [True, True, True]
    assert await opens(here, beside.keys.agreement) == [False, True, True]
    # what was sealed before stays readable to those who lawfully had it
    for space, secret in zip(line(here), before, strict=True):
        assert secret is not None
        assert await ring(here, kept.keys.agreement).secret(space, secret.commitment) is not None


async def test_who_comes_back_opens_the_key_in_force(here: Office) -> None:
    member = await machine(here)
    await here.do("ungrant", device=member.id, person=None, space=[here.space])
    assert (await opens(here, member.keys.agreement))[0] is False
    await here.do("grant", device=member.id, person=None, space=[here.space])
    assert await opens(here, member.keys.agreement) == [True, True, True]


async def test_revocations_that_count_for_nothing_make_no_new_keys(here: Office) -> None:
    head = await here.enrol(await here.invite("head", "0180001D"))
    await here.do("revoke", device=head.id)
    await here.server.space_keeper.tend_grown()
    epochs = [(await ring(here, head.keys.agreement).keys(space)).current for space in line(here)]
    for victim in (os.urandom(32), here.server.keys.signing.public):
        draft = Draft(line(here)[1], Kind.REVOKE, head.grants[0].id, Revocation(victim, ()).encode())
        await here.server.replica.write([draft], author=head.keys.signing, now_ms=here.clock(), entropy=os.urandom)
    assert await here.server.space_keeper.tend_grown() == 0
    assert [(await ring(here, head.keys.agreement).keys(space)).current for space in line(here)] == epochs


async def test_nothing_is_written_when_nothing_is_due(here: Office) -> None:
    await machine(here)
    await here.server.space_keeper.tend_grown()
    before = await here.server.store.spaces()
    assert await here.server.space_keeper.tend_grown() == 0
    assert await here.server.space_keeper.tend([bytes.fromhex(here.space)]) == 0
    assert await here.server.store.spaces() == before


async def test_a_class_that_was_closed_gets_no_keys_any_more(here: Office) -> None:
    await machine(here)
    kit = parse_kit((here.server.folder / "kit").read_text(), passphrase=None)
    space = bytes.fromhex(here.space)
    await close_space(here.server, kit, space, unopened_too=True, renamed_too=False, unheard_too=True)
    await here.server.space_keeper.tend_grown()
    before = await here.server.store.spaces()
    assert await here.server.space_keeper.tend_grown() == 0
    assert await here.server.space_keeper.tend([space]) == 0
    assert await here.server.store.spaces() == before


async def test_who_enrols_does_not_wait_until_all_spaces_have_been_looked_at(here: Office) -> None:
    for number in range(6):
        await here.do("space add", name=f"CM{number}", school="0180002F", year="none")
    keeper = here.server.space_keeper
    ended: list[str] = []

    async def all_of_them() -> None:
        await keeper.tend_grown()
        ended.append("all")

    async def somebody() -> None:
        await keeper.tend([bytes.fromhex(here.space)])
        ended.append("somebody")

    await asyncio.gather(all_of_them(), somebody())
    assert ended == ["somebody", "all"]


async def test_who_enrols_in_a_class_does_not_wait_for_the_other_classes_of_a_large_school(
    here: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await here.do("space add", name=f"CE{number}", school="0180001D", year="none")
    code = await here.invite("machine")
    keeper = here.server.space_keeper
    await keeper.tend_grown()
    # as after a start
    keeper.take(next(iter(keeper._keyring._own.values())), keeper._grant)
    folded: list[bytes] = []

    def fold(space: bytes, *rest: Any) -> Roster:
        folded.append(space)
        return fold_roster(space, *rest)

    def fold_below(over: Roster, space: bytes, *rest: Any, **more: Any) -> Roster:
        folded.append(space)
        return roster_below(over, space, *rest, **more)

    monkeypatch.setattr("protocol.replica.at_work.views.KEPT_BYTES", 1)
    monkeypatch.setattr("protocol.folds.growth.fold_roster", fold)
    monkeypatch.setattr("protocol.folds.growth.roster_below", fold_below)
    member = await here.enrol(code)
    others = set(here.server.replica.door.children(line(here)[1])) - {bytes.fromhex(here.space)}
    assert len(others) == 3
    assert not others & set(folded)
    assert await opens(here, member.keys.agreement) == [True, True, True]
    await keeper.tend_grown()
    assert others <= set(folded)
    folded.clear()
    await keeper.tend([bytes.fromhex(here.space)])
    assert not others & set(folded), "nothing in them has changed"


async def test_who_enrols_for_a_whole_school_is_given_the_keys_of_its_classes_at_once(here: Office) -> None:
    for number in range(6):
        await here.do("space add", name=f"CM{number}", school="0180001D", year="none")
    code = await here.invite("relay", "0180001D")
    keeper = here.server.space_keeper
    await keeper.tend_grown()
    plain, said = keeper._write, list[list[bytes]]()

    async def write(drafts: Sequence[Draft]) -> list[Entry]:
        said.append([draft.space for draft in drafts])
        return await plain(drafts)

    keeper._write = write
    member = await here.enrol(code)
    school = line(here)[1]
    # all classes in one transaction, then the school
    assert [len(spaces) for spaces in said] == [7, 1]
    for space in here.server.replica.door.below(school):
        assert await ring(here, member.keys.agreement).current(space) is not None


async def test_a_crash_between_a_revocation_and_the_new_key_is_made_good(here: Office) -> None:
    lost, kept = await machine(here), await machine(here)
    keeper = here.server.space_keeper

    async def crash(spaces: Iterable[bytes], *, let_in: bool = False, asked: bool = True) -> int:
        raise ConnectionError

    here.server.space_keeper.tend = crash  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await here.do("revoke", device=lost.id)
    assert await opens(here, lost.keys.agreement) == [True, True, True]
    await keeper.tend_grown()
    assert await opens(here, lost.keys.agreement) == [False, False, False]
    assert await opens(here, kept.keys.agreement) == [True, True, True]


async def test_a_wrap_moved_to_another_space_does_not_open(here: Office) -> None:
    member = await machine(here)
    wraps = [SpaceWraps.parse(entry.payload or b"") for entry in await here.server.store.scan_kinds([Kind.SPACE_WRAP])]
    mine = [
        (found.commitment, seal) for found in wraps for key, seal in found.wraps if key == member.keys.agreement.public
    ]
    ((commitment, seal),) = mine
    assert unwrap(seal, member.keys.agreement, bytes.fromhex(here.space), commitment).commitment == commitment
    with pytest.raises(PeerFault):
        unwrap(seal, member.keys.agreement, line(here)[1], commitment)
