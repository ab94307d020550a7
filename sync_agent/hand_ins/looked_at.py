"""What of pupils' work whoever sits at a teacher's device has no need to look at: it was opened, or answered, there.

Rules (docs/protocol.md, "Coursework"; docs/adr/0253):
- counted are the words of this device, and of those to which it leads, its person's own and others' that these have
  confirmed: whoever has the server lets in a "M. X", or one more computer of hers, that says to have opened everything,
  and a teacher whose list says so looks at nothing any more (docs/adr/0387);
- what anybody else opened or answered is shown as theirs, and stays to be opened;
- who runs a school has every class of it on the device, and confirms nobody there: for them it counts besides what was
  opened for good (`for_good`), by whom the work was meant for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocol.folds.coursework import Work
from protocol.rights.door import Authority, Door
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import RUNS_A_SCHOOL
from sync_agent.app import Agent
from sync_agent.hand_ins.for_good import opened_for_good
from sync_agent.keys.confirming import circle_ever, own_grant, own_grants


@dataclass(frozen=True, slots=True)
class Eyes:
    """Whose words spare the person of this device a look, in one space.

    `reads` says that this device stands for somebody there; `heeded` are the devices whose words do; `for_good` says
    what was opened so, where that counts as well.
    """

    roster: Roster
    door: Door
    reads: bool = False
    heeded: frozenset[Device] = frozenset()
    for_good: Callable[[Work], bool] | None = None

    def count(self, grants: Iterable[bytes | None]) -> bool:
        """Whether one of these grants is that of somebody whose word counts."""
        return any(self._counts(grant) for grant in grants)

    def have_to_open(self, work: Work) -> bool:
        """Whether there is still to look at a hand-in, whatever others say of it."""
        if not self.reads or self.count(note.grant for note in work.remarks) or self.count(work.opened_under):
            return False
        return self.for_good is None or not self.for_good(work)

    def _counts(self, grant: bytes | None) -> bool:
        given = self.door.authority(grant)
        return given is not None and given.pair in self.heeded and self.roster.speaks(grant)


async def eyes_in(agent: Agent, space: bytes) -> Eyes:
    """See `Eyes`. Of a device that stands for nobody there nothing counts, and nothing is to be opened."""
    return await _eyes(agent, space, await own_grants(agent))


async def all_eyes(agent: Agent) -> Mapping[bytes, Eyes]:
    """The same, for each space of this device; none where it stands for nobody at all."""
    grants = await own_grants(agent)
    return {space: await _eyes(agent, space, grants) for space in (await agent.spaces() if grants else ())}


async def _eyes(agent: Agent, space: bytes, grants: Sequence[Authority]) -> Eyes:
    roster, door = (await agent.replica.view(space)).roster, agent.replica.door
    grant = await own_grant(agent, grants, space)
    if grant is None or grant.person is None:
        return Eyes(roster, door)
    circle, runs_school = circle_ever(agent, roster, grant.person), grant.role in RUNS_A_SCHOOL
    return Eyes(
        roster,
        door,
        reads=True,
        heeded=circle.own | circle.others,
        for_good=await opened_for_good(agent, space) if runs_school else None,
    )
