"""A server's own TLS certificate, bound to its certificate under the root (docs/protocol.md, "TLS of a server").

Rules:
- the TLS certificate carries the server's chain, and the server's signature over the TLS key: who has pinned the root,
  or holds a code that names it, needs no authority, no name and no date to know whose it is;
- the signature covers the key, not the certificate: who copies it into another certificate cannot use it;
- what the chain proves is judged by who holds the root; nothing here does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm

from protocol import canonical
from protocol.errors import Code, PeerFault
from protocol.fields import Fields
from protocol.identity import SIGNATURE_BYTES, SigningKey, TlsKey, create_tls_key, key_info, verify
from protocol.limits import MAX_TLS_BINDING_BYTES

if TYPE_CHECKING:
    from cryptography import x509

BINDING: Final = "2.25.311097695113708298204516378881825043193"
"""An arc that needs no registry (ITU-T X.667): it was drawn by chance."""

_DOMAIN: Final = b"relais/0 server tls"


def bound_tls_key(seed: bytes, signing: SigningKey, chain: bytes) -> TlsKey:
    """The TLS key and certificate of the server whose keys `chain` (as it is sent with 421) certifies."""
    from cryptography import x509  # noqa: PLC0415 — large, and needed when a certificate is made or met

    def binding(info: bytes) -> x509.ExtensionType:
        value = canonical.encode({"chain": chain, "signature": signing.sign(_DOMAIN, info)})
        return x509.UnrecognizedExtension(x509.ObjectIdentifier(BINDING), value)

    return create_tls_key(seed, binding)


@dataclass(frozen=True, slots=True)
class Binding:
    """What a TLS certificate says about whose it is: a chain that is not judged yet, and a signature over `key`."""

    key: bytes
    chain: bytes
    signature: bytes

    @classmethod
    def shown_in(cls, certificate: bytes) -> Self | None:
        """What a certificate (DER) says; None for one that says nothing. Raises `PeerFault`, `TooLarge`."""
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        try:
            found = x509.load_der_x509_certificate(certificate)
            value = found.extensions.get_extension_for_oid(x509.ObjectIdentifier(BINDING)).value
            key = found.public_key()
        except x509.ExtensionNotFound:
            return None
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as reason:
            raise PeerFault(Code.MALFORMED, "a certificate cannot be read", reason=str(reason)) from reason
        if not isinstance(value, x509.UnrecognizedExtension) or not isinstance(key, ec.EllipticCurvePublicKey):
            raise PeerFault(Code.MALFORMED, "a certificate says whose it is in a way that is not ours")
        fields = Fields(canonical.decode(value.value, max_bytes=MAX_TLS_BINDING_BYTES), "a certificate's binding")
        return cls(
            key_info(key),
            fields.octets("chain", most=MAX_TLS_BINDING_BYTES),
            fields.octets("signature", SIGNATURE_BYTES),
        )

    def is_by(self, signing_public: bytes) -> bool:
        """Whether the server with this signing key says that the TLS key is its own."""
        return verify(signing_public, _DOMAIN, self.key, self.signature)
