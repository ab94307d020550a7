"""What enrolling left in DIR: who this device is, as what it was let in, where its server is, and whom it trusts.

DIR never holds its own path, so it may be copied or moved. Private keys lie in DIR/keys (0700, files 0600) and never
leave it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from protocol.errors import BadInput, Code, LocalFailure
from protocol.identity import DeviceKeys
from protocol.replica.private_file import read_private, write_private
from protocol.rights.door import Authority
from protocol.roles import Role

ENROLMENT_FILE: Final = "enrolment.json"
DEVICE_KEYS_FILE: Final = "keys/device"
READING_KEYS_FILE: Final = "keys/reading"
GIVEN_KEYS_FILE: Final = "keys/given"
"""Reading keys that its teacher's other devices gave this one."""
PERSON_KEY_FILE: Final = "keys/person"
"""Reading keys as an earlier version made them, one set for all classes."""
PHRASE_FILE: Final = "keys/phrase"
"""What says that this device drew its teacher's phrase, not the phrase (`phrase_file`)."""
DAMAGED_FILE: Final = "{}.damaged"
"""What a file of keys was before those of its rows that can be read were written anew."""
FORMER_KEYS_FILE: Final = "keys/former"
"""What is kept of the keys that this device had before it found itself cloned (`former`)."""
BINDING_FILE: Final = "keys/binding"
"""The machine on which the keys were made (`binding`)."""
INTRODUCTION_FILE: Final = "keys/introduction"
"""A second copy of this device's grants, up to the root."""
KEY_SLOTS_FILE: Final = "work-slots"
"""Under what the keys of works and drafts are sealed (`key_slots`); not among `keys`, which people may copy."""
KEY_SLOTS_FILES: Final = (KEY_SLOTS_FILE, *(f"{KEY_SLOTS_FILE}-{number}" for number in range(2, 10)))
"""That file, and those that take over where it cannot be read or written."""
OUTBOX_FILE: Final = "outbox"
"""A second copy of what this device has written and the server may not hold yet."""


@dataclass(frozen=True, slots=True)
class LetIn:
    """As what a device was let in: its first right, by the id of that grant, with the role and person of its code."""

    grant: bytes
    role: Role
    person: bytes | None

    @classmethod
    def of(cls, right: Authority) -> Self:
        """As which a right lets in."""
        return cls(right.grant, right.role, right.person)

    @classmethod
    def read(cls, said: dict[str, str]) -> Self:
        """From a file, which may not say whose the device is. Raises `KeyError`, `ValueError`."""
        person = said.get("person")
        return cls(bytes.fromhex(said["grant"]), Role(said["role"]), None if person is None else bytes.fromhex(person))

    def fits(self, right: Authority) -> bool:
        """Whether a right says the same: of a class that has ended the first is never heard again."""
        return (right.role, right.person) == (self.role, self.person)

    def is_anothers(self, right: Authority) -> bool:
        """Whether a right calls the device somebody else's (docs/adr/0513); one that names nobody does not."""
        return right.person not in (None, self.person)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What enrolling settled: where the server is, whom to trust, what this device is called.

    `let_in` is never noted again, whatever is granted later: an order of rights would have to survive the database
    (docs/adr/0464). A folder of before, which has none, notes what its database has when it is opened.
    """

    server_url: str
    root: bytes
    territory_name: str
    device_name: str
    let_in: LetIn | None = None

    def write(self, folder: Path) -> None:
        """Make it durable in DIR."""
        said: dict[str, object] = {
            "server": self.server_url,
            "root": self.root.hex(),
            "territory": self.territory_name,
            "name": self.device_name,
        }
        if self.let_in is not None:
            person = None if self.let_in.person is None else self.let_in.person.hex()
            said["let_in"] = {"grant": self.let_in.grant.hex(), "role": self.let_in.role, "person": person}
        write_private(folder / ENROLMENT_FILE, json.dumps(said, ensure_ascii=False, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What DIR says. Raises `BadInput(NOT_ENROLLED)`, `LocalFailure` (DAMAGED, STORAGE_FAILED)."""
        try:
            found = json.loads(read_private(folder / ENROLMENT_FILE))
            first = found.get("let_in")
            let_in = None if first is None else LetIn.read(first)
            return cls(found["server"], bytes.fromhex(found["root"]), found["territory"], found["name"], let_in)
        except FileNotFoundError:
            raise BadInput(
                Code.NOT_ENROLLED, f"{folder} is not enrolled yet; use `sync-agent enroll` with a code"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as reason:
            raise LocalFailure(
                Code.DAMAGED, f"{folder / ENROLMENT_FILE} cannot be read", reason=str(reason)
            ) from reason


def device_keys(path: Path) -> DeviceKeys:
    """The device's own keys. Raises `LocalFailure(DAMAGED)` where they cannot be read."""
    try:
        data = read_private(path)
    except OSError as reason:
        raise LocalFailure(
            Code.DAMAGED, f"this device's keys cannot be read: {path}: {reason.strerror}", path=str(path)
        ) from reason
    return DeviceKeys.from_bytes(data)
