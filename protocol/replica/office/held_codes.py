"""Who came in by codes that a revocation holds back: a thief's, made between the theft and its report (§5).

Rules:
- which code a grant names is for its author to say: only one that counts, and that somebody else wrote than who made
  the code, shows that a device came by it;
- somebody else is whoever has a copy of a server's key, too, and names such a code for a PC that has been here all
  year. So a report cuts off those who have no other way in: whose every grant names one, but for what this office's own
  words, or the root's, hold back (docs/adr/0497);
- a grant that comes later, to a server that was restored from a backup, was found by no report: of it the server tells,
  until somebody lets the device in by its name (docs/adr/0276). By itself it cuts nobody off;
- a code is held back, and a report made, by this office's own words or the root's (`said_here`): whoever had a server's
  key writes as many as they like, of keys that they made, or of a head's whom they let back in a minute later, so that
  all by which her school's computers ever came in is held back, and nobody sees it (docs/adr/0502);
- all codes and grants are gone through once, however many keys were cut off: whoever asks, asks with each change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import orders_by_key
from protocol.replica.office.held_by_others import grants_not_held_back_by_this_office
from protocol.replica.office.held_in_space import counting_where_they_lie, not_held_back
from protocol.replica.office.held_without import held_surely
from protocol.replica.office.said_here import cuts_of_servers
from protocol.replica.office.words_of_office import in_force, lets_in
from protocol.rights.door import Authority


async def let_in_by_held_codes(office: Office, device: bytes) -> list[bytes]:
    """Who came in by codes of this device, or of its successors, that a revocation holds back; and by nothing else."""
    came = (await _naming_codes_of(office, [device], _each)).get(device, {})
    given = {key: office.replica.door.authorities_of(key) for key in came}
    held = await held_surely(office, {each.space for some in given.values() for each in some})
    standing = {key: [each for each in some if each.grant not in held[each.space]] for key, some in given.items()}
    return [key for key, by_codes in came.items() if _by_nothing_else(standing[key], by_codes)]


async def came_by_reported_codes(office: Office, counted: Callable[[Authority], bool]) -> set[bytes]:
    """Who is in by codes that this server's own reports hold back, or the root's, and by nothing else that counts.

    Also by those that it made with keys of before. Of the grants that name such a code those alone are `counted` of
    which that says so. Whoever was cut off by name before, and let in again, is none.
    """
    replica = office.replica
    orders = orders_by_key(await cuts_of_servers(office))
    found = set[bytes]()
    for maker, came in (await _naming_codes_of(office, orders, counted)).items():
        for key, by_codes in came.items() if await not_held_back(replica, orders[maker]) else ():
            standing = await grants_not_held_back_by_this_office(office, replica.door.authorities_of(key))
            is_named = bool(await not_held_back(replica, orders.get(key, ())))
            if not is_named and _by_nothing_else(standing, by_codes):
                found.add(key)
    return found


def _by_nothing_else(given: Iterable[Authority], by_codes: Iterable[Authority]) -> bool:
    """Whether each of a device's grants names a code that one of these does."""
    codes = {each.invite for each in by_codes}
    return all(each.invite in codes for each in given)


async def let_in_by_codes_of(
    office: Office, makers: Collection[bytes], *, counted: Callable[[Authority], bool]
) -> dict[bytes, dict[bytes, frozenset[bytes] | None]]:
    """Who came in by codes of several devices that a revocation holds back, by whose code it was: and to which spaces.

    None is everywhere: that was the first way in. Whoever was here before is out where the code led, and stays where it
    had been. Of the grants that name such a code those alone are `counted` of which that says so.
    """
    return {
        maker: {key: await _led(office.replica, key, given) for key, given in of.items()}
        for maker, of in (await _naming_codes_of(office, makers, counted)).items()
    }


def _each(_given: Authority) -> bool:
    return True


async def _naming_codes_of(
    office: Office, makers: Collection[bytes], counted: Callable[[Authority], bool]
) -> dict[bytes, dict[bytes, list[Authority]]]:
    """By what grants that count each device came in by held back codes of these, by whose they are.

    Those of whom nobody came in so are left out.
    """
    replica = office.replica
    naming = [each for each in replica.door.authorities() if each.invite is not None and counted(each)]
    standing = await counting_where_they_lie(replica, naming if makers else [], lambda grant: grant.space, lets_in)
    held = await _held_codes(office, {each.invite for each in standing if each.invite is not None})
    lines = _Lines(replica.door.authorities() if held else [])
    by_maker: defaultdict[bytes, dict[bytes, list[Authority]]] = defaultdict(dict)
    for grant in standing:
        if grant.invite in held:
            # a device that names its own code, or that of the one it came of, says nothing of who came by it
            for maker in lines.of(held[grant.invite], among=makers) - lines.of(grant.author, among=makers):
                by_maker[maker].setdefault(grant.key, []).append(grant)
    return by_maker


async def _led(replica: Replica, key: bytes, by_codes: Collection[Authority]) -> frozenset[bytes] | None:
    """To which spaces a key came by these grants; None, everywhere, where the first by which it is in is among them."""
    counting = [grant for grant in replica.door.authorities_of(key) if await in_force(replica, grant)]
    is_first = counting[0].grant in {grant.grant for grant in by_codes}
    return None if is_first else frozenset(grant.space for grant in by_codes)


async def _held_codes(office: Office, names: Collection[bytes]) -> dict[bytes, bytes]:
    """Those of these that are codes which this office's own words, or the root's, hold back → who made each."""
    found = (await office.replica.store.get(sorted(names))).values() if names else ()
    codes = [entry for entry in found if entry.header.kind == Kind.INVITE]
    counting = {code.id for code in await not_held_back(office.replica, codes)}
    waiting = [code for code in codes if code.id not in counting]
    held = await held_surely(office, {code.header.space for code in waiting})
    return {code.id: code.header.author for code in waiting if code.id in held[code.header.space]}


class _Lines:
    """Of which keys each came by successors."""

    def __init__(self, authorities: Iterable[Authority]) -> None:
        self._before: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for given in authorities:
            if given.predecessor is not None:
                self._before[given.key].add(given.predecessor)
        self._found: dict[bytes, frozenset[bytes]] = {}

    def of(self, key: bytes, *, among: Collection[bytes]) -> frozenset[bytes]:
        """The key itself, and those that it came of, as far as they are `among` these: the same each time."""
        if key not in self._found:
            self._found[key] = frozenset(among).intersection(_all_before(key, self._before))
        return self._found[key]


def _all_before(key: bytes, before: Mapping[bytes, Collection[bytes]]) -> set[bytes]:
    """A key, and those that it came of."""
    found, pending = {key}, [key]
    for here in pending:
        fresh = set(before.get(here, ())) - found
        found |= fresh
        pending += fresh
    return found
