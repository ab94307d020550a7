"""Attacks: whoever copied a PC's disk computes the keys that this PC takes once it was seen to be copied."""

from __future__ import annotations

from pathlib import Path

from protocol.identity import DeviceKeys
from protocol.replica.at_work.replica import Entropy
from sync_agent.keys.binding import Binding, Hardware
from sync_agent.keys.succession import Place, _new_keys
from sync_agent.machine.enrolled import BINDING_FILE, DEVICE_KEYS_FILE
from tests.harness.attack import attack
from tests.harness.challenged import give_challenges
from tests.harness.classroom import assignment, classroom
from tests.integration.test_clones import image_of, in_turn, pc, started, stopped

ROW = "a copied disk gives away the keys that its PC takes because of that"


def _that_follow(disk: Path, hardware: Hardware) -> DeviceKeys:
    """The keys that follow from what lies on the disk of a computer, and from hardware."""
    old = DeviceKeys.from_bytes((disk / DEVICE_KEYS_FILE).read_bytes())
    bound = Binding.parse((disk / BINDING_FILE).read_bytes())
    assert bound is not None
    return _new_keys(old, hardware, bound)


_guessed: list[DeviceKeys] = []


def _what_follows(_entropy: Entropy) -> DeviceKeys:
    """As if what a device takes followed from a disk, whoever it is and wherever."""
    return _guessed[-1]


@attack(ROW, off={"sync_agent.keys.succession._drawn_keys": _what_follows})
async def test_a_pc_whose_disk_was_copied_draws_keys_that_nobody_can_compute(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        item = await assignment(room, teacher, machine)
        disk = await image_of(room, machine)
        early = await started(room, disk, "pc2", Place(pc(1)))
        await room.hand_in(early, item, {"avant.txt": b"de la copie"})
        clone = await started(room, await stopped(room, early), "pc2", Place(pc(2)))
        await clone.session.sync()
        keeper = await started(room, disk, "pc1", Place(pc(1)))
        await keeper.session.sync()
        folder = await stopped(room, keeper)
        guessed = _that_follow(folder, pc(1))
        _guessed.append(guessed)
        keeper = await started(room, folder, "pc1", Place(pc(1)))
        assert keeper.agent.device != clone.agent.device
        assert guessed.signing.public != keeper.agent.device
        assert guessed.agreement.public != keeper.agent.keys.agreement.public


@attack(ROW, off={"sync_agent.keys.succession._drawn_keys": _what_follows})
async def test_so_does_a_teachers_laptop_that_finds_itself_copied_on_other_hardware(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        give_challenges(room.frontage.responder, room.territory.clock)
        disk, place = await image_of(room, await room.teacher()), Place(pc(2))
        guessed = _that_follow(disk, pc(2))
        _guessed.append(guessed)
        moved = await started(room, disk, "moved", place)
        await in_turn(moved, await started(room, disk, "original", Place(pc(1)), seed=8))
        assert place.gives_way.is_set()
        before = moved.agent.device
        moved = await started(room, await stopped(room, moved), "moved", place, seed=9)
        assert moved.agent.device != before
        assert guessed.signing.public != moved.agent.device
        assert guessed.agreement.public != moved.agent.keys.agreement.public
