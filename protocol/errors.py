"""The one tree of errors, shared by both programs.

Every error says whose fault it is, carries a stable code that scripts may rely on, a sentence that a teacher
understands, and the facts. Which exit code and HTTP status belong to a fault is fixed here and nowhere else
(docs/protocol.md, "Errors").
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import ClassVar, Final

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a system says (`OSError.errno`) where a disk, or an account's share of one, is full, or takes no larger file."""


class Code(StrEnum):
    """Stable names of everything that can go wrong; part of the protocol and of the operator's contract."""

    # the person who typed the command
    USAGE = "usage"
    NOT_INITIALISED = "not-initialised"
    ALREADY_INITIALISED = "already-initialised"
    ALREADY_INSTALLED = "already-installed"
    NOT_INSTALLED = "not-installed"
    NOT_ENROLLED = "not-enrolled"
    ALREADY_ENROLLED = "already-enrolled"
    UNKNOWN_SPACE = "unknown-space"
    UNKNOWN_ITEM = "unknown-item"
    UNKNOWN_PERSON = "unknown-person"
    UNKNOWN_REVISION = "unknown-revision"
    UNKNOWN_HAND_IN = "unknown-hand-in"
    UNKNOWN_DEVICE = "unknown-device"
    UNKNOWN_PATH = "unknown-path"
    UNKNOWN_ROLE = "unknown-role"
    BAD_DATE = "bad-date"
    BAD_NAME = "bad-name"
    BAD_KIT = "bad-kit"
    BAD_BACKUP = "bad-backup"
    NOT_AN_ASSIGNMENT = "not-an-assignment"
    MISSING_FILE = "missing-file"
    UNREADABLE_FILE = "unreadable-file"
    FILE_TOO_LARGE = "file-too-large"
    TOO_MANY_FILES = "too-many-files"
    NOTHING_TO_SEND = "nothing-to-send"
    TOO_MANY_HAND_INS = "too-many-hand-ins"
    NOT_LOOPBACK = "not-loopback"
    KIT_EXPOSED = "kit-exposed"
    NOT_YET = "not-yet"
    # a right that is missing
    CODE_WRONG = "code-wrong"
    CODE_USED = "code-used"
    CODE_EXPIRED = "code-expired"
    WRONG_TERRITORY = "wrong-territory"
    NO_RIGHT = "no-right"
    CANNOT_READ = "cannot-read"
    NOT_SIGNED_IN = "not-signed-in"
    REVOKED = "revoked"
    QUARANTINED = "quarantined"
    # nobody answers
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    # this machine
    CHANGING_FILE = "changing-file"
    DISK_FULL = "disk-full"
    READ_ONLY = "read-only"
    STORAGE_FAILED = "storage-failed"
    DAMAGED = "damaged"
    STORE_LOCKED = "store-locked"
    INCOMPLETE = "incomplete"
    SERVICE_FAILED = "service-failed"
    ADDRESS_IN_USE = "address-in-use"
    INTERRUPTED = "interrupted"
    NO_MULTICAST = "no-multicast"
    DEVICES_APART = "devices-apart"
    PAUSED = "paused"
    INTERNAL = "internal"
    # what another machine sent
    MALFORMED = "malformed"
    NOT_CANONICAL = "not-canonical"
    TOO_LARGE = "too-large"
    OVER_QUOTA = "over-quota"
    UNKNOWN_FORMAT = "unknown-format"
    UNKNOWN_KIND = "unknown-kind"
    BAD_SIGNATURE = "bad-signature"
    BAD_COMMITMENT = "bad-commitment"
    BAD_HASH = "bad-hash"
    BAD_SEAL = "bad-seal"
    WEAK_KEY = "weak-key"
    WRONG_KEY = "wrong-key"
    FOREIGN_GRANT = "foreign-grant"
    MISSING_GRANT = "missing-grant"
    BAD_CAPABILITY = "bad-capability"
    WRONG_OFFSET = "wrong-offset"
    MISSING_BASE = "missing-base"
    ENCODED_BODY = "encoded-body"
    TOO_SLOW = "too-slow"
    CUT_OFF = "cut-off"
    CONTESTED_ROOT = "contested-root"


def disk_fault(reason: OSError) -> Code:
    """The code of what a disk, or a system, did not let happen: that it is full, or something else."""
    return Code.DISK_FULL if reason.errno in NO_ROOM else Code.STORAGE_FAILED


class RelaisError(Exception):
    """Root of the tree.

    `code` is stable, `message` is one sentence for a person, `facts` are what a log or a test wants to know.
    """

    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, code: Code, message: str, **facts: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts = facts

    def __str__(self) -> str:
        return self.message


class BadInput(RelaisError):
    """The person asked for something that cannot be; nothing has changed.

    `choices` may be among the facts: what there is to choose from, as `--json` prints it.
    """

    exit_status = 2
    http_status = 400


class Refused(RelaisError):
    """The person or device lacks the right, or the code it shows does not open the door."""

    exit_status = 5
    http_status = 403


class NoAnswer(RelaisError):
    """Nobody answered, or the answer was "later"; the work is kept. `retry_after_s` may be among the facts."""

    exit_status = 3
    http_status = 503


class LocalFailure(RelaisError):
    """This machine could not: disk full, damaged store, a file that never stops changing."""

    exit_status = 1
    http_status = 500


class PeerFault(RelaisError):
    """What another machine sent breaks the protocol; it is refused whole and changes nothing."""

    exit_status = 1
    http_status = 400


class TooLarge(PeerFault):
    """More bytes, items or depth than `protocol.limits` allows."""

    http_status = 413
