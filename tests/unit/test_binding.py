"""When a folder of keys lies on another machine than the one that made them, and when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.canonical import encode
from sync_agent.keys.binding import Binding, Hardware, Part, machine_name
from sync_agent.keys.hardware import apple_hardware, board_uuid, linux_hardware

SALT = bytes(range(16))


def machine(system: str = "s1", board: str = "b1", cards: str = "c1 c2", disks: str = "d1") -> Hardware:
    given = {Part.SYSTEM: system, Part.BOARD: board, Part.NETWORK: cards, Part.DISK: disks}
    return {part: frozenset(ids.split()) for part, ids in given.items() if ids}


HOME = machine()


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(HOME, id="nothing has changed"),
        pytest.param(machine(disks="d2"), id="the folder was moved to a new disk"),
        pytest.param(machine(system="s2", disks="d2"), id="a new disk with a new system"),
        pytest.param(machine(board="b2", cards="c3"), id="a new board, the old disk and system"),
        pytest.param(machine(cards="c2 c9 c8"), id="a dongle, and a card less"),
        pytest.param(machine(board="", cards="", disks=""), id="the system tells nothing of the hardware"),
        pytest.param({Part.SYSTEM: frozenset({"s2"})}, id="another system, and it tells nothing else"),
        pytest.param({}, id="the system tells nothing at all"),
    ],
)
def test_it_is_the_same_machine_while_most_of_it_is(now: Hardware) -> None:
    assert not Binding.of(HOME, SALT).is_elsewhere(now)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(machine(board="b2", cards="c3", disks="d2"), id="an image on another machine"),
        pytest.param(machine(board="", cards="c3", disks="d2"), id="the same, seen without rights"),
        pytest.param(machine("s2", "b2", "c3", "d2"), id="a folder copied to another machine"),
        pytest.param(machine("s2", "b2", "", ""), id="another container on another board"),
    ],
)
def test_it_is_another_machine_when_most_of_it_is(now: Hardware) -> None:
    assert Binding.of(HOME, SALT).is_elsewhere(now)


def test_what_is_remembered_is_read_again_and_names_nothing() -> None:
    binding = Binding.of(machine(board="4c4c4544-0044-3510"), SALT)
    assert Binding.parse(binding.encode()) == binding
    assert b"4c4c" not in binding.encode()
    assert Binding.of(HOME, bytes(16)).parts != Binding.of(HOME, SALT).parts
    for damaged in (b"", b"\xc1", encode({"salt": b"short"}), encode({"salt": SALT, "disk": [b"x"]})):
        assert Binding.parse(damaged) is None


def test_a_machine_has_one_name_whatever_system_is_on_it_and_each_its_own() -> None:
    assert machine_name(HOME, SALT) == machine_name(machine(system="s2"), SALT)
    assert machine_name(HOME, SALT) != machine_name(machine(cards="c1 c3"), SALT)


def test_linux_tells_what_is_built_in_and_what_makers_forgot_to_fill_counts_for_nothing(tmp_path: Path) -> None:
    def put(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    put("etc/machine-id", "0123456789abcdef\n")
    put("sys/class/dmi/id/product_uuid", "03000200-0400-0500-0006-000700080009\n")
    put("sys/class/dmi/id/board_serial", "To Be Filled By O.E.M.\n")
    put("sys/class/dmi/id/product_serial", "PF0ABCDE\n")
    for name, kind, real in (("eth0", "0", True), ("wlan0", "3", True), ("tun0", "0", False)):
        put(f"sys/class/net/{name}/address", f"aa:bb:cc:00:00:0{len(name)}\n")
        put(f"sys/class/net/{name}/addr_assign_type", kind)
        if real:
            put(f"sys/class/net/{name}/device/uevent", "")
    put("sys/block/sda/device/wwid", "naa.5000C500\n")
    put("sys/block/sda/removable", "0")
    put("sys/block/sdb/device/wwid", "usb-stick\n")
    put("sys/block/sdb/removable", "1")
    put("sys/block/loop0/serial", "no disk\n")
    assert linux_hardware(tmp_path) == {
        Part.BOARD: {"pf0abcde"},
        Part.NETWORK: {"aa:bb:cc:00:00:04"},
        Part.DISK: {"naa.5000c500"},
    }
    assert linux_hardware(tmp_path / "nothing") == {}


def test_an_apple_and_a_windows_board_are_told_by_their_numbers() -> None:
    told = '  "IOPlatformUUID" = "1234-AB"\n  "IOPlatformSerialNumber" = "C02XYZ"\n  "other" = "x"\n'
    assert apple_hardware(told) == {Part.BOARD: {"1234-ab", "c02xyz"}}
    assert apple_hardware("") == {}
    uuid = bytes(range(1, 17))
    firmware = b"\x00\x04\x00\x00text\x00\x00"
    system = b"\x01\x1b\x01\x00" + bytes(4) + uuid + bytes(3) + b"maker\x00\x00"
    assert board_uuid(bytes(8) + firmware + system) == uuid.hex()
    assert board_uuid(bytes(8) + firmware + b"\x01\x00") is None
    assert board_uuid(b"") is None
