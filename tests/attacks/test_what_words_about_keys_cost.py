"""What is said of teachers' keys without end, each word once more for all the others (docs/adr/0248)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.identity import AgreementKey, DeviceKeys, SigningKey, verify
from protocol.limits import (
    MAX_DRAWERS_TRIED,
    MAX_PHRASES_LOOKED_AT,
    MAX_PHRASES_PER_DEVICE,
    MAX_PROOFS_THAT_NAME_NO_KEY,
)
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, PersonKey, Revocation
from protocol.rights import roster, vouching
from protocol.rights.door import Authority
from protocol.rights.vouching import Vouch, drawn_by, prove
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, PhraseKey
from sync_agent.keys.confirming import own_device
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from tests.harness.attack import attack
from tests.harness.spent_keys import keys_spent_plainly
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a teacher's laptop keeps every machine of its class busy"


async def _admitted(here: SpiedClass, said: Sequence[Entry]) -> None:
    territory = here.room.territory
    admission = await territory.replica.admit(said, source=b"thief", now_ms=territory.clock())
    assert len(admission.admitted) == len(said)


class _LookedAt(list[bytes]):
    """Keys that count how often one of them is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[bytes]:
        for key in super().__iter__():
            _LookedAt.looks += 1
            yield key


def _with_looks_counted(keys_spent: Any) -> Any:
    def counted(heard: Any, said: Any, door: Any, away: Any, gone: Any, *rest: Any) -> Any:
        _LookedAt.looks = 0
        return keys_spent(heard, said, door, away, {key: _LookedAt(signers) for key, signers in gone.items()}, *rest)

    return counted


@attack(ROW, off={"protocol.rights.roster.keys_spent": keys_spent_plainly})
async def test_gifts_to_a_key_beside_which_many_are_gone_are_not_held_against_each_of_these(tmp_path: Path) -> None:
    gone, gifts = 60, 10
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        colleague = await territory.person("M. X", PersonRole.TEACHER, space)
        await here.name_the_spy(colleague, back_ms=0)
        head = new_device(Random(5).randbytes)
        (let_in,) = await territory.let_in(head, Role.HEAD, space)
        beside = AgreementKey(bytes([9]) * 32).public
        grants = []
        for number in range(1, gone + 1):
            key = SigningKey(bytes([number]) * 32).public
            grant = compose(
                author=head.signing,
                space=space,
                kind=Kind.GRANT,
                grant=let_in.id,
                at=(territory.clock() << 16) + number,
                payload=Grant(key, beside, None, Role.TEACHER, colleague, None).encode(),
                salt=bytes(16),
            )
            grants.append(grant)
        await _admitted(here, grants)
        await territory.say(space, Kind.REVOKE, Revocation(head.signing.public, ()).encode())
        wraps = tuple((beside, bytes([number]) * 80) for number in range(8))
        for number in range(gifts):
            key = AgreementKey(bytes([100 + number]) * 32).public
            await here.say(Kind.KEY_WRAP, KeyWraps(key, wraps).encode(), colleague)
        counted = _with_looks_counted(vars(roster)["keys_spent"])
        # undone here: a fixture's comes after the attack's own, and would leave the plain rule to all later tests
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("protocol.rights.roster.keys_spent", counted)
            await territory.say(space, Kind.REVOKE, Revocation(bytes([77]) * 32, ()).encode())
            spent = (await territory.replica.view(space)).roster.spent
        assert len(spent) == gifts, "each of them counts all the same"
        assert gone <= _LookedAt.looks <= gone + 2 * gifts


class _Invented:
    """A head's stolen laptop that lets in devices of an invented teacher; these draw phrases, and prove with them."""

    def __init__(self, here: SpiedClass, person: bytes, head: DeviceKeys, grant: bytes, devices: int) -> None:
        self.here, self.person, self.random = here, person, Random(1)
        self.said: list[Entry] = []
        self.back_ms = 0
        self.devices: list[tuple[DeviceKeys, bytes]] = []
        for number in range(devices):
            device = new_device(Random(1_000 + number).randbytes)
            named = Grant(device.signing.public, device.agreement.public, None, Role.TEACHER, person, None)
            self.devices.append((device, self.say(head, Kind.GRANT, grant, named.encode(), None).id))

    def say(
        self,
        author: DeviceKeys,
        kind: Kind,
        grant: bytes,
        payload: bytes,
        subject: bytes | None,
        target: bytes | None = None,
    ) -> Entry:
        self.said.append(
            compose(
                author=author.signing,
                space=self.here.room.space,
                kind=kind,
                grant=grant,
                at=((self.here.room.territory.clock() - self.back_ms) << 16) + len(self.said),
                payload=payload,
                salt=bytes(16),
                subject=subject,
                target=target,
            )
        )
        return self.said[-1]

    def draw(self, device: DeviceKeys, grant: bytes, signer: SigningKey, proof: bytes | None = None) -> None:
        pair = device.signing.public, device.agreement.public
        proof = proof or drawn_by(signer, self.person, pair)
        public = self.random.randbytes(31) + b"\x01"
        phrase = PhraseKey(public, bytes(16), Argon2Cost(), signer.public, proof)
        self.say(device, Kind.PHRASE, grant, phrase.encode(), self.person)

    def vouch(self, vouch: Vouch, target: bytes) -> None:
        device, grant = self.devices[0]
        self.say(device, Kind.VOUCH, grant, vouch.encode(), self.person, target)


async def _invented(here: SpiedClass, devices: int, person: bytes | None = None) -> _Invented:
    territory, space = here.room.territory, here.room.space
    person = person or await territory.person("M. X", PersonRole.TEACHER, space)
    head = new_device(Random(5).randbytes)
    (grant,) = await territory.let_in(head, Role.HEAD, space)
    return _Invented(here, person, head, grant.id, devices)


async def _signatures_of_one_fold(invented: _Invented, monkeypatch: pytest.MonkeyPatch) -> int:
    here = invented.here
    await _admitted(here, invented.said)
    verified = 0

    def counted(*signature: bytes) -> bool:
        nonlocal verified
        verified += 1
        return verify(*signature)

    monkeypatch.setattr("protocol.rights.vouching.verify", counted)
    await here.room.territory.replica.view(here.room.space)
    return verified


def _tried_with_all(self: Any, proof: bytes, _signing: bytes | None, named: Authority, person: bytes) -> Any:
    """Each proof is tried with each phrase of the person."""
    message = person + named.key + named.agreement + named.grant
    keys = [key for whose, key in self._drawers if whose == person]
    return tuple(key for key in keys if vars(vouching)["verify"](key, b"relais/0 phrase proof", message, proof))


@pytest.mark.parametrize("says_key", [True, False], ids=["a proof that names its key", "one that does not"])
@attack(ROW, off={"protocol.rights.voices._Phrases._proven_by": _tried_with_all})
async def test_phrases_times_proofs_of_invented_laptops_cost_no_more_than_a_few_signatures_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, says_key: bool
) -> None:
    laptops, each = 20, 4
    async with spied_class(tmp_path) as here:
        invented = await _invented(here, laptops)
        keys = [SigningKey(bytes([number]) * 32) for number in range(1, laptops * each + 1)]
        for number, signer in enumerate(keys):
            invented.draw(*invented.devices[number // each], signer)
        for number, signer in enumerate(keys):
            vouch = Vouch(invented.random.randbytes(64), signer.public if says_key else None)
            invented.vouch(vouch, invented.devices[number // each][1])
        tried = len(keys) if says_key else MAX_PROOFS_THAT_NAME_NO_KEY * MAX_DRAWERS_TRIED * each
        verified = await _signatures_of_one_fold(invented, monkeypatch)
        # who speaks is looked at twice, as lists have it and as if there were none
        assert len(keys) < verified <= 2 * (len(keys) + tried)


@attack(ROW, off={"protocol.rights.voices.MAX_DRAWERS_TRIED": 10_000})
async def test_a_phrase_that_many_laptops_call_theirs_makes_a_proof_the_word_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptops = 20
    async with spied_class(tmp_path) as here:
        invented = await _invented(here, laptops)
        signer = SigningKey(bytes([5]) * 32)
        for device, grant in invented.devices:
            invented.draw(device, grant, signer)
        for device, grant in invented.devices:
            pair = device.signing.public, device.agreement.public
            invented.vouch(prove(signer, invented.person, pair, grant), grant)
        await _signatures_of_one_fold(invented, monkeypatch)
        words = (await here.room.territory.replica.view(here.room.space)).roster.voices.words
        assert sum(word.person == invented.person for said in words.values() for word in said) == 16 * laptops


@attack(ROW, off={"protocol.rights.keys_in_use.MAX_PHRASES_LOOKED_AT": 10_000})
async def test_of_phrases_without_end_of_one_laptop_few_are_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spied_class(tmp_path) as here:
        invented = await _invented(here, 1)
        ((device, grant),) = invented.devices
        key = PersonKey(AgreementKey(bytes([7]) * 32).public).encode()
        invented.say(device, Kind.PERSON_KEY, grant, key, invented.person)
        for _ in range(60):
            # who did not draw it at all costs two
            invented.draw(device, grant, SigningKey(bytes([5]) * 32), invented.random.randbytes(64))
        verified = await _signatures_of_one_fold(invented, monkeypatch)
        assert MAX_PHRASES_LOOKED_AT < verified <= 2 * (MAX_PHRASES_LOOKED_AT + MAX_PHRASES_PER_DEVICE)


def _without_its_key(signer: SigningKey, person: bytes, device: tuple[bytes, bytes], grant: bytes) -> Vouch:
    return Vouch(prove(signer, person, device, grant).proof)


@attack(ROW, off={"sync_agent.keys.phrases.prove": _without_its_key})
async def test_invented_laptops_that_drew_phrases_before_her_keep_her_paper_from_confirming_nobody(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path) as here:
        hers, space = here.room.teacher_person, here.room.space
        phrase = await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
        await here.sync()
        invented = await _invented(here, MAX_DRAWERS_TRIED + 1, hers)
        invented.back_ms = 10**9
        for device, grant in invented.devices:
            key = PersonKey(AgreementKey(invented.random.randbytes(32)).public).encode()
            invented.say(device, Kind.PERSON_KEY, grant, key, hers)
            invented.draw(device, grant, SigningKey(invented.random.randbytes(32)))
        for _, grant in invented.devices:
            invented.vouch(Vouch(invented.random.randbytes(64)), grant)
        await _admitted(here, invented.said)
        new = await here.room.teacher()
        await here.sync(new)
        await open_with_phrase(new.agent, phrase)
        await here.sync(new, here.machine)
        roster = (await here.machine.agent.replica.view(space)).roster
        assert own_device(new.agent) in roster.speaking[hers]
