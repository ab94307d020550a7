"""Whose work a class is closed without: its machines that have not told this server all that they know, of late.

Rules:
- what the kit closes is destroyed on every machine, also what was handed in or said there and never came here: a line
  that was down, or that somebody has cut, shows in nothing else than that a machine has told nothing (docs/adr/0323);
- a machine counts as heard that has told this very store all that it knows within `HEARD_MS`, by the clock and by how
  long programs have run here: a network sets the one, and the other stands while none runs (docs/adr/0344); a call that
  is cut short and a report that another brings are not that (docs/adr/0322), nor is a machine heard of which something
  was refused here, or waits, and has not come in since (docs/adr/0338), nor one that has told of other spaces, since
  this class was closed to it by a word that may be a thief's (docs/adr/0359);
- a machine of the class is what anybody ever let in as nobody's own, into it or above it, whatever it was called since,
  and what says itself that it holds something of it: what let it in may have come to nobody else (docs/adr/0369). Of
  whom that is all that is known this is said, and not that it was cut off: nothing but its word has it that it was ever
  in (docs/adr/0379). And no word takes one off the list that may be a thief's (`let_go`, docs/adr/0332);
- a teacher's laptop holds what its teacher has said, and so does whatever has been at work in the class, as what it
  came in: it is asked about likewise, but where its right in the class has ended by an honest word; one that was let in
  while it was silent, and has been heard of by nobody since, is said and not asked about (docs/adr/0374);
- which machines a school's own computer has let in, with no server in reach, is known here once that has told: where
  such a one has not of late, that is said, and not asked about, since it may be at home for the summer (docs/adr/0354);
- a server that was made anew, and has not heard of all, may not even know which machines there are;
- who gives somebody an archive, or forgets them, is told the same of each class that ever listed them, and asked
  nothing: a family's right waits for no line (docs/adr/0381).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from protocol.clock import DAY_MS, milliseconds_of, rfc3339
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.replica.console.operation import JSON
from protocol.replica.office.mentioned import day_of, mentioned
from protocol.rights.door import Authority
from protocol.roles import RUNS_A_SCHOOL, SHARED
from sync_server.handlers.overview.devices import Device, DeviceState
from sync_server.handlers.overview.let_go import kept_from_telling, let_go_in, never_let_in, still_waited_for
from sync_server.handlers.store.restored import Restored, has_told, restored, untaken
from sync_server.opened.app import Server

HEARD_MS: Final = 7 * DAY_MS
_OF_UNKNOWN: Final = (
    "Whom nobody is known to have let in would read all of the class: unless somebody knows that this PC stood in it, "
    "`ungrant` it there, or `revoke` it. "
)
AT_WORK: Final = (Kind.REVISION, Kind.FEEDBACK, Kind.RECEIPT_TEACHER, Kind.HAND_IN)
"""What is written by whoever teaches or learns in a class."""


@dataclass(frozen=True, slots=True)
class NotHeard:
    """The machines of a class that may hold work of which nobody here knows; and whether others may, as it was made."""

    machines: tuple[Device, ...]
    made_anew: Restored | None
    untaken: Mapping[bytes, int] = field(default_factory=dict)
    """Of those of which this store has not taken something: how much."""
    offices: tuple[Device, ...] = ()
    """The computers that let machines into this class, and have not told all of late either."""
    absent: tuple[Device, ...] = ()
    """The laptops that were let into it, and were not heard of since."""
    doubted: Container[bytes] = ()
    """Of all of these those that are cut off, or were as they told, by a word that may be a thief's."""
    unknown: Container[bytes] = ()
    """And those that nobody is known to have let in: they say themselves that they hold something."""

    def __bool__(self) -> bool:
        return bool(self.machines) or self.made_anew is not None

    @property
    def sentence(self) -> str:
        """For whoever closes the class."""
        named = ", ".join(self._told_of(machine) for machine in self.machines)
        said = [
            f"have not told all that they know for a week; what was handed in or said there is not known here: {named}"
        ]
        if self.made_anew is not None:
            said = [*(said if named else ()), f"may not even be known here: {self.made_anew.sentence}"]
        return "machines of this class " + "; others ".join(said)

    @property
    def sentences(self) -> list[str]:
        """All that there is to say, for whoever closes the class, or takes something of it along."""
        said = (self.sentence if self else None, self.sentence_of_offices, self.sentence_of_absent)
        return [each for each in said if each is not None]

    @property
    def sentence_of_offices(self) -> str | None:
        """For whoever closes it, where there are any."""
        if not self.offices:
            return None
        named = ", ".join(self._told_of(office) for office in self.offices)
        return (
            "a PC that came into this class through one of these, with no server in reach, may not be known here: they "
            f"let machines in, and have not told all that they know for a week: {named}"
        )

    @property
    def sentence_of_absent(self) -> str | None:
        """The same."""
        if not self.absent:
            return None
        named = ", ".join(self._told_of(each) for each in self.absent)
        return f"let into this class, and not heard of since; `revoke` takes off the list what is gone: {named}"

    def rows(self, devices: Iterable[Device]) -> JSON:
        """Some of them as data."""
        return [
            {
                "device": each.id.hex(),
                "name": each.name,
                "told": rfc3339(each.heard.told_ms),
                "refused": self.untaken.get(each.id, 0),
                "let_in": each.id not in self.unknown,
            }
            for each in devices
        ]

    def _told_of(self, machine: Device) -> str:
        at_ms, untaken = machine.heard.told_ms, self.untaken.get(machine.id, 0)
        when = "never" if at_ms is None else f"last {day_of(at_ms)}"
        if machine.id in self.unknown:
            when = f"{when}; says itself that it holds something of this class, and nobody is known to have let it in"
        elif machine.id in self.doubted:
            when = f"{when}; cut off from it, by a word that was not said here"
        if untaken:
            when = f"{when}; of what it sends, {untaken} or more were refused here, or wait"
        return f"{machine.name or machine.id.hex()[:16]} ({when})"

    def check(self) -> None:
        """Raise `BadInput(NOT_YET)` where there are any."""
        if self:
            is_any_unknown = any(machine.id in self.unknown for machine in self.machines)
            raise BadInput(
                Code.NOT_YET,
                f"{self.sentence}. {_OF_UNKNOWN if is_any_unknown else ''}Let them call (a cable, a stick: "
                "`courier`; `grant --device` lets in again who was cut off), or take those that are gone off the list "
                "(`revoke`, `ungrant`); or say --unheard-too if what they hold may go",
            )


@dataclass(frozen=True, slots=True)
class _Heard:
    """What there is to know of all machines, whatever class is asked about; `silent` have not told all of late."""

    devices: Sequence[Device]
    silent: Container[bytes]
    made_anew: Restored | None


async def _heard(server: Server) -> _Heard:
    devices = await still_waited_for(server)
    told = {device.id for device in devices if _is_of_late(server, device) and await has_told(server, device)}
    return _Heard(devices, {device.id for device in devices} - told, await restored(server))


async def not_heard_in(server: Server, space: bytes, heard: _Heard | None = None) -> NotHeard:
    """Who is to tell of a class, and has not told all of late; whom a school's computer lets in is not known here."""
    heard = heard or await _heard(server)
    line = server.replica.door.lineage(space)
    kept = await kept_from_telling(server, heard.devices, space)
    silent = [device for device in heard.devices if device.id in kept or device.id in heard.silent]
    machines = [device for device in silent if may_hold_work(server, device, line, kept)]
    of_people = await _of_people(server, [device for device in silent if device not in machines], space)
    machines += of_people[_Part.AT_WORK]
    counts = {device.id: await untaken(server, device) for device in machines}
    said = {key: count for key, count in counts.items() if count}
    doubted = kept.union(device.id for device in silent if device.state is DeviceState.RETIRED)
    unknown = await never_let_in(server, kept, space) if kept else frozenset()
    offices, absent = tuple(of_people[_Part.LETS_IN]), tuple(of_people[_Part.ABSENT])
    return NotHeard(tuple(machines), heard.made_anew, said, offices, absent, doubted, unknown)


async def not_heard_about(server: Server, persons: Collection[bytes]) -> dict[bytes, NotHeard]:
    """The same of each class that lists one of these people, or did."""
    listed = (await mentioned(server.replica, persons)).values()
    spaces = dict.fromkeys(space for each in listed for space in each.spaces)
    heard = await _heard(server)
    return {space: await not_heard_in(server, space, heard) for space in spaces}


def may_hold_work(server: Server, device: Device, line: Collection[bytes], kept: Container[bytes]) -> bool:
    """Whether it is a machine of the class by what is known here, or is `kept` from telling of it."""
    return device.id in kept or is_machine_of(server, device, line)


def is_machine_of(server: Server, device: Device, line: Collection[bytes]) -> bool:
    """Whether anybody ever let a device in as nobody's own into one of these spaces."""
    return any(each.role in SHARED for each in _rights_in(server, device, line))


def _rights_in(server: Server, device: Device, line: Container[bytes]) -> list[Authority]:
    return [each for each in server.replica.door.authorities_of(device.id) if each.space in line]


class _Part(Enum):
    """What somebody's own computer is to a class."""

    AT_WORK = auto()
    LETS_IN = auto()
    ABSENT = auto()


async def _of_people(server: Server, devices: Sequence[Device], space: bytes) -> Mapping[_Part, Sequence[Device]]:
    """Those of the devices that were let into a class, or above it, as somebody's own, and were not let go of there."""
    line, gone = server.replica.door.lineage(space), await let_go_in(server, devices, space)
    at_work = {one.entry.header.author for one in await server.store.of_kinds(space, AT_WORK)}
    found: dict[_Part, list[Device]] = {part: [] for part in _Part}
    for device in devices:
        rights = _rights_in(server, device, line)
        if rights and device.id not in gone:
            found[_Part.AT_WORK if device.id in at_work else _part_of(device, rights)].append(device)
    return found


def _part_of(device: Device, rights: Collection[Authority]) -> _Part:
    """Of one that has done nothing there, as far as is known here."""
    if _runs_alone(rights):
        return _Part.LETS_IN
    heard_ms = [at_ms for at_ms in (device.heard.enrolled_ms, device.heard.seen_ms) if at_ms is not None]
    let_in_ms = min(milliseconds_of(each.at) for each in rights)
    return _Part.ABSENT if heard_ms and max(heard_ms) < let_in_ms else _Part.AT_WORK


def _runs_alone(rights: Iterable[Authority]) -> bool:
    """Whether by none of these it teaches: whoever has a copy of the server's key calls a teacher's laptop a head's."""
    return all(each.role in RUNS_A_SCHOOL for each in rights)


def _is_of_late(server: Server, machine: Device) -> bool:
    heard = machine.heard
    if heard.told_ms is None or heard.told_ran_ms is None:
        return False
    return 0 <= server.now_ms() - heard.told_ms < HEARD_MS and server.ran_ms - heard.told_ran_ms < HEARD_MS
