"""Keys that let teachers read hand-ins: this teacher's own reading key, and wraps for readers who came later (§5).

Rules:
- a teacher's device says the person's reading key in every space where it teaches;
- as long as no teacher has opened a hand-in, the machine that made it adds a wrap for every reading key that appeared
  since; whoever wraps, `info` names the hand-in's author;
- only this device's own wraps count as done: another's might not open.

docs/protocol.md, "Sealed hand-ins" and "Roster".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol import canonical
from protocol.coursework import Work
from protocol.entry import Entry, Kind
from protocol.errors import PeerFault, RelaisError
from protocol.fields import Fields
from protocol.identity import AgreementKey
from protocol.limits import MAX_READERS_PER_HAND_IN, MAX_SEALED_MANIFEST_BYTES
from protocol.replica.replica import Draft, Replica
from protocol.roles import Role
from protocol.sealing import CONTENT_KEY_BYTES, wrap_info, wrap_key
from protocol.structure import PersonKey, RecoveryKey
from protocol.work import Wraps
from sync_agent.app import HAND_IN_MARKS, PERSON_KEY_FILE, Agent, write_private

_MAX_MARK_BYTES: Final = 2 * MAX_SEALED_MANIFEST_BYTES


async def keep_readers(agent: Agent) -> int:
    """Write what is missing of both kinds; how many entries that made."""
    async with agent.writing:
        drafts = [*await _own_reading_keys(agent), *await _late_wraps(agent)]
        if drafts:
            await agent.replica.write(drafts, author=agent.keys.signing, now_ms=agent.now_ms(), entropy=agent.entropy)
    return len(drafts)


async def readers_of(replica: Replica, space: bytes) -> list[bytes]:
    """The keys to which a hand-in of this space is wrapped now: its teachers', and recovery's at the end."""
    roster = (await replica.view(space)).roster
    teachers = [key for person in sorted(roster.reading_keys) for key in roster.reading_keys[person]]
    recovery = await recovery_key(replica)
    return [*teachers[:MAX_READERS_PER_HAND_IN], *([] if recovery is None else [recovery])]


async def recovery_key(replica: Replica) -> bytes | None:
    """The X25519 key of the territory's newest recovery kit."""
    found = None
    for entry in sorted(await replica.store.scan_kinds([Kind.RECOVERY_KEY]), key=_age):
        try:
            found = RecoveryKey.parse(entry.payload or b"").agreement
        except PeerFault:
            continue
    return found


# --- a teacher's own key ----------------------------------------------------------------------------------------------


async def _own_reading_keys(agent: Agent) -> list[Draft]:
    drafts = []
    for space in await agent.spaces():
        for grant in await agent.replica.authorities(agent.device):
            if grant.role is not Role.TEACHER or grant.person is None or not agent.replica.door.covers(grant, space):
                continue
            public = _reading_key(agent).public
            if public not in (await agent.replica.view(space)).roster.reading_keys.get(grant.person, ()):
                payload = PersonKey(public).encode()
                drafts.append(Draft(space, Kind.PERSON_KEY, grant.grant, payload, subject=grant.person))
            break
    return drafts


def _reading_key(agent: Agent) -> AgreementKey:
    key = agent.person_key()
    if key is None:
        key = AgreementKey(agent.entropy(32))
        write_private(agent.folder / PERSON_KEY_FILE, key.seed)
    return key


# --- wraps for later readers ------------------------------------------------------------------------------------------


async def _late_wraps(agent: Agent) -> list[Draft]:
    marks = await agent.replica.store.marks(HAND_IN_MARKS)
    kept = {bytes.fromhex(name.removeprefix(HAND_IN_MARKS)): value for name, value in marks.items()}
    entries = await agent.replica.store.get(list(kept))
    drafts = []
    for hand_in, value in kept.items():
        content_key = _content_key(value)
        if hand_in in entries and content_key is not None:
            draft = await _late_wrap(agent, entries[hand_in], content_key)
            if draft is not None:
                drafts.append(draft)
    return drafts


async def _late_wrap(agent: Agent, entry: Entry, content_key: bytes) -> Draft | None:
    space = entry.header.space
    work = (await agent.replica.view(space)).coursework.hand_ins.get(entry.id)
    if work is None or work.opened or work.author != agent.device:
        return None
    done = await _wrapped_to(agent, work)
    missing = [key for key in await readers_of(agent.replica, space) if key not in done]
    if not missing:
        return None
    info = wrap_info(
        space=space,
        item=work.item,
        person=work.person,
        author=work.author,
        commitment=work.record.content.stream,
    )
    wraps = Wraps(tuple((reader, wrap_key(content_key, reader, info, agent.entropy(32))) for reader in missing))
    right = await agent.right(space, Kind.WRAP)
    return Draft(space, Kind.WRAP, right.grant, wraps.encode(), subject=work.person, target=work.id)


async def _wrapped_to(agent: Agent, work: Work) -> set[bytes]:
    """The readers for whom this device has already wrapped the key of a hand-in."""
    written = await agent.replica.store.authored(work.space, agent.device)
    return set(
        _readers(entry for entry in written if entry.header.kind == Kind.WRAP and entry.header.target == work.id)
    )


def _readers(wraps: Iterable[Entry]) -> Iterable[bytes]:
    for entry in wraps:
        try:
            record = Wraps.parse(entry.payload or b"")
        except PeerFault:
            continue
        yield from (reader for reader, _ in record.wraps)


def _content_key(mark: bytes) -> bytes | None:
    """The key in a hand-in's mark, or None once it is forgotten."""
    try:
        return Fields(canonical.decode(mark, max_bytes=_MAX_MARK_BYTES), "a kept key").octets("key", CONTENT_KEY_BYTES)
    except RelaisError:
        return None


def _age(entry: Entry) -> tuple[int, bytes]:
    return entry.header.at, entry.id
