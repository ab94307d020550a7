"""What a device shows of itself on its school's network, and what others make of it (docs/protocol.md, "Neighbours").

Rules:
- what is shown is a random name, tags for members, and whether the server was reached lately: no name, no space;
- tags hold for one name, address and port, one set of flags and one number, which grows with each change: what somebody
  repeats from elsewhere, or after it was taken back, is a stranger's;
- a name is made of a key, which signs what is said under it: another member, who could make the tags, is not believed
  beside whoever has the name;
- who cannot tell its own address, and programs from before, are shown by their name alone: a hint, which makes way for
  everything that is bound to a place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from protocol.errors import PeerFault
from protocol.identity import SigningKey
from protocol.messages.introduction import (
    Place,
    Tags,
    announced,
    announced_at,
    announcement,
    announcement_at,
    is_by_its_name,
    name_seal,
)
from sync_agent.lan.finding.mdns import MAX_KNOWN, Found
from sync_agent.lan.finding.mdns_messages import Instance, Ip
from sync_agent.machine.addresses import Address

MAX_ANNOUNCED_TAGS: Final = 24
MAX_COUNT: Final = (1 << 32) - 1
MAX_JUDGED: Final = 2 * MAX_KNOWN
_TXT: Final = b"r="
_HINT: Final = 0
_PLACED: Final = 1
_REACHES: Final = 1
_FETCHES: Final = 2
_LEAVES: Final = 4
_CLAIMS: Final = 8
_BEGINS: Final = 16
_GOES_ON: Final = 32
_COMES: Final = 64
_COUNT_BYTES: Final = 4
_HINT_HEAD: Final = len(_TXT) + 2
_PLACED_HEAD: Final = _HINT_HEAD + _COUNT_BYTES

Secrets = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class State:
    """What a device says of itself: that it reaches the server, fetches much from there, is leaving.

    With `fetches`, `claims` says that it is about to, and still asks whether another one is at it already. `begins`
    says that it has just been switched on, and does not know yet whether it reaches the server. `goes_on` says that
    this is said again each second, and `comes` that content comes meanwhile. Without `fetches` content is sent, and
    where that does not move either, the line stands still.
    """

    reaches_server: bool = False
    fetches: bool = False
    leaves: bool = False
    claims: bool = False
    begins: bool = False
    goes_on: bool = False
    comes: bool = False

    @property
    def is_at_it(self) -> bool:
        """Whether it is in the middle of fetching much."""
        return self.fetches and not self.claims

    @property
    def sends(self) -> bool:
        """Whether it is sending much."""
        return self.goes_on and self.comes and not self.fetches

    @property
    def flags(self) -> int:
        """As one byte."""
        flags = _REACHES * self.reaches_server | _FETCHES * self.fetches | _LEAVES * self.leaves
        flags |= _CLAIMS * self.claims | _BEGINS * self.begins
        return flags | _GOES_ON * self.goes_on | _COMES * self.comes

    @classmethod
    def of(cls, flags: int) -> State:
        """From that byte; what later programs add means nothing here."""
        bits = (_REACHES, _FETCHES, _LEAVES, _CLAIMS, _BEGINS, _GOES_ON, _COMES)
        return cls(*(bool(flags & bit) for bit in bits))


@dataclass(frozen=True, slots=True)
class Member:
    """A device with which a space is common: where it listens, and what it says.

    `standing` is what an announcement weighs against another under the same name: one by who has the name more than any
    other, one that is bound to its place more than a hint, a later one more than an earlier.
    """

    name: str
    address: Address
    spaces: frozenset[bytes]
    state: State
    standing: tuple[int, int]

    @property
    def reaches_server(self) -> bool:
        """Whether it says that it reaches the server."""
        return self.state.reaches_server

    @property
    def may_fetch(self) -> bool:
        """Whether it may ask the server for others: it reaches it, or may do so in a moment."""
        return self.state.reaches_server or self.state.begins


@dataclass(frozen=True, slots=True)
class _Shown:
    """A TXT string: what stands before the nonce, flags, the number or None for a hint, and the tags."""

    head: bytes
    flags: int
    count: int | None
    tags: Tags

    def common(self, instance: Instance, host: str, secrets: Secrets) -> set[bytes]:
        """The spaces of `secrets` that it names, if it was made for this name and place."""
        if self.count is None:
            return announced(self.tags, secrets, instance.name.encode())
        address = ip_of(host)
        if address is None:
            return set()
        return announced_at(self.tags, secrets, _place(instance.name, address, instance.port, self.head))


def hint_text(secrets: Sequence[bytes], name: str, nonce: bytes, noise: bytes, state: State) -> bytes:
    """The TXT string of a device that cannot tell its own address."""
    tags = announcement(secrets[:MAX_ANNOUNCED_TAGS], name.encode(), nonce, noise)
    return _TXT + bytes([_HINT, state.flags & ~_LEAVES]) + tags.encode()


def placed_text(
    secrets: Sequence[bytes],
    instance: Instance,
    address: Ip,
    nonce: bytes,
    noise: bytes,
    state: State,
    count: int,
) -> bytes:
    """The TXT string of the `count`th announcement of a device at an address and the port of `instance`."""
    head = _TXT + bytes([_PLACED, state.flags]) + min(count, MAX_COUNT).to_bytes(_COUNT_BYTES, "big")
    place = _place(instance.name, address, instance.port, head)
    return head + announcement_at(secrets[:MAX_ANNOUNCED_TAGS], place, nonce, noise).encode()


def member_of(instance: Instance, address: Address, secrets: Secrets) -> Member | None:
    """The member that an announcement shows, or None for a stranger's, or for one that cannot be read."""
    shown = _shown(instance.txt)
    if shown is None or not (spaces := shown.common(instance, address.host, secrets)):
        return None
    standing = _rank(shown, instance, address.host), shown.count or 0
    return Member(instance.name, address, frozenset(spaces), State.of(shown.flags), standing)


def _rank(shown: _Shown, instance: Instance, host: str) -> int:
    """0 for a hint, 1 for what is bound to its place, 2 for what is by who has the name besides."""
    address = ip_of(host)
    if shown.count is None or address is None:
        return 0
    return 1 + is_by_its_name(instance.seal, _place(instance.name, address, instance.port, instance.txt))


def sealed(instance: Instance, address: Ip, signer: SigningKey) -> Instance:
    """The same, said by who has its name: the key of which that is made."""
    return replace(instance, seal=name_seal(signer, _place(instance.name, address, instance.port, instance.txt)))


@lru_cache(maxsize=MAX_KNOWN)
def shows_key(instance: Instance, address: Address, own: bytes) -> bool:
    """Whether an announcement is by who holds the key of this `own` secret."""
    shown = _shown(instance.txt)
    return shown is not None and bool(shown.common(instance, address.host, {own: b""}))


class Members:
    """Judges what is heard by the secrets of this device's spaces (`sync_agent.lan.finding.mdns.Judge`).

    What was judged is remembered while the secrets are the same: thirty devices are looked at many times a second.
    """

    def __init__(self, secrets: Callable[[], Secrets]) -> None:
        """`secrets` gives those that are known now."""
        self._secrets = secrets
        self._judged_by: Secrets = {}
        self._judged: dict[tuple[Instance, Address], Member | None] = {}

    def shown(self, found: Found) -> Member | None:
        """The member whose announcement this is."""
        secrets = self._secrets()
        if secrets != self._judged_by or len(self._judged) >= MAX_JUDGED:
            self._judged_by, self._judged = dict(secrets), {}
        said = found.instance, found.address
        if said not in self._judged:
            self._judged[said] = member_of(*said, secrets)
        return self._judged[said]

    def is_member(self, found: Found) -> bool:
        """As `Judge.is_member`."""
        return self.shown(found) is not None

    def replaces(self, found: Found, before: Found) -> bool:
        """As `Judge.replaces`: a member's word gives way to the same member's later word alone."""
        known, now = self.shown(before), self.shown(found)
        return known is None or (now is not None and now.standing >= known.standing)

    def takes_back(self, goodbye: Found, before: Found, source: str) -> bool:
        """As `Judge.takes_back`: a member says under its tags that it leaves, or as a hint from where it was."""
        known, now = self.shown(before), self.shown(goodbye)
        if known is None or now is None or now.standing < known.standing:
            return known is None
        rank, _ = now.standing
        return now.state.leaves if rank else source == before.address.host


def ip_of(host: str) -> Ip | None:
    """An address without the name of the interface behind it; None for what is none."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _place(name: str, address: Ip, port: int, head: bytes) -> Place:
    return Place(name.encode(), address.packed, port, head)


def _shown(text: bytes) -> _Shown | None:
    if not text.startswith(_TXT) or len(text) < _HINT_HEAD:
        return None
    version, flags = text[len(_TXT)], text[len(_TXT) + 1]
    if version not in {_HINT, _PLACED}:
        return None
    end = _HINT_HEAD if version == _HINT else _PLACED_HEAD
    count = None if version == _HINT else int.from_bytes(text[_HINT_HEAD:end], "big")
    try:
        return _Shown(text[:end], flags, count, Tags.parse(text[end:]))
    except PeerFault:
        return None
