"""As of when this computer knows a class, for what takes it along at the end of a year, or away (docs/adr/0380).

Rules:
- it is the server's last signed proof that all it holds of the class is here. What neighbours and sticks bring proves
  nothing of the kind: there may be more;
- it is always told, and asked about where it is more than a day away, or there is none. An archive of what there is
  about a person says it of each of their classes, and asks nothing: who asks for it has a right to what there is;
- the time of now is this computer's own, put right by what it was off when the server last answered. A clock that has
  gone back since is no proof that no time has passed: then it is asked about as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.clock import DAY_MS, rfc3339
from protocol.errors import BadInput, Code
from protocol.replica.access.known import Known
from protocol.replica.console.operation import Outgoing
from sync_agent.app import Agent
from sync_agent.health import LastSync
from sync_agent.machine.marks import PROVEN_MARKS
from sync_agent.space_names import space_names

LATELY_MS: Final = DAY_MS


async def agreed_ms(agent: Agent, space: bytes) -> int | None:
    """When the server last proved that all that it holds of a class is here, by its own time."""
    proven = await agent.replica.store.mark(f"{PROVEN_MARKS}{space.hex()}")
    return None if proven is None else int.from_bytes(proven, "big")


def is_of_late(known_ms: int | None, *, now_ms: int, skew_ms: int) -> bool:
    """Whether that is no more than a day away; `skew_ms` is by how much `now_ms` was ahead of the server's time."""
    return known_ms is not None and abs(now_ms - skew_ms - known_ms) <= LATELY_MS


async def tell_as_of(known_ms: int | None, outgoing: Outgoing, called: str = "the class") -> None:
    """Say as of when a class is known to this computer."""
    await outgoing.progress(f"{called} as this computer knew it {_when(known_ms)}")


async def tell_of_all(agent: Agent, spaces: Iterable[bytes], outgoing: Outgoing) -> list[Known]:
    """The same of each of these, by its name; as an archive says it."""
    names, known = await space_names(agent), [Known(space, await agreed_ms(agent, space)) for space in spaces]
    for each in known:
        await tell_as_of(each.as_of_ms, outgoing, f"“{names.get(each.space) or each.space.hex()}”")
    return known


async def check_known(agent: Agent, space: bytes, outgoing: Outgoing, nothing_done: str, *, as_it_is: bool) -> None:
    """Tell it. Raises `BadInput(NOT_YET)` where that is not of late, and nobody has said that it is to be so."""
    known_ms, last = await agreed_ms(agent, space), await LastSync.read(agent.replica.store)
    await tell_as_of(known_ms, outgoing)
    skew_ms = 0 if last is None else last.skew_ms
    if not as_it_is and not is_of_late(known_ms, now_ms=agent.now_ms(), skew_ms=skew_ms):
        raise BadInput(
            Code.NOT_YET,
            f"{nothing_done}: this computer knows the class as it was {_when(known_ms)}. What was handed in, answered "
            "or published since has not come, and whoever holds a line up for some days keeps it away. `sync-agent "
            "sync` first; or say --as-it-is-here where no server is in reach",
        )


def _when(known_ms: int | None) -> str:
    return "before any server has proven that it has all of it" if known_ms is None else f"at {rfc3339(known_ms)}"
