"""Heads of things that replace one another, and which head is shown (R5; docs/protocol.md, "Conflicts").

Rules:
- a head is what nothing names as its parent; of several heads the one with the longest line of ancestors is shown, then
  the one with the greater `at`, then the greater id;
- what is passed over (held back, erased, a header alone …) is not shown, and holds its place: a word stands where it
  stood, and has replaced what it replaced, whoever is cut off later. Else whoever writes as many words as one entry
  names parents has an earlier word of somebody's shown again as soon as these are held back (docs/adr/0378);
- the same set gives the same answer, whatever the order of arrival.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from protocol.limits import MAX_PARENTS
from protocol.model.entry import Entry, Header

T = TypeVar("T")


def heads(entries: Iterable[Entry], passed_over: Iterable[Entry] = ()) -> list[Entry]:
    """The heads among `entries`, the one to show first; what is `passed_over` is of the same thing.

    Parents that are among neither count for nothing.
    """
    known = {entry.id: entry for entry in entries}
    if len(known) <= 1:
        return list(known.values())
    passed_over = tuple(passed_over)
    return _unreplaced(in_order_of_showing(known, passed_over), known, passed_over)


def in_order_of_showing(known: Mapping[bytes, Entry], passed_over: Iterable[Entry] = ()) -> list[Entry]:
    """All of these, each before those that it replaces: the first that can be shown is what is shown.

    Each is the head that would be shown if those before it had not come. What comes without its content thus takes
    nobody back from what is read.
    """
    if len(known) <= 1:
        return list(known.values())
    depth = depths(_with_passed(known, passed_over))
    return sorted(known.values(), key=lambda entry: (depth[entry.id], entry.header.at, entry.id), reverse=True)


def to_replace(entries: Iterable[Entry], passed_over: Iterable[Entry] = ()) -> tuple[bytes, ...]:
    """What a further word about a thing names as its parents, as many as one entry names.

    First the one that is shown, so that it stands before all that its author knows of. Then of each author the
    foremost, then heads: nobody fills the places by saying much, and where somebody's words come to this author alone,
    or are not passed on, the others' are named beside them.
    """
    known = {entry.id: entry for entry in entries}
    passed_over = tuple(passed_over)
    in_order = in_order_of_showing(known, passed_over)
    foremost: dict[bytes, bytes] = {}
    for entry in in_order:
        foremost.setdefault(entry.header.author, entry.id)
    newest = (entry.id for entry in _unreplaced(in_order, known, passed_over))
    return tuple(dict.fromkeys((*foremost.values(), *newest)))[:MAX_PARENTS]


def replaced_by(start: bytes, known: Mapping[bytes, Entry], passed_over: Iterable[Entry] = ()) -> dict[bytes, Entry]:
    """An entry and all that it replaces through `parents`, as far as it is known."""
    return led_to([start], known, passed_over)


def led_to(names: Iterable[bytes], known: Mapping[bytes, Entry], passed_over: Iterable[Entry]) -> dict[bytes, Entry]:
    """What of the known has these names, and what they lead to through `parents`, be it through what is passed over."""
    about = _with_passed(known, passed_over)
    found: dict[bytes, Entry] = {}
    pending = list(names)
    while pending:
        here = pending.pop()
        if here in about and here not in found:
            found[here] = about[here]
            pending.extend(about[here].header.parents)
    return {name: entry for name, entry in found.items() if name in known}


def _unreplaced(in_order: Iterable[Entry], known: Mapping[bytes, Entry], passed_over: Iterable[Entry]) -> list[Entry]:
    parents = [parent for entry in known.values() for parent in entry.header.parents]
    replaced = led_to(parents, known, passed_over)
    return [entry for entry in in_order if entry.id not in replaced]


def _with_passed(known: Mapping[bytes, Entry], passed_over: Iterable[Entry]) -> dict[bytes, Entry]:
    return {entry.id: entry for entry in passed_over} | dict(known)


def depths(known: Mapping[bytes, Entry]) -> dict[bytes, int]:
    """For each entry, how many entries its longest line of ancestors has, itself included.

    Iterative, because a lesson may be revised more often than the interpreter may recurse. A cycle cannot exist, as
    an id is a hash over its parents.
    """
    return along(known, lambda _entry: 1, _parents_of)


def _date_of(header: Header) -> int:
    """The time that an entry bears."""
    return header.at


def moments(known: Mapping[bytes, Entry], said_at: Callable[[Header], int] = _date_of) -> dict[bytes, int]:
    """For each entry, the time as which it counts: its own, or just after that of all that it names as its parents.

    So whoever has heard of a word can take its place, whatever date that bears.
    """
    return along(known, lambda entry: said_at(entry.header), _parents_of)


def _parents_of(entry: Entry) -> Sequence[bytes]:
    return entry.header.parents


def along(
    known: Mapping[bytes, T], least: Callable[[T], int], parents_of: Callable[[T], Sequence[bytes]]
) -> dict[bytes, int]:
    """A number for each thing: its `least`, or one more than that of each of its parents."""
    found: dict[bytes, int] = {}
    for start in known:
        stack = [start]
        while stack:
            here = stack[-1]
            if here in found:
                stack.pop()
                continue
            parents = [parent for parent in parents_of(known[here]) if parent in known]
            waiting = [parent for parent in parents if parent not in found]
            if waiting:
                stack.extend(waiting)
            else:
                found[here] = max(least(known[here]), *(1 + found[parent] for parent in parents), 0)
                stack.pop()
    return found


def ancestors(starts: Iterable[bytes], known: Mapping[bytes, Entry]) -> set[bytes]:
    """`starts` and all that they follow through `prev`, as far as it is known."""
    found: set[bytes] = set()
    stack = [start for start in starts if start in known]
    while stack:
        here = stack.pop()
        if here not in found:
            found.add(here)
            stack.extend(earlier for earlier in known[here].header.prev if earlier in known)
    return found


def marked(
    marks: Mapping[bytes, int], leads_to: Mapping[bytes, Iterable[bytes]], closed: Mapping[bytes, int] | None = None
) -> dict[bytes, int]:
    """The bits of `marks` with which something can be reached, for all that can be: its own, and of what leads to it.

    Nothing is reached with the bits with which it is `closed`, nor what it leads to through it.
    One pass over names and links, however many marks there are. There are no cycles, as ids are hashes.
    """
    found = dict(marks)
    waiting = Counter(name for names in leads_to.values() for name in names)
    pending = [name for name in leads_to if name not in waiting]
    for here in pending:
        mark = found.get(here, 0)
        for name in leads_to.get(here, ()):
            if mark:
                found[name] = found.get(name, 0) | (mark & ~closed.get(name, 0) if closed else mark)
            waiting[name] -= 1
            if not waiting[name]:
                pending.append(name)
    return found
