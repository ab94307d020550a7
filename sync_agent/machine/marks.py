"""What an agent remembers besides entries and packs: marks in its store, named here once.

A mark is a name and some bytes; where a name ends in a slash, more follows it, as each line says. A mark is this
machine's own note: it is never said to anybody, and what hangs on one can be found out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.identity import KEY_BYTES
from protocol.rights.vouching import Device

EVICTED_MARKS: Final = "evicted/"
"""+ space in hex / stream in hex → content that made way for other, and is not fetched until somebody opens it."""
OPENED_MARKS: Final = "opened/"
"""+ stream in hex → 8 bytes of ms: when content was last opened here, to the day."""
RARE_MARKS: Final = "rare-since/"
"""+ stream in hex → 8 + 8 bytes of ms, as `watched` counts and by the server's time: when room first lacked where
somebody else's work or feedback lies here."""
MADE_WAY_MARK: Final = "made-way"
"""→ 8 bytes, 8 bytes: a day, and how many bytes of content made way on it."""
GENERATION_MARK: Final = "generation"
CHALLENGE_MARK: Final = "challenge"
"""The latest that the server gave this device."""
CURSOR_MARKS: Final = "cursor/"
"""+ space in hex → canonical [count, chain]: what the server's store was seen to hold."""
DOUBT_MARKS: Final = "doubt/"
"""+ space in hex → the fingerprint that the server last showed of it, which is not ours although nothing is unsent."""
PROVEN_MARKS: Final = "proven-at/"
"""+ space in hex → 8 bytes of ms: when the server last proved that we hold all that it holds."""
HAND_IN_MARKS: Final = "hand-in/"
"""+ hand-in in hex → canonical {sealed, seen, proven, heard}: the content key, sealed (`key_slots`), as long as
it is kept, when the server's receipt was first known, as `watched` counts and by the server's time, and since when this
one has heard that it was opened (`hand_ins.wraps`); from an earlier version also {made, opened}."""
HAND_IN_NAMES_MARKS: Final = "hand-in-names/"
"""+ hand-in in hex → canonical {files}, from an earlier version: the names of its files, which go at the next start
(`key_slots`)."""
DRAFT_MARKS: Final = "draft/"
"""+ person in hex / item in hex → canonical {sealed, name, at}; the key as in `HAND_IN_MARKS`."""
FIRST_MARKS: Final = "first/"
"""+ space in hex / person in hex → pairs of keys: the devices that this one saw first for a person (`first_met`)."""
MET_MARKS: Final = "met/"
"""+ space in hex / device in hex → 8 bytes of ms as `watched` counts: since when this one knows such a device."""
HEARD_MARKS: Final = "heard/"
"""+ space in hex / person in hex → 8 bytes of ms, as `watched` counts, and a pair of keys, each: since when this one
knows the devices that have said a reading key as this person's (`acquaintances`)."""
MACHINES_MARKS: Final = "machines/"
"""+ space in hex → the beginning of a key, and 8 bytes of ms as `watched` counts, each: since when this one knows the
machines that may write there (`known_machines`)."""
GONE_AS_MARKS: Final = "gone-as/"
"""+ space in hex / person in hex → pairs of keys: the devices known there as this person's that are cut off there, or
back and not confirmed again (`first_met`); from an earlier version also those whose right has ended."""
LED_MARKS: Final = "led-to/"
"""+ space in hex / person in hex → pairs of keys: the devices known there as this person's to which words of those that
came first of all there have led, in the order in which this one saw that (`acquaintances`)."""
BESIDE_MARKS: Final = "beside/"
"""+ person in hex → pairs of keys: the devices that grants called this person's own when this one met them first, in
whatever class (`first_met`)."""
KNOWN_READER_MARKS: Final = "known-reader/"
"""+ space in hex / device in hex → as whom the teacher has seen that the device reads there: 1 + 16 bytes each, whether
it spoke and the person; empty, from an earlier version: as anybody. `WAS_THERE` until then, if it did when this one met
the class; `WAS_GONE` from when it read there no more until the teacher looks again (`gone_readers`)."""
WAS_THERE: Final = b"there"
WAS_GONE: Final = b"gone"
KNOWN_RETURN_MARKS: Final = "known-return/"
"""+ space in hex / device in hex → the ids of what let it in again after it was cut off, as
far as the teacher has seen since that it reads there, or could (`seen_readers`)."""
YES_DESPITE_MARKS: Final = "yes-despite/"
"""+ device in hex → the beginnings of the reports of it that lay here when the teacher said on this device that it is
hers (`reports_known`)."""
PAST_READER_MARKS: Final = "past-reader/"
"""+ space / device / person, in hex → the beginnings of the hand-ins of which the teacher has seen that the device
could read them there, as that person's, and reads no more; an earlier version noted a number (`past_readers`)."""
PAST_WORKS_MARKS: Final = "past-works/"
"""+ space in hex → the beginnings of hand-ins that were sealed to keys of which nobody here knows whose they are, as
the teacher has seen (`past_readers`)."""
NOT_MINE_MARKS: Final = "not-mine/"
"""+ grant in hex → set once the teacher has said on this device that what a former one of hers said under it was not
hers, or that she does not know (`former_returns`)."""
HELD_BACK_SEEN_MARKS: Final = "held-back-seen/"
"""+ entry in hex → set once whoever works here has seen that this word of this device's is held back: the beginnings of
what held it back then, and of the ruling by which it was refused, if it was (`held_back`)."""
LET_COUNT_SEEN_MARKS: Final = "let-count-seen/"
"""+ entry in hex → the ruling by which it counts again, as whoever works here has seen (`let_count`)."""
KEY_MADE_MARKS: Final = "key-made/"
"""+ space in hex → the beginnings of the keys of the teacher's devices for whose loss this one made its newest key."""
KEYS_AT_MARKS: Final = "keys-at/"
"""+ space in hex → 8 bytes each: when this device made its last reading keys there, by its own clock."""
PHRASE_OVER_MARKS: Final = "phrase-over/"
"""+ space in hex → 32 + 1 bytes each: the teacher's phrases that were seen out of force there, by the public halves of
their keys, and whether another reading key was made for their sake."""
REFUSED_MARKS: Final = "refused/"
"""+ entry in hex → the code with which the server refused it when it was offered last."""
REFUSER_MARK: Final = "refuser"
"""→ the server's key and its store's generation when it last refused something: another is asked again."""
REFUSED_SINCE_MARK: Final = "refused-since"
"""→ 8 bytes of ms: when something was first refused since what had been was last offered again (`refusals`)."""
CLOSED_TOLD_MARK: Final = "closed-told"
"""→ 8 bytes of ms, key: when which server was last asked what it lacks of spaces that are closed to this device."""
NEIGHBOURS_MARK: Final = "neighbours"
"""→ 8 bytes of ms: when devices of the school were last found on a network, to the day."""
PLACES_MARK: Final = "places"
"""→ canonical [[host, port, device, ms]]: where devices of the school were met last (`places_met`)."""
LAST_SYNC_MARK: Final = "last-sync"
"""→ canonical {at, reachable, skew}: how the last attempt went."""
HEALTH_MARK: Final = "health"
"""→ the body of the health register that the server last took; or 8 bytes of ms, when one was given to others since."""
BACKUP_MARK: Final = "server-backup"
"""→ 8 bytes of ms each: when a proven backup of the server's was begun, by its clock, and since when it was heard that
there is one so new, as `watched` counts and by the server's time (`backups_said`); 8 bytes from an earlier version."""
ELSEWHERE_MARK: Final = "spoken-elsewhere"
"""→ a server's key, under which it was brought words that it did not say, as it said itself."""
STORE_SINCE_MARK: Final = "store-since"
"""→ 8 + 8 bytes of ms, as `watched` counts and by the server's time, and the generation: since when it is this store
that answers here."""
DISK_FULL_MARK: Final = "disk-full"
"""→ set while the last sync found no room on the disk for content that is missing."""
NO_STRONG_MARK: Final = "no-strong"
"""→ set once strong containers did not bring what they should here: this machine asks for packs."""
SPACE_FOLDER_MARKS: Final = "space-folder/"
"""+ space in hex → the name of its folder in DIR/coursework, behind "/" that of one that it had; before
`FOLDERS_NOTED_MARK`, and in DIR/publish."""
PUBLISH_FOLDER_MARKS: Final = "publish-folder/"
"""+ space in hex → the name of its folder in DIR/publish, behind "/" that of one that it had."""
FOLDERS_NOTED_MARK: Final = "folders-noted"
"""→ set once it was noted which folders of spaces lie in either: from then on each is remembered as it is made."""
WATCHED_FOLDER_MARKS: Final = "watched-folder/"
"""+ folder id → canonical {path, space}: a folder of the teacher's own that is watched (`watching.titles`)."""
WATCHED_TITLE_MARKS: Final = "watched-title/"
"""+ folder id / name's hash → what is remembered of a title (`watching.titles.Title`)."""
WATCHED_FILES_MARKS: Final = "watched-files/"
"""+ the same → the files of a title as they were published (`file_notes`)."""
BRAKE_MARK: Final = "publishing-paused"
"""→ canonical: whether publishing from watched folders is paused, and why (`watching.titles.Brake`)."""
CARRIED_MARKS: Final = "carried/"
"""+ hand-in in hex → 8 bytes of ms: when it was last written onto a courier disk."""
BROUGHT_MARKS: Final = "by-stick/"
"""+ hand-in in hex → 8 bytes of ms: when a courier disk brought it here."""
FORMER_BROUGHT_MARKS: Final = "brought/"
"""What these were called once; a server's accounts (`allowances`) are called so still."""
LINE_MARKS: Final = "line-of-rights/"
"""+ hash of a server, a space and its revocations → 8 bytes, chain: up to which arrival that line has been brought."""
FORGETS_MARKS: Final = "forgot/"
"""+ device in hex → 1 byte: somebody else had to bring it back an entry that it had written itself. Under "forgets/" an
earlier version noted also to whom a payload had come back, for good: who forgets does so again, and is noted here."""
ENTRUSTED_MARKS: Final = "entrusted/"
"""+ hand-in / device, in hex → 1 byte: this device asked that one to keep a second copy, and gave it the content."""
DRILL_MARK: Final = "drill"
"""→ canonical [drill, ms]: when the drill that ran last was first heard of here, by the server's clock."""
EARLY_DRILLS_MARK: Final = "drill-early"
"""→ the ids of drills that were heard of hours before their time, until that is over: they never begin here."""
DRILL_SEEN_MARK: Final = "drill-seen"
"""→ canonical [drill, n, n]: how many devices its leader saw that had heard of it, and that held what was published."""
DRILL_TOLD_MARK: Final = "drill-told"
"""→ the drill begun on this device whose order the server has."""
REPORT_SENT_MARKS: Final = "report-sent/"
"""+ device in hex → 8 bytes of ms: the time of its newest health report that this device passed on to the server."""
NEW_KEYS_MARK: Final = "new-keys"
"""→ 8 bytes of ms, as `watched` counts: when this machine last took keys because it was told of a twin."""
MOVED_MARK: Final = "moved"
"""→ 8 bytes of ms, as `watched` counts: since when what is more than a pupils' PC runs on other hardware."""
CALLED_MARKS: Final = "called/"
"""+ device in hex → the name that it gave when it was let in, on a device that runs its school (`device_names`)."""
TREE_MARKS: Final = "coursework/"
"""+ item in hex → canonical {folder, stream}: what DIR/coursework shows of an item."""
TREE_FILES_MARKS: Final = "coursework-files/"
"""+ item in hex → the files that were written for it (`file_notes`)."""
TREE_TROUBLE_MARK: Final = "coursework-trouble"
"""→ code and sentence, parted by a line feed: why DIR/coursework could not be kept in step the last time."""

_TIME_BYTES: Final = 8
MACHINE_BYTES: Final = 8
"""So much of a machine's key is noted."""
_HEARD_BYTES: Final = _TIME_BYTES + 2 * KEY_BYTES


def evicted_mark(content: tuple[bytes, bytes]) -> str:
    """The mark of (space, stream) that made way."""
    return f"{EVICTED_MARKS}{content[0].hex()}/{content[1].hex()}"


def remembered_in(
    marks: Mapping[str, bytes], prefix: str = FIRST_MARKS
) -> dict[bytes, dict[bytes, tuple[Device, ...]]]:
    """The devices that were seen first, or those of another such mark, from their marks."""
    found: dict[bytes, dict[bytes, tuple[Device, ...]]] = {}
    for name, value in marks.items():
        space, person = (bytes.fromhex(part) for part in name.removeprefix(prefix).split("/"))
        found.setdefault(space, {})[person] = pairs_in(value)
    return found


def met_in(marks: Mapping[str, bytes]) -> dict[bytes, dict[bytes, int]]:
    """Since when each device is known in each class, from the marks."""
    found: dict[bytes, dict[bytes, int]] = {}
    for name, value in marks.items():
        space, device = (bytes.fromhex(part) for part in name.removeprefix(MET_MARKS).split("/"))
        found.setdefault(space, {})[device] = int.from_bytes(value, "big")
    return found


def heard_in(marks: Mapping[str, bytes]) -> dict[bytes, dict[bytes, dict[Device, int]]]:
    """Since when the devices that have said a reading key are known, by class and person, from their marks."""
    found: dict[bytes, dict[bytes, dict[Device, int]]] = {}
    for name, value in marks.items():
        space, person = (bytes.fromhex(part) for part in name.removeprefix(HEARD_MARKS).split("/"))
        heard = found.setdefault(space, {})[person] = {}
        for at in range(0, len(value), _HEARD_BYTES):
            met, pair = value[at : at + _TIME_BYTES], value[at + _TIME_BYTES : at + _HEARD_BYTES]
            heard[pair[:KEY_BYTES], pair[KEY_BYTES:]] = int.from_bytes(met, "big")
    return found


def heard_mark(space: bytes, person: bytes, heard: Mapping[Device, int]) -> dict[str, bytes]:
    """The mark from which that is read."""
    value = b"".join(met_ms.to_bytes(_TIME_BYTES, "big") + b"".join(device) for device, met_ms in heard.items())
    return {f"{HEARD_MARKS}{space.hex()}/{person.hex()}": value}


def machines_in(marks: Mapping[str, bytes]) -> dict[bytes, dict[bytes, int]]:
    """Since when the machines of each class are known, from their marks."""
    row = MACHINE_BYTES + _TIME_BYTES
    return {
        bytes.fromhex(name.removeprefix(MACHINES_MARKS)): {
            value[at : at + MACHINE_BYTES]: int.from_bytes(value[at + MACHINE_BYTES : at + row], "big")
            for at in range(0, len(value), row)
        }
        for name, value in marks.items()
    }


def machines_mark(space: bytes, machines: Mapping[bytes, int]) -> dict[str, bytes]:
    """The mark from which that is read."""
    value = b"".join(machine + since_ms.to_bytes(_TIME_BYTES, "big") for machine, since_ms in machines.items())
    return {f"{MACHINES_MARKS}{space.hex()}": value}


def beside_in(marks: Mapping[str, bytes]) -> dict[bytes, tuple[Device, ...]]:
    """Which devices were called each person's when they were met, from the marks."""
    return {bytes.fromhex(name.removeprefix(BESIDE_MARKS)): pairs_in(value) for name, value in marks.items()}


def pairs_in(value: bytes) -> tuple[Device, ...]:
    """The pairs of keys of such a mark."""
    pairs = [value[at : at + 2 * KEY_BYTES] for at in range(0, len(value), 2 * KEY_BYTES)]
    return tuple((pair[:KEY_BYTES], pair[KEY_BYTES:]) for pair in pairs)


def stays(mark: str) -> bool:
    """Whether a mark is still true when the set was put together anew from what could be read."""
    return not mark.startswith((CURSOR_MARKS, PROVEN_MARKS)) and mark not in (
        GENERATION_MARK,
        CHALLENGE_MARK,
        HEALTH_MARK,
    )
