"""What an office signs while somebody hides something for a moment it would sign otherwise too, or it is refused.

Each deed is done in a world of its own for each way of hiding, and once where nothing is hidden. A copied key has made
a class there that is read as the honest one is, with the same teacher and another pupil of the same name: with the
honest one out of sight it would be the only one (docs/attacks.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from protocol.clock import DAY_MS
from protocol.errors import RelaisError
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Grant, PersonRecord, Revocation, SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.arrivals import note_arrivals
from protocol.roles import PersonRole, Role
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import (
    brought,
    granted,
    signed_with,
    thief_hides,
    thief_holds_back,
    thief_lists,
    thief_says,
)
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import AtWork, Town
from tests.harness.portal import portal

FALSE_LEA: Final = bytes([7] * 16)
SCHOOL: Final = "0180001D"
UNSAID: Final = frozenset({Kind.SPACE_KEY, Kind.SPACE_WRAP})
"""What an office's program says by itself at its next word, whatever that is."""


@dataclass
class World:
    """A class at work, its head's computer, another class of the school, and the false one; what a deed has told."""

    here: Town
    at_work: AtWork
    head: Device
    next_class: str
    false: bytes
    told: list[str] = field(default_factory=list)

    async def at_server(self, command: str, params: Mapping[str, Any]) -> None:
        said = self.here.office.said
        del said.lines[:]
        try:
            self.told.append(str(await self.here.office.do(command, **params)))
        finally:
            self.told += said.lines

    async def at_head(self, command: str, params: Mapping[str, Any]) -> None:
        desk = Desk(self.head.agent)
        try:
            self.told.append(str(await desk.ask(command, **params)))
        finally:
            self.told += desk.told

    async def at_laptop(self, space: str) -> None:
        desk = Desk(self.at_work.teacher.agent)
        self.told.append(str(await desk.publish({"a.txt": b"a"}, space=space, title="Les volcans")))

    async def for_pupils(self, space: str, person: str) -> None:
        desk = Desk(self.at_work.teacher.agent)
        self.told.append(str(await desk.ask("sign-in-set", space=space, person=[person], method="pictures")))

    async def on_page(self, way: str, fields: Mapping[str, str]) -> None:
        place = f"/school/{self.false.hex()}"
        async with portal(self.head.agent) as surfer:
            await surfer.send(place, f"{place}/{way}", fields)


Later = tuple[bytes, Kind, bytes, bytes | None]
"""Where something is said, and what about whom."""
Deed = Callable[[World], Awaitable[object]]
Hiding = Callable[[World], Awaitable[object]]
_COMMANDS: Final[Mapping[str, Callable[[World], Mapping[str, Any]]]] = {
    "invite": lambda _: {"role": "machine", "space": "CM2 B"},
    "person add": lambda world: {"name": "Léa", "role": "pupil", "space": [world.next_class]},
    "grant": lambda world: {"person": world.at_work.person, "space": [world.next_class]},
    "person rename": lambda _: {"person": "Léa", "name": "Léa M."},
    "space rename": lambda _: {"space": "CM2 B", "name": "CM2 C"},
    "space add": lambda _: {"name": "CM2 B", "school": SCHOOL},
    "erase": lambda world: {"person": [world.at_work.pupil]},
    "lost": lambda world: {"device": world.at_work.teacher.agent.device.hex()},
    "ungrant": lambda world: {"person": world.at_work.person, "space": [world.here.office.space]},
}


def _at_server(command: str) -> Deed:
    return lambda world: world.at_server(command, _COMMANDS[command](world))


def _at_head(command: str) -> Deed:
    return lambda world: world.at_head(command, _COMMANDS[command](world))


def _machine(world: World) -> str:
    return world.at_work.machine.agent.device.hex()


DEEDS: Final[Mapping[str, Deed]] = {
    **{f"at the server: {command}": _at_server(command) for command in _COMMANDS},
    **{f"at a head's: {command}": _at_head(command) for command in _COMMANDS},
    "at the server: person freeze": lambda world: world.at_server("person freeze", {"person": world.at_work.pupil}),
    "at the server: person retire": lambda world: world.at_server("person retire", {"person": world.at_work.pupil}),
    "at the server: revoke": lambda world: world.at_server("revoke", {"device": _machine(world)}),
    "at the server: grant a device": lambda world: world.at_server(
        "grant", {"device": _machine(world), "space": [world.next_class]}
    ),
    "at the server: space add with people": lambda world: world.at_server(
        "space add", {"name": "CM3", "school": SCHOOL, "person": [world.at_work.pupil, world.at_work.person]}
    ),
    "at a head's: grant a device": lambda world: world.at_head(
        "grant", {"device": _machine(world), "space": [world.next_class]}
    ),
    "at a head's: invite her": lambda world: world.at_head(
        "invite", {"role": "teacher", "space": world.next_class, "person": world.at_work.person}
    ),
    "at a head's: sign-in": lambda world: world.at_head(
        "sign-in-switch", {"space": world.here.office.space, "on": True}
    ),
    "at a head's: person merge": lambda world: world.at_head(
        "person merge", {"person": FALSE_LEA.hex(), "into": world.at_work.pupil}
    ),
    "at her laptop: publish": lambda world: world.at_laptop("CM2 B"),
    "at her laptop: sign-in": lambda world: world.for_pupils("CM2 B", "Léa"),
    "on a head's page: a code": lambda world: world.on_page("code", {"person": "", "uses": "28"}),
    "on a head's page: another name": lambda world: world.on_page("rename", {"name": "CM2 C"}),
    "on a head's page: let in": lambda world: world.on_page("let-in", {"who": f"device:{_machine(world)}"}),
}


async def _cut_off(world: World) -> object:
    cut = Revocation(world.at_work.teacher.agent.device, ()).encode()
    return await thief_says(
        world.here.office, Draft(world.here.space, Kind.REVOKE, world.here.office.server.grant, cut)
    )


async def _called_otherwise(world: World) -> object:
    name, grant = SpaceChange("CM1 C").encode(), world.here.office.server.grant
    return await thief_says(world.here.office, Draft(world.here.space, Kind.SPACE_CHANGE, grant, name))


HIDINGS: Final[Mapping[str, Hiding]] = {
    "the class": lambda world: thief_hides(world.here, world.here.space),
    "the pupil": lambda world: thief_hides(world.here, bytes.fromhex(world.at_work.pupil)),
    "the teacher": lambda world: thief_hides(world.here, bytes.fromhex(world.at_work.person)),
    "the pupil's place on the list": lambda world: thief_lists(
        world.here, world.at_work.pupil, PersonRecord("Léa", PersonRole.PUPIL, left=True)
    ),
    "the class's name": _called_otherwise,
    "what the head has said": lambda world: thief_holds_back(world.here, world.head),
    "the teacher's laptop": _cut_off,
}


def _later(world: World) -> Sequence[Later]:
    """What an ended key says of everything: it is all held back, by the root's word."""
    here, school = world.here.space, world.here.school
    pupil, teacher = bytes.fromhex(world.at_work.pupil), bytes.fromhex(world.at_work.person)
    laptop, machine, head = (each.agent for each in (world.at_work.teacher, world.at_work.machine, world.head))
    leas, hers, said = world.at_work.pupil, world.at_work.person, partial(PersonRecord, "Léa", PersonRole.PUPIL)
    return [
        *((here, Kind.GRANT, granted(one.keys, Role.TEACHER, leas), None) for one in (laptop, machine, head)),
        *((school, Kind.GRANT, granted(one.keys, Role.TEACHER, hers), None) for one in (laptop, machine)),
        *((here, Kind.PERSON, word.encode(), pupil) for word in (said(frozen=True), said(left=True))),
        *((school, Kind.ERASE, Erasure(one).encode(), None) for one in (here, pupil, teacher)),
        *((here, Kind.REVOKE, Revocation(one.device, ()).encode(), None) for one in (laptop, machine, head)),
        (here, Kind.SPACE_CHANGE, SpaceChange("CM1 C").encode(), None),
    ]


class Ended:
    """The kit gives the server new keys, and says since when the old ones were in other hands; what these say later."""

    def __init__(self, said: Callable[[World], Sequence[Later]]) -> None:
        self.said = said

    async def __call__(self, world: World) -> None:
        office = world.here.office
        copied, grant = office.server.keys.signing, office.server.grant
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(DAY_MS)
        await office.with_kit("rotate server", kit_in(world.here.folder / "server" / "kit", None), since="12h")
        for _ in range(2):
            await world.here.sync()
        office.clock.advance(DAY_MS)
        said = [
            signed_with(copied, grant, space, office.clock(), kind, payload, subject=subject)
            for space, kind, payload, subject in self.said(world)
        ]
        await brought(world.here, *said)


MEANT: Final[Mapping[tuple[str, str], str]] = {
    ("at the server: person freeze", "the pupil's place on the list"): "it repeats the list's word (docs/adr/0451)",
}
"""What is signed otherwise while that is hidden, and why that is right."""


MORE_LATER: Final[Mapping[str, str]] = {
    "at the server: lost": "what is cut off is cut off wherever anybody ever let it in",
    "at the server: revoke": "the same",
    "at a head's: lost": "the same",
    "at a head's: erase": "it is refused: a head's computer goes by no order of arrival (docs/adr/0606)",
}
"""What is done otherwise once such a key has spoken, and why that is right."""


class Lived(NamedTuple):
    """How a deed went: whether it was refused, what was signed, and of whom and what was told."""

    refused: str
    said: frozenset[tuple[object, ...]]
    told: frozenset[str]


async def _lived(folder: Path, deed: str, *before_it: Hiding) -> Lived:
    async with town_at_work(folder, kept_for=__name__, in_step=True) as (here, at_work):
        world = await _world(here, at_work)
        for each in before_it:
            await each(world)
        await here.sync(world.head, at_work.teacher)
        where = {"at the server": here.office.server.replica, "at her laptop": at_work.teacher.agent.replica}
        office = where.get(deed.partition(":")[0], world.head.agent.replica)
        before, refused = await _held(office), ""
        try:
            await DEEDS[deed](world)
        except RelaisError as error:
            refused = str(error)
        known = {entry.header.subject for entry in before.values()}
        fresh = [entry for name, entry in (await _held(office)).items() if name not in before]
        said = [_said(world, entry, known) for entry in fresh if entry.header.kind not in UNSAID]
        told = [name for name, one in _named(world).items() if any(one.hex()[:8] in line for line in world.told)]
        return Lived(refused, frozenset(said), frozenset(told))


async def _world(here: Town, at_work: AtWork) -> World:
    head = await here.head_of_the_school()
    next_class = (await here.office.do("space add", name="CE2", school=SCHOOL))["space"]
    await here.sync()
    grant, petit = here.office.server.grant, PersonRecord("Mme Petit", PersonRole.TEACHER)
    lea = PersonRecord("Léa", PersonRole.PUPIL)
    (false,) = await thief_says(here.office, Draft(here.school, Kind.SPACE, grant, SpaceRecord("cm2b").encode()))
    people = ((bytes.fromhex(at_work.person), petit), (FALSE_LEA, lea))
    said = [Draft(false.id, Kind.PERSON, grant, each.encode(), subject=one) for one, each in people]
    hers = granted(at_work.teacher.agent.keys, Role.TEACHER, at_work.person)
    await thief_says(here.office, *said, Draft(false.id, Kind.GRANT, grant, hers))
    for _ in range(2):
        await here.sync()
    return World(here, at_work, head, next_class, false.id)


def _named(world: World) -> Mapping[str, bytes]:
    people = {"Mme Petit": bytes.fromhex(world.at_work.person), "Léa": bytes.fromhex(world.at_work.pupil)}
    return {**people, "the other Léa": FALSE_LEA, "CM2 B": world.here.space, "cm2b": world.false}


async def _held(replica: Replica) -> dict[bytes, Entry]:
    spaces = await replica.store.spaces()
    return {one.entry.id: one.entry for space in spaces for one in await replica.store.scan(space)}


def _said(world: World, entry: Entry, known: set[bytes | None]) -> tuple[object, ...]:
    """What is the same in two worlds."""
    header, what = entry.header, None
    if header.kind == Kind.PERSON:
        what = repr(PersonRecord.parse(entry.payload or b""))
    if header.kind == Kind.GRANT:
        given = Grant.parse(entry.payload or b"")
        what = repr((given.signing, given.role, given.person, given.until_ms))
    subject = header.subject if header.subject in known else None
    places = {one: name for name, one in _named(world).items()} | {bytes.fromhex(world.next_class): "CE2"}
    return Kind(header.kind).name, places.get(header.space), subject, what


@pytest.mark.parametrize("deed", DEEDS)
async def test_what_is_signed_and_told_while_something_is_hidden_would_be_otherwise_too(
    tmp_path: Path, deed: str
) -> None:
    plain = await _lived(tmp_path / "plain", deed)
    for hiding, hide in HIDINGS.items():
        hidden = await _lived(tmp_path / hiding, deed, hide)
        if not hidden.refused and (deed, hiding) not in MEANT:
            assert hidden.said <= plain.said, hiding
            assert not hidden.said or plain.told <= hidden.told, hiding


@pytest.mark.parametrize("deed", sorted(DEEDS.keys() - MORE_LATER.keys()))
async def test_what_a_key_says_after_the_kit_has_ended_it_changes_nothing_that_is_signed(
    tmp_path: Path, deed: str
) -> None:
    plain = await _lived(tmp_path / "plain", deed, Ended(lambda _: ()))
    after = await _lived(tmp_path / "later", deed, Ended(_later))
    assert bool(after.refused) == bool(plain.refused), after.refused
    assert after.said == plain.said
