"""The kit of a new root: made before the old root names it, completed with what proves it afterwards.

What the file holds before is enough to go on after a cut: the same command takes it up again. It is taken away only
where nothing was signed, and completed only with what proves the new root: who answers may be a thief (docs/adr/0128).
It carries the recovery keys of the kits before it, so that it opens what they opened; the same command with a kit that
an earlier version made adds them (docs/adr/0307). What the kit before remembered of its words, it remembers too
(docs/adr/0327).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from protocol.errors import BadInput, Code, PeerFault, TooLarge
from protocol.identity import SEED_BYTES, AgreementKey, SigningKey
from protocol.limits import MAX_KIT_BYTES, SALT_BYTES
from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Entropy
from protocol.replica.console.operation import JSON
from protocol.replica.private_file import remove_private, write_private
from protocol.trust.kit import Kit, write_kit
from sync_server.handlers.by_kit.territory import check_kit_place, chosen_passphrase_in, passphrase_of
from sync_server.keeping.beginning import kit_advice
from sync_server.keeping.kit_file import KitInFile, said_in, told_of_gone
from sync_server.kit.memory import with_said, without_room
from sync_server.kit.root_line import roots_in, rotations_to


def check_new_place(
    old_passphrase_file: str | None, place: Path, passphrase_file: str | None, *, open_too: bool, take_up: bool
) -> None:
    """Raise `BadInput(USAGE)` where a kit lies already that nobody said to take up, or one would lie open unsaid.

    Whoever knows a territory's public key writes a kit that says that it follows this one: the old root would sign
    theirs (docs/adr/0448). One that is taken up goes on as it was begun.
    """
    if place.is_file() and not take_up:
        raise BadInput(
            Code.USAGE,
            f"{place} exists already; move it to a safe place, or choose another file with --new-kit. If it is what an "
            "earlier call of this command has begun, and nobody else has had it in hands since, --take-up goes on",
        )
    if old_passphrase_file is None or passphrase_file is not None or open_too or place.exists():
        return
    raise BadInput(
        Code.USAGE,
        "nothing was done: the old kit has a passphrase, and the new one would have none, so that whoever finds the "
        "file can erase this territory. --new-passphrase-file FILE gives it one; --new-kit-open makes it without",
    )


class NewKit:
    """A kit with new keys, in a file of its own. Raises `BadInput` for a place that holds something else."""

    def __init__(
        self,
        old_place: Path,
        old_passphrase_file: str | None,
        place: Path,
        passphrase_file: str | None,
        entropy: Entropy,
    ) -> None:
        """Read the old kit; take up the new one, or make it and write it."""
        self._place = place
        self._entropy = entropy
        self._passphrase = passphrase_of(passphrase_file, chosen_passphrase_in)
        if place.exists() and old_place.exists() and place.samefile(old_place):
            check_kit_place(place, "--new-kit", is_ours=lambda: False)
        old_file = KitInFile.read(old_place, passphrase_of(old_passphrase_file))
        old = old_file.kit
        self._first = old.first_root or old.root.public
        begun_file = KitInFile.read(place, self._passphrase) if place.is_file() else None
        begun = None if begun_file is None else begun_file.kit
        self._before = (*old_file.said, *(() if begun_file is None else begun_file.said))
        self._said: Sequence[Entry] = ()
        check_kit_place(place, "--new-kit", is_ours=lambda: begun is not None and _follows(begun, old))
        self._gone: Sequence[Entry] = ()
        self._made_here = begun is None
        self._kit = begun or Kit(
            old.name, SigningKey(entropy(SEED_BYTES)), AgreementKey(entropy(SEED_BYTES)), b"", self._first
        )
        self._text = "" if begun_file is None else begun_file.text
        if lacking := _beside(self._kit, old.opening):
            self._kit = replace(self._kit, earlier=(*lacking, *self._kit.earlier))
            self._text = self._sealed(self._kit)
            self._write()

    @property
    def kit(self) -> Kit:
        """The new keys."""
        return self._kit

    @property
    def advice(self) -> Sequence[str]:
        """What to do with the file, and what it has no room to remember."""
        advice = kit_advice(self._place, self._passphrase, begins=False)
        return [advice, told_of_gone(self._place, self._gone)] if self._gone else [advice]

    def failed(self, reason: BadInput, *, has_signed: bool) -> BadInput:
        """What to raise for a command that could not be done. The file goes if it was made here, and nothing signed.

        Once the old root may have named these keys, whoever answers may say what he likes: nobody else has them.
        """
        if has_signed:
            return BadInput(reason.code, f"{reason.message}; {self._stays}")
        if self._made_here:
            remove_private(self._place)
        return reason

    def take(self, said: Sequence[Entry]) -> None:
        """Note all that both roots have said so far, before anybody has it (docs/adr/0357)."""
        self._said = tuple(said)
        self._write()

    def keep(self, done: JSON) -> JSON:
        """Complete the file with the rotations that prove the new root.

        Raises `PeerFault` where no rotations are shown.
        """
        found = self._proven(done)
        if found is None:
            raise PeerFault(
                Code.MALFORMED, f"the program that has the store open does not prove the new root; {self._stays}"
            )
        self._kit, self._text = found
        self._write()
        version = len(roots_in(self._kit.chain, self._first)) - 1
        return {"kit": str(self._place), "fingerprint": self._kit.fingerprint, "version": version}

    @property
    def _stays(self) -> str:
        return (
            f"the old root may have named the new one all the same: keep {self._place} and the old kit, and call this "
            "again with both, and --take-up, on a new machine if this one may be in other hands"
        )

    def _proven(self, done: JSON) -> tuple[Kit, str] | None:
        """The kit with a chain that leads to its root, and its text, which still is one that can be read."""
        chain = done.get("chain") if isinstance(done, Mapping) else None
        with suppress(PeerFault, TooLarge, ValueError):
            if proof := rotations_to(self._kit.root.public, bytes.fromhex(str(chain)), self._first):
                found = replace(self._kit, chain=proof)
                text = self._sealed(found)
                return (found, text) if len(text) <= MAX_KIT_BYTES else None
        return None

    def _sealed(self, kit: Kit) -> str:
        """The text of a kit, without what it remembers: under a passphrase that takes seconds."""
        return write_kit(kit, passphrase=self._passphrase, salt=self._entropy(SALT_BYTES))

    def _write(self) -> None:
        said = (*self._before, *self._said)
        text = with_said(self._text, self._kit, said)
        write_private(self._place, text.encode())
        self._gone = without_room(said, said_in(text))


def _beside(kit: Kit, keys: Iterable[AgreementKey]) -> tuple[AgreementKey, ...]:
    """The keys that a kit does not hold yet."""
    held = {key.public for key in kit.opening}
    return tuple(key for key in keys if key.public not in held)


def _follows(begun: Kit, old: Kit) -> bool:
    """Whether a kit is of the same territory's next root, as a command that was cut has left it."""
    return begun.first_root == (old.first_root or old.root.public) and begun.root.public != old.root.public
