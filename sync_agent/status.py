"""What `sync-agent status` says: everything from what lies here, nothing from the network."""

from __future__ import annotations

from protocol.canonical import decode
from protocol.clock import rfc3339
from protocol.entry import Kind
from protocol.replica.operation import JSON
from protocol.structure import SpaceRecord
from sync_agent.app import LAST_SYNC_MARK, PROVEN_MARKS, Agent

_MAX_MARK_BYTES = 4096


async def status(agent: Agent) -> dict[str, JSON]:
    """The keys of the operator's contract."""
    role = await agent.role()
    last = await last_sync(agent)
    return {
        "device": agent.device.hex(),
        "role": None if role is None else role.value,
        "server": {
            "url": agent.enrolment.server_url,
            "reachable": last.get("reachable"),
            "last_sync": _time(last.get("at")),
        },
        "spaces": await _spaces(agent),
        "backlog": await _backlog(agent),
        "peers": [],
        "disk": await _disk(agent),
        "clock_skew_s": _seconds(last.get("skew")),
    }


async def last_sync(agent: Agent) -> dict[str, JSON]:
    """How the last attempt to reach the server went: `at` in ms, `reachable`, `skew` in ms; empty before the first."""
    mark = await agent.replica.store.mark(LAST_SYNC_MARK)
    if mark is None:
        return {}
    value = decode(mark, max_bytes=_MAX_MARK_BYTES)
    return {str(key): part for key, part in value.items()} if isinstance(value, dict) else {}  # type: ignore[misc]


async def space_names(agent: Agent) -> dict[bytes, str]:
    """The name of each space, as the entry that made it says."""
    names = {agent.replica.territory: agent.enrolment.territory_name}
    for entry in await agent.replica.store.scan_kinds([Kind.SPACE]):
        record = SpaceRecord.parse(entry.payload or b"")
        names.setdefault(record.space_of(entry, agent.replica.territory), record.name)
    return names


async def _spaces(agent: Agent) -> list[JSON]:
    names = await space_names(agent)
    rows: list[JSON] = []
    for space, authority in (await agent.spaces()).items():
        needs = await agent.needs(space, authority)
        proven = await agent.replica.store.mark(f"{PROVEN_MARKS}{space.hex()}")
        rows.append(
            {
                "space": space.hex(),
                "name": names.get(space),
                "entries": (await agent.replica.position(space)).count,
                "fingerprint": (await agent.replica.fingerprint(space)).hex(),
                "complete": not await agent.holdings.incomplete(needs),
                "proven_at": None if proven is None else rfc3339(int.from_bytes(proven, "big")),
            }
        )
    return rows


async def _backlog(agent: Agent) -> dict[str, JSON]:
    entries, wire_bytes = await agent.replica.store.unsent_totals()
    packs = {pack.hash: pack.size for pack in await agent.replica.content.unsent_packs()}
    return {"entries": entries, "bytes": wire_bytes + sum(packs.values())}


async def _disk(agent: Agent) -> dict[str, JSON]:
    packs, chunks, content_bytes = await agent.replica.content.totals()
    return {
        "free": await agent.replica.content.free_bytes(),
        "content": content_bytes,
        "packs": packs,
        "chunks": chunks,
    }


def _time(value: JSON) -> str | None:
    return rfc3339(value) if isinstance(value, int) else None


def _seconds(value: JSON) -> float | None:
    return value / 1000 if isinstance(value, int) else None
