"""What makes a history quick and changes nothing in it: cheap ciphers, and answers that are remembered.

- Nobody breaks a cipher in here, so none has to be strong. Signatures and seals have the sizes of the real ones, hold
  for one key, one message and one purpose only, and show every bit that was flipped; they are made of one hash instead
  of curves, which would take half of the time. The real ones have their own tests and golden bytes.
- Sticks are real folders; that what is written there reaches the medium is not waited for.
- What compresses is made once for each level, not for each message and each note of a file.
- Whether a signature holds and what bytes mean are pure questions, which every replica asks of every entry. What a set
  folds to, and what it lets somebody read, is asked again only once the set has grown.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from types import ModuleType
from typing import Any, Final, TypeAlias

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature

from protocol import identity
from protocol.errors import Code, PeerFault
from protocol.folds import sign_in, space_keys
from protocol.identity import AgreementKey, SigningKey, check_agreement, tagged
from protocol.model import structure, work
from protocol.model.entry import Entry, signature_holds
from protocol.replica.at_work import quarantine
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import Memory, SpaceView, Views
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.door import Authority
from protocol.transfer import pack, pack_writer
from protocol.trust import envelope, hpke
from sync_agent.courier.disk import BundlesOut
from sync_agent.coursework import file_notes
from tests.simulation import recalled, sticks

REMEMBERED: Final = recalled.REMEMBERED


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Everything in here is quick."""
    plain = [(target, name, vars(target)[name]) for target, name, _ in _PATCHES]
    for target, name, value in _PATCHES:
        setattr(target, name, value)
    try:
        yield
    finally:
        for target, name, value in plain:
            setattr(target, name, value)


# --- ciphers ----------------------------------------------------------------------------------------------------------


def _sign(self: SigningKey, domain: bytes, message: bytes) -> bytes:
    return _signature(self.public, tagged(domain, message))


def _signature(public: bytes, signed: bytes) -> bytes:
    return blake3(public + signed).digest(identity.SIGNATURE_BYTES)


class _Verifier:
    def __init__(self, public: bytes) -> None:
        self._public = public

    def verify(self, signature: bytes, signed: bytes) -> None:
        if signature != _signature(self._public, signed):
            raise InvalidSignature


@lru_cache(maxsize=REMEMBERED)
def _loaded(public: bytes) -> _Verifier | None:
    weak = len(public) != identity.KEY_BYTES or public in identity.SMALL_ORDER_SIGNING_KEYS
    return None if weak else _Verifier(public)


class _Private:
    """An X25519 key that does no more than have a public half."""

    def __init__(self, seed: bytes) -> None:
        self._public = blake3(seed).digest()

    @classmethod
    def from_private_bytes(cls, seed: bytes) -> _Private:
        return cls(seed)

    def public_key(self) -> _Private:
        return self

    def public_bytes_raw(self) -> bytes:
        return self._public


def _seal(plaintext: bytes, recipient_public: bytes, info: bytes, ephemeral_secret: bytes) -> bytes:
    check_agreement(recipient_public)
    enc = blake3(ephemeral_secret).digest()
    key = blake3(recipient_public + enc + info).digest()
    body = _mixed(plaintext, key)
    return enc + body + blake3(body, key=key).digest(hpke.TAG_BYTES)


def _open(sealed: bytes, recipient: AgreementKey, info: bytes) -> bytes:
    enc, body, tag = sealed[: hpke.ENC_BYTES], sealed[hpke.ENC_BYTES : -hpke.TAG_BYTES], sealed[-hpke.TAG_BYTES :]
    key = blake3(recipient.public + enc + info).digest()
    if tag != blake3(body, key=key).digest(hpke.TAG_BYTES):
        raise PeerFault(Code.BAD_SEAL, "sealed bytes do not open with this key")
    return _mixed(body, key)


def _argon2(method: int, secret: str, salt: bytes) -> bytes:
    return blake3(bytes([method]) + salt + secret.encode()).digest()


def _mixed(data: bytes, key: bytes) -> bytes:
    stream = int.from_bytes(blake3(key).digest(len(data)), "big")
    return (int.from_bytes(data, "big") ^ stream).to_bytes(len(data), "big")


# --- what is remembered -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=REMEMBERED)
def _signature_holds(entry: Entry) -> bool:
    return signature_holds(entry)


_Grown: TypeAlias = tuple[int, int, int, int]


def _grown(views: Views) -> _Grown | None:
    """What grows whenever a set, what is whole of it, or what the door knows of it does; None where nobody can tell."""
    inner = getattr(views._store, "inner", None)
    if not isinstance(inner, MemoryStore):
        return None
    door = views._door
    filled = views._filled
    return len(inner._entries), len(door._parents), len(door._authorities), filled.total() if filled else 0


async def _view(self: Views, space: bytes) -> SpaceView:
    seen: dict[bytes, tuple[_Grown | None, SpaceView]] = self.__dict__.setdefault("seen", {})
    grown = _grown(self)
    known = seen.get(space)
    if known is None or grown is None or known[0] != grown:
        known = seen[space] = (grown, await _PLAIN_VIEW(self, space))
    return known[1]


def _remember(self: Views, memory: Memory) -> None:
    self.__dict__.pop("seen", None)
    _PLAIN_REMEMBER(self, memory)


def _note_destroyed(self: Views, obeyed: frozenset[bytes], obeyed_at: Mapping[bytes, frozenset[bytes]]) -> None:
    self.__dict__.pop("seen", None)
    _PLAIN_NOTE_DESTROYED(self, obeyed, obeyed_at)


async def _readable(self: Replica, key: bytes) -> dict[bytes, Authority]:
    seen: dict[bytes, tuple[_Grown | None, dict[bytes, Authority]]] = self.__dict__.setdefault("seen", {})
    grown = _grown(self._views)
    known = seen.get(key)
    if known is None or grown is None or known[0] != grown:
        known = seen[key] = (grown, await _PLAIN_READABLE(self, key))
    return dict(known[1])


_PLAIN_VIEW: Final = Views.view
_PLAIN_REMEMBER: Final = Views.remember
_PLAIN_NOTE_DESTROYED: Final = Views.note_destroyed
_PLAIN_READABLE: Final = Replica.readable


# --- what is made once ------------------------------------------------------------------------------------------------


class _Zstandard:
    """The module `zstandard`, whose compressors and decompressors are made once. Only one thread uses them."""

    ZstdCompressor = staticmethod(cache(zstandard.ZstdCompressor))
    ZstdDecompressor = staticmethod(cache(zstandard.ZstdDecompressor))

    def __getattr__(self, name: str) -> Any:
        return getattr(zstandard, name)


def _parsers(*modules: ModuleType) -> Iterator[tuple[object, str, object]]:
    for module in modules:
        for kind in vars(module).values():
            if isinstance(kind, type) and kind.__module__ == module.__name__ and "parse" in vars(kind):
                parse: Any = kind.parse  # type: ignore[attr-defined]  # looked up by name
                yield kind, "parse", staticmethod(lru_cache(maxsize=REMEMBERED)(parse))


_PATCHES: Final[tuple[tuple[Any, str, object], ...]] = (
    (SigningKey, "sign", _sign),
    (identity, "_loaded", _loaded),
    (identity, "X25519PrivateKey", _Private),
    (hpke, "seal", _seal),
    (hpke, "open_", _open),
    (sign_in, "_argon2", _argon2),
    (quarantine, "signature_holds", _signature_holds),
    (Views, "view", _view),
    (Views, "remember", _remember),
    (Views, "note_destroyed", _note_destroyed),
    (Replica, "readable", _readable),
    (envelope, "zstandard", _Zstandard()),
    (pack, "zstandard", _Zstandard()),
    (pack_writer, "zstandard", _Zstandard()),
    (file_notes, "zstandard", _Zstandard()),
    (os, "fsync", lambda _descriptor: None),
    (BundlesOut, "_append", sticks.append),
    *_parsers(space_keys, structure, work),
    *recalled.PATCHES,
)
