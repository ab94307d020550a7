"""Who can read a hand-in: its content key, sealed to each of its readers.

docs/protocol.md, "Sealed hand-ins", W1 to W12, W20.

Rules:
- readers are the reading keys of the space's teachers, and the territory's recovery key;
- until it has heard that a hand-in was opened, the machine that made it keeps the content key, and wraps it for every
  reader who came later, for so many keys of one device: who makes keys without end takes their own place alone, and
  those of whoever was cut off count no more; who has been known here for longest comes first, and whoever finds no
  place in one wrap is given another;
- opened work waits for nobody: once this device has heard of it, by a device that it knows or to which such a one ever
  led (`heard_opened`), whatever becomes of that word, it wraps for the kit in force alone, and lets go of the key as
  soon as that has a wrap. Whoever has the server makes words count for nothing, and finds ways to be waited for
  (docs/adr/0303, 0449);
- so it is with work that is hidden, but by the word of nobody new; the kit's wrap of it may be hidden too
  (docs/adr/0447);
- the key lies here sealed (`key_slots`), and opens nothing once it is freed, wherever on the disk copies of that are
  (docs/adr/0412);
- nothing frees a key of work that is not sealed to the kit in force: whoever has the server keeps that key's name from
  a PC for months, and what it let go of meanwhile no kit opens (docs/adr/0319);
- only this device's own wraps count as done: another's might not open; what is held back of them is said again, once
  under each grant, and frees no key: whoever has the server holds back what they like (docs/adr/0310);
- what has been opened is wrapped for teachers who come later by the devices of those who can open it, once these have
  confirmed them, or a head teacher's device has that they confirmed (`confirming`): the server's word is not enough;
- and they wrap it for the kit, where neither its author nor anybody whom they have confirmed has;
- who stands in for somebody is given what is handed in until the end of the stay, and nothing that was opened before:
  whoever has any right with a last day there, whatever else is said of them (docs/adr/0490).
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Final, Self

from protocol.canonical import Value, decode, encode
from protocol.errors import BadInput, Code, LocalFailure, PeerFault, Refused
from protocol.fields import Fields
from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import info_of, is_given, teachers_keys, wraps_for
from protocol.limits import (
    MAX_LATE_WRAPS_FOR_STRANGERS,
    MAX_LATE_WRAPS_PER_DEVICE,
    MAX_READERS_OF_ONE_WORK,
    MAX_READERS_PER_HAND_IN,
)
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.work import Wraps
from protocol.replica.at_work.keyring import recovery_keys, recovery_keys_ever
from protocol.replica.at_work.replica import Draft
from protocol.rights.roster import Roster
from protocol.rights.vouching import Circle, Device
from sync_agent.app import Agent
from sync_agent.hand_ins.heard_opened import has_heard_opened, read_receipts
from sync_agent.hand_ins.opening import sure_key
from sync_agent.keys.acquaintances import is_acquaintance, turns
from sync_agent.keys.confirming import circle_of, own_grant, own_grants
from sync_agent.keys.first_met import remember_firsts
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.machine.eviction import Seen
from sync_agent.machine.key_slots import MAX_MARK_BYTES, SEALED_KEY_BYTES
from sync_agent.machine.marks import HAND_IN_MARKS

_log = logging.getLogger(__name__)

_PASSED_ON_AT_ONCE: Final = 256
_HEARD_ONCE_MS: Final = 1
"""Of what an earlier version had heard as opened: it noted no time."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a device keeps of a hand-in that it made: the content key, sealed, until it is freed.

    `seen` is when it first knew that the server has it; `heard_ms` since when, as `watched` counts, it has heard that
    it was opened, whoever says what of that since: the key goes then, and a month later the content may.
    """

    sealed_key: bytes | None
    seen: Seen | None = None
    heard_ms: int | None = None

    @classmethod
    def parse(cls, mark: bytes) -> Self:
        """From the store. Raises `LocalFailure(DAMAGED)`."""
        try:
            fields = Fields(decode(mark, max_bytes=MAX_MARK_BYTES), "what is kept of a hand-in")
            key = fields.octets_or_none("sealed", SEALED_KEY_BYTES)
            own_ms, server_ms = fields.count_or_none("seen"), fields.count_or_none("proven")
            seen = None if own_ms is None or server_ms is None else Seen(own_ms, server_ms)
            heard_ms = fields.count_or_none("heard")
            if heard_ms is None and fields.has("opened"):
                heard_ms = _HEARD_ONCE_MS
            return cls(key, seen, heard_ms)
        except PeerFault as fault:
            raise LocalFailure(Code.DAMAGED, "what this device noted of a hand-in cannot be read") from fault

    def encode(self) -> bytes:
        """For the store."""
        said: dict[str, Value] = {"sealed": self.sealed_key}
        if self.seen is not None:
            said |= {"seen": self.seen.own_ms, "proven": self.seen.server_ms}
        if self.heard_ms is not None:
            said["heard"] = self.heard_ms
        return encode(said)

    def heard(self, now_ms: int, *, is_said: bool) -> Self:
        """As it is kept from now on, with whether anybody has said that they opened it: the first time stays."""
        if self.heard_ms == _HEARD_ONCE_MS or (self.heard_ms is None and is_said):
            return replace(self, heard_ms=now_ms)
        return self


def mark_of(hand_in: bytes) -> str:
    """The name of the mark that holds what is kept of a hand-in."""
    return f"{HAND_IN_MARKS}{hand_in.hex()}"


async def kept_here(agent: Agent) -> dict[bytes, Kept]:
    """What this device keeps of each hand-in that it made. Raises `LocalFailure`."""
    marks = await agent.replica.store.marks(HAND_IN_MARKS)
    return {bytes.fromhex(name.removeprefix(HAND_IN_MARKS)): Kept.parse(mark) for name, mark in marks.items()}


async def kept_of(agent: Agent, hand_in: bytes) -> Kept | None:
    """What this device keeps of one hand-in, if it made it. Raises `LocalFailure`."""
    mark = await agent.replica.store.mark(mark_of(hand_in))
    return None if mark is None else Kept.parse(mark)


async def readers_of(agent: Agent, space: bytes) -> list[bytes]:
    """The keys to which a hand-in of this space is sealed now: its teachers', in their turn, and recovery's at the end.

    Of more than `MAX_READERS_OF_ONE_WORK`, every teacher's newest key comes before anybody's second, and of these the
    keys of who has been known here for longest.
    """
    return [*await _teachers_in_turn(agent, space), *await recovery_keys(agent.replica)]


async def first_readers_of(agent: Agent, space: bytes) -> list[bytes]:
    """Those for whom the wrap is that comes with a hand-in: the others are wrapped for by further ones."""
    teachers = await _teachers_in_turn(agent, space)
    return [*teachers[:MAX_READERS_PER_HAND_IN], *await recovery_keys(agent.replica)]


async def _teachers_in_turn(agent: Agent, space: bytes) -> list[bytes]:
    roster = (await agent.replica.view(space)).roster
    turn = turns(agent, roster)
    of_teachers = teachers_keys(roster, now_ms=agent.now_ms()).values()
    ranks = [sorted((key for key in rank if key is not None), key=turn) for rank in zip_longest(*of_teachers)]
    return list(dict.fromkeys(key for rank in ranks for key in rank))[:MAX_READERS_OF_ONE_WORK]


async def wrap_for_the_rest(agent: Agent, hand_in: Entry, content_key: bytes) -> None:
    """Seal work that was just handed in to the readers for whom there was no place in its first wrap."""
    space = hand_in.header.space
    readers = await readers_of(agent, space)
    if len(readers) > len(await first_readers_of(agent, space)):
        work = (await agent.replica.view(space)).coursework.hand_ins.get(hand_in.id)
        said = (await _own_wraps(agent, space)).get(hand_in.id, ())
        if work is not None and (drafts := await _late_wraps(agent, work, content_key, readers, said)):
            await agent.write(*drafts)


async def tend_hand_ins(agent: Agent) -> int:
    """Wrap for readers who came later, and forget the keys that a teacher's receipt freed; how many wraps that made.

    To be called after what may have brought readers or receipts.
    """
    await remember_firsts(agent)
    async with agent.writing:
        return await _tend_own(agent) + await _pass_on(agent)


async def _pass_on(agent: Agent) -> int:
    """A teacher's device wraps what it has opened for colleagues who came later: its author has no key any more.

    And for the kit, where its author had never heard of that. Only for who was not given it by somebody to believe, and
    a part at a time: what this writes calls for the next round. Only by a key that is sure: it is this device's word.
    """
    keys = reading_keys(agent)
    drafts: list[Draft] = []
    grants = await own_grants(agent)
    kit, kits_ever = await _kits(agent)
    for space in await agent.spaces() if keys else ():
        view = await agent.replica.view(space)
        mine = await own_grant(agent, grants, space)
        if mine is None or mine.person is None:
            continue
        circle = circle_of(agent, view.roster, mine.person)
        others = [(theirs, theirs) for theirs in _confirmed_keys(view.roster, circle, mine.person)]
        wanting = [*([(kit, kits_ever)] if kit else ()), *others]
        trusted = {device[0] for device in circle.own | circle.others}
        due = [
            (work, lacking)
            for work in (view.coursework.hand_ins.values() if wanting else ())
            if work.opened
            and (lacking := [to for to, by in wanting if not is_given(work, by, {*trusted, work.author})])
        ]
        said = await _wrapped_here(agent, view.roster) if due else {}
        for work, lacking in due:
            if len(drafts) == _PASSED_ON_AT_ONCE:
                break
            done = said.get(work.id, set())
            wanted = [key for theirs in lacking if done.isdisjoint(theirs) for key in theirs]
            # who says one key after another has those before, by which it was given the work already
            readers = _as_many_as_bounded(wanted, done, view.roster, kit)[:MAX_READERS_PER_HAND_IN]
            content_key = await sure_key(agent, work, {*trusted, work.author}) if readers else None
            if content_key is not None:
                drafts += await _wrap(agent, work, readers, content_key)
    return await agent.write_unasked(*drafts)


async def _kits(agent: Agent) -> tuple[list[bytes], frozenset[bytes]]:
    """To what kit opened work is sealed by now where no kit opens it; and all kits' keys that there ever were."""
    return await recovery_keys(agent.replica), await recovery_keys_ever(agent.replica)


async def _wrapped_here(agent: Agent, roster: Roster) -> dict[bytes, set[bytes]]:
    """For whom this device has wrapped each work, whether others believe it or not: else it says so at each look."""
    right = await agent.right(roster.space, Kind.WRAP)
    return {
        work: _wrapped(_said(roster, (entry for entry in said if entry.header.author == agent.device), right.grant))
        for work, said in (await _own_wraps(agent, roster.space)).items()
    }


def _said(roster: Roster, own: Iterable[Entry], grant: bytes | None = None) -> list[Entry]:
    """Those of its own wraps that count; with the grant under which it speaks now, all that it need not say again.

    What is held back is said again, once under each grant.
    """
    return [entry for entry in own if not roster.hides(entry) or (grant is not None and entry.header.grant == grant)]


async def _wrap(agent: Agent, work: Work, readers: Sequence[bytes], content_key: bytes) -> list[Draft]:
    """What says to as many readers as one entry holds how a work is opened; nothing where none of them could read."""
    wraps = wraps_for(readers, content_key, info_of(work), agent.entropy)
    if not _says_something(wraps):
        return []
    right = await agent.right(work.space, Kind.WRAP)
    return [Draft(work.space, Kind.WRAP, right.grant, wraps.encode(), subject=work.person, target=work.id)]


def _says_something(wraps: Wraps) -> bool:
    """Whether anybody could read with one of them: what wraps for nobody would be said again at each look."""
    return bool(wraps.wraps)


def _confirmed_keys(roster: Roster, circle: Circle, own: bytes) -> list[list[bytes]]:
    """The keys of each colleague who is there for good, as far as a device made them that was confirmed as theirs."""
    found = []
    for person, keys in teachers_keys(roster, for_good=True).items():
        if person != own:
            theirs = [key for key in keys if any((maker, person) in circle.others_as for maker in roster.makers[key])]
            found += [theirs] if theirs else []
    return found


async def _tend_own(agent: Agent) -> int:
    """What this device owes to the readers of the work that it made."""
    if not await agent.key_slots.seal_bare():
        return 0
    await agent.key_slots.draw_free()
    kept = await kept_here(agent)
    open_keys = {hand_in: each for hand_in, each in kept.items() if each.sealed_key is not None}
    if not open_keys:
        return 0
    await read_receipts(agent, open_keys)
    now: dict[bytes, Kept] = {}
    drafts = []
    classes: dict[bytes, _Class] = {}
    recovery = await recovery_keys(agent.replica)
    works, opening = await agent.replica.store.get(list(open_keys)), agent.key_slots.opening()
    for entry in works.values():
        space = entry.header.space
        view = await agent.replica.view(space)
        if space not in classes:
            classes[space] = await _Class.of(agent, space)
        here, work = classes[space], view.coursework.hand_ins.get(entry.id)
        done = here.said.get(entry.id, ())
        known = await _looked_at(agent, entry.id, open_keys[entry.id], work, view.roster)
        is_opened = known.heard_ms is not None
        # what is hidden is said again by nobody
        if is_opened and _kit_opens(recovery, _wrapped(done if work is None else _said(view.roster, done))):
            known = replace(known, sealed_key=None)
        elif work is not None and (content_key := opening(known.sealed_key)) is not None:
            readers = recovery if is_opened else here.readers
            drafts += await _late_wraps_there(agent, work, content_key, readers, done)
        now[entry.id] = known
    changed = {work: known for work, known in now.items() if known != open_keys[work]}
    freed = [open_keys[work].sealed_key for work, known in changed.items() if known.sealed_key is None]
    await agent.key_slots.give_up([key for key in freed if key is not None])
    if changed:
        marks = {mark_of(work): known.encode() for work, known in changed.items()}
        await agent.replica.store.set_marks({**marks, **agent.watched.marks()})
    return await agent.write_unasked(*drafts)


async def _looked_at(agent: Agent, hand_in: bytes, mine: Kept, work: Work | None, roster: Roster) -> Kept:
    """What is kept of a work after this look: whether it was heard to be opened, and the server seen to have it.

    So it is with work that is not shown, erased or held back or somebody's who is frozen: whoever has the server hides
    it for as long as they like (docs/adr/0447).
    """
    is_said = mine.heard_ms is None and await has_heard_opened(agent, hand_in, work, roster)
    known = mine.heard(agent.watched.now_ms(), is_said=is_said)
    is_new_there = work is not None and work.at_server and known.seen is None
    return replace(known, seen=agent.seen_now()) if is_new_there else known


async def give_up_keys(agent: Agent, works: Iterable[bytes]) -> None:
    """Let nothing here open these works any more; their marks are for the caller to change."""
    kept = [await kept_of(agent, work) for work in works]
    await agent.key_slots.give_up(
        [each.sealed_key for each in kept if each is not None and each.sealed_key is not None]
    )


@dataclass(frozen=True, slots=True)
class _Class:
    """Who reads there now, and for whom this device has wrapped what."""

    readers: list[bytes]
    said: dict[bytes, list[Entry]]

    @classmethod
    async def of(cls, agent: Agent, space: bytes) -> Self:
        """Of one class, at one look."""
        return cls(await readers_of(agent, space), await _own_wraps(agent, space))


def _kit_opens(recovery: Collection[bytes], wrapped: Collection[bytes]) -> bool:
    """Whether a work is sealed to the kit in force; nobody knows that who knows of no kit."""
    return bool(recovery) and set(recovery).issubset(wrapped)


async def _own_wraps(agent: Agent, space: bytes) -> dict[bytes, list[Entry]]:
    """The wraps that this device has written in a space, with whichever of its keys, by the work."""
    found: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for key in (agent.device, *agent.former):
        for entry in await agent.replica.store.authored(space, key):
            if entry.header.kind == Kind.WRAP and entry.header.target is not None:
                found[entry.header.target].append(entry)
    return found


async def _late_wraps_there(
    agent: Agent, work: Work, content_key: bytes, readers: Sequence[bytes], said: Sequence[Entry]
) -> list[Draft]:
    """None where this device may say no more: that a class is lost keeps no other from being looked after."""
    try:
        return await _late_wraps(agent, work, content_key, readers, said)
    except (BadInput, Refused) as lost:
        _log.info("a hand-in is wrapped for nobody more in a class that was lost: %s", lost)
        return []


async def _late_wraps(
    agent: Agent, work: Work, content_key: bytes, readers: Sequence[bytes], said: Sequence[Entry]
) -> list[Draft]:
    """Wraps for those of the readers there are now for whom this device, which has `said` so many, has written none."""
    roster = (await agent.replica.view(work.space)).roster
    shown = _said(roster, said)
    if len(shown) < len(said) and not _wrapped(shown).issuperset(readers):
        shown = _said(roster, said, (await agent.right(work.space, Kind.WRAP)).grant)
    done = _wrapped(shown)
    wanted = [reader for reader in readers if reader not in done]
    recovery = await recovery_keys(agent.replica) if wanted else []
    if wanted and len(said) >= MAX_LATE_WRAPS_FOR_STRANGERS:
        known = is_acquaintance(agent, roster)
        if _is_much([entry for entry in said if not any(map(known, _wrapped([entry])))]):
            wanted = [reader for reader in wanted if reader in recovery or known(reader)]
    lacking = _as_many_as_bounded(wanted, done, roster, recovery)
    drafts = []
    for start in range(0, len(lacking), MAX_READERS_PER_HAND_IN):
        drafts += await _wrap(agent, work, lacking[start : start + MAX_READERS_PER_HAND_IN], content_key)
    return drafts


def _is_much(for_strangers: Sequence[Entry]) -> bool:
    """Whether its author has sealed a work so often to who is new here that the next one waits (docs/adr/0240).

    Whoever has the server names one teacher after another: all that this device may say would be spent on them.
    """
    return len(for_strangers) >= MAX_LATE_WRAPS_FOR_STRANGERS


def _as_many_as_bounded(
    wanted: Sequence[bytes], done: Iterable[bytes], roster: Roster, recovery: Collection[bytes]
) -> list[bytes]:
    """Those of the keys of a device that has not had too many of this work: it could make new ones without end.

    The kit's always, whoever says that it is theirs.
    """
    had = Counter(device for key in done for device in _who_said(key, roster))
    found = []
    for key in wanted:
        devices = () if key in recovery else _who_said(key, roster)
        if not devices or any(had[device] < MAX_LATE_WRAPS_PER_DEVICE for device in devices):
            found.append(key)
            had.update(devices)
    return found


def _who_said(key: bytes, roster: Roster) -> set[Device]:
    """The devices whose reading key this is, as far as their right holds."""
    return {device for device in roster.said_by.get(key, ()) if device[0] not in roster.cut}


def _wrapped(wraps: Iterable[Entry]) -> set[bytes]:
    """The readers for whom some wraps are."""
    records = (parsed(entry, Wraps.parse) for entry in wraps)
    return {reader for record in records if record is not None for reader, _ in record.wraps}
