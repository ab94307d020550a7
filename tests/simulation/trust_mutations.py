"""Rules of trust broken on purpose (docs/adr/0031, 0034, 0064 to 0069), as `mutations` does it with all others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest import mock

from protocol.model.entry import Entry, Kind
from protocol.reconcile.checkpoint import Checkpoint
from protocol.replica.answering.allowances import Allowance
from protocol.replica.at_work.quotas import Quotas
from protocol.replica.content.kept.open_parts import OpenParts
from protocol.replica.interfaces import EntryStore
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_device
from sync_agent.lan.exchange.peer_calls import PeerCalls
from sync_agent.school.sign_in import SignInBook
from sync_agent.sync.asking import Asking, Said
from sync_agent.transport.sealed_calls import SealedCalls
from tests.simulation.mutations import never_reconciles


def believes_what_a_thief_brought() -> AbstractContextManager[object]:
    """`lost --since` names as heads all that has come by now."""

    async def all_of_it(store: EntryStore, authors: Iterable[bytes], *_times_ms: int) -> set[bytes]:
        written = await store.scan_kinds(range(256))
        mine = set(authors)
        return {entry.id for entry in written if entry.header.author in mine}

    return mock.patch("protocol.replica.office.withdrawals.authored_by", all_of_it)


def forgets_whom_a_thief_let_in() -> AbstractContextManager[object]:
    """Whoever came in by a thief's code stays."""
    stack = ExitStack()
    stack.enter_context(mock.patch("protocol.replica.office.losses.let_in_by_held_codes", _nobody))
    stack.enter_context(tells_of_nobody_who_came_by_a_reported_code())  # who would be told
    return stack


def tells_of_nobody_who_came_by_a_reported_code() -> AbstractContextManager[object]:
    """Whoever came in by a thief's code reads on where a restored server hears of it later, untold (docs/adr/0276)."""
    return mock.patch("sync_server.handlers.overview.members.came_by_reported_codes", _nobody)


def tells_of_no_copies() -> AbstractContextManager[object]:
    """Whoever reports a theft hears nothing of keys that a thief has made, and somebody let in (docs/adr/0235)."""
    return mock.patch("protocol.replica.office.losses.copies_let_in", mock.AsyncMock(return_value=()))


def copies_outlive_their_original() -> AbstractContextManager[object]:
    """Successors of a key that was cut off go on."""
    return mock.patch("protocol.rights.revocations.voided", return_value={})


def destroys_by_a_thiefs_word() -> AbstractContextManager[object]:
    """An erasure counts for destroying although who said it was cut off since."""

    async def never(*_args: object) -> bool:
        return False

    patches = ExitStack()
    patches.enter_context(mock.patch("protocol.replica.upkeep.orders.is_in_doubt", never))
    patches.enter_context(mock.patch("protocol.replica.at_work.weeks.Weeks.broken", mock.AsyncMock(return_value={})))
    return patches


def takes_no_erasure_back() -> AbstractContextManager[object]:
    """A ruling that refuses an erasure changes nothing."""
    return mock.patch("protocol.rights.erasures._undone", return_value=frozenset())


def brings_back_what_it_destroyed() -> AbstractContextManager[object]:
    """Whoever takes an erasure back brings back what a replica had destroyed."""
    return mock.patch("protocol.rights.erasures._carried_out", return_value=frozenset())


def asks_for_the_first_page_only() -> AbstractContextManager[object]:
    """Who comes back to a space is never sent more than the beginning of it. (A bug that this simulator found.)"""
    plain = Asking.compose

    async def compose(self: Asking, said: Said, *args: Any) -> Any:
        said.returning = _Asked()
        return await plain(self, said, *args)

    return mock.patch.object(Asking, "compose", compose)


class _Asked(dict[bytes, Checkpoint]):
    """Names nothing, and says that everything was asked for."""

    def __contains__(self, space: object) -> bool:
        return True


def shows_neighbours_no_new_rights() -> AbstractContextManager[object]:
    """A neighbour is asked for a class that it does not know to be its own. (A bug that this simulator found.)"""
    return mock.patch.object(PeerCalls, "_credentials", SealedCalls._credentials)


def keeps_to_itself_whom_it_let_in() -> AbstractContextManager[object]:
    """A device sends no grants, and nobody looks whether others have them."""
    plain = MemoryStore.unsent

    async def unsent(self: MemoryStore, max_bytes: int) -> list[Entry]:
        return [entry for entry in await plain(self, max_bytes) if entry.header.kind != Kind.GRANT]

    return _both(never_reconciles(), mock.patch.object(MemoryStore, "unsent", unsent))


def lets_substitutes_stay() -> AbstractContextManager[object]:
    """Nobody ends a stay."""
    return _both(
        mock.patch("tests.simulation.at_school.end_stays", _none),
        mock.patch("sync_agent.school.office.end_stays", _none),
    )


def takes_the_servers_word_for_a_teacher() -> AbstractContextManager[object]:
    """Every device that a grant names as a teacher's is given the teacher's keys."""

    def own_in_use(agent: Agent, roster: Roster, person: bytes) -> frozenset[Device]:
        own = {device for device, whose in roster.voices.standings if whose == roster.who(person)}
        return frozenset(own | {own_device(agent)})

    return mock.patch("sync_agent.keys.places.own_in_use", own_in_use)


def hears_unconfirmed_devices() -> AbstractContextManager[object]:
    """Pupils' work is sealed to devices that nobody confirmed, and their words are the teacher's."""
    return mock.patch("protocol.rights.roster.unconfirmed", return_value=())


def gives_confirmed_devices_nothing() -> AbstractContextManager[object]:
    """A second laptop stays without the teacher's keys."""
    return mock.patch("sync_agent.keys.reading_key._seals_due", return_value=([], []))


def believes_every_receipt() -> AbstractContextManager[object]:
    """Whoever signs for a second copy is believed."""
    return mock.patch("sync_agent.hand_ins.copies.vouches", return_value=True)


def gives_sign_in_keys_to_everybody() -> AbstractContextManager[object]:
    """The keys under which pupils' secrets lie are sealed to the server and to administrators too."""

    def holders(roster: Roster, _territory: bytes) -> list[bytes]:
        return list(dict.fromkeys(each.agreement for each in roster.authorities))

    return mock.patch("sync_agent.school.sign_in.holders", holders)


def gives_sign_in_keys_to_nobody_later() -> AbstractContextManager[object]:
    """A PC that came after a PIN was set cannot let its pupil in."""
    return mock.patch("sync_agent.school.sign_in.SignInBook.tend", _nothing_due)


def keeps_locks_to_itself() -> AbstractContextManager[object]:
    """Whoever guessed ten times at one PC may go on at the next."""

    async def silent(_self: SignInBook, _space: bytes, _person: bytes, _entry: bytes) -> None:
        return

    return mock.patch.object(SignInBook, "_say_locked", silent)


def carries_any_number() -> AbstractContextManager[object]:
    """Nobody counts what a machine says."""

    async def nothing(_self: Quotas, _entries: Iterable[Entry]) -> set[bytes]:
        return set()

    return mock.patch.object(Quotas, "beyond", nothing)


def carries_noise() -> AbstractContextManager[object]:
    """The door looks at no payload of a machine."""
    return mock.patch("protocol.rights.door.fault_of", return_value=None)


def keeps_what_nothing_names() -> AbstractContextManager[object]:
    """Content comes in as long as anybody sends some."""
    patches = ExitStack()
    patches.enter_context(mock.patch.object(Allowance, "take", return_value=True))
    patches.enter_context(mock.patch.object(Allowance, "most", 1 << 30))
    patches.enter_context(mock.patch.object(OpenParts, "receiving", _at_will))
    return patches


@contextlib.asynccontextmanager
async def _at_will(*_args: object) -> AsyncIterator[None]:
    yield


async def _nobody(*_args: object) -> dict[bytes, None]:
    return {}


async def _none(*_args: object) -> int:
    return 0


async def _nothing_due(_self: SignInBook) -> int:
    return 0


@contextlib.contextmanager
def _both(one: AbstractContextManager[object], other: AbstractContextManager[object]) -> Iterator[None]:
    with one, other:
        yield
