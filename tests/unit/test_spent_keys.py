"""Which reading keys are spent, whatever is said of keys: the quick answer is the plain one."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.identity import SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, PersonKey
from protocol.rights.door import Door
from protocol.rights.keys_in_use import Key
from protocol.rights.speaking import Speaking
from protocol.rights.spent_keys import Doubted, keys_spent
from protocol.rights.vouching import Away, Device
from protocol.roles import Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, PhraseKey
from tests.harness.spent_keys import keys_spent_plainly

ROOT = SigningKey(bytes(32))
SPACE = bytes(32)
SIGNERS = [SigningKey(bytes([number]) * 32) for number in range(1, 5)]
AGREEMENTS = [bytes([number]) * 32 for number in range(1, 5)]
READING_KEYS = [bytes([number]) * 32 for number in range(11, 14)]
PERSONS = [bytes([number]) * 16 for number in range(1, 5)]
DEVICES = [(signer.public, agreement) for signer in SIGNERS for agreement in AGREEMENTS]


class Words:
    """A class in which anybody has said anything of keys."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.door = Door(ROOT.public)
        self.grants = [self._granted(number) for number in range(random.randrange(1, 8))]
        self.said = [self._something(number) for number in range(random.randrange(1, 14))]

    def some(self, among: Iterable[Any], chance: float) -> list[Any]:
        return [one for one in among if self.random.random() < chance]

    def _granted(self, number: int) -> tuple[Entry, SigningKey, bytes]:
        signer, person = self.random.choice(SIGNERS), self.random.choice(PERSONS)
        agreement = self.random.choice(AGREEMENTS)
        payload = Grant(signer.public, agreement, None, Role.TEACHER, person, None, None).encode()
        entry = compose(
            author=ROOT, space=SPACE, kind=Kind.GRANT, grant=None, at=number, payload=payload, salt=bytes(16)
        )
        self.door.learn(entry)
        return entry, signer, person

    def _something(self, number: int) -> Entry:
        grant, signer, person = self.random.choice(self.grants)
        key, kind = (
            self.random.choice(READING_KEYS),
            self.random.choice((Kind.PERSON_KEY, Kind.KEY_WRAP, Kind.KEY_WRAP)),
        )
        recipients = self.random.choices([*AGREEMENTS, *READING_KEYS], k=self.random.randrange(1, 5))
        gift = KeyWraps(key, tuple((to, bytes(80)) for to in recipients))
        payload = PersonKey(key).encode() if kind is Kind.PERSON_KEY else gift.encode()
        return compose(
            author=signer,
            space=SPACE,
            kind=kind,
            grant=grant.id,
            at=100 + number,
            payload=payload,
            salt=bytes(16),
            subject=person,
        )

    def led(self) -> Speaking:
        """To which devices the ids' own ones lead."""
        return {id_: frozenset(self.some(DEVICES, 0.4)) for id_ in self.some(PERSONS, 0.6)}

    def _phrase(self) -> tuple[Device, PhraseKey]:
        return self.random.choice(DEVICES), PhraseKey(self.random.choice(AGREEMENTS), bytes(16), Argon2Cost())

    def arguments(self) -> tuple[Any, ...]:
        """What is asked about: consistent with nothing, so that no rule about one of them is taken for granted."""
        signers = [signer.public for signer in SIGNERS]
        beside = self.some(((id_, to) for id_ in PERSONS for to in AGREEMENTS), 0.4)
        gone: dict[Key, set[bytes]] = {each: set(self.some(signers, 0.5)) for each in beside}
        cut = frozenset(self.some(signers, 0.3))
        away = Away(cut, frozenset((device, id_) for id_ in PERSONS for device in self.some(DEVICES, 0.15)))
        held_back = {entry.id for entry in self.some(self.said, 0.4)}
        doubted = Doubted(held_back, {grant.id for grant, *_ in self.some(self.grants, 0.3)})
        heard = [entry for entry in self.said if entry.id not in held_back]
        phrases = {id_: [self._phrase()] for id_ in self.some(PERSONS, 0.3)}
        return heard, self.said, self.door, away, gone, doubted, (self.led(), self.led()), phrases


@given(seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_the_keys_that_are_spent_are_those_that_the_plain_rule_says(seed: int) -> None:
    asked = Words(Random(seed)).arguments()
    assert keys_spent(*asked) == keys_spent_plainly(*asked)


def test_of_such_words_some_spend_keys_and_some_do_not() -> None:
    spent = [len(keys_spent_plainly(*Words(Random(seed)).arguments())) for seed in range(40)]
    assert min(spent) == 0
    assert max(spent) > 2
