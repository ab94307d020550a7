"""What people do at a machine: publish, revise, hand in, open, mark, look; by the functions behind the commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Final

from protocol.errors import Code, LocalFailure
from protocol.folds.coursework import HandInState, Item, Work
from protocol.model.work import ItemKind
from protocol.roles import HAS_READING_KEYS
from sync_agent.coursework import publisher, reading
from sync_agent.coursework.publisher import Wish
from sync_agent.hand_ins import handing_in
from tests.harness.classroom import Given
from tests.simulation.ledger import BrokenError, Files, Ledger
from tests.simulation.machine import Machine, SimAgent

Act = Callable[[Machine, SimAgent, Random, Ledger, int], Awaitable[str]]

# how often something is corrected as soon as it is published, under the number of its step and this
SECOND_THOUGHTS: Final = 0.4
SECOND: Final = 1_000

STATE_RANK: Final = {
    HandInState.LOCAL: 0,
    HandInState.SAFE: 1,
    HandInState.SERVER: 2,
    HandInState.TEACHER: 3,
    HandInState.MARKED: 4,
    HandInState.REDO: 4,
}


class Shelf:
    """Where a command's files go."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._path = ""

    async def start(self, path: str, size: int | None) -> None:
        del size
        self._path = path
        self.files[path] = b""

    async def data(self, data: bytes) -> None:
        self.files[self._path] += data

    async def end(self) -> None:
        return

    async def progress(self, text: str) -> None:
        del text


async def publish(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """A new lesson or assignment."""
    spaces = await own_spaces(agent)
    if machine.birth.role not in HAS_READING_KEYS or not spaces:
        return "-"
    title = f"title {number} {machine.name}"
    kind = random.choice((ItemKind.LESSON, ItemKind.ASSIGNMENT, ItemKind.ASSIGNMENT))
    ledger.published[title] = files = _files(random)
    published = await publisher.publish(agent, Wish(random.choice(spaces), None, kind, title), Given(files), Shelf())
    said = f"{title}: item {_short(published.item)}"
    if random.random() < SECOND_THOUGHTS:
        item = await reading.find_item(agent, published.item)
        said += f", then {await _revise(machine, agent, random, ledger, number + SECOND, item)}"
    return said


async def revise(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """Another version of an item, whose files change a little."""
    items = await _items(agent)
    if machine.birth.role not in HAS_READING_KEYS or not items:
        return "-"
    return await _revise(machine, agent, random, ledger, number, random.choice(items))


async def revise_first(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """Another version of the item that everybody would choose."""
    items = await _items(agent)
    if machine.birth.role not in HAS_READING_KEYS or not items:
        return "-"
    return await _revise(machine, agent, random, ledger, number, min(items, key=lambda item: item.id))


async def _revise(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int, item: Item) -> str:
    title = f"title {number} {machine.name}"
    files = dict(ledger.published[item.shown.record.title])
    new = _files(random)
    files.update([random.choice(list(new.items()))] if random.random() < 0.7 else new)
    ledger.published[title] = files
    wish = Wish(None, item.id, None, title, keep=item.shown.id)
    published = await publisher.publish(agent, wish, Given(files), Shelf())
    return f"{title}: revision {_short(published.revision)} of {_short(published.item)}"


async def switch(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """Withdraw an item, or bring it back."""
    items = await _items(agent)
    if machine.birth.role not in HAS_READING_KEYS or not items:
        return "-"
    item = random.choice(items)
    await (publisher.restore if item.withdrawn else publisher.withdraw)(agent, item.id)
    return f"{'restored' if item.withdrawn else 'withdrew'} {_short(item.id)}"


async def settle(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """End a conflict."""
    items = [item for item in await _items(agent) if item.conflict]
    if machine.birth.role not in HAS_READING_KEYS or not items:
        return "-"
    item = random.choice(items)
    await publisher.settle(agent, item.id, random.choice(item.heads).id)
    return f"settled {_short(item.id)}"


async def hand_in(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """A pupil's work for an assignment."""
    tasks = [item for item in await _items(agent) if item.shown.record.kind is ItemKind.ASSIGNMENT]
    if machine.birth.role in HAS_READING_KEYS or not tasks:
        return "-"
    task = random.choice(tasks)
    persons = (await agent.replica.view(task.space)).roster.persons.values()
    pupils = sorted(person.id for person in persons if person.role.value == "pupil")
    if not pupils:
        return "-"
    path = f"work {number} {machine.name}.txt"
    ledger.handed_in[path] = data = random.randbytes(random.choice((20, 300, 5_000)))
    work = await handing_in.hand_in(
        agent, task.id, random.choice(pupils), [(path, len(data))], Given({path: data}), Shelf()
    )
    return f"{path}: {_short(work)}"


async def open_work(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """The teacher opens a hand-in."""
    works = [work for work in await works_of(agent) if can_open(agent, work)]
    if machine.birth.role not in HAS_READING_KEYS or not works:
        return "-"
    work = random.choice(works)
    await opened(agent, work, ledger)
    await handing_in.confirm_opened(agent, work.id)
    return f"opened {_short(work.id)}"


async def feedback(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """The teacher says something of a hand-in."""
    works = await works_of(agent)
    if machine.birth.role not in HAS_READING_KEYS or not works:
        return "-"
    work = random.choice(works)
    files = _files(random) if random.random() < 0.3 else {}
    await handing_in.give_feedback(
        agent, work.id, f"word {number}", None, redo=random.random() < 0.3, incoming=Given(files)
    )
    return f"marked {_short(work.id)}"


async def look(machine: Machine, agent: SimAgent, random: Random, ledger: Ledger, number: int) -> str:
    """Somebody reads all that can be read; nothing is seen by halves."""
    before = await _items(agent)
    rows = {row["item"]: row for row in await reading.list_items(agent, machine.manifests) if isinstance(row, Mapping)}
    for item in before:
        row = rows.get(item.id.hex())
        await check_item(agent, item, ledger, complete=str(row["revision"]) if row and row["complete"] else None)
    return f"{sum(bool(row['complete']) for row in rows.values())} of {len(rows)} items are complete"


ACTS: Final[Mapping[str, Act]] = {
    "publish": publish,
    "revise": revise,
    "revise first": revise_first,
    "switch": switch,
    "settle": settle,
    "hand in": hand_in,
    "open": open_work,
    "feedback": feedback,
    "look": look,
}


async def check_item(agent: SimAgent, before: Item, ledger: Ledger, *, complete: str | None) -> None:
    """What is read of an item is one of its versions, whole: that which was said to be complete, if one was.

    Somebody may revise the item while it is read: `before` is how it was before that was said, and what is newer may
    be read as well, or be on its way.
    """
    shelf = Shelf()
    failure = None
    try:
        await reading.send_all(agent, before.id, None, shelf)
    except LocalFailure as failed:
        failure = failed
    versions = (await reading.find_item(agent, before.id)).versions
    newer = versions.keys() - before.versions.keys()
    if failure is not None:
        if failure.code is Code.INCOMPLETE and (complete is None or newer):
            return
        raise failure
    allowed = versions.keys() if complete is None else {bytes.fromhex(complete), *newer}
    if not any(shelf.files == ledger.published[versions[name].record.title] for name in allowed):
        raise BrokenError(f"item {_short(before.id)} is seen by halves: {sorted(shelf.files)}")


async def opened(agent: SimAgent, work: Work, ledger: Ledger) -> None:
    """Open a hand-in; its bytes are those that the pupil handed in."""
    shelf = Shelf()
    await handing_in.open_hand_in(agent, work.id, shelf)
    if not shelf.files or any(ledger.handed_in.get(path) != data for path, data in shelf.files.items()):
        raise BrokenError(f"hand-in {_short(work.id)} opens with other bytes: {sorted(shelf.files)}")


def can_open(agent: SimAgent, work: Work) -> bool:
    """Whether the reading key of this machine in the class is among the work's readers."""
    key = agent.reading_keys.newest_of(work.space)
    return key is not None and key.public in work.readers


async def works_of(agent: SimAgent) -> list[Work]:
    """The hand-ins of the classes of this machine."""
    return [
        work
        for space in await own_spaces(agent)
        for work in (await agent.replica.view(space)).coursework.hand_ins.values()
    ]


async def own_spaces(agent: SimAgent) -> list[bytes]:
    """The classes in which the machine has a right of its own, those below a school's included."""
    door = agent.replica.door
    grants = await agent.replica.authorities(agent.device)
    return [
        space
        for space in await agent.spaces()
        if len(door.lineage(space)) > 2 and any(door.covers(grant, space) for grant in grants)
    ]


async def _items(agent: SimAgent) -> list[Item]:
    return [
        item
        for space in await own_spaces(agent)
        for item in (await agent.replica.view(space)).coursework.items.values()
    ]


def _files(random: Random) -> Files:
    """A few files; now and then one that no message takes."""
    sizes = [random.choice((0, 30, 700, 4_000)) for _ in range(random.randrange(1, 4))]
    if random.random() < 0.1:
        sizes.append(random.randrange(70_000, 120_000))
    return {f"file-{random.randrange(6)}.txt": random.randbytes(size) for size in sizes}


def _short(name: bytes) -> str:
    return name.hex()[:8]
