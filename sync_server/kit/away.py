"""The kit as the program that has the store open knows it: its public keys, and a command that can be asked.

Whoever runs that program, and whatever has become of it, gets signatures under what the command that was typed needs,
and nothing that signs or opens later (docs/adr/0128).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Self

from protocol.errors import Code, NoAnswer, PeerFault
from protocol.folds.coursework import Work
from protocol.identity import KEY_BYTES
from protocol.limits import FILE_PIECE_BYTES, KIT_ANSWER_TIMEOUT_S, MAX_KIT_ENTRIES_AT_ONCE, MAX_KIT_QUESTION_BYTES
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Certificate, Erasure, PersonRecord, Revocation, Ruling, SpaceRecord
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, FileData, FileEnd, FileEvent, FileStart, Incoming, Outgoing
from protocol.rights.erasures import order_in
from protocol.rights.root_rotation import RootAccount
from protocol.rights.vouching import Device
from sync_server.kit.consent import consent
from sync_server.kit.questions import (
    NAMELESS,
    Question,
    Sealed,
    ToAgree,
    ToOpen,
    ToRewrap,
    ToSign,
    encode_question,
    parse_answer,
)
from sync_server.kit.root_line import MAX_SHOWN
from sync_server.kit.shown import MAX_NAMES_SHOWN
from sync_server.opened.app import Server

_ACCOUNTS_AT_ONCE: Final = 8
"""Each is shown with up to `MAX_ROOT_ACCOUNT_IDS` headers that it lists."""


class KitAway:
    """See the module. `new` is the kit of the root that takes over, where one does."""

    def __init__(self, server: Server, keys: Mapping[str, JSON], incoming: Incoming, outgoing: Outgoing) -> None:
        """`keys` are the public keys that the command names; it is asked through its files."""
        line = _Line(incoming, outgoing)
        self.root = RootAway(server, line, _key(keys, "root"), new=False)
        self._opening = (_key(keys, "recovery"), *map(_octets, given.texts(keys, "earlier")))
        self._line = line
        has_new = "new_root" in keys
        self.new_root = RootAway(server, line, _key(keys, "new_root"), new=True) if has_new else None
        self.new_recovery = _key(keys, "new_recovery") if has_new else None
        self.to_name = tuple(map(_octets, given.texts(keys, "to_name")))

    @classmethod
    def of(cls, server: Server, keys: JSON, incoming: Incoming, outgoing: Outgoing) -> Self | None:
        """The kit that a command has, if it has one."""
        return cls(server, keys, incoming, outgoing) if isinstance(keys, Mapping) else None

    async def agree(self, version: int, heads: Sequence[bytes]) -> bytes:
        """A rotation's payload, with the new root's word that it takes over."""
        evidence = await self.root.words(heads)
        (payload,) = await self._line.ask(ToAgree(version, tuple(heads), evidence), 1)
        return payload

    async def shows(self, person: bytes) -> None:
        """Show whose work is to be opened. Raises what the command refuses with."""
        await self._line.ask(ToOpen((), await self.root.called([person])), 0)

    async def content_key(self, work: Work) -> bytes | None:
        """The content key of a hand-in, if a recovery key of the kit opens it."""
        sealed = Sealed.of(work, self._opening)
        if not sealed.wraps:
            return None
        (key,) = await self._line.ask(ToOpen((sealed,)), 1)
        return key or None

    async def rewrapped(self, works: Sequence[Work], device: Device, reading_key: Entry) -> list[bytes | None]:
        """The content key of each hand-in, sealed to a device's reading key; None where the kit opens none."""
        found: list[bytes | None] = []
        for start in range(0, len(works), MAX_KIT_ENTRIES_AT_ONCE):
            some = tuple(Sealed.of(work, self._opening) for work in works[start : start + MAX_KIT_ENTRIES_AT_ONCE])
            found += [seal or None for seal in await self._line.ask(ToRewrap(device, reading_key, some), len(some))]
        return found


class RootAway:
    """The root's key, elsewhere (`protocol.replica.at_work.signer`)."""

    def __init__(self, server: Server, line: _Line, public: bytes, *, new: bool) -> None:
        self._server = server
        self._line = line
        self._public = public
        self._new = new

    @property
    def public(self) -> bytes:
        """The Ed25519 key under which it signs."""
        return self._public

    async def signatures(self, entries: Sequence[Entry]) -> list[bytes]:
        """A signature for each entry. Raises what the command refuses with, `NoAnswer`."""
        found: list[bytes] = []
        listing = any(each.header.kind == Kind.ROOT_ACCOUNT for each in entries)
        most = _ACCOUNTS_AT_ONCE if listing else MAX_KIT_ENTRIES_AT_ONCE
        for start in range(0, len(entries), most):
            some = tuple(entries[start : start + most])
            asked = ToSign(self._new, some, await self._evidence(some), self._consent(some))
            found += await self._line.ask(asked, len(some))
        return found

    def _consent(self, entries: Sequence[Entry]) -> bytes:
        """The word of the key that one of them certifies, where that is this server's, in use or made for it."""
        for each in entries:
            if each.header.kind == Kind.CERTIFICATE:
                certificate = Certificate.parse(each.payload or b"")
                signing = self._server.signing_key(certificate.signing)
                territory = self._server.replica.territory
                return b"" if signing is None else consent(signing, certificate, territory, self._public)
        return b""

    async def words(self, names: Sequence[bytes]) -> tuple[Entry, ...]:
        """What this root has signed where something of it is named, first what made servers: all but our own bare.

        Whoever stole a kit signs as many certificates as he likes, and as large ones.
        """
        named = await self._server.store.get(names)
        said = {each.id: each for each in await self._said_by_root(named.values())} | named
        return tuple(each if each.id == self._server.grant else _bare(each) for each in said.values())

    async def _evidence(self, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        """What shows that entries say what was asked for. Of kinds that none of them is nothing is looked up."""
        shown: dict[bytes, Entry] = {}
        for kind, show in (
            (Kind.REVOKE, self._of_cuts),
            (Kind.WRAP, self._of_wraps),
            (Kind.ROOT_ACCOUNT, self._of_accounts),
            (Kind.ERASE, self._of_orders),
            (Kind.RULING, self._of_rulings),
        ):
            if some := [each for each in entries if each.header.kind == kind]:
                shown |= {each.id: each for each in await show(some)}
        return tuple(shown.values())

    async def _of_cuts(self, cuts: Sequence[Entry]) -> list[Entry]:
        """The certificates of who is cut off."""
        keys = {Revocation.parse(each.payload or b"").key for each in cuts}
        return [each for each in await self._server.store.scan_kinds([Kind.CERTIFICATE]) if _certified(each) in keys]

    async def _of_wraps(self, wraps: Sequence[Entry]) -> Iterable[Entry]:
        """The works to which keys are."""
        works = [each.header.target for each in wraps if each.header.target]
        return (await self._server.store.get(works)).values()

    async def _of_accounts(self, accounts: Sequence[Entry]) -> list[Entry]:
        """What they list."""
        names = [name for each in accounts for name in RootAccount.parse(each.payload or b"").ids]
        return [_bare(each) for each in (await self._server.store.get(names)).values()]

    async def _of_orders(self, orders: Sequence[Entry]) -> list[Entry]:
        """How often these names were forgotten before, and whose they are."""
        names = {Erasure.parse(each.payload or b"").covers for each in orders}
        return [*await self._turns_of(names), *await self.called(names)]

    async def _of_rulings(self, rulings: Sequence[Entry]) -> list[Entry]:
        """What is ruled on, how often the names were forgotten that are taken back, and whose they are."""
        said = [Ruling.parse(each.payload or b"") for each in rulings]
        names = {each.covers for each in said if each.covers is not None}
        ruled = await self._server.store.get([name for each in said for name in (*each.accepted, *each.refused)])
        turns = await self._turns_of(names) if names else []
        erasures = [each for each in ruled.values() if each.header.kind == Kind.ERASE]
        names |= {erasure.covers for each in erasures if (erasure := parsed(each, Erasure.parse)) is not None}
        called = await self.called(names) if names else []
        others = (_bare(each) for each in ruled.values() if each.header.kind != Kind.ERASE)
        return [*turns, *called, *erasures, *others]

    async def _turns_of(self, names: Collection[bytes]) -> list[Entry]:
        """What the roots have had forgotten of some names, and taken back by name."""
        said = await self._server.store.scan_kinds([Kind.ERASE, Kind.RULING])
        by_root = ((each, order_in(each)) for each in said if each.header.grant is None)
        return [each for each, order in by_root if order is not None and order.covers in names]

    async def called(self, names: Collection[bytes]) -> tuple[Entry, ...]:
        """What made those of these names that are classes, and their schools; of people the first under each name."""
        store, door = self._server.store, self._server.replica.door
        wanted = {*names, *map(door.parent, names)}
        made: dict[bytes, Entry] = {}
        for each in await store.scan_kinds([Kind.SPACE]):
            record = parsed(each, SpaceRecord.parse)
            if record is not None and (space := record.space_of(each, door.territory)) in wanted:
                made.setdefault(space, each)
        called: defaultdict[bytes | None, dict[str, Entry]] = defaultdict(dict)
        for each in await store.scan_kinds([Kind.PERSON]):
            listed = parsed(each, PersonRecord.parse)
            if each.header.subject in names and listed is not None:
                called[each.header.subject].setdefault(listed.name, each)
        some = (each for by_name in called.values() for each in [*by_name.values()][:MAX_NAMES_SHOWN])
        return (*made.values(), *some)

    async def _said_by_root(self, named: Iterable[Entry]) -> list[Entry]:
        """In the territory first, then in the spaces of what is named; there seals come last, which are many."""
        territory = self._server.replica.territory
        spaces = dict.fromkeys((territory, *(each.header.space for each in named)))
        said = [each for space in spaces for each in await self._server.store.authored(space, self._public)]

        def turn(each: Entry) -> tuple[bool, bool, bool, bool]:
            kind = each.header.kind
            is_own, is_here = each.id == self._server.grant, each.header.space == territory
            return not is_own, kind != Kind.CERTIFICATE, not is_here, kind == Kind.WRAP

        return sorted(said, key=turn)[:MAX_SHOWN]


class _Line:
    """Asks one question after the other."""

    def __init__(self, incoming: Incoming, outgoing: Outgoing) -> None:
        self._answers: AsyncIterator[FileEvent] = aiter(incoming)
        self._outgoing = outgoing

    async def ask(self, question: Question, count: int) -> list[bytes]:
        """An answer of so many parts. Raises `NoAnswer` if none comes in time, `PeerFault`."""
        data = encode_question(question)
        try:
            async with asyncio.timeout(KIT_ANSWER_TIMEOUT_S):
                await self._outgoing.start(NAMELESS, len(data))
                for start in range(0, len(data), FILE_PIECE_BYTES):
                    await self._outgoing.data(data[start : start + FILE_PIECE_BYTES])
                await self._outgoing.end()
                return parse_answer(await self._read(), count)
        except TimeoutError as reason:
            raise NoAnswer(Code.UNREACHABLE, "the command that has the kit does not answer") from reason

    async def _read(self) -> bytes:
        data = bytearray()
        while True:
            match await anext(self._answers, None):
                case FileStart(path, _) if path == NAMELESS and not data:
                    pass
                case FileData(piece) if len(data) + len(piece) <= MAX_KIT_QUESTION_BYTES:
                    data += piece
                case FileEnd():
                    return bytes(data)
                case _:
                    raise PeerFault(Code.MALFORMED, "the command that has the kit answers something else")


def _bare(entry: Entry) -> Entry:
    """Its header, which its id stands for; nothing that it says of anybody."""
    return replace(entry, salt=None, payload=None)


def _certified(entry: Entry) -> bytes | None:
    return None if entry.payload is None else Certificate.parse(entry.payload).signing


def _key(keys: Mapping[str, JSON], name: str) -> bytes:
    return _octets(given.text(keys, name))


def _octets(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise PeerFault(Code.MALFORMED, "a key of the kit has the wrong size")
    return key
