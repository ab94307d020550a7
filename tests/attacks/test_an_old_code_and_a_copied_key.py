"""A copy of the server's key, and the paper of a code that was used, or ran out, months ago (docs/attacks.md).

The thief's grant says that his device came in by that code, and the device shows it at the honest server.
"""

from __future__ import annotations

from protocol.messages.enrollment import EnrollRequest
from protocol.model.entry import Kind
from protocol.replica.office.enrolment import Enrolment
from protocol.replica.office.known_here import note_enrolled
from protocol.trust.envelope import OpenedRequest
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.next_year import NextYear
from tests.harness.spied_class import own_keys

ROW = "a thief's device comes along into the next class"
_ANSWER = Enrolment.answer


async def _noting_whoever_asks(self: Enrolment, opened: OpenedRequest) -> bytes:
    """As it was: whoever shows a code by which a grant says that they came in is noted as having done so."""
    request = EnrollRequest.parse(opened.payload)
    shown = await self._codes.shown(self._office, request, opened.device)
    entry, invite = await self._invitation(shown, request, opened.device)
    device = opened.device, request.agreement
    await note_enrolled(self._office, invite.person, device, invite.role, entry)
    return await _ANSWER(self, opened)


WHOEVER_ASKS: dict[str, object] = {"protocol.replica.office.enrolment.Enrolment.answer": _noting_whoever_asks}


async def _shows_an_old_code(year: NextYear, *, used: bool) -> None:
    office = year.here.office
    code = await office.invite("teacher", person=year.person)
    if used:
        await office.enrol(code)
    made = (await year.server.store.scan_kinds([Kind.INVITE]))[-1]
    year.pass_days(200)
    await year.spy_comes(year.here.space, dated_days_ago=300, code=made.id)
    await office.enrol(code, year.spy)


@attack(ROW, off=WHOEVER_ASKS)
async def test_whoever_shows_a_used_code_by_which_a_copied_key_says_that_they_came_in_is_not_known_by_it(
    year: NextYear,
) -> None:
    await _shows_an_old_code(year, used=True)
    speak = await year.who_speaks(year.server, year.here.space)
    assert own_device(year.teacher.agent) in speak
    assert own_keys(year.spy) not in speak


@attack(ROW, off=WHOEVER_ASKS)
async def test_nor_does_who_shows_one_that_ran_out_unused_come_along_into_the_next_class(year: NextYear) -> None:
    await _shows_an_old_code(year, used=False)
    space = await year.new_class()
    await year.lets_her_in(space)
    assert year.teacher.agent.device in {each.key for each in year.server.door.authorities_in(space)}
    assert year.spy.signing.public not in {each.key for each in year.server.door.authorities_in(space)}
