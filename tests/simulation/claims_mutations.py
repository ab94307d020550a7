"""Rules of who is who, and whose a device is, broken on purpose as `mutations` does it (docs/adr/0176 to 0189)."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from unittest import mock

from protocol.model.entry import Entry
from protocol.model.structure import Ruling
from protocol.replica.at_work.replica import Replica
from protocol.replica.office import grants
from protocol.replica.office.bureau import Met, Office
from protocol.rights.door import Authority, Door
from protocol.rights.erasures import rulings_of
from protocol.rights.roster import Roster, _ruled
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import met_first
from sync_agent.keys.confirming import Reader


def believes_lists_of_who_is_who() -> AbstractContextManager[object]:
    """Whom a list calls the same as a teacher speaks in that one's name (docs/adr/0461)."""
    plain = Roster.spoken_as

    def as_listed(roster: Roster, given: Authority | None) -> bytes | None:
        person = plain(roster, given)
        return None if person is None else roster.who(person)

    return mock.patch("protocol.rights.roster.Roster.spoken_as", as_listed)


def lists_computers_by_the_list() -> AbstractContextManager[object]:
    """Whose a computer is stands there by what lists say now (docs/adr/0180)."""

    async def by_the_list(agent: Agent, readers: Sequence[Reader]) -> list[str | None]:
        rosters = [(await agent.replica.view(reader.space)).roster for reader in readers]
        people = [
            roster.persons.get(roster.who(reader.person)) for roster, reader in zip(rosters, readers, strict=True)
        ]
        return [None if person is None else person.name for person in people]

    return mock.patch("tests.simulation.claims_invariants._called", by_the_list)


def gives_drafts_by_the_list() -> AbstractContextManager[object]:
    """What a pupil has begun is given to whom a list calls the same (docs/adr/0180)."""

    async def nameless(_replica: Replica, persons: Collection[bytes]) -> dict[bytes, str]:
        return dict.fromkeys(persons, "")

    return mock.patch("sync_agent.hand_ins.drafts.only_names", nameless)


@contextmanager
def takes_along_what_was_reported() -> Iterator[None]:
    """`grant --person` goes by lists and by what is cut off in the class alone (docs/adr/0175).

    And by the earliest of those that came at once: else of several none was first, nor the reported (docs/adr/0396).
    """

    async def nothing(*_: object) -> list[object]:
        return []

    def earliest(agent: Agent, person: bytes, without: Collection[bytes]) -> Met:
        met, door = met_first(agent, person, without), agent.replica.door
        order = sorted(met.devices, key=lambda device: min(each.at for each in door.authorities_of(device[0])))
        return met._replace(devices=frozenset(order[:1]))

    with (
        mock.patch("protocol.replica.office.grants.standing_cuts", nothing),
        mock.patch("sync_agent.school.office.met_first", earliest),
    ):
        yield


def forgets_reports_in_doubt() -> AbstractContextManager[object]:
    """A report that is held back was never made (docs/adr/0177)."""
    return mock.patch("protocol.replica.office.device_cuts._in_doubt", return_value=set())


def tells_no_report_that_was_taken_back() -> AbstractContextManager[object]:
    """A laptop that counts again by others' word is one like any other (docs/adr/0178)."""

    async def nothing(_office: Office) -> dict[bytes, int]:
        return {}

    return mock.patch("sync_agent.school.devices.reports_taken_back", nothing)


def tells_nothing_of_other_classes() -> AbstractContextManager[object]:
    """A reported laptop that a server lets into another class of the school is one like any other (docs/adr/0216)."""
    return mock.patch("protocol.replica.office.device_cuts._let_in_elsewhere", return_value={})


def lets_in_unsaid_what_was_reported() -> AbstractContextManager[object]:
    """Whoever names a laptop that was reported is not told that this takes the report back (docs/adr/0234)."""

    def unsaid(
        still_out: Sequence[bytes],
        ended_ms: int | None,
        _reported_ms: int | None,
        standing: grants.Standing,
        spaces: Sequence[bytes],
    ) -> grants.LetIn:
        return let_in(still_out, ended_ms, None, standing, spaces)

    let_in = grants.LetIn
    return mock.patch("protocol.replica.office.grants.LetIn", unsaid)


def lets_in_as_was_said_last() -> AbstractContextManager[object]:
    """A further grant goes by the last one that came (docs/adr/0176)."""
    plain = grants._with_a_say

    async def last_first(office: Office, device: bytes, spaces: Sequence[bytes]) -> list[Authority]:
        return (await plain(office, device, spaces))[::-1]

    return mock.patch("protocol.replica.office.grants._with_a_say", last_first)


def repeats_the_highest_role() -> AbstractContextManager[object]:
    """Role and end of a further grant are the highest and the last, whoever said them (docs/adr/0188)."""

    async def highest(office: Office, alike: Sequence[Authority], known: Sequence[Authority]) -> Authority:
        return replace(alike[0], role=grants._latest(alike).role, until_ms=await grants._end_of(office, known))

    return mock.patch("protocol.replica.office.grants._repeated", highest)


def gives_what_came_first() -> AbstractContextManager[object]:
    """Role and end of a further grant are those of the grant that came first to a head's computer (docs/adr/0416)."""

    def first(said: Sequence[Authority], _now_ms: int) -> Authority:
        return said[0]

    return mock.patch("protocol.replica.office.grants.least_of", first)


def says_nothing_that_was_said() -> AbstractContextManager[object]:
    """Where any grant of that key in that role stands, none is written (docs/adr/0188)."""

    def alike(_office: Office, grant: Authority, like: Authority) -> bool:
        return (grant.key, grant.role) == (like.key, like.role)

    return mock.patch("protocol.replica.office.grants._says", alike)


def keeps_to_its_first_word() -> AbstractContextManager[object]:
    """Of several words on work that waits the earliest counts (docs/adr/0179)."""

    def newest_first(entries: Iterable[Entry], held: Container[bytes], door: Door) -> Iterable[tuple[Entry, Ruling]]:
        return reversed(list(rulings_of(entries, held, door)))

    return mock.patch("protocol.rights.roster.rulings_of", newest_first)


def frees_what_the_kit_holds() -> AbstractContextManager[object]:
    """The server's word frees what the root's holds back (docs/adr/0179)."""

    def ruled(
        entries: Iterable[Entry], held: Mapping[bytes, int], door: Door
    ) -> tuple[dict[bytes, Entry], dict[bytes, Entry]]:
        return _ruled(entries, dict.fromkeys(held, 0), door)

    return mock.patch("protocol.rights.roster._ruled", ruled)
