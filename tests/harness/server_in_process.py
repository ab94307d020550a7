"""A server opened in the test's own process, with a clock and randomness that the test holds: for its rules."""

# ruff: noqa: ARG002  (the methods are those of `Outgoing`)

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from protocol.errors import Code, RelaisError
from protocol.identity import AgreementKey, DeviceKeys
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.enrollment import EnrollAnswer
from protocol.messages.wire import Call
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Grant
from protocol.replica.at_work.replica import Draft, Entropy
from protocol.replica.console.operation import NO_FILES
from protocol.replica.office.names import NO_YEAR
from protocol.trust.envelope import OpenedRequest
from protocol.trust.kit import Kit
from sync_server.handlers.by_kit.territory import begin_territory, new_kit
from sync_server.handlers.store.codes_of_before import enrolment_at
from sync_server.keeping.kit_file import KitInFile
from sync_server.kit.dated import days_of
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from sync_server.kit.shown import class_shown, persons_shown
from sync_server.opened.app import Server, opened
from sync_server.operations.table import operations
from tests.harness.asking import asking_in_clear
from tests.harness.territory import SimClock

_ALARM: Final = re.compile(" (has spoken|is used) elsewhere: ")


class Sayings:
    """What an operation tells the person; that a key has spoken elsewhere, which each one tells, apart."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.alarms: list[str] = []

    async def start(self, path: str, size: int | None) -> None:
        raise AssertionError("no file was asked for")

    async def data(self, data: bytes) -> None:
        raise AssertionError("no file was asked for")

    async def end(self) -> None:
        raise AssertionError("no file was asked for")

    async def progress(self, text: str) -> None:
        (self.alarms if _ALARM.search(text) else self.lines).append(text)


@dataclass
class Office:
    """The server and what an operator can do with it. `space` is a class of one school, made at the start."""

    server: Server
    clock: SimClock
    space: str = ""
    said: Sayings = field(default_factory=Sayings)

    def __post_init__(self) -> None:
        self.table = operations(self.server)
        self.enrolment = enrolment_at(self.server)

    async def do(self, command: str, /, **params: Any) -> Any:
        """The result of a command."""
        return await self.table[command](params, NO_FILES, self.said)

    async def with_kit(self, command: str, kit: Kit, new: Kit | None = None, /, **params: Any) -> Any:
        """The result of a command that has the kit, which looks at what it is asked for.

        Who is to be forgotten, or which class, is named by whoever types it, unless a test says otherwise.
        """
        params = {**await self.named_for(command, params), **params}
        desk = KitDesk(errand_of(command, kit, params, new, os.urandom), self.said, self.clock)
        return await self.table[command]({**params, "kit": desk.keys}, desk, desk)

    async def with_kit_in(self, command: str, place: Path, /, **params: Any) -> Any:
        """The result of a command that reads the kit's file, and notes there what it has said."""
        params = {**await self.named_for(command, params), **params}
        found = KitInFile.read(place, None)
        errand = errand_of(command, found.kit, params, None, os.urandom, found.said)
        notes = found.notes()
        desk = KitDesk(errand, self.said, self.clock, notes.take)
        try:
            return await self.table[command]({**params, "kit": desk.keys}, desk, desk)
        finally:
            notes.tell(self.said.lines.append)

    async def named_for(self, command: str, params: dict[str, Any]) -> dict[str, Any]:
        """What is typed beside the ids of whom, or what, a command with the kit is about: names, and days."""
        match command:
            case "space close":
                return await self._class_named(params["space"])
            case "erase":
                names = await self._names_of(params["person"])
                return {
                    "named": [each for some in names.values() for each in some],
                    "nameless_too": len(names) < len(params["person"]),
                }
            case "export-person":
                names = await self._names_of([params["person"]])
                return {"named": names[params["person"]][0]} if names else {"nameless_too": True}
            case "unerase":
                names = await self._names_of([params["covers"]])
                called = {"named": names[params["covers"]][0]} if names else await self._class_named(params["covers"])
                said = await self.server.store.scan_kinds([Kind.ERASE])
                about = [one for one in said if Erasure.parse(one.payload or b"").covers.hex() == params["covers"]]
                return {**called, "dated": [day.isoformat() for one in about for day in days_of(one)]}
            case _:
                return {}

    async def _class_named(self, space: str) -> dict[str, str]:
        spaces = await self.server.store.scan_kinds([Kind.SPACE])
        made = next((one for one in spaces if one.id.hex() == space), None)
        shown = None if made is None else class_shown(made, self.server.replica.territory, spaces)
        return {} if shown is None else {"named": shown.names[0]}

    async def _names_of(self, persons: Collection[str]) -> dict[str, list[str]]:
        shown = persons_shown(await self.server.store.scan_kinds([Kind.PERSON]))
        return {person.hex(): list(each.names) for person, each in shown.items() if person.hex() in persons}

    async def add_person(self, name: str, role: str, *spaces: str) -> str:
        """Somebody's id."""
        made = await self.do("person add", name=name, role=role, space=list(spaces or (self.space,)))
        return str(made["person"])

    async def invite(self, role: str, *spaces: str, person: str | None = None, uses: int = 1, ttl: str = "24h") -> str:
        """A code."""
        made = await self.do(
            "invite", role=role, space=list(spaces or (self.space,)), person=person, uses=uses, ttl=ttl
        )
        return str(made["code"])

    async def enrol(self, code: str, keys: DeviceKeys | None = None, name: str = "Renard") -> Member:
        """A device that has used the code. Raises what the server refuses with."""
        device = keys or DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))
        request = asking_in_clear(device, code, name)
        answer = await self.enrolment.answer(opened_request(self.server, device, Call.ENROLL, request.encode()))
        return Member(self, device, EnrollAnswer.parse(answer))

    async def device(self, member: Member) -> Any:
        """A device as the operator sees it."""
        return next(row for row in await self.do("devices") if row["device"] == member.id)

    async def counts(self) -> dict[bytes, int]:
        """How many entries each space has."""
        return await self.server.store.spaces()


@dataclass
class Member:
    """A device that has enrolled."""

    office: Office
    keys: DeviceKeys
    answer: EnrollAnswer

    @property
    def id(self) -> str:
        return self.keys.signing.public.hex()

    @property
    def grants(self) -> list[Entry]:
        """The grants that the enrolment brought."""
        found = [entry for entry in self.answer.entries if entry.header.kind == Kind.GRANT]
        return [entry for entry in found if Grant.parse(entry.payload or b"").signing == self.keys.signing.public]

    async def spaces(self) -> set[str]:
        """What the device may read now."""
        readable = await self.office.server.replica.readable(self.keys.signing.public)
        return {space.hex() for space in readable}

    async def sync(self, request: SyncRequest | None = None) -> SyncAnswer:
        """One sync call, without HTTP. Raises what the server refuses with."""
        server = self.office.server
        opened = opened_request(server, self.keys, Call.SYNC, (request or SyncRequest()).encode())
        return SyncAnswer.parse(await server.responder._sync(opened))

    async def write(self, kind: Kind, payload: bytes) -> None:
        """Something in its name, at the server: as somebody does who has its key."""
        grant = self.grants[0]
        await self.office.server.replica.write(
            [Draft(grant.header.space, kind, grant.id, payload)],
            author=self.keys.signing,
            now_ms=self.office.clock(),
            entropy=os.urandom,
            unsent=False,
        )


async def refusal(awaitable: Awaitable[object]) -> Code:
    """The code with which it is refused."""
    with pytest.raises(RelaisError) as raised:
        await awaitable
    return raised.value.code


def opened_request(server: Server, device: DeviceKeys, call: Call, payload: bytes) -> OpenedRequest:
    """A request as it is once its seal is open."""
    reply = AgreementKey(os.urandom(32))
    return OpenedRequest(
        device.signing.public, reply.public, call, payload, os.urandom(32), server.responder.station.agreement[0]
    )


async def rotate_root(
    server: Server,
    old: Kit,
    new: Kit,
    entropy: Entropy = os.urandom,
    said: Sayings | None = None,
    *,
    anyway: bool = False,
    remembered: Sequence[Entry] = (),
) -> bytes:
    """Another root takes over, as by the command; the rotations so far, for the new kit.

    `remembered` is what the old kit has noted in its file of what it has said.
    """
    params = {"anyway": anyway}
    errand = errand_of("rotate root", old, params, new, entropy, remembered)
    desk = KitDesk(errand, said or Sayings(), server.now_ms)
    done = await operations(server)["rotate root"]({**params, "kit": desk.keys}, desk, desk)
    assert isinstance(done, dict)
    return bytes.fromhex(str(done["chain"]))


async def another_root(server: Server, old: Kit, said: Sayings | None = None, *, anyway: bool = False) -> Kit:
    """The kit of a root that has taken over, as it is once its file is complete."""
    new = replace(new_kit("Cher", os.urandom), first_root=old.first_root or old.root.public)
    return replace(new, chain=await rotate_root(server, old, new, said=said, anyway=anyway))


@asynccontextmanager
async def office(folder: Path, clock: SimClock | None = None, *, kit: Kit | None = None) -> AsyncIterator[Office]:
    """A new territory in `folder`, open."""
    clock = clock or SimClock()
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    await begin_territory(
        folder,
        kit or new_kit("Cher", os.urandom),
        kit_file=folder / "kit",
        passphrase=None,
        now_ms=clock,
        entropy=os.urandom,
    )
    async with opened(folder, now_ms=clock, entropy=os.urandom) as server:
        found = Office(server, clock)
        found.space = (await found.do("space add", name="CM2 B", school="0180001D", year=NO_YEAR))["space"]
        yield found
