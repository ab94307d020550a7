"""Which mounted disks may be sticks."""

from __future__ import annotations

from pathlib import Path

from sync_agent.courier.watch import disks_of, mounted_disks

MOUNTS = """\
/dev/sda2 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
/dev/sdb1 /media/petit/CL\\303\\211\\040USB vfat rw,nosuid 0 0
/dev/sdc1 /run/media/petit/ESD exfat rw 0 0
/dev/sdd1 /mnt/stick fuseblk rw 0 0
//nas/share /mnt/nas cifs rw 0 0
/dev/sda1 /boot/efi vfat rw 0 0
tmpfs /run/media tmpfs rw 0 0
broken
"""


def test_removable_places_are_found_whatever_their_names() -> None:
    found = mounted_disks(MOUNTS)
    assert [str(place).encode("latin-1", "surrogateescape") for place in found] == [
        "/media/petit/CLÉ USB".encode(),
        b"/run/media/petit/ESD",
        b"/mnt/stick",
    ]


def test_a_folder_may_be_named_in_which_disks_appear(tmp_path: Path) -> None:
    look = disks_of(str(tmp_path / "media"))
    assert look() == []
    (tmp_path / "media" / "stick").mkdir(parents=True)
    (tmp_path / "media" / "note.txt").touch()
    assert look() == [tmp_path / "media" / "stick"]
