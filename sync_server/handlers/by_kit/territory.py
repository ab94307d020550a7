"""A territory begins, or begins again: root and recovery keys into the kit, a certificate for the server's own keys.

Rules:
- the root's private key is written into the kit and nowhere else, and used only here;
- nothing counts before `territory.json` is there, which is written last; what an `init` left that failed is thrown
  away, and by the next one what an interrupted one left, its kit included, because nobody has been told of it;
- a territory that begins again keeps its root: the server gets new keys, a new certificate, a new generation and an
  empty store, which the agents fill.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from protocol.errors import BadInput, Code, RelaisError
from protocol.identity import SEED_BYTES, AgreementKey, SigningKey
from protocol.limits import MAX_KIT_BYTES, SALT_BYTES
from protocol.messages.enrollment import parse_chain
from protocol.model.entry import Entry, Kind
from protocol.model.structure import GENERATION_BYTES, Certificate, Generation, RecoveryKey
from protocol.replica.at_work.replica import Draft, Entropy, Replica
from protocol.replica.content.kept.pack_files import DAMAGED, PACKS, PARTS
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.office.acts import Trail
from protocol.replica.office.made_anew import made_anew_mark
from protocol.replica.private_file import remove_private, write_private
from protocol.replica.storage.sqlite import DATABASE, SqliteStore
from protocol.trust.kit import Kit, parse_kit, write_kit
from sync_server.kit.memory import with_said
from sync_server.opened.data_folder import (
    COPY_FILE,
    KEYS_FILE,
    KEYS_FOLDER,
    UNFINISHED_FILE,
    already_initialised,
    is_initialised,
)
from sync_server.opened.keys import CAPABILITY_KEY_BYTES, ServerKeys, Territory

BYTE_ORDER_MARK: Final = "\ufeff"
NO_UTF_8: Final = "\ufffd"
"""Stands for what is no UTF-8, once it is read."""
_DATABASE_FILES: Final = tuple(DATABASE + ending for ending in ("", "-wal", "-shm", "-journal"))


def new_kit(name: str, entropy: Entropy) -> Kit:
    """A new territory: the keys of its root and of its recovery."""
    return Kit(name, SigningKey(entropy(SEED_BYTES)), AgreementKey(entropy(SEED_BYTES)))


async def begin_territory(
    folder: Path,
    kit: Kit,
    *,
    kit_file: Path | None,
    passphrase: str | None,
    now_ms: Callable[[], int],
    entropy: Entropy,
    again: bool = False,
    said: Sequence[Entry] = (),
    by: str = "",
) -> None:
    """Make DIR, whose lock the caller holds, the territory of `kit`, which is written to `kit_file` if that is given.

    `again` says that it has been before: there may be servers of which this one has not heard. `said` is what the kit
    remembers of what its root has said. `by` is who has it done, for the trail of the new server.

    Raises `BadInput` (ALREADY_INITIALISED, USAGE for a kit file that exists), `LocalFailure`.
    """
    make_room(folder, kit_file)
    text = None
    if kit_file is not None:
        text = with_said(write_kit(kit, passphrase=passphrase, salt=entropy(SALT_BYTES)), kit, said).encode()
    try:
        note_unfinished(folder, text)
        if kit_file is not None and text is not None:
            write_private(kit_file, text)
        await _begin(folder, kit, said, by, now_ms=now_ms, entropy=entropy, again=again)
    except RelaisError:
        leave_nothing(folder, kit_file)
        raise


def kit_in(path: Path, passphrase: str | None) -> Kit:
    """The kit in a file. Raises `BadInput(MISSING_FILE | UNREADABLE_FILE | BAD_KIT)`."""
    return parse_kit(text_of_kit(path), passphrase=passphrase)


def text_of_kit(path: Path) -> str:
    """The text of a kit, which may be another file's. Raises `BadInput(MISSING_FILE | UNREADABLE_FILE)`."""
    return _read(path).decode(errors="replace")


def passphrase_in(path: Path) -> str:
    """The passphrase in a file, without the end of its line. Raises `BadInput`."""
    passphrase = _read(path).decode(errors="replace").rstrip("\r\n")
    if not passphrase.removeprefix(BYTE_ORDER_MARK).strip():
        raise BadInput(Code.USAGE, f"{path} holds no passphrase")
    return passphrase


def chosen_passphrase_in(path: Path) -> str:
    """The same, of what it is to protect from now on: as somebody types it later, anywhere. Raises `BadInput`.

    Nobody types the mark that Windows puts before a text; and of letters in another encoding none is known.
    """
    passphrase = passphrase_in(path).removeprefix(BYTE_ORDER_MARK)
    if NO_UTF_8 in passphrase:
        raise BadInput(Code.USAGE, f"{path} is no text in UTF-8: what is typed later would be another passphrase")
    return passphrase


def passphrase_of(file: Path | str | None, read: Callable[[Path], str] = passphrase_in) -> str | None:
    """The passphrase of a kit, which has one if a file with it is named. Raises `BadInput`."""
    return None if file is None else read(Path(file))


async def _begin(
    folder: Path, kit: Kit, said: Sequence[Entry], by: str, *, now_ms: Callable[[], int], entropy: Entropy, again: bool
) -> None:
    keys = ServerKeys.create(entropy(SEED_BYTES), entropy(SEED_BYTES), entropy(CAPABILITY_KEY_BYTES))
    keys.write(folder)
    generation = entropy(GENERATION_BYTES)
    territory, first_root = kit.territory, kit.first_root or kit.root.public
    store = await SqliteStore.open(folder)
    try:
        replica = await Replica.open(first_root, store, await PackFolder.open(folder, store))
        if again:
            await store.set_marks(made_anew_mark(now_ms()))
        await Trail(store, now_ms).note(
            "sync-server init --recover" if again else "sync-server init", by, with_kit=True
        )
        await admit_kits_word(replica, kit, said, now_ms())
        payloads = (
            (Kind.CERTIFICATE, Certificate(keys.signing.public, keys.agreement.public).encode()),
            (Kind.RECOVERY_KEY, RecoveryKey(kit.recovery.public).encode()),
            (Kind.GENERATION, Generation(generation).encode()),
        )
        certificate, *_ = await replica.write(
            [Draft(territory, kind, None, payload) for kind, payload in payloads],
            author=kit.root,
            now_ms=now_ms(),
            entropy=entropy,
            unsent=False,
        )
    finally:
        await store.close()
    Territory(kit.name, first_root, certificate.id, generation).write(folder)
    remove_private(folder / UNFINISHED_FILE)


async def admit_kits_word(replica: Replica, kit: Kit, said: Sequence[Entry], now_ms: int) -> None:
    """Let in what proves a kit's root, and what the kit remembers of what its roots have said."""
    for entries in (parse_chain(kit.chain) if kit.chain else (), said):
        if entries:
            await replica.admit(entries, source=kit.root.public, now_ms=now_ms)


def make_room(folder: Path, place: Path | None = None) -> None:
    """Throw away what an interrupted `init` or `restore` left.

    Raises `BadInput` for a DIR, or a kit's place, that holds something else.
    """
    if is_initialised(folder):
        raise already_initialised(folder)
    left = _unfinished_kit(folder)
    if left is None and any((folder / name).exists() for name in (DATABASE, KEYS_FOLDER, PACKS)):
        raise BadInput(Code.ALREADY_INITIALISED, f"{folder} holds the data of something else; choose an empty folder")
    if place is not None:
        check_place(folder, place)
    if left is not None:
        for name in (*_DATABASE_FILES, COPY_FILE, KEYS_FILE):
            (folder / name).unlink(missing_ok=True)
        if place is not None and place.exists():  # a disk that may only be read refuses also what is not there
            place.unlink()
        for name in (PACKS, PARTS, DAMAGED):
            shutil.rmtree(folder / name, ignore_errors=True)


def leave_nothing(folder: Path, place: Path | None = None) -> None:
    """Throw away what an `init` or a `restore` that failed has left, and the note that it was under way."""
    make_room(folder, place)
    with contextlib.suppress(OSError):
        (folder / KEYS_FOLDER).rmdir()
    remove_private(folder / UNFINISHED_FILE)


def check_place(folder: Path, place: Path) -> None:
    """Raise `BadInput` where the kit of DIR's territory cannot be written to `place`, or another file lies there."""
    check_kit_place(place, "--kit", is_ours=lambda: blake3(_read(place)).hexdigest() == _unfinished_kit(folder))


def check_kit_place(place: Path, option: str, *, is_ours: Callable[[], bool]) -> None:
    """Raise `BadInput` where no kit can be written to `place`, or a file lies there that is not ours to write over."""
    if place.is_dir():
        raise BadInput(Code.USAGE, f"{place} is a folder; the recovery kit is a file: give its name too with {option}")
    if not place.parent.is_dir():
        raise BadInput(Code.USAGE, f"the folder {place.parent} does not exist; make it, or name another with {option}")
    if place.exists() and not is_ours():
        raise BadInput(
            Code.USAGE, f"{place} exists already; move it to a safe place, or choose another file with {option}"
        )


def note_unfinished(folder: Path, kit: bytes | None = None) -> None:
    """Say that an `init` or a `restore` is under way, and which kit is its own, before anything else is written."""
    digest = "" if kit is None else blake3(kit).hexdigest()
    write_private(folder / UNFINISHED_FILE, json.dumps({"kit": digest}).encode())


def _unfinished_kit(folder: Path) -> str | None:
    """The hash of the kit that an interrupted `init` wrote ("" for none), or None if there was no such `init`."""
    try:
        return str(json.loads((folder / UNFINISHED_FILE).read_bytes())["kit"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _read(path: Path) -> bytes:
    """A small file that the caller named."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_KIT_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(Code.MISSING_FILE, f"{path} does not exist", path=str(path)) from None
    except OSError as reason:
        raise BadInput(Code.UNREADABLE_FILE, f"{path} cannot be read: {reason.strerror}", path=str(path)) from reason
