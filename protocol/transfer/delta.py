"""Deltas: containers that say new content in terms of content that the receiver has (docs/protocol.md, "Deltas").

    delta   = magic ‖ frame* ‖ index ‖ trailer
    frame   = one zstd frame, or bytes as they are; its dictionary is what its sources name, one behind the other
    index   = canonical [bases, images, frames, targets], as one zstd frame or as it is
    trailer = stored size of the index ‖ its plain size ‖ 16 bytes of BLAKE3 over both and the stored index ‖ end magic

Rules:
- a base is a manifest that the receiver holds with the content of its files; a source is a range of the manifest, of
  one of its files, or of that file's image, for which the index has the recipe (`protocol.transfer.reflate.reopen`);
- the frames' plain bytes, one behind the other, are the plain bytes of the targets, in order;
- a target is a stream: whole chunks, copied ones by their place in a base and new ones; or a file spliced from sources
  and plain bytes, which are its image if there is a recipe; or a manifest without the ids of targets before it, which
  the receiver computes;
- neither chunk hashes nor stream ids are written down, and no target is named: what comes out is used where a signed
  entry names it, so a wrong base or a lie costs the transfer and nothing else;
- without bases the same container carries content for a first sync in less than packs need, and a spliced file may
  say again what stands before it among the plain bytes;
- every size is checked against `protocol.limits` before memory is taken for it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import zstandard
from blake3 import blake3

from protocol.limits import MAX_COMPRESSION_RATIO, RATIO_FREE_BYTES
from protocol.transfer.deflate_parameters import NO_LEVELS, Profile
from protocol.transfer.reflate import levels_of

DELTA_MAGIC: Final = b"RLSDELT\x00"
DELTA_END: Final = b"RLSDEND\x00"
TRAILER: Final = struct.Struct(">II16s8s")
TRAILER_BYTES: Final = TRAILER.size
DIGEST_BYTES: Final = 16
MIN_DELTA_BYTES: Final = len(DELTA_MAGIC) + 1 + TRAILER_BYTES


@dataclass(frozen=True, slots=True)
class Source:
    """`length` bytes from `start` on: of file number `record` of the manifest that base number `base` names.

    `record` None means the manifest itself; `unfolded` that the bytes are those of the file's image.
    """

    base: int
    record: int | None
    start: int
    length: int
    unfolded: bool = False

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class DeltaFrame:
    """Where a frame lies, its sizes, what its bytes hash to, and what its dictionary consists of."""

    offset: int
    stored_bytes: int
    plain_bytes: int
    digest: bytes
    sources: tuple[Source, ...]

    @property
    def dictionary_bytes(self) -> int:
        """The size of the dictionary."""
        return sum(source.length for source in self.sources)


@dataclass(frozen=True, slots=True)
class Copy:
    """`count` chunks from number `first` on, of file number `record` of a base."""

    base: int
    record: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """A stream as runs of chunks: copied ones, and new ones by their lengths."""

    parts: tuple[Copy | int, ...]

    @property
    def plain_bytes(self) -> int:
        """How many plain bytes it takes."""
        return sum(part for part in self.parts if isinstance(part, int))


@dataclass(frozen=True, slots=True)
class Own:
    """`length` of the delta's own plain bytes, from `start` on, which an earlier part has brought."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Spliced:
    """A file made of sources and of so many plain bytes, in order; with a recipe that is its image."""

    parts: tuple[Source | Own | int, ...]
    recipe: bytes = b""

    @property
    def plain_bytes(self) -> int:
        """How many plain bytes it takes."""
        return sum(part for part in self.parts if isinstance(part, int))

    @property
    def image_bytes(self) -> int:
        """How many bytes its parts make."""
        return sum(part if isinstance(part, int) else part.length for part in self.parts)


@dataclass(frozen=True, slots=True)
class Tree:
    """A manifest without the stream ids of `holes`: (number of the file, number of the target that it is)."""

    plain_bytes: int
    holes: tuple[tuple[int, int], ...]


Target: TypeAlias = "Chunked | Spliced | Tree"


@dataclass(frozen=True, slots=True)
class DeltaIndex:
    """What a delta needs and brings. `images` has the recipe of each file of a base that is used as an image."""

    bases: tuple[bytes, ...]
    images: Mapping[tuple[int, int], bytes]
    frames: tuple[DeltaFrame, ...]
    targets: tuple[Target, ...]

    @property
    def brings_manifests(self) -> bool:
        """Whether there are manifests among the targets."""
        return any(isinstance(target, Tree) for target in self.targets)

    def levels(self) -> Profile:
        """The levels of deflate that a reader must reproduce. Raises `PeerFault`, `TooLarge` for no recipe."""
        levels = NO_LEVELS
        for target in self.targets:
            if isinstance(target, Spliced) and target.recipe:
                levels = Profile(levels | levels_of(target.recipe))
        return levels


@dataclass(frozen=True, slots=True)
class IndexPlace:
    """Where the index lies in the delta, as its trailer says."""

    offset: int
    stored_bytes: int
    plain_bytes: int
    digest: bytes


def is_delta(beginning: bytes) -> bool:
    """Whether a container that begins like this is a delta and not a pack."""
    return beginning[: len(DELTA_MAGIC)] == DELTA_MAGIC


def frame_digest(data: bytes) -> bytes:
    """What a frame's record says about its stored bytes."""
    return blake3(data).digest(length=DIGEST_BYTES)


def index_digest(stored: bytes, plain_bytes: int) -> bytes:
    """What a trailer says about its index."""
    return blake3(struct.pack(">II", len(stored), plain_bytes) + stored).digest(length=DIGEST_BYTES)


def expands_too_much(stored_bytes: int, dictionary_bytes: int, plain_bytes: int) -> bool:
    """Whether no reader may be asked to unpack so much from so little; what it holds already counts as read."""
    return plain_bytes > max(RATIO_FREE_BYTES, (stored_bytes + dictionary_bytes) * MAX_COMPRESSION_RATIO)


def raw_dictionary(dictionary: bytes) -> zstandard.ZstdCompressionDict:
    """Bytes that a frame may refer to, as they are."""
    return zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
