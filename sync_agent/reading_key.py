"""A teacher's reading key, to which hand-ins of a class are wrapped (docs/protocol.md, "Sealed hand-ins").

Rules:
- the key is made on the teacher's device and never leaves it; a second device of the same person makes its own;
- the key is durable in DIR before an entry names it;
- it is said in every space where the device's grant makes its person a teacher, also in one that was added later.
"""

from __future__ import annotations

from protocol.entry import Kind
from protocol.identity import AgreementKey
from protocol.replica.replica import Draft
from protocol.roles import Role
from protocol.structure import PersonKey
from sync_agent.app import Agent


async def say_reading_key(agent: Agent) -> int:
    """Write a `person-key` entry in each space that lacks it; how many that were."""
    async with agent.writing:
        teaching = [grant for grant in await agent.replica.authorities(agent.device) if grant.role is Role.TEACHER]
        drafts = []
        for space in await agent.spaces() if teaching else ():
            for grant in teaching:
                if grant.person is None or not agent.replica.door.covers(grant, space):
                    continue
                public = _reading_key(agent).public
                if not await _is_said(agent, space, public):
                    payload = PersonKey(public).encode()
                    drafts.append(Draft(space, Kind.PERSON_KEY, grant.grant, payload, subject=grant.person))
                break
        if drafts:
            await agent.write(*drafts)
    return len(drafts)


async def _is_said(agent: Agent, space: bytes, public: bytes) -> bool:
    """Whether this device has written the key down here, whatever the fold makes of it."""
    payload = PersonKey(public).encode()
    written = await agent.replica.store.authored(space, agent.device)
    return any(entry.header.kind == Kind.PERSON_KEY and entry.payload == payload for entry in written)


def _reading_key(agent: Agent) -> AgreementKey:
    key = agent.person_key()
    if key is None:
        key = AgreementKey(agent.entropy(32))
        agent.keep_person_key(key)
    return key
