"""What `sync-agent status` says: everything from what lies here, nothing from the network."""

from __future__ import annotations

from protocol.clock import rfc3339
from protocol.identity import territory_id
from protocol.replica.console.operation import JSON
from protocol.replica.interfaces import EntryStore
from protocol.trust.invitation import territory_fingerprint
from sync_agent.app import Agent
from sync_agent.coursework.known_as_of import agreed_ms
from sync_agent.coursework.past_years import past_spaces
from sync_agent.hand_ins.going import going_unopened
from sync_agent.health import LastSync
from sync_agent.machine.marks import TREE_TROUBLE_MARK
from sync_agent.machine.refusals import refused_ids
from sync_agent.network.trouble import in_touch
from sync_agent.school.held_back import held_back_status
from sync_agent.school.let_count import let_count_status
from sync_agent.school.measures import ordered
from sync_agent.school.own_stay import stay_status
from sync_agent.space_names import space_names


async def status(agent: Agent) -> dict[str, JSON]:
    """The keys of the operator's contract."""
    from sync_agent.coursework.saved_files import left_of_past  # noqa: PLC0415 — pages need a part of this module only
    from sync_agent.watching.titles import watch_status  # noqa: PLC0415

    role = await agent.role()
    last = await LastSync.read(agent.replica.store)
    return {
        "device": agent.device.hex(),
        "role": None if role is None else role.value,
        "territory": agent.replica.territory.hex(),
        "fingerprint": fingerprint(agent),
        "server": {
            "url": agent.enrolment.server_url,
            "reachable": None if last is None else last.reachable,
            "last_sync": None if last is None else rfc3339(last.at_ms),
            "problem": _problem(last, agent.enrolment.server_url, agent.live_neighbours()),
        },
        "spaces": await _spaces(agent),
        "ended": await _ended(agent),
        "waits_for": await _waits_for(agent),
        "asks": await _asks(agent),
        "held_back": await held_back_status(agent),
        "let_count": await let_count_status(agent),
        "going": [each.row() for each in await going_unopened(agent)],
        "backlog": await _backlog(agent),
        "peers": agent.neighbours(),
        "school": await _measures(agent),
        "stay": await stay_status(agent),
        "disk": await _disk(agent),
        "watch": await watch_status(agent.replica.store),
        "coursework": {
            **await coursework_status(agent.replica.store),
            "saved_of_past": [each.told() for each in await left_of_past(agent)],
        },
        "budget": {**agent.budget.shown(), "held": await _held(agent)},
        "transfer": agent.progress.shown(),
        "unforeseen": [met.shown() for met in agent.unforeseen.rows()],
        "clock_skew_s": None if last is None or last.at_ms is None else last.skew_ms / 1000,
    }


def fingerprint(agent: Agent) -> str:
    """What the codes of this territory have after their first digit, by which people tell it from any other."""
    return territory_fingerprint(territory_id(agent.replica.door.root_now))


def _problem(last: LastSync | None, url: str, neighbours: int) -> JSON:
    """What stood between this device and its server at the last attempt, and what to do about it."""
    if last is None or last.seen is None:
        return None
    seen = in_touch(last.seen, neighbours)
    return {"code": seen.trouble.value, "message": seen.sentence(), "remedy": seen.remedy(url)}


async def _measures(agent: Agent) -> dict[str, JSON]:
    """What the school was told to do for a while."""
    now = await ordered(agent)
    return {"quarantine": now.quarantined, "drill_until": rfc3339(now.ends_ms) if now.drill else None}


async def _held(agent: Agent) -> dict[str, JSON]:
    """What waits for the budget: content to fetch, and packs to send with their bytes."""
    if agent.budget.verdict.hold is None:
        return {"fetch": 0, "send": 0, "bytes": 0}
    packs = {pack.hash: pack.size for pack in await agent.replica.content.unsent_packs()}
    return {"fetch": len(await agent.missing()), "send": len(packs), "bytes": sum(packs.values())}


async def coursework_status(store: EntryStore) -> dict[str, JSON]:
    """Why the readable copies in DIR/coursework could not be kept in step the last time, if they could not."""
    trouble = await store.mark(TREE_TROUBLE_MARK)
    code, _, sentence = ("" if trouble is None else trouble.decode(errors="replace")).partition("\n")
    return {"problem": {"code": code, "message": sentence} if code else None}


async def _spaces(agent: Agent) -> list[JSON]:
    """The classes, as `sync-server space list` has them: the spaces above come with them."""
    names = await space_names(agent)
    rows: list[JSON] = []
    door, headers_alone = agent.replica.door, await agent.replica.bare.missing()
    past = await past_spaces(agent)
    for space, authority in (await agent.spaces()).items():
        if door.parent(space) in (None, door.territory):
            continue
        needs = await agent.needs(space, authority)
        rows.append(
            {
                "space": space.hex(),
                "name": names.get(space),
                "entries": (await agent.replica.position(space)).count,
                "fingerprint": (await agent.replica.fingerprint(space)).hex(),
                "complete": space not in headers_alone and not await agent.holdings.incomplete(needs),
                "headers_alone": headers_alone.get(space, 0),
                "proven_at": rfc3339(await agreed_ms(agent, space)),
                "past_year": space in past,
            }
        )
    return rows


async def _ended(agent: Agent) -> list[JSON]:
    """The classes that this device was let into and may read no more."""
    names = await space_names(agent)
    return [{"space": space.hex(), "name": names.get(space)} for space in await agent.ended_classes()]


async def _waits_for(agent: Agent) -> list[JSON]:
    """A device that was let in again waits for these of its teacher's: nothing that it says counts before."""
    from sync_agent.keys.confirming import MAX_LISTED_WORDS, list_readers, named_rows, words_of  # noqa: PLC0415 — few are let in again

    spaces = await agent.spaces()
    rosters = [(await agent.replica.view(space)).roster for space in spaces]
    if not any(device[0] == agent.device for roster in rosters for device in roster.voices.waits_for):
        return []
    own = [each for each in await list_readers(agent) if each.is_this]
    named = list(dict.fromkeys(one for each in own for one in each.waits_for))
    return named_rows(named, await words_of(device for device, _ in named[:MAX_LISTED_WORDS]))


async def _asks(agent: Agent) -> list[JSON]:
    """Computers in its teacher's name that this one has not confirmed: hers are to be confirmed on each of them."""
    from sync_agent.keys.confirming import MAX_LISTED_WORDS, YOURS, list_readers, named_rows, own_grants, words_of  # noqa: PLC0415 — as above

    persons = {grant.person for grant in await own_grants(agent)}
    called = (each for each in agent.replica.door.authorities() if each.person in persons)
    if len({each.pair for each in called}) <= 1:
        return []
    asked = {each.pair: each.name for each in await list_readers(agent) if each.state == YOURS}
    named = list(asked.items())[:MAX_LISTED_WORDS]
    return named_rows(named, await words_of(device for device, _ in named))


async def _backlog(agent: Agent) -> dict[str, JSON]:
    store = agent.replica.store
    entries, wire_bytes = await store.unsent_totals()
    packs = {pack.hash: pack.size for pack in await agent.replica.content.unsent_packs()}
    refused = len(await refused_ids(store))
    return {"entries": entries, "bytes": wire_bytes + sum(packs.values()), "refused": refused}


async def _disk(agent: Agent) -> dict[str, JSON]:
    packs, chunks, content_bytes = await agent.replica.content.totals()
    return {
        "free": await agent.replica.content.free_bytes(),
        "content": content_bytes,
        "packs": packs,
        "chunks": chunks,
        "budget": agent.room_limits.budget_bytes,
        "full": agent.has_no_room,
        "put_away": len(agent.evicted),
    }
