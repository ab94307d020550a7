"""The kit of a new root: made before the old root names it, completed with what proves it afterwards.

What the file holds before is enough to go on after a cut: the same command takes it up again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from protocol.errors import BadInput, Code
from protocol.identity import SEED_BYTES, AgreementKey, SigningKey
from protocol.kit import Kit, write_kit
from protocol.limits import SALT_BYTES
from protocol.replica.operation import JSON
from protocol.replica.private_file import remove_private, write_private
from protocol.replica.replica import Entropy
from sync_server.handlers.territory import kit_in, passphrase_in, words_of_kit


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
        self._passphrase = None if passphrase_file is None else passphrase_in(Path(passphrase_file))
        old = kit_in(old_place, None if old_passphrase_file is None else passphrase_in(Path(old_passphrase_file)))
        first = old.first_root or old.root.public
        self._made_here = not place.exists()
        if not self._made_here:
            self._kit = kit_in(place, self._passphrase)
            if self._kit.first_root != first or self._kit.root.public == old.root.public:
                raise BadInput(Code.USAGE, f"{place} exists already; choose another file with --new-kit")
            return
        self._kit = Kit(old.name, SigningKey(entropy(SEED_BYTES)), AgreementKey(entropy(SEED_BYTES)), b"", first)
        self._write()

    @property
    def kit(self) -> Kit:
        """The new keys."""
        return self._kit

    def forget(self) -> None:
        """Take the file away again, if it was made here: nothing names its keys."""
        if self._made_here:
            remove_private(self._place)

    def keep(self, done: JSON) -> JSON:
        """Complete the file with the rotations that prove the new root."""
        if not isinstance(done, dict):
            raise BadInput(Code.USAGE, "the server did not say what proves the new root")
        self._kit = replace(self._kit, chain=bytes.fromhex(str(done["chain"])))
        self._write()
        return {"kit": str(self._place), "fingerprint": " ".join(words_of_kit(self._kit)), "version": done["version"]}

    def _write(self) -> None:
        text = write_kit(self._kit, passphrase=self._passphrase, salt=self._entropy(SALT_BYTES))
        write_private(self._place, text.encode())
