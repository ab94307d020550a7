"""The keys of spaces that a replica can open, and what it should say so that others can.

No key is kept on disk: keys lie in the set, sealed, and are opened when they are needed. A device opens a class's key
by its own X25519 key, and the keys of the spaces above by the class's.

A key is opened in the space that it is of, and in no other: whoever may make keys names there what they like, and each
machine that had opened that elsewhere would seal it to who is in theirs.

docs/protocol.md, "Space keys".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from protocol.errors import Code, PeerFault
from protocol.folds.shown_keys import shown_of
from protocol.folds.space_keys import (
    SPACE_KEY_BYTES,
    SpaceKeyRecord,
    SpaceKeys,
    SpaceSecret,
    SpaceWraps,
    cuts_digest,
    fold_space_keys,
    recipients,
    unwrap,
)
from protocol.identity import AgreementKey
from protocol.limits import MAX_WRAPS_PER_ENTRY
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import RecoveryKey
from protocol.replica.at_work.deserted import deserted_in
from protocol.replica.at_work.replica import Draft, Entropy, Replica
from protocol.replica.at_work.views import Basis
from protocol.rights.roster import Roster

_KINDS: Final = frozenset({Kind.SPACE_KEY, Kind.SPACE_WRAP})
MAX_KEYS_TRIED: Final = 256
"""Of the keys of a space that may be in force the newest, among which one is looked for that opens here."""


class Keyring:
    """Opens keys for one machine, whose X25519 keys are `agreement`. What was opened stays in memory.

    `signing` are its Ed25519 keys: what was said with them it believes. An office needs none, as everybody believes it.
    """

    def __init__(self, replica: Replica, agreement: Sequence[AgreementKey], signing: Collection[bytes] = ()) -> None:
        self._replica = replica
        self._signing = frozenset(signing)
        self._own = {key.public: key for key in agreement}
        self._opened: dict[tuple[bytes, bytes], SpaceSecret] = {}
        self._read: dict[bytes, tuple[int, list[Entry], int]] = {}
        self._folded: dict[bytes, tuple[list[Entry], Basis, SpaceKeys]] = {}
        self._recovery: tuple[Basis, list[bytes]] | None = None

    async def keys(self, space: bytes) -> SpaceKeys:
        """What the set says of a space's keys."""
        entries, folded = await self.entries(space), self._folded.get(space)
        if folded is not None and folded[0] is entries:
            # the folds of all classes of a school may be more than a replica keeps
            view = await self._replica.changed_view(space, folded[1])
            if view is None:
                return folded[2]
        else:
            view = await self._replica.view(space)
        self._folded[space] = entries, view.basis, fold_space_keys(entries, view.roster)
        return self._folded[space][2]

    async def entries(self, space: bytes) -> list[Entry]:
        """The `space key` and `space wrap` entries of a space, in order of arrival."""
        filled = self._replica.filled(space)
        after, found, known = self._read.get(space, (0, [], filled))
        if known != filled:
            # payloads have come for entries that were read without
            after, found = 0, []
        count = (await self._replica.position(space)).count
        if count > after:
            later = await self._replica.store.of_kinds(space, _KINDS, after)
            if later:
                found = [*found, *(stored.entry for stored in later)]
            # what came meanwhile was read as well
            after = max(count, later[-1].arrival if later else 0)
        self._read[space] = (after, found, filled)
        return found

    async def shown(self, space: bytes, commitment: bytes) -> list[Entry]:
        """The entries that open the key of this name to who may read the space, in the order of `shown_of`."""
        keys, entries = await self.keys(space), await self.entries(space)
        roster = (await self._replica.view(space)).roster
        readers = await self._readers(space, roster)
        return shown_of(commitment, keys, entries, roster, readers, self._signing, self._replica.door.began_as)

    async def secret(self, space: bytes, commitment: bytes) -> SpaceSecret | None:
        """The key of this name, if this machine can open it as this space's."""
        if (space, commitment) not in self._opened:
            keys = await self.keys(space)
            secret = await self._open(space, keys, commitment)
            if secret is None:
                return None
            self._opened[space, commitment] = secret
        return self._opened[space, commitment]

    async def current(self, space: bytes) -> SpaceSecret | None:
        """The key in force of a space, if this machine can open it."""
        record = (await self.keys(space)).current
        return None if record is None else await self.secret(space, record.commitment)

    async def for_bundles(self, space: bytes) -> SpaceSecret | None:
        """The key under which bundles of a space are written here: the newest that may be, if this machine has one.

        One that was not given to it takes the place of none that it has, unless a revocation that counts here says that
        somebody who had that one is out: who makes keys may be a copied key, and seal them to nobody (docs/adr/0560).
        """
        keys = await self.keys(space)
        for record in keys.in_turn[:MAX_KEYS_TRIED]:
            if (secret := await self.secret(space, record.commitment)) is not None:
                is_in_force = record == keys.current
                return secret if is_in_force or await self._is_for_those_in(space, record) else None
        return None

    async def _is_for_those_in(self, space: bytes, record: SpaceKeyRecord) -> bool:
        """Whether nobody was let go, as far as is known here, since a key was made: to them it was sealed."""
        revocations = await self._replica.store.scan_kinds(CUTTING)
        return record.cuts == await cuts_of(self._replica, space, revocations)

    async def missing(self, space: bytes) -> list[bytes]:
        """The X25519 keys that the key in force is for and, as far as can be told here, were not given it."""
        record = (await self.keys(space)).current
        return [] if record is None else await self.lacking(space, record.commitment)

    async def lacking(self, space: bytes, commitment: bytes) -> list[bytes]:
        """Of those that the key in force is for, whoever was not given the key of this name, perhaps an earlier one."""
        keys = await self.keys(space)
        wanted = await self._readers(space, (await self._replica.view(space)).roster)
        return keys.given.lacking(commitment, wanted, self._signing)

    async def wraps_due(self, space: bytes, grant: bytes, entropy: Entropy) -> list[Draft]:
        """What a machine that can open the key in force should say under `grant`, so that all whom it is for can."""
        missing = await self.missing(space)
        secret = await self.current(space) if missing else None
        return [] if secret is None else _wrap_drafts(space, secret, missing, grant, entropy)

    async def new_key(self, space: bytes, grant: bytes, cuts: bytes | None, entropy: Entropy) -> list[Draft]:
        """A new key of a space, sealed to whom it is for: for who may write class 1, the spaces below first."""
        keys = await self.keys(space)
        secret = SpaceSecret(entropy(SPACE_KEY_BYTES))
        record = secret.record(keys.next_epoch, cuts)
        wanted = await self._readers(space, (await self._replica.view(space)).roster)
        return [
            Draft(space, Kind.SPACE_KEY, grant, record.encode()),
            *_wrap_drafts(space, secret, wanted, grant, entropy),
        ]

    async def _readers(self, space: bytes, roster: Roster) -> list[bytes]:
        """The X25519 keys that the key in force of a space is for."""
        return recipients(roster, await self._recovery_keys(), await self._keys_below(space, roster))

    async def _keys_below(self, space: bytes, roster: Roster) -> list[SpaceKeys]:
        """The keys of the spaces in one to which its own is sealed; of those that have none nothing is folded."""
        passed_over = roster.erased | await deserted_in(self._replica, space)
        children = [child for child in self._replica.door.children(space) if child not in passed_over]
        return [await self.keys(child) for child in children if await self.entries(child)]

    async def _recovery_keys(self) -> list[bytes]:
        basis = (await self._replica.view(self._replica.territory)).basis
        if self._recovery is None or self._recovery[0] != basis:
            self._recovery = basis, await recovery_keys(self._replica)
        return self._recovery[1]

    async def _open(self, space: bytes, keys: SpaceKeys, commitment: bytes) -> SpaceSecret | None:
        if not any(record.commitment == commitment for record in keys.records):
            return None
        wraps = keys.given.of(commitment)
        for public, own in self._own.items():
            for sealed in wraps.get(public, ()):
                if (secret := _unwrapped(sealed, own, space, commitment)) is not None:
                    return secret
        for child in self._replica.door.children(space):
            for record in (await self.keys(child)).records if await self.entries(child) else ():
                through = await self._through(child, record, wraps.get(record.agreement, ()), space, commitment)
                if through is not None:
                    return through
        return None

    async def _through(
        self, child: bytes, record: SpaceKeyRecord, seals: Sequence[bytes], space: bytes, commitment: bytes
    ) -> SpaceSecret | None:
        """The key of `space` by way of the key of a space below, if it is sealed to that one and we can open it."""
        below = await self.secret(child, record.commitment) if seals else None
        if below is None:
            return None
        opened = (_unwrapped(sealed, below.agreement, space, commitment) for sealed in seals)
        return next((secret for secret in opened if secret is not None), None)


CUTTING: Final = (Kind.REVOKE, Kind.ROOT_ROTATION)


async def cuts_of(replica: Replica, space: bytes, revocations: Sequence[Entry]) -> bytes | None:
    """What a key of this space made now would say of those of the `revocations` in force in it, above it and below it.

    `revocations` are all entries of the kinds `CUTTING` that the replica holds.
    """
    near = {*replica.door.lineage(space), *replica.door.below(space)}
    places = near & {entry.header.space for entry in revocations}
    in_force = {name for place in places for name in (await replica.view(place)).roster.revocations}
    return cuts_digest(entry.id for entry in revocations if entry.header.space in near and entry.id in in_force)


def _unwrapped(sealed: bytes, recipient: AgreementKey, space: bytes, commitment: bytes) -> SpaceSecret | None:
    try:
        return unwrap(sealed, recipient, space, commitment)
    except PeerFault:
        return None


def _wrap_drafts(
    space: bytes, secret: SpaceSecret, wanted: Iterable[bytes], grant: bytes, entropy: Entropy
) -> list[Draft]:
    wraps = []
    for recipient in wanted:
        try:
            wraps.append((recipient, secret.wrap(space, recipient, entropy(32))))
        except PeerFault as fault:
            if fault.code is not Code.WEAK_KEY:
                raise
    return [
        Draft(
            space,
            Kind.SPACE_WRAP,
            grant,
            SpaceWraps(secret.commitment, tuple(wraps[start : start + MAX_WRAPS_PER_ENTRY])).encode(),
        )
        for start in range(0, len(wraps), MAX_WRAPS_PER_ENTRY)
    ]


async def recovery_keys(replica: Replica) -> list[bytes]:
    """The newest recovery key that the latest root which named one has named, if there is one."""
    latest = latest_recovery_key(replica, await recovery_keys_said(replica))
    return [] if latest is None else [latest[1]]


def latest_recovery_key(replica: Replica, said: Iterable[tuple[Entry, bytes]]) -> tuple[Entry, bytes] | None:
    """Of words that name recovery keys, each with the key, the newest of the latest root."""
    return max(
        said,
        key=lambda each: (replica.door.place_of_root(each[0].header.author), each[0].header.at, each[0].id),
        default=None,
    )


async def recovery_keys_said(replica: Replica) -> list[tuple[Entry, bytes]]:
    """The words that name recovery keys and count, each with the key."""
    held_back = (await replica.view(replica.territory)).roster.held_back
    return [each for each in await _recovery_keys_said(replica) if each[0].id not in held_back]


async def recovery_keys_ever(replica: Replica) -> frozenset[bytes]:
    """Every one that a root has named: none of them is a reader's, and work was sealed to each.

    Those in whose place another came are among them, and what a rotation has left out: else anybody says of the old
    kit's key, to which all work of before is sealed, that it is theirs (docs/adr/0358).
    """
    return frozenset(key for _, key in await _recovery_keys_said(replica))


async def _recovery_keys_said(replica: Replica) -> list[tuple[Entry, bytes]]:
    said = await replica.said(Kind.RECOVERY_KEY)
    return [(one, key.agreement) for one in said if (key := parsed(one, RecoveryKey.parse)) is not None]
