"""Rules of what belongs to one class, or one space, broken on purpose (docs/adr/0215, 0222), as `mutations` does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from unittest import mock

from protocol.identity import AgreementKey
from protocol.model.entry import Entry, Header
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Door, Verdict
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.courier.importing import _Bundle
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.places import Place
from sync_agent.lan.exchange.scope import LanScope


def seals_keys_in_every_class() -> AbstractContextManager[object]:
    """A teacher's keys are sealed in all of her classes, whichever they were made for (docs/adr/0215)."""

    def all_of_them(agent: Agent, _place: Place) -> dict[bytes, AgreementKey]:
        return reading_keys(agent)

    return mock.patch("sync_agent.keys.reading_key.keys_to_pass_on", all_of_them)


def goes_on_with_keys_of_the_lost() -> AbstractContextManager[object]:
    """Where one of hers is cut off, a teacher's other laptops make no new key (docs/adr/0205)."""

    def is_due(place: Place, *_: object) -> bool:
        return place.current is None

    return mock.patch("sync_agent.keys.reading_key._is_due", is_due)


def believes_every_signature() -> AbstractContextManager[object]:
    """Nobody looks at what a signature is over."""
    return mock.patch("protocol.replica.at_work.quarantine.signature_holds", return_value=True)


def lets_a_right_hold_everywhere() -> AbstractContextManager[object]:
    """Whoever has a right in one class may say in any other what it allows."""
    plain = Door._role_of_author

    def role(self: Door, header: Header) -> Role | Verdict:
        authority = self.authority(header.grant)
        return plain(self, header) if authority is None or authority.key != header.author else authority.role

    return mock.patch.object(Door, "_role_of_author", role)


def takes_what_it_did_not_ask_for() -> AbstractContextManager[object]:
    """Whoever is asked about one class brings entries of another."""

    def all_of_it(entries: Iterable[Entry], *_: object) -> list[Entry]:
        return list(entries)

    return mock.patch("sync_agent.sync.reconciling._asked_for", all_of_it)


def takes_all_that_neighbours_push() -> AbstractContextManager[object]:
    """A neighbour that calls brings entries of whatever class it likes."""

    async def wanted(_self: LanScope, entries: Iterable[Entry]) -> set[bytes]:
        return {entry.header.space for entry in entries}

    return mock.patch.object(LanScope, "wanted", wanted)


def takes_any_class_from_a_bundle() -> AbstractContextManager[object]:
    """A bundle of one class brings entries of another."""
    plain = _Bundle._admit

    async def admit(self: _Bundle, entries: Sequence[Entry]) -> None:
        space = self._opening.space
        some = list(entries)
        for self._opening.space in dict.fromkeys(entry.header.space for entry in some):
            await plain(self, some)
        self._opening.space = space

    return mock.patch.object(_Bundle, "_admit", admit)


def takes_the_place_of_what_is_shown_alone() -> AbstractContextManager[object]:
    """A word names what is shown, and not what its author said before that is not (docs/adr/0561)."""

    async def as_it_is(_lying: object, _author: bytes, draft: Draft) -> Draft:
        return draft

    return mock.patch("protocol.replica.office.said_before._following", as_it_is)
