"""Which words that are held back were said again since: by what follows on them, never by a date (docs/adr/0311)."""

from __future__ import annotations

from random import Random

from protocol.identity import SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.work import Feedback
from protocol.replica.office.words_of_office import said_again
from sync_agent.school.held_back import _TOPICS_AT_ONCE, _said_again

HERS = SigningKey(Random(1).randbytes(32))


def answer(about: int, *after: Entry, at: int = 0, grant: bytes = bytes(32)) -> Entry:
    return compose(
        author=HERS,
        space=bytes(32),
        kind=Kind.FEEDBACK,
        grant=grant,
        at=at,
        payload=Feedback("x", None, False, None).encode(),
        salt=bytes(16),
        subject=bytes(16),
        target=about.to_bytes(32),
        prev=sorted(one.id for one in after),
    )


def again(said: list[Entry], held: list[Entry]) -> set[bytes]:
    return _said_again(said, held, [one for one in said if one not in held])


def test_what_was_said_first_says_nothing_again_whatever_its_date() -> None:
    first = answer(1, at=9)
    held = answer(1, first, at=2)
    of_another = answer(2, held, at=3)
    said = [first, held, of_another]
    assert again(said, [held]) == set()
    assert again([*said, answer(1, of_another, at=1)], [held]) == {held.id}


def test_nor_does_what_was_said_without_knowing_of_it() -> None:
    first = answer(1)
    held, beside = answer(1, first, at=1), answer(1, first, at=2)
    assert again([first, held, beside], [held]) == set()
    assert again([first, held, beside, answer(1, held, beside)], [held]) == {held.id}


def test_of_many_things_it_is_known_of_each() -> None:
    many = _TOPICS_AT_ONCE + 3
    said: list[Entry] = []
    for about in (*range(many), *range(0, many, 2)):
        said.append(answer(about, *said[-1:]))
    assert again(said, said[:many]) == {one.id for one in said[:many:2]}


def words(entry: Entry) -> tuple[object, ...]:
    return entry.header.kind, entry.payload


def test_what_its_author_said_at_the_same_moment_under_another_right_was_said_beside_it() -> None:
    other = bytes([1] * 32)
    first, held, later = answer(1, at=5, grant=other), answer(1, at=9), answer(1, at=1 << 20)
    assert said_again([first, held], [first.id], words) == {held.id}
    assert said_again([first, later], [first.id], words) == set()


def test_of_others_the_order_of_arrival_says_it() -> None:
    early, held, late = answer(1, at=9), answer(1, at=5), answer(1, at=1)

    assert said_again([early, held], [early.id], words) == set()
    assert said_again([early, held, late], [early.id, late.id], words) == {early.id, held.id}
    assert said_again([early, held, late], [early.id], words) == set(), "what is held back itself says nothing again"
