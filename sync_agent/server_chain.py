"""What a server's chain proves to who has pinned a root (docs/protocol.md, "Strangers", "TLS of a server")."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from protocol.entry import Entry, Kind, signature_holds
from protocol.errors import Code, PeerFault, Refused
from protocol.identity import territory_id
from protocol.messages import parse_chain
from protocol.server_tls import Binding
from protocol.structure import Certificate

IsOurs: TypeAlias = Callable[[bytes], bool]
"""Whether a territory, by its id, is the one that this device belongs to, or has a code of."""


def newest_certificate(chain: tuple[Entry, ...], root: bytes, territory: bytes) -> Entry:
    """The newest certificate in a chain that `root` signed for its territory. Raises `Refused(WRONG_TERRITORY)`."""
    certificates = [
        entry
        for entry in chain
        if entry.header.kind == Kind.CERTIFICATE
        and (entry.header.author, entry.header.grant, entry.header.space) == (root, None, territory)
        and entry.payload is not None
        and signature_holds(entry)
    ]
    if not certificates:
        raise Refused(
            Code.WRONG_TERRITORY, "a server of another territory answers at this address; nothing was given to it"
        )
    return max(certificates, key=lambda entry: (entry.header.at, entry.id))


def root_in(chain: tuple[Entry, ...], is_ours: IsOurs) -> bytes | None:
    """The root of our territory, if a certificate in the chain names it as its author; nothing is proven by that."""
    authors = {entry.header.author for entry in chain if entry.header.kind == Kind.CERTIFICATE}
    return next((root for root in authors if is_ours(territory_id(root))), None)


def is_of_our_server(tls_certificate: bytes, is_ours: IsOurs) -> bool:
    """Whether a TLS certificate (DER) is the own one of a server that our root has certified."""
    try:
        binding = Binding.shown_in(tls_certificate)
        if binding is None:
            return False
        chain = parse_chain(binding.chain)
        root = root_in(chain, is_ours)
        if root is None:
            return False
        newest = newest_certificate(chain, root, territory_id(root))
        return binding.is_by(Certificate.parse(newest.payload or b"").signing)
    except (PeerFault, Refused):
        return False
