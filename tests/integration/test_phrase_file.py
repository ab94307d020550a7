"""What a teacher's laptop keeps of a phrase that was drawn on it: in earlier files, and on copies of its disk."""

from __future__ import annotations

from pathlib import Path

from protocol.canonical import encode
from protocol.rights.vouching import phrase_signer
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import PhraseKey
from sync_agent.keys import phrases
from sync_agent.keys.phrases import new_phrase
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.machine.enrolled import PHRASE_FILE
from sync_agent.machine.phrase_file import drawn_in
from tests.harness.lost_laptop import another_laptop
from tests.harness.spied_class import spied_class

CHEAP = Argon2Cost(8, 1, 1)


async def test_what_an_earlier_state_of_this_version_kept_there_goes(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        agent = here.teacher.agent
        await new_phrase(agent, CHEAP)
        (drawn,) = drawn_in(agent.secrets.read(PHRASE_FILE))
        signer = phrase_signer(bytes(32))
        old = {"person": drawn.person, "key": PhraseKey(drawn.key.agreement, drawn.key.salt, CHEAP).encode()}
        agent.secrets.keep(PHRASE_FILE, encode({"phrases": [{**old, "signer": signer.seed}]}))
        await tend_reading_keys(agent)
        assert signer.seed not in agent.secrets.read(PHRASE_FILE)


async def test_a_copy_of_the_disk_that_took_keys_of_its_own_says_the_phrase_no_more(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        original, other = here.teacher, await another_laptop(here, here.teacher)
        await new_phrase(original.agent, CHEAP)
        other.agent.secrets.keep(PHRASE_FILE, original.agent.secrets.read(PHRASE_FILE))
        assert phrases._drawn_here(original.agent)
        assert not phrases._drawn_here(other.agent)
