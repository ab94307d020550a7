"""The commands `backup` and `restore`: files of the caller, and what must hold before and after.

Rules:
- a backup appears under its name when it is whole, durable and read back; until then what was there stays. Read back
  are the bytes that the server gave: it is sealed to the kit, which lies in a safe;
- `restore` wants an unused DIR, and the kit: the store begins a new generation, which only the root's key can say. From
  then on no agent believes what it remembered of this server: each compares sets, and brings what came afterwards;
- the server that it makes has keys of its own: those in the backup may have been replaced since, and devices believe
  none that is older than what they have seen (docs/adr/0043);
- what the server before had said stays, and its keys go on counting: a server burns far more often than somebody is in
  it, and machines bring what it said after the backup. Whoever knows better has them ended by `rotate server`, with a
  time from when on; so what the backup holds is noted as having come when it was made (docs/adr/0187);
- what an interrupted `restore` left is thrown away by the next; one that fails leaves nothing of the backup;
- of when a backup is, and that nobody has written it since, only its hash says that was kept elsewhere (docs/adr/0366):
  `backup` tells it, `restore` compares it where it is given, and says where it is not;
- a backup lies where others may write: its database is read, and a new one written; what of it counts,
  `foreign_backup` says; who could sign in is told.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, LocalFailure, Refused, RelaisError, disk_fault
from protocol.identity import SEED_BYTES, territory_id
from protocol.model.entry import Kind
from protocol.model.structure import GENERATION_BYTES, Certificate, Generation, RecoveryKey
from protocol.replica.at_work.keyring import Keyring, recovery_keys
from protocol.replica.at_work.replica import Draft, Entropy, Replica
from protocol.replica.console.command import run_command
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params, Table
from protocol.replica.console.text import local_time
from protocol.replica.console.typed_by import by_here
from protocol.replica.content.kept.pack_files import PACKS
from protocol.replica.disk import Disk
from protocol.replica.office.acts import Trail
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.made_anew import made_anew_mark
from protocol.replica.private_file import create_private, make_private_folder, remove_private
from protocol.trust.kit import Kit
from sync_server.handlers.accounts.administrators import said_to_end
from sync_server.handlers.by_kit.territory import (
    admit_kits_word,
    leave_nothing,
    make_room,
    note_unfinished,
    passphrase_of,
)
from sync_server.handlers.store.archive import HEAD, Head, Whole, read_closed, read_head, read_whole
from sync_server.handlers.store.restored import restored_mark
from sync_server.keeping.beginning import WHOSE_NOBODY_SAYS, check_folder
from sync_server.keeping.foreign_backup import take_over
from sync_server.keeping.kit_file import KitInFile
from sync_server.opened.data_folder import COPY_FILE, KEYS_FOLDER, UNFINISHED_FILE
from sync_server.opened.keys import CAPABILITY_KEY_BYTES, ServerKeys, Territory

_PASSING: Final = ".passing"
_LOOK_BYTES: Final = 512
_LEAST_DIGITS: Final = 32
_HASH: Final = re.compile(rf"[0-9a-f]{{{_LEAST_DIGITS},64}}")
_UNPROVEN: Final = (
    "That it is the file of then nothing in it proves: whoever could write where it lies may have put words into it "
    "since, dated before, and `rotate server --since` lets them stand. Compare its SHA-256, {}, with what `backup` "
    "said, if that was kept elsewhere (`restore --sha256` does so); else look through `audit`, and `devices`"
)
_LATER: Final = (
    "The root has certified keys of a server with a date after today's, {}: machines that have heard of it take this "
    "one for an older server (`wrong-key`) until then. Let the server before run until then, or have another root take "
    "over there (`sync-server rotate root`): docs/operate.md, “A server's keys are dated years ahead”"
)


class BackupFile(Notices):
    """Puts the parts of a backup together beside `target`. A context: what `keep` has not kept is gone at its end."""

    def __init__(self, target: Path) -> None:
        """Raises `BadInput(USAGE)` where `target` is something else than a backup, or its folder is missing."""
        _check_target(target)
        self._target = target
        self._passing = target.with_name(f"{target.name}{_PASSING}")
        self._file = -1
        self._hasher = sha256()

    def __enter__(self) -> Self:
        try:
            self._file = create_private(self._passing)
        except OSError as reason:
            raise self._failed(reason) from reason
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._passing.unlink(missing_ok=True)

    async def start(self, path: str, size: int | None) -> None:
        """The next part begins."""

    async def data(self, data: bytes) -> None:
        """Its bytes. Raises `LocalFailure(DISK_FULL | STORAGE_FAILED)`."""
        await asyncio.to_thread(self._write, data)

    async def end(self) -> None:
        """A part is whole."""

    def keep(self) -> Whole:
        """Make it durable, read it back, and let it appear. Raises `LocalFailure`."""
        try:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
        except OSError as reason:
            raise self._failed(reason) from reason
        whole = read_closed(self._passing)
        if whole.sha256 != self._hasher.hexdigest():
            text = f"{self._target} was not kept as it was written: look at that disk"
            raise LocalFailure(Code.STORAGE_FAILED, text, path=str(self._target))
        Disk(self._target.parent).rename_all([(self._passing.name, self._target.name)])
        return whole

    def _write(self, data: bytes) -> None:
        self._hasher.update(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as reason:
            raise self._failed(reason) from reason

    def _failed(self, reason: OSError) -> LocalFailure:
        code = disk_fault(reason)
        return LocalFailure(code, f"{self._target} cannot be written: {reason.strerror}", path=str(self._target))


def _check_target(target: Path) -> None:
    if target.is_dir() or not target.parent.is_dir():
        raise BadInput(Code.USAGE, f"a backup cannot be written to {target}: it is a folder, or lies in none")
    try:
        with target.open("rb") as file:
            if HEAD.encode() not in file.read(_LOOK_BYTES):
                raise BadInput(Code.USAGE, f"{target} exists and is no backup; choose another name")
    except FileNotFoundError:
        return
    except OSError as reason:
        raise BadInput(Code.UNREADABLE_FILE, f"{target} cannot be read: {reason.strerror}") from reason


async def restore(
    folder: Path,
    file: Path,
    kit_file: Path,
    passphrase_file: Path | None,
    *,
    sha256: str | None = None,
    now_ms: Callable[[], int],
    entropy: Entropy,
    tell: Callable[[str], None],
) -> JSON:
    """Make DIR the server that a backup holds, in a new generation; of that file alone whose hash `sha256` begins.

    Raises `BadInput` (a DIR in use, no backup, no kit), `Refused(WRONG_TERRITORY)` for another territory's kit,
    and for a kit that does not open it, `LocalFailure` (DAMAGED for a backup that is not whole).
    """
    expected = None if sha256 is None else _hash_of(sha256)
    passphrase = passphrase_of(passphrase_file)
    found = KitInFile.read(kit_file, passphrase)
    kit = found.kit
    head = await asyncio.to_thread(read_head, file)
    if (kit.first_root or kit.root.public) != head.root or territory_id(head.root) != head.territory:
        raise Refused(Code.WRONG_TERRITORY, f"{kit_file} is the kit of another territory than “{head.name}”")
    check_folder(folder)
    make_room(folder)

    wholes: list[Whole] = []

    async def operate(_params: Params, _incoming: Incoming, _outgoing: Outgoing) -> JSON:
        make_room(folder)
        note_unfinished(folder)
        try:
            wholes.append(await asyncio.to_thread(_unpack, file, folder, kit))
            _check_head(file, wholes[-1], head)
            _check_hash(file, wholes[-1], expected)
            ended = await _begin_generation(
                folder, head, found, wholes[-1].sha256, now_ms=now_ms, entropy=entropy, tell=tell
            )
        except RelaisError:
            leave_nothing(folder)  # names and keys of a server that it is not to be
            raise
        for line in ended:
            tell(line)
        return {}

    @asynccontextmanager
    async def table() -> AsyncIterator[Table]:
        yield {"restore": operate}

    result = await run_command(folder, "restore", {}, NO_FILES, Notices(), table, create=True)
    tell(f"restored {summary(head)}; what came after the backup comes back from the agents, once `run` is up")
    tell(
        "The keys of the server before go on counting: what it said after the backup comes back too. If somebody was "
        "in that server, or has a copy of its disk or of a backup: `sync-server rotate server --kit KIT --since TIME` "
        f"next. What this backup holds had come by {local_time(rfc3339(head.made_ms) or '')}, as it says itself; of a "
        "time before nothing is known: if somebody was in the server by then, restore a backup from before"
    )
    if expected is None:
        tell(_UNPROVEN.format(wholes[-1].sha256))
    tell(
        "Who was erased after that may be on its lists until a machine that knows of it has told; `status` says how "
        "many have not told all that they know yet. Who was cut off after that is in again until then, but for "
        "whom the kit remembers to have cut off: say `lost` or `revoke` again first, before new machines are enrolled; "
        "codes of before let nobody in meanwhile, make new ones"
    )
    tell(WHOSE_NOBODY_SAYS)
    tell(found.told)
    return result


def summary(head: Head) -> str:
    """What a backup holds, in a few words."""
    megabytes = (head.database_bytes + head.pack_bytes) / 1_000_000
    return f"“{head.name}”: {head.entries} entries and {head.packs} packs, {megabytes:.1f} MB"


def _unpack(file: Path, folder: Path, kit: Kit) -> Whole:
    """All members, checked and durable; the database where nothing goes on from it."""
    make_private_folder(folder / KEYS_FOLDER)
    whole = read_whole(file, folder, database=COPY_FILE, opening=kit.opening)
    disk = Disk(folder)
    places = {str(Path(name).parent) for name, _ in disk.files(PACKS)}
    disk.flush_folders([KEYS_FOLDER, *sorted(places), *([PACKS] if places else []), "."])
    return whole


def _hash_of(typed: str) -> str:
    """A hash as it was kept: in groups, in capitals, or its beginning. Raises `BadInput(USAGE)`."""
    found = "".join(typed.split()).lower()
    if _HASH.fullmatch(found) is None:
        raise BadInput(
            Code.USAGE, f"--sha256 is what `backup` said: 64 digits of 0-9 and a-f, the first {_LEAST_DIGITS} at least"
        )
    return found


def _check_head(file: Path, whole: Whole, head: Head) -> None:
    """Raise `BadInput(BAD_BACKUP)` where another file was read than the one whose head was believed, date and all."""
    if whole.head != head:
        raise BadInput(Code.BAD_BACKUP, f"{file} was written while it was read: copy it to a disk of your own first")


def _check_hash(file: Path, whole: Whole, expected: str | None) -> None:
    """Raise `BadInput(BAD_BACKUP)` for another file than the one whose hash somebody has kept."""
    if expected is not None and not whole.sha256.startswith(expected):
        raise BadInput(
            Code.BAD_BACKUP,
            f"{file} is not the file that `backup` wrote then: somebody has written it since. Its SHA-256 is "
            f"{whole.sha256}; take another backup, or a copy of this one that lay elsewhere",
        )


async def _begin_generation(
    folder: Path,
    head: Head,
    found: KitInFile,
    sha256: str,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
    tell: Callable[[str], None],
) -> list[str]:
    """Make what was unpacked a server of its own; what to tell of those who were its administrators.

    `sha256` is that of the backup, which its trail names.
    """
    kit = found.kit
    generation = entropy(GENERATION_BYTES)
    before = ServerKeys.read(folder)
    keys = ServerKeys.create(entropy(SEED_BYTES), entropy(SEED_BYTES), entropy(CAPABILITY_KEY_BYTES))
    replica, accounts = await take_over(folder, head.root, kit, now_ms, tell)
    try:
        store, ended = replica.store, [said_to_end(account) for account in accounts]
        # it says itself when it was made: no later than now, at least
        made_ms = min(head.made_ms, now_ms())
        await store.set_marks({**restored_mark(now_ms(), made_ms), **made_anew_mark(now_ms())})
        await Trail(store, now_ms).note("sync-server restore", by_here(), sha256, with_kit=True)
        await note_arrivals(store, made_ms)
        await admit_kits_word(replica, kit, found.said, now_ms())
        _check_in_force(replica, kit)
        certificate = await certify(replica, kit, keys, generation, before, now_ms=now_ms, entropy=entropy)
        if later_ms := await _dated_later_ms(replica, certificate):
            tell(_LATER.format(local_time(rfc3339(later_ms) or "")))
    finally:
        await replica.close()
    remove_private(folder / COPY_FILE)
    keys.write(folder)
    Territory(head.name, head.root, certificate, generation).write(folder)
    remove_private(folder / UNFINISHED_FILE)
    return ended


async def certify(
    replica: Replica,
    kit: Kit,
    keys: ServerKeys,
    generation: bytes,
    before: ServerKeys,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
) -> bytes:
    """Make new keys those of the server, in a new generation, by the word of the kit; the certificate's id.

    They are given the spaces' keys, as far as those of the server before, or recovery's of any kit, open them.
    """
    said = [
        (Kind.CERTIFICATE, Certificate(keys.signing.public, keys.agreement.public).encode()),
        (Kind.GENERATION, Generation(generation).encode()),
    ]
    if await recovery_keys(replica) != [kit.recovery.public]:
        said.append((Kind.RECOVERY_KEY, RecoveryKey(kit.recovery.public).encode()))
    drafts = [Draft(replica.territory, kind, None, payload) for kind, payload in said]
    certificate, *_ = await replica.write(drafts, author=kit.root, now_ms=now_ms(), entropy=entropy, unsent=False)
    keyring = Keyring(replica, (before.agreement, *kit.opening))
    for space in reversed(replica.door.spaces()):
        if wraps := await keyring.wraps_due(space, certificate.id, entropy):
            await replica.write(wraps, author=keys.signing, now_ms=now_ms(), entropy=entropy, unsent=False)
    return certificate.id


async def _dated_later_ms(replica: Replica, certificate: bytes) -> int:
    """When (ms) the same root has dated the latest certificate that goes before this one with machines; 0 for none."""
    others = await replica.store.scan_kinds([Kind.CERTIFICATE])
    new = next(entry for entry in others if entry.id == certificate)
    later = [one for one in others if one.header.author == new.header.author and one.timestamp_ms > new.timestamp_ms]
    return max((one.timestamp_ms for one in later), default=0)


def _check_in_force(replica: Replica, kit: Kit) -> None:
    """Raise `Refused(WRONG_TERRITORY)` unless the kit's root is the one in force, as far as backup and kit tell."""
    if kit.root.public == replica.door.root_now:
        return
    if kit.root.public in replica.door.roots:
        raise Refused(Code.WRONG_TERRITORY, "this kit has been replaced by a newer one; use that")
    raise Refused(
        Code.WRONG_TERRITORY,
        "neither this kit nor the backup proves that the kit's root took over: `rotate root` was cut short before its "
        "kit was complete. Restore with the kit from before it, then run the same `rotate root` again, with --anyway",
    )
