"""What replaces what, whoever is held back later (docs/protocol.md, "Conflicts"; docs/adr/0378)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import MAX_PARENTS, SALT_BYTES
from protocol.model.ancestry import heads, in_order_of_showing, replaced_by, to_replace
from protocol.model.entry import Entry, Kind, unsigned
from tests.harness.work import assert_grows_as_its_entries, counted_work

SPACE = bytes(32)
HERS, THIEFS = b"h" * 32, b"t" * 32


def word(author: bytes, parents: Sequence[bytes] = (), at_ms: int = 1_000, number: int = 0) -> Entry:
    return unsigned(
        author=author, space=SPACE, kind=Kind.FEEDBACK, grant=None, at=at_ms << 16,
        payload=number.to_bytes(4, "big"), salt=bytes(SALT_BYTES), parents=parents,
    )  # fmt: skip


@given(seed=st.integers(0, 2**32), devices=st.integers(1, 40), many=st.integers(2, 40), fewest=st.booleans())
def test_a_word_stands_before_all_that_its_author_knew_whoever_is_held_back(
    seed: int, devices: int, many: int, *, fewest: bool
) -> None:
    random = Random(seed)
    said: list[Entry] = []
    last: Entry | None = None
    for number in range(many):
        by_her = number == many - 1 or not random.randrange(3)
        author = HERS if by_her else random.randrange(1, devices + 1).to_bytes(32, "big")
        # hers by the rule, or by no more than what a program from before is sure to name; theirs at a whim
        line = to_replace(said)[: 1 if fewest else MAX_PARENTS]
        parents = line if by_her else tuple(one.id for one in random.sample(said, min(len(said), random.randrange(4))))
        last = word(author, parents, random.randrange(1, 2**40), number)
        said.append(last)
    held = {one.id for one in said if one.header.author != HERS and random.randrange(2)}
    passed = [one for one in said if one.id in held]
    counting = [one for one in said if one.id not in held]
    random.shuffle(counting)
    assert in_order_of_showing({one.id: one for one in counting}, passed)[0] is last
    assert heads(counting, passed)[0] is last
    assert to_replace(counting, passed)[0] == (last and last.id)


def test_a_date_years_ahead_keeps_no_later_word_behind_it() -> None:
    ahead = word(HERS, at_ms=10**12)
    between = [word(THIEFS, (ahead.id,), number=number) for number in range(MAX_PARENTS)]
    right = word(HERS, tuple(one.id for one in between))
    assert heads([ahead, right], between) == [right]
    again = word(HERS, to_replace([ahead, right], between))
    assert heads([ahead, right, again], between) == [again]


def test_what_two_copies_of_a_disk_say_of_one_version_are_two_heads_whatever_is_held_back() -> None:
    first = word(HERS)
    between = word(THIEFS, (first.id,))
    one, other = (word(HERS, (between.id,), at_ms) for at_ms in (2_000, 3_000))
    assert heads([first, one, other], [between]) == [other, one]
    assert replaced_by(one.id, {each.id: each for each in (first, one, other)}, [between]).keys() == {one.id, first.id}


def test_what_a_thief_replaced_and_nobody_else_is_shown_again_once_he_is_held_back() -> None:
    first = word(HERS)
    second = word(HERS, (first.id,))
    line = [word(THIEFS, (second.id,))]
    line += [word(THIEFS, (line[0].id,), number=1)]
    assert heads([first, second], line) == [second]


def test_of_each_author_the_foremost_is_named_before_the_many_heads_of_one() -> None:
    mine, hers = word(HERS), word(b"x" * 32)
    many = [word(THIEFS, (mine.id,), number=number) for number in range(2 * MAX_PARENTS)]
    named = to_replace([mine, hers, *many])
    assert {mine.id, hers.id} < set(named)
    assert named[0] in {one.id for one in many}
    assert len(named) == MAX_PARENTS


def test_who_says_more_twenty_times_names_one_word_and_of_others_one_each() -> None:
    said = [word(b"x" * 32)]
    for number in range(20):
        said.append(word(HERS, to_replace(said), number=number))
    assert to_replace(said) == (said[-1].id, said[0].id)


def test_what_is_held_back_costs_no_more_than_it_is() -> None:
    def cost(many: int) -> int:
        said = [word(HERS)]
        for number in range(many):
            said.append(word(THIEFS, tuple(one.id for one in said[-MAX_PARENTS:]), number=number))
        passed, counting = said[1:], [said[0], word(HERS, (said[-1].id,))]
        with counted_work() as work:
            heads(counting, passed)
            to_replace(counting, passed)
        return work.lines

    assert_grows_as_its_entries(*(cost(many) for many in (0, 200, 400)))
