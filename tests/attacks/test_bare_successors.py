"""What the door needs to know of a device comes whole, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from protocol.errors import Code
from protocol.folds.erasing import is_covered
from protocol.messages.calls import SyncRequest
from protocol.model.entry import Header, Kind
from protocol.model.structure import Erasure, Successor
from protocol.rights.door import is_erasable
from protocol.roles import Role
from tests.harness.attack import attack
from tests.harness.caller import caller
from tests.harness.classroom import classroom
from tests.harness.erasures import every_name

ROW = "a bare header lets a key in that never agreed"


def whatever_is_no_structure(header: Header) -> bool:
    """A successor is said by any device, and was taken for its work."""
    return header.kind == Kind.SUCCESSOR or is_erasable(header)


@attack(ROW, off={"protocol.rights.door.is_erasable": whatever_is_no_structure})
async def test_no_successor_comes_in_without_the_proof_that_its_key_agrees(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        territory, responder = room.territory, room.territory.responder()
        liar = await caller(territory, responder, Role.MACHINE, room.space, seed=5)
        victim = await caller(territory, responder, Role.MACHINE, await territory.classroom("CE1"), seed=6)
        await territory.say(room.space, Kind.ERASE, Erasure(room.pupil_person).encode())
        said = Successor(victim.keys.signing.public, victim.keys.agreement.public, None, bytes(64))
        whole = liar.say(room.space, Kind.SUCCESSOR, said.encode(), subject=room.pupil_person)
        for sent, code in ((whole, Code.BAD_SIGNATURE), (replace(whole, salt=None, payload=None), Code.BAD_COMMITMENT)):
            answer = await liar.sync(SyncRequest(push=(sent,)))
            assert [refusal.code for refusal in answer.refused] == [code]
        assert await territory.replica.store.present([whole.id]) == set()


@attack(
    "an erasure takes what the door needs",
    off={
        "protocol.folds.erasing.is_erasable": whatever_is_no_structure,
        "protocol.folds.erasing.covering_names": every_name,
    },
)
async def test_an_erasure_of_whom_a_successor_names_leaves_its_right_to_the_device(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        territory, responder = room.territory, room.territory.responder()
        image = await caller(territory, responder, Role.MACHINE, room.space, seed=5)
        clone, said = image.successor(room.space)
        await image.sync(SyncRequest(push=(said,)))
        assert await territory.replica.readable(clone.id)
        erased = replace(said, salt=None, payload=None) if is_covered(said, {said.id}) else said
        assert erased.payload is not None
