"""Whoever lists a person chooses the id: one begins as a child's does, with her name (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.console.frame import Notices
from protocol.roles import PersonRole
from sync_agent.hand_ins.handing_in import give_feedback, hand_in
from tests.harness.attack import attack
from tests.harness.classroom import Given
from tests.harness.commands import Desk
from tests.harness.spied_class import answered_class

ROW = "a list calls two pupils one, and a family asks for what there is about its child"


def _by_the_beginning(ids: Iterable[bytes]) -> dict[bytes, str]:
    return {one: one.hex()[:8] for one in ids}


@attack(ROW, off={"sync_agent.hand_ins.year_end._told_apart": _by_the_beginning})
async def test_a_namesake_whose_id_begins_as_hers_has_a_folder_of_their_own(tmp_path: Path) -> None:
    async with answered_class(tmp_path, "Très bien raconté !", kept_for=__name__) as here:
        other = here.room.pupil_person[:4] + bytes(12)
        listed = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await here.room.territory.say(here.room.space, Kind.PERSON, listed, subject=other)
        await here.sync()
        copied = Given({"recit.odt": b"copie"})
        work = await hand_in(here.machine.agent, here.item, other, [("recit.odt", 5)], copied, Notices())
        await here.sync(here.machine, here.teacher)
        said = "Tout est copié sur le voisin."
        await give_feedback(here.teacher.agent, work, said, "0/20", redo=False, incoming=Given({}))

        files = await Desk(here.teacher.agent).files("portfolio", space=here.room.space.hex())
        of_each = {path.split("/")[0]: b"" for path in files}
        for path, data in files.items():
            of_each[path.split("/")[0]] += data
        assert len(of_each) == 2
        hers = next(data for folder, data in of_each.items() if here.room.pupil_person.hex() in folder)
        assert b"18/20" in hers
        assert said.encode() not in hers
