"""Under which of its rights a device speaks, where several suffice."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random

import pytest

from protocol.rights.door import Authority, Door
from protocol.rights.precedence import in_order
from protocol.roles import Role
from tests.harness.history import World

PERSON, OTHER = b"p" * 16, b"o" * 16


@pytest.fixture
def world() -> World:
    return World(Random(7))


@pytest.fixture
def door(world: World) -> Door:
    found = Door(world.root.key.public)
    for entry in world.entries:
        found.learn(entry)
    return found


@pytest.fixture
def right(world: World, door: Door) -> Authority:
    """A teacher's in a class."""
    (given,) = door.authorities_of(world.server.key.public)
    return replace(given, role=Role.TEACHER, person=PERSON, space=world.classes[0])


def test_of_rights_that_say_the_same_the_space_of_the_first_goes_first_then_the_innermost(
    world: World, door: Door, right: Authority
) -> None:
    there, school = replace(right, space=world.classes[1]), replace(right, space=world.school)
    above = replace(right, space=world.territory)
    for came in permutations([right, there, school, above]):
        assert in_order(came, right, door)[0] == right
        assert in_order(came, right, door)[2:] == [school, above]
        assert in_order(came, school, door)[0] == school
        assert in_order(came, above, door)[0] == above
        assert in_order(came, above, door)[-1] == school


def test_of_rights_to_run_schools_those_in_a_school_go_before_one_in_a_class_or_around_them(
    world: World, door: Door, right: Authority
) -> None:
    school = replace(right, space=world.school, role=Role.HEAD)
    above, in_class = replace(school, space=world.territory), replace(school, space=right.space)
    elsewhere = replace(school, space=b"e" * 32)
    for came in permutations([above, school, in_class]):
        assert in_order(came, elsewhere, door) == [school, in_class, above]
        assert in_order(came, above, door) == [above, school, in_class]
        assert in_order(came, None, door) == [school, in_class, above]


def test_what_calls_a_device_somebody_elses_or_something_else_goes_last_wherever(
    world: World, door: Door, right: Authority
) -> None:
    school = replace(right, space=world.school)
    head, stranger = replace(right, role=Role.HEAD), replace(right, person=OTHER)
    for came in permutations([stranger, head, school]):
        assert in_order(came, right, door) == [school, head, stranger]


def test_of_one_space_what_came_first_goes_first_also_where_the_first_right_of_all_has_ended(
    door: Door, right: Authority
) -> None:
    again = [replace(right, grant=bytes([number]) * 32) for number in (9, 3, 7)]
    assert in_order(again, right, door) == again
    assert in_order(again, None, door) == again
