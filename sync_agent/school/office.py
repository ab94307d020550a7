"""A school run from a head teacher's device, with no server in reach (docs/adr/0031).

Rules:
- what it reaches are the spaces in which the device has a right of rank head or more for its own pair of keys;
- its home, where it says what names no space, is that of the first of those rights (`protocol.rights.precedence`);
- what is written is written under the first of them that covers it, and has a rank that suffices: whoever has the
  server's key writes further ones, which end with that key (docs/adr/0217, docs/adr/0364);
- what cuts off or forgets is said under each right that would do, of a role in a space the first that came: no order
  decides what is left of it when one ends;
- keys of the school's spaces are made and given out here as the server would; both may do so, and agree when they meet;
- access that has come to its end is ended here too, by this device's clock;
- what has come when is noted here as at the server, so that `lost --since` can tell what a thief has brought.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final, Self

from protocol.errors import Code, LocalFailure, Refused, RelaisError
from protocol.model.entry import Entry
from protocol.model.register import RegisterKind, stored_register
from protocol.replica.at_work.replica import Draft, Entropy, Notes, Replica
from protocol.replica.office.arrivals import CLOCK_SET_BACK, NOTE_INTERVAL_S, RunningTime, note_arrivals
from protocol.replica.office.bureau import Met, reaches
from protocol.replica.office.list_words import ListWords
from protocol.replica.office.needed_rank import TAKES_AWAY, rank_needed, takes_away
from protocol.replica.office.space_keeper import SpaceKeeper
from protocol.replica.office.stays import end_stays
from protocol.replica.process.unforeseen import lasting
from protocol.rights.door import Authority
from protocol.rights.vouching import Device
from protocol.roles import RUNS_A_SCHOOL, Role
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import met_first
from sync_agent.school.device_names import device_names, note_met

STAYS_INTERVAL_S: Final = 300.0
SECOND_NOTE_S: Final = 60.0
"""How soon it is noted again after the start, when nobody has been met yet."""

_log = logging.getLogger(__name__)


class SchoolOffice:
    """`Office` over an agent. Made by `of`; not to be kept: rights may end."""

    def __init__(self, agent: Agent, rights: Sequence[Authority]) -> None:
        """`rights` are those of the device, in order."""
        self._agent = agent
        self._home = rights[0].space
        self._reach = tuple(dict.fromkeys(right.space for right in rights))
        lineage = agent.replica.door.lineage
        around = [right for right in rights if right.space in lineage(self._home)]
        self.authority = min(around, key=lambda right: (len(lineage(right.space)), -right.rank))
        """The widest of those that cover its home: nobody moves it into a school that they made up."""
        self._keeper = SpaceKeeper(
            agent.replica,
            agent.keys.agreement,
            self.authority.grant,
            self.say,
            now_ms=agent.now_ms,
            entropy=agent.entropy,
            governs=self.governs,
        )

    @classmethod
    async def of(cls, agent: Agent) -> Self:
        """The office of this device. Raises `Refused(NO_RIGHT)`."""
        held = agent.in_order(await _rights(agent))
        if not held:
            sentence = "only the device of a head teacher, or an administrator's, may do that"
            raise await agent.refusal(sentence, RUNS_A_SCHOOL)
        return cls(agent, held)

    @property
    def agent(self) -> Agent:
        """The device itself."""
        return self._agent

    @property
    def replica(self) -> Replica:
        """What is known here."""
        return self._agent.replica

    @property
    def now_ms(self) -> Callable[[], int]:
        """This device's clock."""
        return self._agent.now_ms

    @property
    def running(self) -> RunningTime:
        """How long programs of this device have run."""
        return self._agent.running

    @property
    def entropy(self) -> Entropy:
        """This device's randomness."""
        return self._agent.entropy

    @property
    def territory_name(self) -> str:
        """What people call the territory."""
        return self._agent.enrolment.territory_name

    @property
    def home(self) -> bytes:
        """The school."""
        return self._home

    @property
    def reach(self) -> Sequence[bytes]:
        """The school, what lies around it, and any other in which the device runs something."""
        return self._reach

    @property
    def rank(self) -> int:
        """That of the grant."""
        return self.authority.rank

    @property
    def own_device(self) -> Device:
        """This device's keys."""
        return self._agent.device, self._agent.keys.agreement.public

    def met_first(self, person: bytes, without: Collection[bytes]) -> Met:
        """As `Office.met_first`."""
        return met_first(self._agent, person, without)

    def governs(self, space: bytes) -> bool:
        """Whether a space is one of those that this reaches, or lies in one."""
        return reaches(self, space)

    async def say(self, drafts: Sequence[Draft], notes: Notes | None = None) -> list[Entry]:
        """As `Office.say`; the key says whose a word is. Raises `Refused(NO_RIGHT)` for what is outside the school."""
        del notes
        # a school that is made with its first class is not known yet
        known = [draft.space for draft in drafts if self.replica.door.knows_space(draft.space)]
        if not all(map(self.governs, known)):
            raise Refused(Code.NO_RIGHT, "this device may do that in its own school only")
        rights = await _rights(self._agent)
        ready = [await self._under_its_right(draft, rights) for draft in drafts]
        return (await self._agent.write(*ready, *await self._besides(ready, rights)))[: len(ready)]

    async def _under_its_right(self, draft: Draft, rights: Sequence[Authority]) -> Draft:
        """A draft under the first right that suffices for it; under the widest if none does."""
        covering = await self._covering(draft, rights)
        if len(covering) > 1:
            least = await rank_needed(self.replica, draft)
            covering = [right for right in covering if right.rank >= least]
        return replace(draft, grant=covering[0].grant if covering else self.authority.grant)

    async def _besides(self, drafts: Iterable[Draft], rights: Sequence[Authority]) -> list[Draft]:
        """What cuts off or forgets, under each other right that would do: which of them a thief gave nobody knows."""
        return [
            replace(draft, grant=right.grant)
            for draft in drafts
            if draft.kind in TAKES_AWAY
            for right in await self._of_each_kind(draft, rights)
            if right.grant != draft.grant
        ]

    async def _of_each_kind(self, draft: Draft, rights: Sequence[Authority]) -> Collection[Authority]:
        """Of the rights under which a draft would do, of each role in each space the first that came."""
        found: dict[tuple[bytes, Role], Authority] = {}
        counting = {right.grant for right in (await self.replica.view(draft.space)).roster.authorities}
        for right in rights:
            if right.grant in counting and await takes_away(self.replica, draft, right):
                found.setdefault((right.space, right.role), right)
        return found.values()

    async def _covering(self, draft: Draft, rights: Sequence[Authority]) -> list[Authority]:
        """Those of these rights that cover where a draft is said, in order."""
        door = self.replica.door
        space = draft.space if door.knows_space(draft.space) else door.territory
        return await self._agent.counting_first(rights, space)

    async def device_names(self) -> dict[bytes, str | None]:
        """What devices call themselves, as far as this one knows."""
        return await device_names(self._agent)

    async def reports_ms(self) -> dict[bytes, int]:
        """The time of each device's last report that has come here, by its own clock."""
        rows = await self._agent.replica.store.registers(RegisterKind.HEALTH)
        return {row.device: stored_register(row.data).at_ms for row in rows}

    async def tend_keys(self, spaces: Iterable[bytes], *, let_in: bool = False, asked: bool = True) -> None:
        """As `Office.tend_keys`."""
        await self._keeper.tend(spaces, let_in=let_in, asked=asked)


async def _rights(agent: Agent) -> list[Authority]:
    """The rights of this device to run a school, in the order in which they came here."""
    return [right for right in await agent.own_rights() if right.role in RUNS_A_SCHOOL]


async def list_words(agent: Agent) -> ListWords | None:
    """Whose each word of a list is, by what this device knows as one that runs its school; None where it runs none."""
    return await ListWords.of(await SchoolOffice.of(agent)) if await _rights(agent) else None


async def end_what_is_over(agent: Agent) -> int:
    """End the stays that are over; how many. Nothing on a device that runs no school."""
    if not await _rights(agent):
        return 0
    async with agent.writing:
        return await end_stays(await SchoolOffice.of(agent))


@contextlib.asynccontextmanager
async def ending_stays(agent: Agent) -> AsyncIterator[None]:
    """Look at once, and every few minutes while the context lasts."""
    async with lasting("ending stays", lambda: _look(agent), agent.unforeseen):
        yield


@contextlib.asynccontextmanager
async def noting_arrivals(agent: Agent) -> AsyncIterator[None]:
    """Note now and then what and who is here, where this device runs a school, while the context lasts."""
    async with lasting("noting what has come when", lambda: _note(agent), agent.unforeseen):
        yield


async def _note(agent: Agent) -> None:
    pause_s = SECOND_NOTE_S
    while True:
        try:
            if await _rights(agent):
                back_ms = await note_arrivals(agent.replica.store, agent.now_ms(), agent.running)
                if back_ms:
                    _log.warning(CLOCK_SET_BACK, back_ms // 60_000)
                await note_met(agent)
        except LocalFailure as failure:
            _log.error("what has come when cannot be noted: %s", failure)
        await asyncio.sleep(pause_s)
        pause_s = NOTE_INTERVAL_S


async def _look(agent: Agent) -> None:
    while True:
        try:
            if ended := await end_what_is_over(agent):
                _log.info("%d stays were over, and have been ended", ended)
        except RelaisError as error:
            _log.error("what is over cannot be ended: %s", error)
        await asyncio.sleep(STAYS_INTERVAL_S)
