"""Sign-in on shared machines as a device keeps it: keys, what a teacher sets, what a pupil shows (docs/adr/0034).

Rules:
- a space whose teacher has not switched it on works as without it;
- who has proven in one class who they are has proven it in no other: whoever has the server makes up classes, lists
  anybody in them, and sets there by what they sign in (docs/adr/0288);
- verifiers and keys lie in the set, sealed to the school's own devices, and travel like everything else: a reset made
  offline reaches a PC over the school's network, a stick or the server, which cannot read it;
- who holds a key wraps it for devices that came later, whatever machines say that cannot know; it is held in the class
  in which it was given, and who names it in another has nobody give it there;
- who is let try again has what they had, by the word of who had set it: it counts as long as that does, and whoever
  could open it still can (docs/adr/0345);
- the tenth miss in a row is said in an entry, so that the other machines of the class take no more tries either.

docs/protocol.md, "Sign-in".
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from protocol.errors import BadInput, Code, LocalFailure, PeerFault, Refused
from protocol.folds.opened_sign_ins import opened_by
from protocol.folds.sign_in import (
    KINDS,
    NONCE_BYTES,
    SALT_BYTES,
    SIGN_IN_KEY_BYTES,
    Method,
    SignIn,
    SignInKey,
    SignInRecord,
    SignIns,
    SignInWraps,
    Verifier,
    fold_sign_ins,
    holders,
    newest_key,
    normal,
    unwrap,
)
from protocol.limits import MAX_PARENTS, MAX_WRAPS_PER_ENTRY, SIGN_IN_PICTURES, SIGN_IN_PICTURES_CHOSEN
from protocol.model.entry import Kind, parsed
from protocol.replica.at_work.replica import Draft, Entropy
from protocol.replica.at_work.views import Basis
from protocol.replica.office.sign_ins_of_lost import gone_devices
from protocol.rights.roster import Person
from sync_agent.app import Agent
from sync_agent.keys.space_keys import has_sealed_enough, note_sealing
from sync_agent.school.sign_in_tries import Tries

TRIES_MARKS: Final = "sign-in-tries/"
"""+ person in hex / space in hex → how often somebody failed here to sign in there as that person (`sign_in_tries`)."""


class Try(Enum):
    """How a try to sign in ended."""

    PROVEN = auto()
    WRONG = auto()
    WAIT = auto()
    LOCKED = auto()
    UNSET = auto()
    NO_KEY = auto()


@dataclass(frozen=True, slots=True)
class Guards:
    """What shared machines show to nobody but whose it is.

    `spaces` are those in which sign-in is on: there it holds of everybody, on a list or not any more. `guarded` is who
    is on the list of one of these; `ways` where somebody can sign in, and by what: person → space → what is set. In
    the others also who has left their list can. `first` is, of whoever is on lists of these, the one that this device
    heard of first as listing them: whoever has the server makes up another, with a secret of his own for them.
    """

    spaces: frozenset[bytes] = frozenset()
    guarded: frozenset[bytes] = frozenset()
    ways: Mapping[bytes, Mapping[bytes, SignIn | None]] = field(default_factory=dict)
    first: Mapping[bytes, bytes] = field(default_factory=dict)

    def counts_beside(self, person: bytes, proven: Collection[bytes]) -> bool:
        """Whether who has signed in in these spaces is that person where sign-in is off (docs/adr/0302)."""
        return self.first.get(person) in {None, *proven}


@dataclass(frozen=True, slots=True)
class Tried:
    """How a try ended, how long to wait before the next, and whose verifier it was: a session stands on that entry.

    `missed` is how many tries in a row had failed here before the one that was right.
    """

    how: Try
    wait_ms: int = 0
    entry: bytes = b""
    missed: int = 0


class SignInBook:
    """Sign-in of all spaces of one device."""

    def __init__(self, agent: Agent) -> None:
        """Nothing is read yet."""
        self._agent = agent
        self._folded: dict[bytes, tuple[Basis, frozenset[bytes], SignIns]] = {}
        self._keys: dict[tuple[bytes, bytes], SignInKey] = {}
        self._listed: defaultdict[bytes, dict[bytes, None]] = defaultdict(dict)
        self._read = 0
        self._one_at_a_time = asyncio.Lock()

    async def of(self, space: bytes) -> SignIns:
        """How sign-in stands in a space."""
        view = await self._agent.replica.view(space)
        known = self._folded.get(space)
        # who is confirmed hangs on what this device saw first, too
        if known is not None and known[:2] == (view.basis, view.roster.unconfirmed):
            return known[2]
        entries = [entry for entry in await self._agent.replica.store.scan_kinds(KINDS) if entry.header.space == space]
        found = fold_sign_ins(entries, view.roster)
        self._folded[space] = (view.basis, view.roster.unconfirmed, found)
        return found

    async def guards(self, among: Iterable[bytes] | None = None) -> Guards:
        """Where sign-in is on, `among` some spaces or all of this device, and who signs in there by what."""
        asked = await self._agent.spaces() if among is None else among
        spaces = [space for space in sorted(asked) if (await self.of(space)).on]
        ways: defaultdict[bytes, dict[bytes, SignIn | None]] = defaultdict(dict)
        guarded: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for space in spaces:
            sign_ins = {person: each for person, each in (await self.of(space)).persons.items() if each.is_set}
            listed = (await self._agent.replica.view(space)).roster.persons
            for person in listed:
                guarded[person].add(space)
            for person in {**listed, **sign_ins}:
                ways[person][space] = sign_ins.get(person)
        heard = await self._spaces_heard() if spaces else {}
        first = {
            person: next((one for one in heard.get(person, ()) if one in there), min(there))
            for person, there in guarded.items()
        }
        return Guards(frozenset(spaces), frozenset(guarded), dict(ways), first)

    async def _spaces_heard(self) -> Mapping[bytes, Iterable[bytes]]:
        """Which spaces list, or listed, each person, in the order in which that came here: dates are their authors'."""
        store = self._agent.replica.store
        latest = await store.latest()
        if latest is not None and latest[0] > self._read:
            for entry in await store.scan_kinds([Kind.PERSON], self._read):
                if entry.header.subject is not None:
                    self._listed[entry.header.subject].setdefault(entry.header.space)
            self._read = latest[0]
        return self._listed

    async def opened_by_gone(self, space: bytes) -> dict[bytes, list[bytes]]:
        """Whose sign-in in force could be opened by devices that are cut off: person → those devices."""
        replica = self._agent.replica
        roster = (await replica.view(space)).roster
        return opened_by(await self.of(space), await gone_devices(replica, roster))

    async def persons(self, space: bytes) -> list[Person]:
        """Who is on the list of a space, by name. Raises `BadInput(UNKNOWN_SPACE)`."""
        await self._agent.check_space(space)
        persons = (await self._agent.replica.view(space)).roster.persons.values()
        return sorted(persons, key=lambda person: (person.name.casefold(), person.id))

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def key(self, space: bytes, name: bytes) -> SignInKey | None:
        """The key of this name, if this device was given it in this space."""
        if (space, name) not in self._keys:
            wraps = (await self.of(space)).given.of(name)
            self._unwrap(space, name, [(to, sealed) for to, each in wraps.items() for sealed in each])
        return self._keys.get((space, name))

    def _unwrap(self, space: bytes, name: bytes, wraps: Iterable[tuple[bytes, bytes]]) -> None:
        own = {key.public: key for key in self._agent.agreements}
        for to, sealed in wraps:
            if to in own:
                with suppress(PeerFault):
                    self._keys[space, name] = unwrap(sealed, own[to], space, name)

    async def tend(self) -> int:
        """Wrap the keys in use for devices that came later; how many entries that took.

        A device that was given a key by one that proves nothing says that it has it, and nobody wraps it again. Where
        the machine may say nothing, as in a space above its class in which a thief gave it a key, nothing is due.
        """
        drafts: list[Draft] = []
        async with self._agent.writing:
            for space in await self._agent.spaces():
                with suppress(Refused):
                    drafts += await self._wraps_due(space)
            await note_sealing(self._agent, drafts)
            return await self._agent.write_unasked(*drafts)

    async def _wraps_due(self, space: bytes) -> Sequence[Draft]:
        """Raises `Refused` where a key is due to somebody, and this machine may not say so."""
        drafts: list[Draft] = []
        sign_ins = await self.of(space)
        wanted = await self._holders(space)
        in_use = {each.record.key for each in sign_ins.persons.values() if each.record.key is not None}
        for name in sorted(in_use):
            missing = sign_ins.given.lacking(name, wanted, (self._agent.device,))
            if missing and await has_sealed_enough(self._agent, space, Kind.SIGN_IN_WRAP):
                continue
            key = await self.key(space, name) if missing else None
            if key is not None:
                right = await self._agent.right(space, Kind.SIGN_IN_WRAP)
                drafts += _wrap_drafts(space, key, missing, right.grant, self._agent.entropy)
        return drafts

    async def _holders(self, space: bytes) -> list[bytes]:
        roster = (await self._agent.replica.view(space)).roster
        return holders(roster, self._agent.replica.territory)

    # --- what a teacher does ------------------------------------------------------------------------------------------

    async def switch(self, space: bytes, *, on: bool) -> None:
        """Switch sign-in on or off; where a word about it is held back, say how it is: that settles it, and lasts.

        Raises `BadInput(UNKNOWN_SPACE)`, `Refused(NO_RIGHT)`.
        """
        async with self._agent.writing:
            right = await self._agent.right(space, Kind.SIGN_IN)
            sign_ins = await self.of(space)
            if sign_ins.on != on or sign_ins.unsettled or not sign_ins.lasts:
                record = SignInRecord(on=on).encode()
                await self._agent.write(Draft(space, Kind.SIGN_IN, right.grant, record, parents=sign_ins.switch))

    async def set(self, space: bytes, secrets: Mapping[bytes, tuple[Method, str]]) -> None:
        """Say what proves these persons from now on: a method and a secret each; it lifts their locks.

        Raises `BadInput` (UNKNOWN_SPACE, UNKNOWN_PERSON, USAGE for what cannot be such a secret), `Refused(NO_RIGHT)`.
        """
        verifiers = {}
        roster = (await self._agent.replica.view(space)).roster
        for person, (method, secret) in secrets.items():
            form = normal(method, secret)
            if person not in roster.persons:
                raise BadInput(Code.UNKNOWN_PERSON, "nobody on this class list has that id")
            if form is None:
                raise BadInput(Code.USAGE, _TOO_WEAK[method])
            salt = self._agent.entropy(SALT_BYTES)
            verifiers[person] = await asyncio.to_thread(Verifier.of, method, form, salt)
        await self._say(space, verifiers)

    async def unlock(self, space: bytes, person: bytes) -> None:
        """Let a person try again with the secret that they have. Raises `BadInput(UNKNOWN_PERSON)`, `Refused`."""
        agent = self._agent
        async with agent.writing:
            mine = (await self.of(space)).persons.get(person)
            if mine is None or await self._verifier(space, mine, person) is None:
                raise BadInput(Code.UNKNOWN_PERSON, "nothing is set for that person here; set it anew")
            right = await agent.right(space, Kind.SIGN_IN)
            line = tuple(dict.fromkeys((mine.entry, *(await self.of(space)).line(person))))[:MAX_PARENTS]
            same = mine.record.encode()
            said = Draft(space, Kind.SIGN_IN, right.grant, same, subject=person, target=mine.set_in, parents=line)
            await agent.write(said)

    async def own_undone(self, space: bytes) -> dict[bytes, SignInRecord]:
        """What this device had set for pupils of whom nothing is in force since it is held back: person → the last."""
        sign_ins, store = await self.of(space), self._agent.replica.store
        found = {}
        for person in sign_ins.in_doubt:
            said = await store.get(list(sign_ins.undone[person]))
            own = (said[name] for name in sign_ins.undone[person] if said[name].header.author == self._agent.device)
            record = next((parsed(entry, SignInRecord.parse) for entry in own), None)
            if record is not None and record.key is not None:
                found[person] = record
        return found

    async def say_again(self, space: bytes) -> frozenset[bytes]:
        """Say again what this device had set and is held back, under the key that it had; for whom that was possible.

        Raises `BadInput(UNKNOWN_SPACE)`, `Refused(NO_RIGHT)`.
        """
        async with self._agent.writing:
            right = await self._agent.right(space, Kind.SIGN_IN)
            sign_ins, wanted = await self.of(space), await self._holders(space)
            records = await self.own_undone(space)
            keys = {name: await self._own_key(space, name) for name in {one.key for one in records.values() if one.key}}
            drafts: list[Draft] = []
            for name, key in keys.items():
                if key is not None:
                    missing = sign_ins.given.lacking(name, wanted, (self._agent.device,))
                    drafts += _wrap_drafts(space, key, missing, right.grant, self._agent.entropy)
            said = {person: one for person, one in records.items() if one.key and keys[one.key] is not None}
            for person, record in said.items():
                again, line = record.encode(), sign_ins.line(person)
                drafts.append(Draft(space, Kind.SIGN_IN, right.grant, again, subject=person, parents=line))
            await self._agent.write(*drafts)
            return frozenset(said)

    async def _own_key(self, space: bytes, name: bytes) -> SignInKey | None:
        """The key of this name, if this device was given it, or gave it itself in a word that is held back."""
        found = await self.key(space, name)
        if found is not None:
            return found
        for entry in await self._agent.replica.store.authored(space, self._agent.device):
            wraps = parsed(entry, SignInWraps.parse) if entry.header.kind == Kind.SIGN_IN_WRAP else None
            if wraps is not None and wraps.key == name:
                self._unwrap(space, name, wraps.wraps)
        return self._keys.get((space, name))

    async def method(self, space: bytes, person: bytes) -> Method | None:
        """By what a person signs in, as far as this device can tell."""
        verifier = await self._verifier(space, (await self.of(space)).persons.get(person), person)
        return None if verifier is None else verifier.method

    async def _say(self, space: bytes, verifiers: Mapping[bytes, Verifier]) -> None:
        agent = self._agent
        async with agent.writing:
            right = await agent.right(space, Kind.SIGN_IN)
            sign_ins = await self.of(space)
            wanted = await self._holders(space)
            name = newest_key(sign_ins, wanted)
            key = None if name is None else await self.key(space, name)
            drafts: list[Draft] = []
            if key is None:
                key = SignInKey(agent.entropy(SIGN_IN_KEY_BYTES))
                drafts += _wrap_drafts(space, key, wanted, right.grant, agent.entropy, drawn=True)
            for person, verifier in verifiers.items():
                sealed = key.seal(verifier, space, person, agent.entropy(NONCE_BYTES))
                drafts.append(
                    Draft(
                        space,
                        Kind.SIGN_IN,
                        right.grant,
                        SignInRecord(key.commitment, sealed).encode(),
                        subject=person,
                        parents=sign_ins.line(person),
                    )
                )
            await agent.write(*drafts)
            self._keys[space, key.commitment] = key

    # --- what a pupil does --------------------------------------------------------------------------------------------

    async def attempt(self, space: bytes, person: bytes, secret: str) -> Tried:
        """Try to sign in as somebody. One after the other, so that nobody tries twice at once."""
        async with self._one_at_a_time:
            return await self._attempt(space, person, secret)

    async def standing(self, space: bytes, person: bytes) -> tuple[Tried, Method | None]:
        """How a try would end before anything is shown (LOCKED, WAIT, UNSET, NO_KEY, else WRONG), and by what."""
        mine = await self._way(space, person)
        if mine is None:
            return Tried(Try.UNSET), None
        verifier = await self._verifier(space, mine, person)
        if verifier is None:
            return Tried(Try.NO_KEY), None
        tries = Tries.of(await self._agent.replica.store.mark(_mark(space, person)), mine.entry)
        if mine.locked_by or tries.is_locked:
            return Tried(Try.LOCKED), verifier.method
        wait_ms = tries.wait_ms(self._agent.now_ms())
        return Tried(Try.WAIT if wait_ms else Try.WRONG, wait_ms), verifier.method

    async def _attempt(self, space: bytes, person: bytes, secret: str) -> Tried:
        before, _ = await self.standing(space, person)
        if before.how is not Try.WRONG:
            return before
        store, now_ms = self._agent.replica.store, self._agent.now_ms()
        mine = await self._way(space, person)
        if mine is None:  # what guarded them was taken back meanwhile
            return Tried(Try.UNSET)
        verifier = await self._verifier(space, mine, person)
        if verifier is None:
            return Tried(Try.NO_KEY)
        form = normal(verifier.method, secret)
        if form is None:
            return Tried(Try.WRONG)
        tries = Tries.of(await store.mark(_mark(space, person)), mine.entry).missed(now_ms)
        await store.set_marks({_mark(space, person): tries.encode()})
        if await asyncio.to_thread(verifier.proves, form):
            await store.set_marks({_mark(space, person): None})
            return Tried(Try.PROVEN, entry=mine.entry, missed=tries.count - 1)
        if tries.is_locked:
            await self._say_locked(space, person, mine.entry)
            return Tried(Try.LOCKED)
        return Tried(Try.WRONG, tries.wait_ms(now_ms))

    async def _way(self, space: bytes, person: bytes) -> SignIn | None:
        """By what somebody signs in in a space."""
        return (await self.guards((space,))).ways.get(person, {}).get(space)

    async def _say_locked(self, space: bytes, person: bytes, entry: bytes) -> None:
        async with self._agent.writing:
            right = await self._agent.right(space, Kind.SIGN_IN_LOCK)
            await self._agent.write(Draft(space, Kind.SIGN_IN_LOCK, right.grant, _EMPTY, subject=person, target=entry))

    async def _verifier(self, space: bytes, sign_in: SignIn | None, person: bytes) -> Verifier | None:
        if sign_in is None or sign_in.record.key is None or sign_in.record.sealed is None:
            return None
        key = await self.key(space, sign_in.record.key)
        try:
            return None if key is None else key.open(sign_in.record.sealed, space, person)
        except PeerFault:
            return None


def drawn_pictures(entropy: Entropy) -> str:
    """Three pictures, each as likely as any other."""
    chosen: list[int] = []
    while len(chosen) < SIGN_IN_PICTURES_CHOSEN:
        number = entropy(1)[0]
        if number < 256 - 256 % SIGN_IN_PICTURES:
            chosen.append(number % SIGN_IN_PICTURES + 1)
    return "-".join(map(str, chosen))


async def tend_sign_in(agent: Agent) -> int:
    """`SignInBook.tend`, where the machine may: a device that is let go says nothing any more."""
    if not await agent.replica.store.scan_kinds([Kind.SIGN_IN]):
        return 0
    try:
        return await SignInBook(agent).tend()
    except (Refused, LocalFailure):
        return 0


_EMPTY: Final = b"\x80"
_TOO_WEAK: Final[Mapping[Method, str]] = {
    Method.PICTURES: "three of the twelve pictures are chosen, as in 1-12-3",
    Method.PIN: "a PIN has at least four digits",
    Method.PASSWORD: "a password has at least six characters",
    Method.PASSPHRASE: "a passphrase has at least twelve characters; a few words in a row are good ones",
}


def _mark(space: bytes, person: bytes) -> str:
    return f"{TRIES_MARKS}{person.hex()}/{space.hex()}"


def _wrap_drafts(
    space: bytes, key: SignInKey, wanted: Iterable[bytes], grant: bytes, entropy: Entropy, *, drawn: bool = False
) -> Sequence[Draft]:
    wraps = []
    for recipient in wanted:
        try:
            wraps.append((recipient, key.wrap(space, recipient, entropy(32))))
        except PeerFault:
            continue
    return [
        Draft(
            space,
            Kind.SIGN_IN_WRAP,
            grant,
            SignInWraps(key.commitment, tuple(wraps[start : start + MAX_WRAPS_PER_ENTRY]), drawn).encode(),
        )
        for start in range(0, len(wraps), MAX_WRAPS_PER_ENTRY)
    ]
