"""A lost laptop on which a phrase was drawn, together with the server: what lies on its disk speaks for nobody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protocol.canonical import Value
from protocol.identity import SEED_BYTES, AgreementKey, SigningKey
from protocol.model.entry import Kind
from protocol.rights.vouching import phrase_signer, prove
from protocol.trust.kit import Argon2Cost
from sync_agent.app import Agent
from sync_agent.keys import phrases
from sync_agent.keys.phrases import new_phrase
from sync_agent.machine.enrolled import PHRASE_FILE
from sync_agent.machine.phrase_file import DrawnPhrase
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop, report_by_head
from tests.harness.spied_class import SpiedClass, own_keys, spied_class

ROW = "the disk of a laptop on which a phrase was drawn"
CHEAP = Argon2Cost(8, 1, 1)

_as_it_is = phrases._drawn


@dataclass(frozen=True, slots=True)
class _WithItsSigner(DrawnPhrase):
    signer: bytes = b""

    def encode(self) -> Value:
        return {"person": self.person, "key": self.key.encode(), "signer": self.signer}


def _keeping_what_signs(agent: Agent, person: bytes, key: AgreementKey, salt: bytes, cost: Argon2Cost) -> DrawnPhrase:
    drawn = _as_it_is(agent, person, key, salt, cost)
    return _WithItsSigner(drawn.person, drawn.key, phrase_signer(key.seed).seed)


def _signer_in(file: bytes, public: bytes | None) -> SigningKey | None:
    """What signs for a phrase, if it lies there in any form."""
    windows = (file[at : at + SEED_BYTES] for at in range(len(file) - SEED_BYTES + 1))
    return next((key for seed in windows if (key := SigningKey(seed)).public == public), None)


async def _shows_a_proof(here: SpiedClass, lost: Device) -> None:
    """The spy is let in as hers, and shows what the disk of the lost laptop gives: or nothing."""
    hers = here.room.teacher_person
    await here.name_the_spy(hers, back_ms=-60_000)
    file = lost.agent.secrets.read(PHRASE_FILE)
    said = (await lost.agent.replica.view(here.room.space)).roster.phrases[hers]
    signer = next((found for _, key in said if (found := _signer_in(file, key.signing)) is not None), None)
    if signer is not None:
        proof = prove(signer, hers, own_keys(here.spy), here.grant).encode()
        await here.say(Kind.VOUCH, proof, hers, target=here.grant, back_ms=-60_000)


@attack(ROW, off={"sync_agent.keys.phrases._drawn": _keeping_what_signs})
async def test_what_lies_there_makes_no_device_of_a_thief_the_teachers(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        lost = here.teacher
        second = await another_laptop(here, lost)
        await new_phrase(lost.agent, CHEAP)
        await here.sync(lost, second, here.machine, second)
        head, _ = await confirmed_head(here)
        await here.sync(head, second, here.machine)
        await report_by_head(here, head)
        await here.sync(head, second, here.machine, second)
        await _shows_a_proof(here, lost)
        await here.sync(second, here.machine, second, here.machine)
        roster = (await here.machine.agent.replica.view(here.room.space)).roster
        assert own_keys(here.spy) not in roster.speaking.get(here.room.teacher_person, ())
