"""Errors as answers: what a caller gets whose call failed, and what it raises (docs/protocol.md, "Errors")."""

from __future__ import annotations

from typing import Final

from protocol.canonical import decode, encode
from protocol.errors import BadInput, Code, NoAnswer, PeerFault, Refused, RelaisError
from protocol.fields import Fields, compact
from protocol.limits import MAX_CREDENTIALS, MAX_MESSAGE_BYTES, MAX_RETRY_AFTER_S
from protocol.messages.parts import read_entries, wire_rows

_MAX_CODE_CHARS: Final = 64
_MAX_REASON_CHARS: Final = 500


def encode_error(error: RelaisError, retry_after_s: int | None = None) -> bytes:
    """What is sealed to a caller whose call failed."""
    proofs = error.facts.get("withdrawn")
    inner = compact(
        code=error.code.value,
        message=error.message[:_MAX_REASON_CHARS],
        retry=retry_after_s,
        withdrawn=wire_rows(proofs) if isinstance(proofs, tuple) else None,
    )
    return encode({"error": inner})


def answered(data: bytes, what: str) -> Fields:
    """The fields of an answer. Raises the `RelaisError` that was sent instead; `PeerFault`, `TooLarge`.

    Nobody is told to stay away for longer than `MAX_RETRY_AFTER_S`: the next server at this address may be another.
    """
    fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), what)
    error = fields.inner("error")
    if error is None:
        return fields
    retry_after_s = error.count_or_none("retry")
    found = error_from(
        error.text("code", _MAX_CODE_CHARS),
        error.text("message", _MAX_REASON_CHARS),
        None if retry_after_s is None else min(retry_after_s, MAX_RETRY_AFTER_S),
    )
    proofs, _ = read_entries(error.rows("withdrawn", MAX_CREDENTIALS))
    if proofs:
        found.facts["withdrawn"] = proofs
    raise found


_REFUSALS: Final = frozenset(
    {
        Code.CODE_WRONG,
        Code.CODE_USED,
        Code.CODE_EXPIRED,
        Code.WRONG_TERRITORY,
        Code.NO_RIGHT,
        Code.CANNOT_READ,
        Code.REVOKED,
        Code.QUARANTINED,
        Code.UNKNOWN_DEVICE,
    }
)


def error_from(code: str, message: str, retry_after_s: int | None = None) -> RelaisError:
    """The error that a recipient's code stands for, as its caller raises it; what is not known is its fault."""
    try:
        known = Code(code)
    except ValueError:
        # nothing failed here, whatever a later version, or a line that changes bytes, makes of a code
        return PeerFault(Code.UNKNOWN_FORMAT, message, remote_code=code)
    if known in _REFUSALS:
        return Refused(known, message)
    if known == Code.BUSY:
        return NoAnswer(known, message, retry_after_s=retry_after_s)
    if known in {Code.DISK_FULL, Code.READ_ONLY, Code.STORAGE_FAILED, Code.INTERNAL, Code.DAMAGED}:
        return NoAnswer(known, f"the server cannot take anything now: {message}; the work is kept")
    if known == Code.BAD_NAME:
        return BadInput(known, message)
    return PeerFault(known, message)
