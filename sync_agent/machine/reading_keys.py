"""The reading keys that this device has at hand: those that it made, and those that its teacher's other ones gave it.

What lies in DIR is `reading_key_file`'s; what was opened of the set (`key_wraps`, `phrases`) is held in memory.
docs/protocol.md, "Reading keys".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Final

from protocol.errors import LocalFailure
from protocol.identity import AgreementKey
from sync_agent.machine.enrolled import DAMAGED_FILE, GIVEN_KEYS_FILE, PERSON_KEY_FILE, READING_KEYS_FILE
from sync_agent.machine.reading_key_file import OwnKey, OwnKeys, file_of, own_keys_in
from sync_agent.machine.secrets import Secrets

_ROTTEN: Final = DAMAGED_FILE.format(READING_KEYS_FILE)


class ReadingKeys:
    """See the module."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self.given: dict[tuple[bytes, bytes], dict[bytes, AgreementKey]] = {}
        """By class, teacher and public half: those that this device was given there; opened once."""
        self.kept_alone: dict[tuple[bytes, bytes], dict[bytes, AgreementKey]] = {}
        """Those of its file of given ones that the set gives it no more."""
        self.to_pass_on: dict[tuple[bytes, bytes], frozenset[bytes]] = {}
        """Which of those given it seals to others of its teacher's: their public halves."""
        self.given_before: dict[bytes, AgreementKey] = {}
        """Those that an earlier version sealed to this device, for all classes: they open work, and go no further."""
        self.seals_that_open_nothing: set[tuple[bytes, bytes, bytes, bytes]] = set()
        """By class, teacher and key as what they were said to be: whoever says many has each tried once."""

    # --- that this device made ----------------------------------------------------------------------------------------

    def newest_of(self, space: bytes) -> AgreementKey | None:
        """The newest that this device made for a class, if it is a teacher's there."""
        return next((each.key for each in self.own() if each.space == space), None)

    def own(self) -> tuple[OwnKey, ...]:
        """Those that this device made for its teacher, the newest of each class first."""
        return self._own().keys

    def are_rotten(self) -> bool:
        """Whether some of them have rotted on the disk: what was sealed to those alone is opened by nothing else."""
        return self._own().is_damaged or self._secrets.is_there(_ROTTEN)

    def keep(self, made: Sequence[OwnKey], back: Sequence[OwnKey] = ()) -> None:
        """Make new ones durable in DIR, before those that there are, and behind these what has come `back`.

        Raises `LocalFailure`.
        """
        held = self._own()
        if held.is_damaged and not self._secrets.is_there(_ROTTEN):
            self._secrets.keep(_ROTTEN, self._secrets.read(READING_KEYS_FILE))
        self._secrets.keep(READING_KEYS_FILE, file_of((*made, *held.keys, *back)))

    def end_rot(self) -> None:
        """What had rotted is here again: nothing more is told of it. Raises `LocalFailure`."""
        self.keep(())
        self._secrets.drop(_ROTTEN)

    def _own(self) -> OwnKeys:
        file = self._secrets.read(READING_KEYS_FILE) if self._secrets.is_there(READING_KEYS_FILE) else None
        return own_keys_in(file, self._secrets.read(PERSON_KEY_FILE))

    # --- that it was given --------------------------------------------------------------------------------------------

    def kept_of_given(self) -> tuple[OwnKey, ...]:
        """Those that this device was given, as they are kept in DIR."""
        return own_keys_in(self._secrets.read(GIVEN_KEYS_FILE), b"").keys

    def keep_of_given(self, keys: Sequence[OwnKey]) -> None:
        """Let these alone be in that file. On a full disk it stays as it is: the next look does it."""
        if tuple(keys) != self.kept_of_given():
            with contextlib.suppress(LocalFailure):
                self._secrets.keep(GIVEN_KEYS_FILE, file_of(keys))

    def let_go_of_given(self, lineage: Callable[[bytes], Collection[bytes]], destroyed: Collection[bytes]) -> None:
        """Keep none any more that was given in a class that was closed and destroyed here, or in a school."""
        kept = self.kept_of_given()
        self.keep_of_given([each for each in kept if each.space and not set(lineage(each.space)) & set(destroyed)])
