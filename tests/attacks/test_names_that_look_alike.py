"""A name that looks like another's, in letters of the same alphabet or of another (docs/adr/0383)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonRecord
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.people import spoken
from protocol.replica.office.whose_words import files_of, signatures
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.copied_keys import thief_says
from tests.harness.office_devices import town
from tests.harness.territory import new_device

NAME = "somebody of a stolen key's has a teacher's name"
EXCHANGED = "two pupils' names are exchanged, and one of them is to be forgotten"
LOOK_ALIKES = pytest.mark.parametrize(
    ("hers", "his"),
    [
        ("Mme Blanc", "Mme BIanc"),
        ("M. Millot", "M. MiIIot"),
        ("Mme Arnaud", "Mme Amaud"),
        ("Inès", "lnès"),
        ("Mme Roger", "Mme R\u043eger"),
    ],
)


@LOOK_ALIKES
@attack(NAME, off={"protocol.replica.office.called_here.READINGS": (spoken,)})
async def test_whose_name_looks_like_that_of_a_teacher_who_was_there_before_bears_it_with_a_number(
    tmp_path: Path, hers: str, his: str
) -> None:
    async with town(tmp_path) as here:
        _, machine, *_ = await here.class_in_step()
        her = bytes.fromhex(await here.office.add_person(hers, "teacher"))
        await here.sync()
        him, keys, under = os.urandom(16), new_device(os.urandom), here.office.server.grant
        right = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, him, None)
        await thief_says(
            here.office,
            Draft(here.space, Kind.PERSON, under, PersonRecord(his, PersonRole.TEACHER).encode(), subject=him),
            Draft(here.space, Kind.GRANT, under, right.encode()),
        )
        await here.sync()
        replica = machine.agent.replica
        signed = await signatures(replica, (await replica.view(here.space)).roster, [her, him])
        assert signed == {her: hers, him: f"{his} (2)"}
        assert files_of(signed.values()) == [hers, f"{his} (2)"]


@LOOK_ALIKES
@attack(EXCHANGED, off={"protocol.replica.office.taken_names.READINGS": (spoken,)})
async def test_nobody_is_forgotten_unasked_whose_name_looks_by_now_like_anothers(
    tmp_path: Path, hers: str, his: str
) -> None:
    async with town(tmp_path) as here:
        _, _, _, lea, _ = await here.class_in_step()
        office = here.office
        await office.add_person(hers, "pupil")
        person = bytes.fromhex(lea)
        listed = (await office.server.replica.view(here.space)).roster.persons[person].entry
        called = PersonRecord(his, PersonRole.PUPIL).encode()
        await thief_says(
            office, Draft(here.space, Kind.PERSON, office.server.grant, called, subject=person, parents=(listed,))
        )
        with pytest.raises(BadInput, match="this name was another's on the same list"):
            await office.do("erase", person=[lea])
        await office.do("erase", person=[lea], renamed_too=True)
