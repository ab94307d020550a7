"""What an error's code means for whom looks after the device: a topic, whose title and remedy are in the catalogues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.errors import Code

UNFORESEEN: Final = "unforeseen"

_CODES_OF: Final[Mapping[str, tuple[Code, ...]]] = {
    "disk-full": (Code.DISK_FULL,),
    "disk-failing": (Code.STORAGE_FAILED, Code.READ_ONLY),
    "damaged": (Code.DAMAGED, Code.INCOMPLETE),
    "refused": (
        Code.REVOKED,
        Code.NO_RIGHT,
        Code.CANNOT_READ,
        Code.WRONG_TERRITORY,
        Code.UNKNOWN_DEVICE,
        Code.CODE_WRONG,
        Code.CODE_USED,
        Code.CODE_EXPIRED,
        Code.NOT_ENROLLED,
    ),
    "outdated": (Code.UNKNOWN_FORMAT, Code.UNKNOWN_KIND),
    "garbled": (
        Code.MALFORMED,
        Code.NOT_CANONICAL,
        Code.TOO_LARGE,
        Code.BAD_SIGNATURE,
        Code.BAD_COMMITMENT,
        Code.BAD_HASH,
        Code.BAD_SEAL,
        Code.WEAK_KEY,
        Code.WRONG_KEY,
        Code.FOREIGN_GRANT,
        Code.MISSING_GRANT,
        Code.BAD_CAPABILITY,
        Code.WRONG_OFFSET,
        Code.ENCODED_BODY,
        Code.TOO_SLOW,
        Code.CUT_OFF,
    ),
    "files": (
        Code.CHANGING_FILE,
        Code.MISSING_FILE,
        Code.UNREADABLE_FILE,
        Code.FILE_TOO_LARGE,
        Code.TOO_MANY_FILES,
        Code.BAD_NAME,
        Code.UNKNOWN_PATH,
    ),
    "locked": (Code.STORE_LOCKED,),
    "address": (Code.ADDRESS_IN_USE,),
    "contested-root": (Code.CONTESTED_ROOT,),
}
TOPICS: Final = (*_CODES_OF, UNFORESEEN)
_TOPIC_OF: Final[Mapping[str, str]] = {code.value: topic for topic, codes in _CODES_OF.items() for code in codes}


def topic_of(code: str) -> str:
    """The topic of a code; one that this version does not know is unforeseen."""
    return _TOPIC_OF.get(code, UNFORESEEN)
