"""Looking after what lies here: verify, repair, doctor. Each says {"ok", "problems"}.

Rules:
- `verify` reads everything that this device may have to serve; what is bad is moved aside and counts as missing, so
  that the next sync brings it back from whoever holds it;
- `repair` does the same until nothing bad is found, and tells what a sync will fetch again; what remains is a problem;
- `doctor` looks around the store: each problem has a code, a sentence and what to do about it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from protocol.clock import rfc3339
from protocol.errors import Code
from protocol.limits import GiB
from protocol.replica.at_work.keyring import recovery_keys
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.console.text import local_time
from protocol.replica.interfaces import Damage
from protocol.replica.upkeep.rebuild import REBUILT_MARK, put_right
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.coursework.saved_files import left_of_past
from sync_agent.coursework.space_folders import COURSEWORK_FOLDER
from sync_agent.hand_ins.going import going_unopened
from sync_agent.hand_ins.lost_keys import lost_drafts, lost_keys
from sync_agent.health import LastSync
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, KEY_SLOTS_FILE, KEY_SLOTS_FILES
from sync_agent.machine.marks import HAND_IN_MARKS, REFUSED_MARKS, TREE_TROUBLE_MARK, stays
from sync_agent.network.trouble import Seen, Trouble, in_touch
from sync_agent.pacing.budget import Hold
from sync_agent.sync.withdrawn import ended_names
from sync_agent.watching.titles import Brake, titles

Problem: TypeAlias = Mapping[str, str]

LOW_DISK_BYTES: Final = GiB // 2
MAX_SKEW_S: Final = 300
# SQLite before this loses a write when one connection resets the log while another writes; ours is always alone
_SAFE_SQLITE: Final = (3, 51, 3)
_KEYS_FOLDER: Final = Path(DEVICE_KEYS_FILE).parent
_BACK: Final = "it was moved aside; `sync-agent sync` brings it back from whoever holds it"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def _local(at_ms: int) -> str:
    """A time in a sentence, by this machine's clock."""
    return local_time(rfc3339(at_ms) or "")


async def verify(agent: Agent, outgoing: Outgoing) -> dict[str, JSON]:
    """Check every entry and pack; what is bad is moved aside."""
    problems = await _check(agent)
    await _tell_missing(agent, outgoing)
    return _verdict(problems)


async def repair(agent: Agent, outgoing: Outgoing) -> dict[str, JSON]:
    """Move aside what is bad and build anew what is derived; problems are what is bad even then."""
    for problem in await _check(agent):
        await outgoing.progress(f"put right: {problem['message']}")
    await agent.replica.reload()
    for space in await agent.spaces():
        await agent.replica.view(space)
    remaining = await _check(agent)
    await _tell_missing(agent, outgoing)
    return _verdict(remaining)


async def doctor(agent: Agent, outgoing: Outgoing) -> dict[str, JSON]:
    """Look at clock, disk, keys, rights, SQLite, and at how the last sync went."""
    if sqlite3.sqlite_version_info < _SAFE_SQLITE:
        await outgoing.progress(
            f"SQLite {sqlite3.sqlite_version} may lose a write when two programs use one store (mended in 3.51.3); "
            "Relais lets no second one in, so there is nothing to do"
        )
    rebuilt = await agent.replica.store.mark(REBUILT_MARK)
    if rebuilt is not None:
        await outgoing.progress(
            f"the database was found damaged and made anew on {_local(int.from_bytes(rebuilt, 'big'))}; what "
            "could not be read of it came back from the server, or will; the old one lies in the folder “damaged”"
        )
    if agent.evicted:
        await outgoing.progress(
            f"{len(agent.evicted)} contents made way for others, within what content may take of the disk; "
            "they are fetched when somebody opens them"
        )
    if agent.without_copies:
        await outgoing.progress(
            f"“coursework” holds no copy of {agent.without_copies} of the titles, within what content may take of the "
            "disk; the portal, `cat` and `checkout` open them"
        )
    if left := await left_of_past(agent):
        folders = ", ".join(f"“{COURSEWORK_FOLDER}/{one.name}” ({len(one.files)})" for one in left)
        await outgoing.progress(
            f"people saved files in the folders of classes that are over: {folders}; nothing takes them away by "
            "itself: `sync-agent saved list` names them, and once who needs one has copied it elsewhere, "
            "`sync-agent saved clear ID` deletes those of a class"
        )
    if ended := await ended_names(agent):
        await outgoing.progress(f"the access of this device has ended: {', '.join(ended)}; what it holds goes first")
    if (sentence := budget_sentence(agent)) is not None:
        await outgoing.progress(sentence)
    return _verdict([*_keys(agent), *[problem async for problem in _state(agent)]])


def budget_sentence(agent: Agent) -> str | None:
    """What the operator's limits hold back now; a person's pause is a problem of its own."""
    now = agent.budget.verdict
    if now.hold is None or now.hold is Hold.PAUSED:
        return None
    until = "" if now.until_ms is None else f" until {_local(now.until_ms)}"
    return f"large content waits{until} ({now.hold.value.replace('-', ' ')}); entries and hand-ins go"


async def _check(agent: Agent) -> list[Problem]:
    """Look at everything; what is found bad is moved aside, and nothing counts as complete unless it still is."""
    store = agent.replica.store
    async with agent.writing:
        damages = await put_right(store, stays, agent.now_ms())
        if damages:
            await agent.replica.reload()
    damages += await agent.replica.content.verify()
    await agent.holdings.forget()
    return [_damage(damage) for damage in damages]


async def _tell_missing(agent: Agent, outgoing: Outgoing) -> None:
    missing = len(await agent.missing())
    if missing:
        await outgoing.progress(f"content of {missing} items and works is missing here; a sync fetches it again")


def _damage(damage: Damage) -> Problem:
    return _problem(
        Code.DAMAGED,
        f"{damage.what} {damage.id.hex()}: {damage.why}".replace(" :", ":"),
        _BACK,
    )


async def _state(agent: Agent) -> AsyncIterator[Problem]:
    async for problem in _rights(agent):
        yield problem
    last = await LastSync.read(agent.replica.store)
    if last is not None and (last.seen is not None or not last.reachable):
        url = agent.enrolment.server_url
        seen = in_touch(last.seen or Seen(Trouble.OTHER), agent.live_neighbours())
        yield _problem(
            Code.BUSY if seen.trouble is Trouble.SERVER else Code.UNREACHABLE,
            f"the server did not take anything the last time: {url}: {seen.sentence()}"
            if seen.trouble is Trouble.SERVER
            else f"the server did not answer the last time: {url}: {seen.sentence()}",
            f"{seen.remedy(url)}; then `sync-agent sync`",
        )
    now = agent.budget.verdict
    if now.hold is Hold.PAUSED:
        until = "until somebody resumes it" if now.until_ms is None else f"until {_local(now.until_ms)}"
        yield _problem(
            Code.PAUSED,
            f"the exchange of this device is paused {until}; work is kept here meanwhile, and reaches nobody",
            "`sync-agent resume` ends the pause",
        )
    for met in agent.unforeseen.rows():
        yield _problem(
            Code.INTERNAL,
            f"{met.work} met {met.what} at {met.where}, {met.count} times since the start, the last on "
            f"{_local(met.last_ms)}",
            "it goes on by itself; report this with the log",
        )
    found = agent.network_problem()
    if found is not None:
        yield _problem(*found)
    for problem in _clock(agent, 0 if last is None else last.skew_ms):
        yield problem
    free = await agent.replica.content.free_bytes()
    if free < LOW_DISK_BYTES:
        yield _problem(
            Code.DISK_FULL, f"only {free // 1_000_000} MB are free on this disk", "make room: delete what is not needed"
        )
    async for problem in _folders(agent):
        yield problem
    if await agent.replica.store.marks(HAND_IN_MARKS) and not await recovery_keys(agent.replica):
        yield _problem(
            Code.INCOMPLETE,
            "work was handed in here, and this device has never heard of the recovery kit's key: no kit opens that "
            "work yet, and its key is kept here until one does",
            "sync; where other computers of the school do not say this, the server keeps it from here: show this to "
            "whoever looks after the server",
        )
    async for problem in _slots(agent):
        yield problem
    for going in await going_unopened(agent):
        until = "" if going.until_ms is None else f", and are destroyed here from {_local(going.until_ms)} on"
        yield _problem(
            Code.NOT_YET,
            f"the class “{going.name or going.space.hex()}” has been closed: {going.hand_ins} of the works that were "
            f"handed in on this computer are hidden, nobody is known to have opened them{until}",
            "if somebody is to see them, tell whoever looks after the server before that day: `sync-server unerase "
            f"{going.space.hex()} --kit KIT --counting-too` shows the class again, and this computer brings them",
        )
    for name, code in (await agent.replica.store.marks(REFUSED_MARKS)).items():
        yield _problem(
            Code.NO_RIGHT,
            f"the server refused {name.removeprefix(REFUSED_MARKS)}: {code.decode(errors='replace')}",
            "it is kept here, and offered again once a day; ask the person who looks after the devices",
        )


async def _slots(agent: Agent) -> AsyncIterator[Problem]:
    """What keeps the keys of works and drafts from being kept or read (docs/adr/0424)."""
    hindered = await agent.key_slots.hindrances()
    is_at_an_end = len(hindered) == len(KEY_SLOTS_FILES)
    then = "nothing is begun or handed in here" if is_at_an_end else "what is begun or handed in lies under another one"
    for name, failure in hindered.items():
        yield _problem(
            failure.code,
            f"{name}, under which keys of works and drafts lie, cannot be used: {failure}; {then} meanwhile",
            "look whose file it is (ls -l) and give it back to the account of the agent: what lies under it opens "
            "again by itself; if the rights are right, have the disk checked. Do not delete it before that",
        )
    back = "put that file right" if hindered else f"if somebody moved {KEY_SLOTS_FILE} away, put it back"
    is_lost = "lost, or cannot be read for now" if hindered else f"lost with {KEY_SLOTS_FILE}"
    if lost := await lost_keys(agent):
        yield _problem(
            Code.DAMAGED,
            f"of {lost} of the works that were handed in here, and that nobody is known to have opened, the key is "
            f"{is_lost}: whoever could open that work by then still can, and nobody who came later",
            f"{back}; else let a teacher of the class open that work: her computer passes it on",
        )
    if lost := await lost_drafts(agent):
        yield _problem(
            Code.DAMAGED,
            f"{lost} of the works that pupils had begun here, and kept for later, open no more: their key is {is_lost}",
            f"{back}; else let them begin anew: their pages say so",
        )


async def _folders(agent: Agent) -> AsyncIterator[Problem]:
    """What keeps watched folders from being published, and DIR/coursework from being written."""
    store = agent.replica.store
    brake = await Brake.read(store)
    if brake is not None and brake.holds:
        yield _problem(
            Code.PAUSED,
            f"publishing from watched folders is paused: {brake.files} published files were rewritten or deleted at "
            f"once, of {', '.join(brake.names)}",
            "if that was you: `sync-agent watch resume`; if not, disconnect this machine and look for malware; "
            "`sync-agent checkout` and `sync-agent restore --revision` bring any version back",
        )
    for title in (await titles(store)).values():
        if title.obstacle is not None:
            yield _problem(
                title.obstacle.code,
                f"“{title.shown}” in a watched folder is not published: {title.obstacle.path}: "
                f"{title.obstacle.sentence}".replace(": : ", ": "),
                "put it right in the folder; the whole title is published then",
            )
    trouble = await store.mark(TREE_TROUBLE_MARK)
    if trouble is not None:
        code, _, sentence = trouble.decode(errors="replace").partition("\n")
        yield _problem(
            Code(code),
            f"the folder “coursework” is not in step: {sentence}",
            "make room, close the files that are open",
        )


async def _rights(agent: Agent) -> AsyncIterator[Problem]:
    role = await agent.role()
    if role is None:
        yield _problem(
            Code.REVOKED,
            "this device has no rights any more: it was revoked, or its grants have not arrived",
            "sync; if that does not help, ask for a new code and enrol in another folder",
        )
    if agent.replica.door.contested_roots:
        yield _problem(
            Code.CONTESTED_ROOT,
            "two successors of the territory's root have been named, and this device follows the earlier one: somebody "
            "else has the recovery kit, or it was replaced twice",
            "tell who runs the system; nothing that they have not confirmed is to be believed meanwhile",
        )
    if role is Role.TEACHER and await _lacks_keys(agent):
        yield _problem(
            Code.CANNOT_READ,
            "the key with which this teacher opens pupils' work is missing",
            "restore the folder “keys” from a copy, or enrol again with a new code",
        )


async def _lacks_keys(agent: Agent) -> bool:
    """Whether reading keys have rotted, or there are none though a class is open: in a closed one none is made."""
    if agent.reading_keys.are_rotten():
        return True
    if agent.reading_keys.own():
        return False
    return any([space not in (await agent.replica.view(space)).roster.erased for space in await agent.spaces()])


def _clock(agent: Agent, skew_ms: int) -> Iterator[Problem]:
    proven_ms = agent.replica.proven_ms
    behind_s = 0 if proven_ms is None else (proven_ms - agent.now_ms()) // 1000
    wrong_s = max(behind_s, abs(skew_ms) // 1000)
    if wrong_s > MAX_SKEW_S:
        yield _problem(
            Code.BAD_DATE,
            f"this machine's clock is wrong by about {how_long(wrong_s)}",
            "set date and time; nothing is refused meanwhile, but times are shown as doubtful",
        )


def how_long(seconds: int) -> str:
    """A span as people say it, in the largest unit of which there are two: 17 years, 3 hours."""
    found = f"{seconds} s"
    for name, unit_s in (("minutes", 60), ("hours", 3600), ("days", 86_400), ("years", 365 * 86_400)):
        if seconds >= 2 * unit_s:
            found = f"{seconds // unit_s} {name}"
    return found


def _keys(agent: Agent) -> Iterator[Problem]:
    if os.name != "posix":
        return
    folder = agent.folder / _KEYS_FOLDER
    for path in (folder, *sorted(folder.iterdir())):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            yield _problem(
                Code.NO_RIGHT,
                f"others on this machine may read {path.relative_to(agent.folder)} (mode {mode:o})",
                "take their right away: chmod -R go= on the folder “keys”",
            )


def _problem(code: Code, message: str, remedy: str) -> Problem:
    return {"code": code.value, "message": message, "remedy": remedy}


def _verdict(problems: Sequence[Problem]) -> dict[str, JSON]:
    return {"ok": not problems, "problems": problems}
