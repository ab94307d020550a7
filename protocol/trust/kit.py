"""The territory's recovery kit: a text that can be printed and typed again (docs/protocol.md, "Recovery kit").

It holds the only copies of the root's signing seed and of the recovery key's seed, and the recovery seeds of the kits
before it: what was handed in under those stays readable (docs/adr/0307). Each line of the block ends with three check
characters, so that a mistyped line is named; under a passphrase the seeds are sealed with Argon2id (RFC 9106) and
ChaCha20-Poly1305. The name above the block is for people and not protected.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from protocol.errors import BadInput, Code
from protocol.identity import KEY_BYTES, SEED_BYTES, AgreementKey, SigningKey, tagged, territory_id
from protocol.limits import (
    MAX_KIT_BYTES,
    MAX_KIT_LANES,
    MAX_KIT_MEMORY_KIB,
    MAX_KIT_PASSES,
    MAX_NAME_CHARS,
    SALT_BYTES,
)
from protocol.trust.invitation import ALPHABET, as_typed, from_base32, territory_fingerprint, to_base32

_CHECK: Final = b"relais/0 kit check"
_VERSION: Final = 0
_OPEN: Final = 0
_ARGON2ID: Final = 1
_OPEN_ROTATED: Final = 2
_ARGON2ID_ROTATED: Final = 3
_OPEN_EARLIER: Final = 4
_ARGON2ID_EARLIER: Final = 5
_BEGIN: Final = "--- RELAIS ---"
_END: Final = "--- FIN ---"
_NAME: Final = "Territoire"
_SEEDS_BYTES: Final = 2 * SEED_BYTES
_TAG_BYTES: Final = 16
_LINE_CHARS: Final = 21
_CHECK_CHARS: Final = 3
_GROUP_CHARS: Final = 4
_ZERO_NONCE: Final = bytes(12)

_TEXT: Final = """\
RELAIS - KIT DE SECOURS

{label} : {name}
Empreinte : {fingerprint}
Protection : {protection}

Ce texte permet de tout reconstruire, et de tout effacer. Imprimez-le, rangez le papier et ce fichier sous clé, loin
du serveur, et n'en laissez pas de copie ici : le fichier retient ce que le kit a déjà dit. Le texte se recopie à la
main : majuscules et espaces sont indifférentes, O vaut 0, I et L valent 1.

L'empreinte n'est pas secrète : notez-la aussi ailleurs. Chaque code qui ajoute un poste la porte après son premier
chiffre ; comparez avant de le taper. Un code qui en porte une autre mène chez quelqu'un d'autre.

{block}
"""


@dataclass(frozen=True, slots=True)
class Kit:
    """What can rebuild a territory: its name, the root's signing key, the recovery key of its hand-ins and spaces.

    Where the root was replaced, `first_root` is the public key of the first, `chain` the rotations as they are sent,
    `earlier` the recovery keys of the kits before.
    """

    name: str
    root: SigningKey
    recovery: AgreementKey
    chain: bytes = b""
    first_root: bytes | None = None
    earlier: tuple[AgreementKey, ...] = ()

    @property
    def opening(self) -> tuple[AgreementKey, ...]:
        """What opens work that was handed in at any time: the recovery key, and those before it."""
        return (self.recovery, *self.earlier)

    @property
    def territory(self) -> bytes:
        """The territory's id: the hash of its first root."""
        return territory_id(self.first_root or self.root.public)

    @property
    def fingerprint(self) -> str:
        """What all show of a territory, and its codes have, while this root is in force."""
        return territory_fingerprint(territory_id(self.root.public))


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What a guess of the passphrase costs. The default is RFC 9106 §4, second recommended option: 64 MiB, 3 passes."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    @property
    def is_bounded(self) -> bool:
        """Whether these are numbers that Argon2 takes and that a small PC can afford."""
        return (
            1 <= self.passes <= MAX_KIT_PASSES
            and 1 <= self.lanes <= MAX_KIT_LANES
            and 8 * self.lanes <= self.memory_kib <= MAX_KIT_MEMORY_KIB
        )


_DEFAULT_COST: Final = Argon2Cost()


def write_kit(kit: Kit, *, passphrase: str | None, salt: bytes, cost: Argon2Cost = _DEFAULT_COST) -> str:
    """The kit as text. `salt` is `SALT_BYTES` of fresh randomness, not used without a passphrase.

    Raises `ValueError` for a cost that `parse_kit` would refuse, and for earlier keys where there was no root before.
    """
    if not cost.is_bounded:
        raise ValueError("no kit may have this cost")
    open_form, protected_form = _forms_of(kit)
    seeds = kit.root.seed + kit.recovery.seed
    if kit.first_root is not None:
        seeds += kit.first_root
        if kit.earlier:
            seeds += bytes((len(kit.earlier),)) + b"".join(key.seed for key in kit.earlier)
        seeds += kit.chain
    if passphrase is None:
        block = bytes((_VERSION, open_form)) + seeds
    else:
        head = _protected_head(salt, cost, protected_form)
        key = _passphrase_key(passphrase, salt, cost)
        block = head + ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, seeds, head)
    return _TEXT.format(
        label=_NAME,
        name=" ".join(kit.name.split()),
        fingerprint=kit.fingerprint,
        protection="aucune" if passphrase is None else "phrase secrète, à garder ailleurs",
        block="\n".join((_BEGIN, *_to_lines(block), _END)),
    )


def parse_kit(text: str, *, passphrase: str | None = None) -> Kit:
    """The kit in `text`. Raises `BadInput(BAD_KIT)`, which names a mistyped line, a missing or a wrong passphrase.

    A passphrase given for a kit that has none is ignored.
    """
    name, block = _read(text)
    if block[1] in _WITHOUT_PASSPHRASE:
        seeds = block[2:]
    else:
        if passphrase is None:
            raise _bad("this kit is protected: its passphrase is needed", problem="passphrase-missing")
        seeds = _unprotected(block, passphrase)
    root, recovery = SigningKey(seeds[:SEED_BYTES]), AgreementKey(seeds[SEED_BYTES:_SEEDS_BYTES])
    if block[1] in (_OPEN, _ARGON2ID):
        return Kit(name, root, recovery)
    first, rest = seeds[_SEEDS_BYTES : _SEEDS_BYTES + KEY_BYTES], seeds[_SEEDS_BYTES + KEY_BYTES :]
    has_earlier = block[1] in (_OPEN_EARLIER, _ARGON2ID_EARLIER)
    start, count = (1, rest[0] if rest else 1) if has_earlier else (0, 0)
    end = start + count * SEED_BYTES
    if len(first) != KEY_BYTES or len(rest) < end:
        raise _bad("lines of the kit's block are missing", problem="length")
    earlier = (rest[at : at + SEED_BYTES] for at in range(start, end, SEED_BYTES))
    return Kit(name, root, recovery, rest[end:], first, tuple(map(AgreementKey, earlier)))


def is_protected(text: str) -> bool:
    """Whether the kit in `text` needs a passphrase. Raises `BadInput(BAD_KIT)` when `text` is not a kit."""
    return _read(text)[1][1] not in _WITHOUT_PASSPHRASE


_WITHOUT_PASSPHRASE: Final = frozenset({_OPEN, _OPEN_ROTATED, _OPEN_EARLIER})
_HEAD_BYTES: Final = 2 + SALT_BYTES + 4 + 1 + 1
_FORMS: Final = _WITHOUT_PASSPHRASE | {_ARGON2ID, _ARGON2ID_ROTATED, _ARGON2ID_EARLIER}
_BLOCK_BYTES: Final = {_OPEN: 2 + _SEEDS_BYTES, _ARGON2ID: _HEAD_BYTES + _SEEDS_BYTES + _TAG_BYTES}


def _forms_of(kit: Kit) -> tuple[int, int]:
    """The numbers of the form of a kit, without and with a passphrase."""
    if kit.earlier and kit.first_root is None:
        raise ValueError("a kit with recovery keys of earlier ones has a first root")
    if kit.earlier:
        return _OPEN_EARLIER, _ARGON2ID_EARLIER
    return (_OPEN, _ARGON2ID) if kit.first_root is None else (_OPEN_ROTATED, _ARGON2ID_ROTATED)


def _protected_head(salt: bytes, cost: Argon2Cost, form: int = _ARGON2ID) -> bytes:
    return b"".join(
        (bytes((_VERSION, form)), salt, cost.memory_kib.to_bytes(4, "big"), bytes((cost.passes, cost.lanes)))
    )


def _unprotected(block: bytes, passphrase: str) -> bytes:
    head, sealed = block[:_HEAD_BYTES], block[_HEAD_BYTES:]
    salt, numbers = head[2 : 2 + SALT_BYTES], head[2 + SALT_BYTES :]
    cost = Argon2Cost(int.from_bytes(numbers[:4], "big"), numbers[4], numbers[5])
    if not cost.is_bounded:
        raise _bad("this kit asks for more memory or time than any kit needs", problem="cost")
    try:
        return ChaCha20Poly1305(_passphrase_key(passphrase, salt, cost)).decrypt(_ZERO_NONCE, sealed, head)
    except InvalidTag as reason:
        raise _bad("this passphrase does not open the kit", problem="passphrase-wrong") from reason


def _passphrase_key(passphrase: str, salt: bytes, cost: Argon2Cost) -> bytes:
    # One text, one key: keyboards and systems write the same accent in several ways.
    secret = unicodedata.normalize("NFKC", passphrase).encode()
    kdf = Argon2id(salt=salt, length=32, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib)
    return kdf.derive(secret)


def _read(text: str) -> tuple[str, bytes]:
    if len(text) > MAX_KIT_BYTES:
        raise _bad("this file is too long for a kit", problem="not-a-kit")
    lines = [line for line in text.splitlines() if line.strip()]
    typed = [as_typed(line) for line in lines]
    try:
        begin = typed.index(as_typed(_BEGIN))
        end = typed.index(as_typed(_END), begin)
    except ValueError as reason:
        raise _bad("this file is not a recovery kit", problem="not-a-kit") from reason
    return _name(lines[:begin]), _from_lines(typed[begin + 1 : end])


def _name(lines: list[str]) -> str:
    for line in lines:
        label, _, name = line.partition(":")
        if label.strip().casefold() == _NAME.casefold() and 0 < len(name.strip()) <= MAX_NAME_CHARS:
            return name.strip()
    raise _bad(f"the kit's line that begins with “{_NAME} :” is missing", problem="name")


def _to_lines(block: bytes) -> list[str]:
    chars = to_base32(block)
    parts = [chars[at : at + _LINE_CHARS] for at in range(0, len(chars), _LINE_CHARS)]
    return [_grouped(part + _line_check(number, part)) for number, part in enumerate(parts, 1)]


def _from_lines(lines: list[str]) -> bytes:
    parts = []
    for number, typed in enumerate(lines, 1):
        part, check = typed[:-_CHECK_CHARS], typed[-_CHECK_CHARS:]
        if not set(typed) <= set(ALPHABET) or check != _line_check(number, part):
            raise _bad(f"line {number} of the kit's block is mistyped", problem="line", line=number)
        parts.append(part)
    chars = "".join(parts)
    head = from_base32(chars[:4], 2) if len(chars) >= _GROUP_CHARS else b""
    if head[:1] != bytes((_VERSION,)) or head[1] not in _FORMS:
        raise _bad("this kit was made for a newer version of the program", problem="version")
    # what follows the first root in a kit of a root that was replaced has no fixed size
    size = _BLOCK_BYTES.get(head[1], len(chars) * 5 // 8)
    if len(chars) != -(-size * 8 // 5):
        raise _bad("lines of the kit's block are missing", problem="length")
    return from_base32(chars, size)


def _line_check(number: int, part: str) -> str:
    digest = blake3(tagged(_CHECK, b"%d %b" % (number, part.encode()))).digest(length=2)
    return to_base32(digest)[:_CHECK_CHARS]


def _grouped(chars: str) -> str:
    return " ".join(chars[at : at + _GROUP_CHARS] for at in range(0, len(chars), _GROUP_CHARS))


def _bad(sentence: str, **facts: object) -> BadInput:
    return BadInput(Code.BAD_KIT, sentence, **facts)
