"""Hand-ins sealed to their readers (docs/protocol.md, "Sealed hand-ins").

The plaintext is manifest size (4, big-endian) ‖ manifest ‖ the files' bytes one after the other ‖ zeros up to a bucket,
so that nobody but a reader learns names, number or exact sizes. It is cut into chunks of `SEALED_CHUNK_BYTES`, sealed
under one key (`sealed_chunks`). The hash of the list of sealed chunks (their stream's id) is the ciphertext commitment
that every wrap of the content key is bound to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocol import canonical
from protocol.errors import BadInput, Code, LocalFailure, PeerFault, TooLarge
from protocol.identity import ID_BYTES, KEY_BYTES, AgreementKey, tagged
from protocol.limits import (
    MAX_FILE_BYTES,
    MAX_FILES_PER_REVISION,
    MAX_SEALED_MANIFEST_BYTES,
    MIN_SEALED_BYTES,
    SEALED_CHUNK_BYTES,
)
from protocol.portable_names import is_portable_form, portability_problems
from protocol.transfer.chunking import ChunkRef, stream_bytes
from protocol.trust import hpke
from protocol.trust.sealed_chunks import COMMITMENT_BYTES, STREAM_KEY_BYTES, SealedChunks

CONTENT_KEY_BYTES: Final = STREAM_KEY_BYTES
PERSON_BYTES: Final = 16
WRAP_BYTES: Final = CONTENT_KEY_BYTES + hpke.OVERHEAD_BYTES

_CONTENT: Final = b"relais/0 hand-in"
_WRAP: Final = b"relais/0 wrap"
_LENGTH_BYTES: Final = 4
_ZEROS: Final = bytes(SEALED_CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file inside a hand-in: its portable path and its size in bytes."""

    path: str
    size: int


def bucket(size: int) -> int:
    """The size that `size` bytes are padded to: 4 KiB at least, above that at most 6.25 % more.

    Padmé: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019.
    """
    if size <= MIN_SEALED_BYTES:
        return MIN_SEALED_BYTES
    exponent = size.bit_length() - 1
    hidden = exponent - exponent.bit_length()
    mask = (1 << hidden) - 1
    return (size + mask) & ~mask


def has_sealed_form(chunks: Sequence[ChunkRef]) -> bool:
    """Whether a stream of these chunks may be a sealed hand-in: each is cut so, and of other content hardly any."""
    plain = stream_bytes(tuple(chunks)) - COMMITMENT_BYTES - len(chunks) * hpke.TAG_BYTES
    if plain <= 0 or plain != bucket(plain) or len(chunks) != -(-plain // SEALED_CHUNK_BYTES):
        return False
    sizes = [min(SEALED_CHUNK_BYTES, plain - at) + hpke.TAG_BYTES for at in range(0, plain, SEALED_CHUNK_BYTES)]
    sizes[0] += COMMITMENT_BYTES
    return [chunk.length for chunk in chunks] == sizes


class SealWriter:
    """Seals the files of one hand-in in constant memory: all their bytes are fed, in order, then comes `finish`.

    `content_key` is 32 fresh random bytes, for this hand-in only; `files` ascend by the UTF-8 bytes of their paths.
    Each sealed chunk that comes out is one chunk of the ciphertext's stream. Raises `BadInput(NOTHING_TO_SEND)`,
    `BadInput(TOO_MANY_FILES)`, `BadInput(FILE_TOO_LARGE)` or `BadInput(BAD_NAME)`. `sealed_bytes` is what all sealed
    chunks will take together.
    """

    def __init__(self, content_key: bytes, files: Sequence[SealedFile]) -> None:
        self._keys = SealedChunks(content_key, _CONTENT, "hand-in")
        manifest = canonical.encode([[file.path, file.size] for file in files])
        problem = _problem(files, len(manifest))
        if problem is not None:
            raise BadInput(*problem)
        self._missing = sum(file.size for file in files)
        head = len(manifest).to_bytes(_LENGTH_BYTES, "big") + manifest
        total = len(head) + self._missing
        self._left = bucket(total)
        self._padding = self._left - total
        chunks = -(-self._left // SEALED_CHUNK_BYTES)
        self.sealed_bytes: Final = COMMITMENT_BYTES + self._left + chunks * hpke.TAG_BYTES
        self._buffer = bytearray(head)
        self._number = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The sealed chunks that are full now. Raises `LocalFailure(CHANGING_FILE)` at the first byte too many."""
        if len(data) > self._missing:
            raise _changing()
        self._missing -= len(data)
        return self._sealed(data)

    def finish(self) -> Iterator[bytes]:
        """The remaining sealed chunks, one by one: the padding of a large hand-in has many.

        Raises `LocalFailure(CHANGING_FILE)` at once when files were shorter than declared.
        """
        if self._missing:
            raise _changing()
        return self._padded()

    def _padded(self) -> Iterator[bytes]:
        while self._left:
            zeros = _ZEROS[: self._padding]
            self._padding -= len(zeros)
            yield from self._sealed(zeros)

    def _sealed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        out = []
        at = 0
        while self._left and len(self._buffer) - at >= min(SEALED_CHUNK_BYTES, self._left):
            plain = bytes(self._buffer[at : at + SEALED_CHUNK_BYTES])
            at += len(plain)
            self._left -= len(plain)
            out.append(self._keys.seal(plain, self._number, last=not self._left))
            self._number += 1
        del self._buffer[:at]
        return out


class SealReader:
    """Opens a hand-in chunk by chunk, in constant memory apart from its manifest.

    Every chunk's bytes are authentic when they come out; that they are *all* the bytes is known when `finish` returns.
    Until then nothing may be shown as complete.
    """

    def __init__(self, content_key: bytes) -> None:
        self._keys = SealedChunks(content_key, _CONTENT, "hand-in")
        self._number = 0
        self._ended = False
        self._plain_bytes = 0
        self._head = bytearray()
        self._files: tuple[SealedFile, ...] | None = None
        self._index = 0
        self._left = 0
        self._padding = 0

    @property
    def files(self) -> tuple[SealedFile, ...] | None:
        """The files, in the order in which their bytes come; None until the manifest is here."""
        return self._files

    def feed(self, sealed: bytes, *, last: bool) -> list[tuple[int, bytes]]:
        """What the next sealed chunk holds: (index in `files`, the file's next bytes); an empty file gives no piece.

        `last` says whether it is the last chunk of its stream. Raises `PeerFault(BAD_SEAL)` for a chunk that is not the
        one that belongs here under this key, `PeerFault(MALFORMED)`, `PeerFault(NOT_CANONICAL)` or `TooLarge` for what
        the author packed wrongly. After an error the reader is of no further use.
        """
        if self._ended:
            raise _bad_seal("a sealed hand-in goes on after its end")
        plain = self._keys.open(sealed, self._number, last=last)
        if not (len(plain) == SEALED_CHUNK_BYTES or (last and 0 < len(plain) < SEALED_CHUNK_BYTES)):
            raise _malformed("a sealed chunk has the wrong size")
        self._number += 1
        self._ended = last
        self._plain_bytes += len(plain)
        body = self._after_manifest(plain) if self._files is None else memoryview(plain)
        return self._pieces(body)

    def finish(self) -> None:
        """Return when the whole hand-in has been read; raise `PeerFault(BAD_SEAL)` when its end is missing."""
        if not self._ended:
            raise _bad_seal("the end of a sealed hand-in is missing")
        if self._files is None or self._index < len(self._files):
            raise _malformed("a sealed hand-in holds less than its manifest says")
        if self._plain_bytes != bucket(self._plain_bytes - self._padding):
            raise _malformed("a sealed hand-in is padded wrongly")

    def _after_manifest(self, plain: bytes) -> memoryview:
        """Gather the manifest; what follows it in `plain`."""
        head = self._head
        head += plain
        size = int.from_bytes(head[:_LENGTH_BYTES], "big")
        if size > MAX_SEALED_MANIFEST_BYTES:
            raise TooLarge(Code.TOO_LARGE, "the list of files in a hand-in is larger than allowed", size=size)
        end = _LENGTH_BYTES + size
        if len(head) < end:
            return memoryview(b"")
        self._files = _parsed(bytes(head[_LENGTH_BYTES:end]))
        self._left = self._files[0].size
        body = memoryview(bytes(head[end:]))
        head.clear()
        return body

    def _pieces(self, body: memoryview) -> list[tuple[int, bytes]]:
        out: list[tuple[int, bytes]] = []
        if self._files is None:
            return out
        while self._index < len(self._files):
            if self._left == 0:
                self._index += 1
                self._left = self._files[self._index].size if self._index < len(self._files) else 0
            elif body.nbytes == 0:
                return out
            else:
                piece = bytes(body[: self._left])
                out.append((self._index, piece))
                self._left -= len(piece)
                body = body[len(piece) :]
        if body != _ZEROS[: body.nbytes]:
            raise _malformed("a sealed hand-in is padded with something else than zeros")
        self._padding += body.nbytes
        return out


def wrap_info(*, space: bytes, item: bytes, person: bytes, author: bytes, commitment: bytes) -> bytes:
    """What a wrap is bound to: space and assignment (32 bytes each), person (16), author's key (32), stream id (32).

    A wrap moved to another hand-in, pupil, assignment or machine does not open. `author` is always the hand-in's,
    whoever makes the wrap.
    """
    sizes = (len(space), len(item), len(person), len(author), len(commitment))
    if sizes != (ID_BYTES, ID_BYTES, PERSON_BYTES, KEY_BYTES, ID_BYTES):
        raise ValueError("a part of a wrap's binding has the wrong size")
    return tagged(_WRAP, space + item + person + author + commitment)


def wrap_key(content_key: bytes, reader_public: bytes, info: bytes, ephemeral: bytes) -> bytes:
    """`content_key` for one reader, `WRAP_BYTES` long; `info` is `wrap_info`'s, `ephemeral` 32 fresh random bytes.

    Raises `PeerFault(WEAK_KEY)` for a reader's key of low order.
    """
    return hpke.seal(content_key, reader_public, info, ephemeral)


def unwrap_key(wrap: bytes, reader: AgreementKey, info: bytes) -> bytes:
    """The content key in `wrap`. Raises `PeerFault(BAD_SEAL)` for another reader or another binding."""
    content_key = hpke.open_(wrap, reader, info)
    if len(content_key) != CONTENT_KEY_BYTES:
        raise _malformed("a wrap does not hold a key")
    return content_key


def _parsed(manifest: bytes) -> tuple[SealedFile, ...]:
    rows = canonical.decode(manifest, max_bytes=MAX_SEALED_MANIFEST_BYTES)
    if type(rows) is not list:
        raise _malformed("the list of files in a hand-in is not a list")
    files = []
    for row in rows:
        match row:
            case [str(path), int(size)] if not isinstance(size, bool):
                files.append(SealedFile(path, size))
            case _:
                raise _malformed("the list of files in a hand-in has the wrong form")
    problem = _problem(files, len(manifest))
    if problem is not None:
        code, sentence = problem
        raise PeerFault(Code.MALFORMED, sentence, problem=code)
    return tuple(files)


def _problem(files: Sequence[SealedFile], manifest_bytes: int) -> tuple[Code, str] | None:
    """Why these files make no hand-in, for the one who makes it and for the one who opens it alike."""
    if not files:
        return Code.NOTHING_TO_SEND, "a hand-in holds no file"
    if len(files) > MAX_FILES_PER_REVISION or manifest_bytes > MAX_SEALED_MANIFEST_BYTES:
        return Code.TOO_MANY_FILES, f"there are more than {MAX_FILES_PER_REVISION} files, or their names are too long"
    last = b""
    for file in files:
        if not 0 <= file.size <= MAX_FILE_BYTES:
            return Code.FILE_TOO_LARGE, f"a file in a hand-in is larger than 4 GiB: {file.path}"
        path = file.path.encode()
        if path <= last or not is_portable_form(file.path):
            return Code.BAD_NAME, f"the files of a hand-in are not in order: {file.path}"
        last = path
    # A reader with an older Unicode table must open what a newer one made.
    for problem in portability_problems((file.path for file in files), known_characters_only=False):
        return Code.BAD_NAME, f"{problem.path}: {problem.sentence}"
    return None


def _changing() -> LocalFailure:
    return LocalFailure(Code.CHANGING_FILE, "a file changes while it is being handed in")


def _bad_seal(sentence: str) -> PeerFault:
    return PeerFault(Code.BAD_SEAL, sentence)


def _malformed(sentence: str) -> PeerFault:
    return PeerFault(Code.MALFORMED, sentence)
