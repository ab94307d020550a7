"""What this device calls its spaces."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.replica.at_work.space_names import changed_names, made_spaces
from sync_agent.app import Agent


async def space_names(agent: Agent) -> dict[bytes, str]:
    """The name of each space, as the entry that made it says, or a later one that renamed it."""
    names = {agent.replica.territory: agent.enrolment.territory_name}
    made = {space: record.name for space, record in (await made_spaces(agent.replica)).items()}
    return made | names | await changed_names(agent.replica)


async def unnamed_schools(agent: Agent, names: Mapping[bytes, str]) -> dict[bytes, str]:
    """The schools that have no name but their UAI, with it: to people it says neither what it is nor for whom.

    `names` are those of `space_names`.
    """
    made = (await made_spaces(agent.replica)).items()
    return {space: record.uai for space, record in made if record.uai is not None and names.get(space) == record.uai}
