"""A head's computer makes a code for a new teacher, and a copy of the server's key says it again, word for word.

So the code vouches for both, and whichever lets her in says whether the server knows her (docs/adr/0457).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from protocol.errors import Code, Refused
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Invite
from protocol.replica.console.operation import JSON
from protocol.replica.office.enrolment import Enrolment
from protocol.replica.office.known_here import made_here
from protocol.rights.door import Authority
from protocol.trust.invitation import parse_code
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear
from tests.harness.spied_class import own_keys

ROW = "the server takes a device of a copied key's for the teacher"


async def _any_of_its_key(self: Enrolment, shown: Sequence[Entry]) -> Entry | None:
    """As it was: of a server's own what it has noted, or whatever its key has said."""
    own = [entry for entry in shown if entry.header.author == self._office.own_device[0]]
    return next(iter(await made_here(self._office.replica.store, own) or own), None)


async def _the_first(_: Enrolment, vouched: Sequence[Entry]) -> Entry | None:
    """As it was: whichever came first of those for which the code vouches."""
    return next(iter(vouched), None)


async def _code_for_mme_lune(year: NextYear) -> tuple[Device, str]:
    """Of a head's computer that the server knows; a thief's device was let in as Mme Lune's by then."""
    here = year.here
    head = await here.head_of_the_school()
    year.person = await here.office.add_person("Mme Lune", "teacher")
    await year.sync()
    await year.spy_comes(here.space, dated_days_ago=0)
    asked: dict[str, JSON] = {
        "role": "teacher",
        "space": [here.space.hex()],
        "person": year.person,
        "uses": 1,
        "ttl": "24h",
    }
    return head, (await Desk(head.agent).ask("invite", **asked))["code"]


async def _said_again(year: NextYear, head: Device, code: str) -> None:
    """By the copied key."""
    hashed = parse_code(code).secret_hash
    made = await head.agent.replica.store.scan_kinds([Kind.INVITE])
    (one,) = (each for each in made if Invite.parse(each.payload or b"").secret_hash == hashed)
    await year.thief_says(one.header.space, Kind.INVITE, one.payload or b"")


async def _hers_alone_is_heard(year: NextYear, code: str) -> None:
    """As Mme Lune, once her laptop has shown that code, by the server and in a family's archive."""
    year.teacher = await year.here.device("teacher", year.person, code=code)
    await year.sync()
    speak = await year.who_speaks(year.server, year.here.space)
    assert (own_device(year.teacher.agent) in speak, own_keys(year.spy) in speak) == (True, False)
    work = await year.hand_in(year.here.space)
    await year.answers(work)
    await year.spy_answers(year.here.space, work)
    page = await year.archive()
    assert ("18/20" in page, "0/20" in page.replace("18/20", "")) == (True, False)


@attack(ROW, off={"protocol.replica.office.enrolment.Enrolment._made_here": _any_of_its_key})
async def test_a_server_knows_whom_a_heads_code_lets_in_though_a_copied_key_says_that_code_again(
    year: NextYear,
) -> None:
    head, code = await _code_for_mme_lune(year)
    await year.sync(head)
    await _said_again(year, head, code)
    await _hers_alone_is_heard(year, code)


@attack(ROW, off={"protocol.replica.office.enrolment.Enrolment._likeliest": _the_first})
async def test_nor_does_it_matter_that_the_copied_key_is_heard_sooner_than_the_head(year: NextYear) -> None:
    head, code = await _code_for_mme_lune(year)
    await _said_again(year, head, code)
    await year.sync(head)
    await _hers_alone_is_heard(year, code)


async def _by_the_one_that_counts_now(self: Enrolment, invites: Collection[bytes]) -> list[Authority]:
    """As if whom the copy has let in had used nothing of the code."""
    own, said = self._office.own_device[0], await self._office.replica.store.get(list(invites))
    heads = {name for name, one in said.items() if one.header.author != own}
    return [each for each in self._office.replica.door.authorities() if each.invite in heads]


@attack(
    "stolen enrolment code", off={"protocol.replica.office.enrolment.Enrolment._granted": _by_the_one_that_counts_now}
)
async def test_a_code_that_was_used_as_a_copied_key_had_it_lets_in_nobody_else_as_its_maker_has_it(
    year: NextYear,
) -> None:
    head, code = await _code_for_mme_lune(year)
    await _said_again(year, head, code)
    await year.here.device("teacher", year.person, code=code)
    await year.sync(head)
    with pytest.raises(Refused) as refused:
        await year.here.office.enrol(code)
    assert refused.value.code is Code.CODE_USED
