"""Who answers calls, what goes back, and what it tells of those who called."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import Code, PeerFault
from protocol.identity import AgreementKey, SigningKey
from protocol.messages.wire import CONTENT_TYPE
from protocol.model.entry import Entry
from protocol.replica.interfaces import RegisterRow


@dataclass(frozen=True, slots=True)
class Station:
    """Who answers: keys, the chain that proves them, the grant for receipts, the store's generation.

    `certificate` is the SHA-256 of the TLS certificate that it shows, where that is the same for everybody.
    """

    signing: SigningKey
    agreement: tuple[AgreementKey, ...]
    chain: tuple[Entry, ...]
    grant: bytes
    generation: bytes
    capability_key: bytes
    writes_receipts: bool
    name: str | None = None
    certificate: bytes | None = None

    def check_shown(self, certificate: bytes | None) -> None:
        """Raise `PeerFault(WRONG_KEY)` where a caller was shown another certificate: somebody else ends TLS."""
        if certificate is not None and self.certificate not in (None, certificate):
            raise PeerFault(Code.WRONG_KEY, "somebody in between shows a certificate that is not the device's")


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes
    content_type: str = CONTENT_TYPE


@dataclass(frozen=True, slots=True)
class Contact:
    """That a device called, for who keeps a list of devices.

    `current` means that with this answer it has all that we have, and we all that it offered: nothing is left to be
    fetched or sent by another call. An answer that is lost on the way is asked for again within seconds.

    `told` is the store's generation where the device has told it all that it knows: its sets were compared with this
    very store's to the end, what was found lacking has been sent by earlier calls, and all that it held when it asked
    lies here: at most `asked_ago_ms` before this. That is said of what it may read: `untold` are the spaces into which
    it was ever let in, or of which it says to hold something, and which it may not read. `untaken` is what of its
    entries this call has not brought in (`told.untaken_of`).
    """

    device: bytes
    at_ms: int
    current: bool
    name: str | None = None
    told: bytes | None = None
    untold: frozenset[bytes] = frozenset()
    asked_ago_ms: int = 0
    untaken: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """That a register is new here: who brought it (the device that it is about, or another), and when it came."""

    register: RegisterRow
    carrier: bytes
    at_ms: int
