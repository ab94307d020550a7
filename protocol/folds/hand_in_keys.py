"""A hand-in's content key: who is meant to have it, how it is sealed to them, and how it is opened again.

docs/protocol.md, "Sealed hand-ins".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from protocol.errors import PeerFault
from protocol.folds.coursework import HandInState, Witness, Work
from protocol.identity import AgreementKey
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.work import HandIn, Wraps
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, device_id
from protocol.roles import HAS_READING_KEYS
from protocol.trust.sealing import unwrap_key, wrap_info, wrap_key

NEVER_MS: Final = 1 << 63
"""Of whom a replica has not met: later than all."""


def teachers_keys(roster: Roster, *, now_ms: int | None = None, for_good: bool = False) -> dict[bytes, list[bytes]]:
    """The reading keys of each teacher of a space, by person: the newest of each of their devices, then the others.

    Whoever has a teacher's right has reading keys; what a list calls them counts for nothing here: whoever writes lists
    would call the one teacher of a class a pupil. Without those whose stay was meant to end before `now_ms`; with
    `for_good`, without all of whom any right there has a last day.
    """
    passed_over = set() if now_ms is None else _whose_stay_is_over(roster, now_ms)
    if for_good:
        passed_over |= _with_a_last_day(roster)
    return {
        person: _in_turn(list(reversed(keys)), roster.makers)
        for person, keys in sorted(roster.reading_keys.items())
        if person not in passed_over
    }


def _in_turn(keys: Sequence[bytes], makers: Mapping[bytes, Iterable[Device]]) -> list[bytes]:
    """The first key of each device that made some, then the second ones, each in the order given."""
    had: Counter[Device] = Counter()
    turns = {}
    for key in keys:
        devices = list(makers.get(key, ()))
        turns[key] = min((had[device] for device in devices), default=0)
        had.update(devices)
    return sorted(keys, key=lambda key: turns[key])


def is_given(work: Work, keys: Iterable[bytes], trusted: Collection[bytes]) -> bool:
    """Whether a device whose word counts has wrapped a work for one of these keys: what others wrap might not open."""
    return any(by in trusted for key in keys for by in work.wrapped_by.get(key, ()))


@dataclass(frozen=True, slots=True)
class Known:
    """The devices (`device_id`) of a class that a replica knows: since it first met the class, or for long.

    `met_ms` is since when it has known each person there, by the ids that grants give; `hidden_as` as whose it has met
    a device that said a key, of what is hidden now; `forgotten` as whose it has met one of which such a word is
    destroyed: it may have been any key.
    """

    first: frozenset[bytes] = frozenset()
    long: frozenset[bytes] = frozenset()
    met_ms: Mapping[bytes, int] = field(default_factory=dict)
    hidden_as: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)
    forgotten: frozenset[bytes] = frozenset()

    def without_newcomers(self) -> Known:
        """Without those whom only time has made known: whoever has the server can wait for a week (docs/adr/0254)."""
        return replace(self, long=frozenset())


def is_opened_for_good(work: Work, roster: Roster, recovery: Collection[bytes], known: Known) -> bool:
    """Whether a hand-in was opened by whom it was meant for: what keeps it alive may let go of it.

    By a teacher who read there when it was handed in, or by whom one of theirs has confirmed; and none of that by who
    is new here. Whoever has the server names as many teachers as they like, who say that they have opened everything.
    Where there was no teacher yet, whoever came counts once they have been known for long. Where it is not known for
    whom it was meant, nobody does.
    """
    keys = work.meant_for.difference(recovery)
    if not work.opened or not _says_for_whom(work):
        return False
    meant = {one for key in keys for one in _whose(key, roster, known)} if keys else roster.starts.keys()
    counting = known.first | known.long if keys else known.long
    signers: set[bytes] = set()
    back: set[bytes] = set()
    for person in meant:
        for start in roster.starts.get(person, ()):
            if device_id(start) in counting:
                for device in _circle_from(roster, person, start):
                    (signers if _may_say(roster, person, device) else back).add(device[0])
    said = (each for each in work.witnesses if each.says is HandInState.TEACHER)
    return any(each.by in signers or (each.by in back and _was_before(each, roster)) for each in said)


def _says_for_whom(work: Work) -> bool:
    """Whether the wrap is here that came with a work: whoever is listed would have been meant, without it."""
    return bool(work.meant_for)


def _was_before(said: Witness, roster: Roster) -> bool:
    """Whether something was said before somebody was cut off, and let in again as something else: by whom it was."""
    return said.grant not in roster.again


def opened_by_the_listed(
    roster: Roster,
    recovery: Collection[bytes],
    claimed: Container[bytes],
    first_here: frozenset[Device],
    namesakes: Container[bytes],
) -> Callable[[Work], bool]:
    """Whether a hand-in was opened by whom it was meant for, to the server.

    By a device that said a reading key to which its author sealed it first, and speaks for somebody whom the class's
    list has as a teacher, or by whom that one leads to. Whoever has the server's keys lets in as many others as they
    like: what is counted so may be destroyed. Nor is a key that several have `claimed` anybody's here. Where a work was
    sealed to recovery alone, by who was the first there to say a key (`first_here`): whoever has the server keeps her
    key from a PC, and lists others later. By nobody where it is not known to whom; nor by one of the `namesakes`, who
    bear what was another's name, but where another leads to them.
    """
    teachers = {one.id for one in roster.teachers if one.id not in namesakes}
    listed = {person: devices for person, devices in roster.speaking.items() if person in teachers}
    led: dict[frozenset[bytes], set[bytes]] = {}

    def signers(keys: frozenset[bytes]) -> set[bytes]:
        said = {device for key in keys if key not in claimed for device in roster.said_by.get(key, ())}
        begins = said if keys else first_here
        return {
            device[0]
            for person, speaking in listed.items()
            for start in speaking & begins
            for device in _circle_from(roster, person, start)
            if _may_say(roster, person, device)
        }

    def is_opened(work: Work) -> bool:
        keys = work.meant_for.difference(recovery)
        if not _says_for_whom(work):
            return False
        if work.opened and keys not in led:
            led[keys] = signers(keys)
        return any(said.says is HandInState.TEACHER and said.by in led[keys] for said in work.witnesses)

    return is_opened


def _whose(key: bytes, roster: Roster, known: Known) -> set[bytes]:
    """Whose a reading key is: of several who say it, of whom this replica has known for longest.

    Everybody sees a key, and nothing proves whose it is: who comes says hers, and the work of years was meant for them;
    or says it while she is hidden, for ten minutes, or once her word is destroyed.
    """
    persons = roster.said_as.get(key, frozenset()) | known.hidden_as.get(key, frozenset()) | known.forgotten
    since_ms = {person: known.met_ms.get(person, NEVER_MS) for person in persons}
    return {person for person in persons if since_ms[person] == min(since_ms.values())}


def _may_say(roster: Roster, person: bytes, device: Device) -> bool:
    """Whether a device's receipts let go of a person's work: none that was cut off as theirs and is back otherwise."""
    return (device, person) not in roster.away.back


def _circle_from(roster: Roster, person: bytes, start: Device) -> frozenset[Device]:
    circle = roster.voices.circle(person, start)
    return circle.own | circle.others


def _whose_stay_is_over(roster: Roster, now_ms: int) -> set[bytes]:
    """Whose every right here was meant to end by now.

    One without a last day keeps somebody: whoever has the server would else have no work sealed to a teacher.
    """
    rights = [right for right in _teachers_rights(roster) if right.key not in roster.cut]
    staying = {right.person for right in rights if right.until_ms is None or right.until_ms > now_ms}
    return {right.person for right in rights if right.person is not None} - staying


def _with_a_last_day(roster: Roster) -> set[bytes]:
    """Of whom any right here is meant to end, whatever others say, of whichever device (docs/adr/0490).

    Whoever has the server says one more that has no end, of theirs or of a device that it makes up, and cuts off the
    one that has. To end that right ends what was confirmed of it.
    """
    return {
        right.person for right in _teachers_rights(roster) if right.person is not None and right.until_ms is not None
    }


def _teachers_rights(roster: Roster) -> Iterator[Authority]:
    return (right for right in roster.authorities if right.role in HAS_READING_KEYS)


def info_of(work: Work) -> bytes:
    """What the wraps of a hand-in are bound to."""
    return wrap_info(
        space=work.space,
        item=work.item,
        person=work.person,
        author=work.author,
        commitment=work.record.content.stream,
    )


def info_of_hand_in(entry: Entry) -> bytes | None:
    """The same, of the entry that is the hand-in; None where it is none, or says nothing any more."""
    header, record = entry.header, parsed(entry, HandIn.parse)
    if header.kind != Kind.HAND_IN or record is None or header.target is None or header.subject is None:
        return None
    return wrap_info(
        space=header.space,
        item=header.target,
        person=header.subject,
        author=header.author,
        commitment=record.content.stream,
    )


def content_keys_of(
    work: Work, keys: Mapping[bytes, AgreementKey], *, by: Container[bytes] | None = None
) -> Iterator[bytes]:
    """What was sealed to these keys as the content key of a hand-in, each once, of whom to believe most first.

    To a key of hers to which its author sealed nothing anybody's wrap is the first: it comes after those of others.
    With `by`, what these devices sealed alone.
    """
    found: set[bytes] = set()
    for public in sorted(keys, key=partial(_doubt, work)):
        for wrap, sealer in zip(work.readers.get(public, ()), work.wrapped_by.get(public, ()), strict=True):
            if by is not None and sealer not in by:
                continue
            try:
                content_key = unwrap_key(wrap, keys[public], info_of(work))
            except PeerFault:
                continue
            if content_key not in found:
                found.add(content_key)
                yield content_key


def _doubt(work: Work, public: bytes) -> tuple[bool, bool]:
    """How much there is against what was sealed to a key: not by the author, not by anybody to believe."""
    return work.author not in work.wrapped_by.get(public, ()), public not in work.given


def content_key_of(work: Work, keys: Mapping[bytes, AgreementKey]) -> bytes | None:
    """The first of these, of whom to believe most; None where there is none."""
    return next(content_keys_of(work, keys), None)


def wraps_for(readers: Iterable[bytes], content_key: bytes, info: bytes, entropy: Callable[[int], bytes]) -> Wraps:
    """The content key for each reader; a key that nobody could read with is passed over."""
    wraps = []
    for reader in readers:
        try:
            wraps.append((reader, wrap_key(content_key, reader, info, entropy(32))))
        except PeerFault:
            continue
    return Wraps(tuple(wraps))
