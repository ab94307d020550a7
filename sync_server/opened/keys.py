"""What a server knows before it opens its store: its keys (DIR/keys/server) and its territory (DIR/territory.json).

`territory.json` is written last of all by `init`, so that it says "initialised"; it holds nothing secret and no path.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from blake3 import blake3

from protocol import canonical
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.identity import SEED_BYTES, AgreementKey, SigningKey, TlsKey, tagged
from protocol.limits import MAX_DEVICE_KEYS_BYTES
from protocol.model.structure import GENERATION_BYTES
from protocol.replica.private_file import make_private_folder, read_private, write_private
from protocol.trust.server_tls import bound_tls_key
from sync_server.opened.data_folder import KEYS_FILE, KEYS_FOLDER, TERRITORY_FILE, not_initialised

CAPABILITY_KEY_BYTES: Final = 32
_FORMAT: Final = 0
_TLS: Final = b"relais/0 tls seed"


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The server's signing key, the key that requests are sealed to, and a third secret, of its TLS and sealed marks.

    It is called `capability` since links went by it once: they go by a key of each process (docs/adr/0559).
    """

    signing: SigningKey
    agreement: AgreementKey
    capability: bytes

    @classmethod
    def create(cls, signing_seed: bytes, agreement_seed: bytes, capability: bytes) -> Self:
        """New keys from three independent draws of 32 random bytes."""
        return cls(SigningKey(signing_seed), AgreementKey(agreement_seed), capability)

    def tls(self, chain: bytes) -> TlsKey:
        """The key and the certificate of the server's own TLS, always the same with the same keys and chain.

        `chain` is what the server shows of itself; nothing more is kept for TLS, so that a backup lacks nothing.
        """
        seed = blake3(tagged(_TLS, self.capability), key=self.signing.seed).digest()
        return bound_tls_key(seed, self.signing, chain)

    def write(self, folder: Path, name: str = KEYS_FILE) -> None:
        """Make them durable in DIR. Raises `LocalFailure`."""
        make_private_folder(folder / KEYS_FOLDER)
        write_private(
            folder / name,
            canonical.encode(
                {
                    "format": _FORMAT,
                    "signing": self.signing.seed,
                    "agreement": self.agreement.seed,
                    "capability": self.capability,
                }
            ),
        )

    @classmethod
    def read(cls, folder: Path, name: str = KEYS_FILE) -> Self:
        """What `write` wrote. Raises `LocalFailure` (DAMAGED, STORAGE_FAILED)."""
        try:
            fields = canonical.decode(read_private(folder / name), max_bytes=MAX_DEVICE_KEYS_BYTES)
        except (OSError, PeerFault) as reason:
            raise LocalFailure(
                Code.DAMAGED,
                f"{folder / KEYS_FILE} cannot be read; a server that has lost its keys begins again with "
                "`init --recover`, in an empty folder",
            ) from reason
        match fields:
            case {
                "format": 0,
                "signing": bytes(signing),
                "agreement": bytes(agreement),
                "capability": bytes(capability),
                **rest,
            } if not rest and len(signing) == len(agreement) == SEED_BYTES and len(capability) == CAPABILITY_KEY_BYTES:
                return cls(SigningKey(signing), AgreementKey(agreement), capability)
        raise LocalFailure(Code.DAMAGED, f"{folder / KEYS_FILE} does not hold a server's keys")


@dataclass(frozen=True, slots=True)
class Territory:
    """Whose server this is: the root's public key, the certificate under it, and the generation of the store."""

    name: str
    root: bytes
    certificate: bytes
    generation: bytes

    def write(self, folder: Path) -> None:
        """Make it durable in DIR, which is initialised from then on. Raises `LocalFailure`."""
        document = {
            "name": self.name,
            "root": self.root.hex(),
            "certificate": self.certificate.hex(),
            "generation": self.generation.hex(),
        }
        write_private(folder / TERRITORY_FILE, json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What DIR says. Raises `BadInput(NOT_INITIALISED)`, `LocalFailure` (DAMAGED, STORAGE_FAILED)."""
        path = folder / TERRITORY_FILE
        try:
            document = json.loads(read_private(path))
            found = cls(
                str(document["name"]),
                *(bytes.fromhex(document[key]) for key in ("root", "certificate", "generation")),
            )
        except (FileNotFoundError, NotADirectoryError):
            raise not_initialised(folder) from None
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise LocalFailure(Code.DAMAGED, f"{path} cannot be read", reason=str(reason)) from reason
        if not len(found.root) == len(found.certificate) == SEED_BYTES or len(found.generation) != GENERATION_BYTES:
            raise LocalFailure(Code.DAMAGED, f"{path} does not say what it should")
        return found
