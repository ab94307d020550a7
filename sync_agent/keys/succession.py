"""A cloned machine takes keys of its own, and the old ones sign that it may (docs/protocol.md, "Clones").

Rules:
- `is_due` is the rule, and pure: a pupils' PC that finds itself on other hardware does so at once, since it keeps every
  right that it had; a device with more rights only once somebody has seen that another lives with its key, since a
  laptop whose disk was moved would lose them for nothing, and for a month: nobody lives with the key of one that has
  been there for so long, whatever a server says then; without a difference in hardware, of pupils' PCs the one that
  came later gives way, and only when it has been told often enough that the other would have given way by then. Whoever
  has more rights keeps them there, whatever a server says: in wrong hands it would say so to every teacher;
- without a server it is the twin itself that tells, on the school's network, by showing the key: whoever stole a copy
  of a disk holds it too;
- a pupils' PC that was brought what its own key wrote, while copies of it have parted, takes new keys when it starts
  again: a copy may have written that before it parted, and who keeps the key would be taken for one that forgets, for
  good; one that does forget starts without knowing of that, and stays known for what it is. These keys are drawn: who
  has a copy of the disk has all that is on it;
- what the old keys wrote stays written and is sent; what they could open can still be opened, and nothing is signed
  with them any more (`former`): the machine that was copied goes on with them;
- on other hardware a pupils' PC's new keys follow from the old and from the hardware: a machine that forgets at each
  reboot, from an image with an enrolled agent in it, is the same device every morning, and says the same entry;
- a device with more rights draws them there too: who has the disk of before would only have to read that hardware;
- it may be cut at any moment: `keys/next` holds what was begun, and beginning again does the same;
- who says "twin" again and again, a server in wrong hands, uses nothing up: a machine gives way to words once in a week
  that it has watched, whatever the clock says, `MAX_SUCCESSORS_BY_WORDS` times one after the other until a person has
  confirmed one of these keys, and only as long as half of the successors that its grant may have is left to machines
  that find themselves copied;
- no key is taken whose proof would not fit into a call, or by which what the first of its line made here would not be
  known as this device's own: after `MAX_FORMER_KEYS`, and where its grant has had all its successors, it keeps the keys
  that it has, and goes on (docs/adr/0567).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Final

from blake3 import blake3

from protocol.clock import DAY_MS
from protocol.errors import Code, LocalFailure
from protocol.identity import DeviceKeys, tagged, words_of
from protocol.limits import MAX_FORMER_KEYS, MAX_NAME_CHARS, MAX_SUCCESSORS_BY_WORDS, SALT_BYTES
from protocol.messages.lives import Twin
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Successor
from protocol.replica.at_work.replica import Entropy
from protocol.replica.private_file import remove_private, write_private
from protocol.replica.steady import steady_clock
from protocol.rights.door import Authority
from protocol.rights.roster import authorities_over
from protocol.rights.successions import (
    confirmed_keys,
    has_room_for_words,
    line_since_confirmed,
    predecessors_of,
    successors_of,
)
from protocol.roles import Role
from protocol.words import WORDS
from sync_agent.app import Agent
from sync_agent.keys.binding import SALT_BYTES as BINDING_SALT_BYTES
from sync_agent.keys.binding import Binding, Hardware, machine_name
from sync_agent.machine.enrolled import BINDING_FILE, DEVICE_KEYS_FILE
from sync_agent.machine.former import keep_former, let_go_of_seeds
from sync_agent.machine.marks import FORGETS_MARKS, HEALTH_MARK, MOVED_MARK, NEW_KEYS_MARK

NEXT_KEYS_FILE: Final = "keys/next"
TELLINGS: Final = 3
BETWEEN_NEW_KEYS_MS: Final = 7 * DAY_MS
SETTLED_MS: Final = 30 * DAY_MS
"""So long a computer with more rights has run on other hardware, and was told of no twin: that is its own by now."""

_log = logging.getLogger(__name__)

_DOMAIN: Final = b"relais/0 successor"
_SEED_BYTES: Final = 32
_ADDED: Final = re.compile(r" \((\w+)\)$")
_NONE_LEFT: Final = "this machine was copied too often: new keys would open nothing"
_LINE_IS_FULL: Final = "this machine has had so many keys that nobody could be shown where the next one came from"
_FOR_COPIES: Final = (
    "another machine is said to use this one's keys, and of the new ones that may be drawn for it the rest is kept for "
    "machines that find themselves copied"
)


@dataclass(frozen=True, slots=True)
class Told:
    """What others have said of a twin: how often in a row, and which of the two this one is."""

    times: int = 0
    place: Twin = Twin.NONE

    def again(self, place: Twin) -> Told:
        """Told once more."""
        return Told(self.times + 1 if place is self.place else 1, place)


def is_due(role: Role | None, *, elsewhere: bool, told: Told, lately: bool = False, mistaken: bool = False) -> bool:
    """Whether a device is to take keys of its own. Without any right left it has nothing to pass on.

    `lately` says that it was told away from others less than a week ago, `mistaken` that what copies wrote with its key
    passes for what it has forgotten.
    """
    if role is None:
        return False
    if elsewhere:
        return role is Role.MACHINE or told.times > 0
    if mistaken and role is Role.MACHINE:
        return True
    return role is Role.MACHINE and told.place is Twin.LATER and told.times >= TELLINGS and not lately


class _Outcome(Enum):
    """What came of looking whether new keys are due."""

    KEPT = auto()
    EXCHANGED = auto()
    NO_ROOM = auto()
    """Its grant has had as many successors as may be, or as many as words may draw."""


class Place:
    """The machine on which an agent runs, and what it has been told of a twin; outlives the agent that it opens."""

    def __init__(self, hardware: Hardware) -> None:
        """On a machine with these identifiers."""
        self.hardware: Final = hardware
        self.gives_way = asyncio.Event()
        """Set when the agent must be opened again, to take keys of its own."""
        self._told = Told()
        self._role: Role | None = None
        self._elsewhere = False
        self._gave_way_ms: int | None = None
        self._watched_ms: Callable[[], int] = lambda: 0
        self._no_room = False

    async def open(self, folder: Path, now_ms: Callable[[], int], entropy: Entropy) -> Agent:
        """The agent of DIR, with keys of its own. Raises as `Agent.open`."""
        self.gives_way.clear()
        agent = await self._opened(folder, now_ms, entropy)
        if agent is None:
            self._told = Told()
            agent = await self._opened(folder, now_ms, entropy)
            if agent is None:
                raise LocalFailure(Code.INTERNAL, "this machine was cloned, and its new keys do not hold")
            _log.warning("this machine was cloned; it has keys of its own now")
        agent.on_twin, agent.on_twin_nearby = self._hear, self._hear_nearby
        return agent

    async def _opened(self, folder: Path, now_ms: Callable[[], int], entropy: Entropy) -> Agent | None:
        """The agent of DIR, or None if its keys have just been exchanged."""
        agent = await Agent.open(folder, now_ms=now_ms, entropy=entropy, steady=steady_clock())
        try:
            self._gave_way_ms, self._watched_ms = await _gave_way_at(agent), agent.watched.now_ms
            outcome = await _succeed(agent, self.hardware, self._told, lately=self._lately)
            if outcome is not _Outcome.EXCHANGED:
                self._role, self._elsewhere = await _role(agent), made_elsewhere(folder, self.hardware)
                self._no_room = outcome is _Outcome.NO_ROOM
                let_go_of_seeds(folder)
                return agent
        except BaseException:
            await agent.close()
            raise
        await agent.close()
        return None

    @property
    def _lately(self) -> bool:
        return _gave_way_lately(self._gave_way_ms, self._watched_ms())

    def _hear(self, place: Twin) -> None:
        self._told = self._told.again(place)
        due = is_due(self._role, elsewhere=self._elsewhere, told=self._told, lately=self._lately)
        if due and not self._no_room:
            self.gives_way.set()

    def _hear_nearby(self, place: Twin) -> bool:
        if self._elsewhere or self._role is Role.MACHINE:
            self._hear(place)
        return self.gives_way.is_set()


async def _succeed(agent: Agent, hardware: Hardware, told: Told, *, lately: bool) -> _Outcome:
    """Take new keys if that is due, or was begun; if they were exchanged, the agent must be opened again."""
    bound = _bound(agent.folder)
    begun = _begun(agent.folder)
    if begun is None:
        elsewhere = bound is not None and bound.is_elsewhere(hardware)
        mistaken = bound is not None and await _is_mistaken(agent)
        role = await _role(agent)
        if role is not Role.MACHINE and await _has_settled(agent, elsewhere=elsewhere):
            elsewhere = False
        if not is_due(role, elsewhere=elsewhere, told=told, lately=lately, mistaken=mistaken):
            if bound is None or not elsewhere:
                _bind(agent.folder, hardware, bound, agent.entropy)
            return _Outcome.KEPT
        if not _has_room_in_line(agent):
            return _without_new_ones(agent.folder, _LINE_IS_FULL)
        if bound is not None and elsewhere and role is Role.MACHINE:
            begun = _new_keys(agent.keys, hardware, bound)
        elif not await _has_room_for_words(agent):
            return _without_new_ones(agent.folder, _FOR_COPIES)
        else:
            # on its own hardware all from which keys would follow lies on the disk that was copied; a laptop's hardware
            # is no secret from whoever has that disk, and a laptop that starts from an image each morning is rare
            now_ms = agent.watched.now_ms()
            await agent.replica.store.set_marks({NEW_KEYS_MARK: now_ms.to_bytes(8), **agent.watched.marks()})
            begun = _drawn_keys(agent.entropy)
        write_private(agent.folder / NEXT_KEYS_FILE, begun.to_bytes())
    if begun.signing.public != agent.device:
        said = await _entries(agent, begun)
        await agent.replica.admit(said, source=agent.device, now_ms=agent.now_ms(), unsent=True)
        if not await agent.replica.readable(begun.signing.public):
            return _without_new_ones(agent.folder, _NONE_LEFT)
        keep_former(agent.folder, agent.keys)
        write_private(agent.folder / DEVICE_KEYS_FILE, begun.to_bytes())
    await agent.replica.store.set_marks({HEALTH_MARK: None})
    replace(agent.enrolment, device_name=name_of(agent.enrolment.device_name, begun)).write(agent.folder)
    _bind(agent.folder, hardware, bound, agent.entropy)
    remove_private(agent.folder / NEXT_KEYS_FILE)
    return _Outcome.EXCHANGED


def _without_new_ones(folder: Path, why: str) -> _Outcome:
    """Go on with the keys that are there: a machine that shares its key is of more use than one that does not start."""
    _log.warning("%s; this machine keeps the keys that it has", why)
    remove_private(folder / NEXT_KEYS_FILE)
    return _Outcome.NO_ROOM


async def _role(agent: Agent) -> Role | None:
    """What this device is: whoever has a copy of the server's key calls a laptop a PC for an hour.

    It would give its keys up for good on that server's word of a twin.
    """
    role = await agent.role()
    is_called_so = role is Role.MACHINE and not agent.is_shared
    return agent.let_in.role if is_called_so and agent.let_in is not None else role


async def _is_mistaken(agent: Agent) -> bool:
    """Whether others had to bring what was written with this device's key, and copies of it have parted."""
    if await agent.replica.store.mark(f"{FORGETS_MARKS}{agent.device.hex()}") is None:
        return False
    return bool(successors_of(agent.device, agent.replica.door.authorities()))


async def _has_room_for_words(agent: Agent) -> bool:
    """Whether words alone may draw one successor more: in its line, and of all its grants, wherever they hold."""
    door, rights = agent.replica.door, await agent.replica.authorities(agent.device)
    anywhere: set[bytes] = set()
    for space in await agent.spaces():
        held = (await agent.replica.view(space)).roster.authorities
        confirmed, ever = confirmed_keys(held, ()), authorities_over(space, door)
        here = (grant.grant for grant in rights if door.covers(grant, space))
        if not all(has_room_for_words(grant, ever, confirmed) for grant in here):
            return False
        anywhere |= confirmed
    return has_room_since_confirmed(line_since_confirmed(agent.device, door.authorities(), anywhere))


def has_room_since_confirmed(line: int) -> bool:
    """Whether words may draw one more key after so many in a row of which a person has confirmed none."""
    return line < MAX_SUCCESSORS_BY_WORDS


def _has_room_in_line(agent: Agent) -> bool:
    """Whether the proof of one key more fits into a call: it shows each that came before, whoever confirmed it.

    What a server grants in wrong hands may be taken back, and then is no shorter way to the root.
    """
    return len(predecessors_of(agent.device, agent.replica.door.authorities())) < MAX_FORMER_KEYS


async def _has_settled(agent: Agent, *, elsewhere: bool) -> bool:
    """Whether this hardware is its own by now, where it is another one than that on which its keys were made."""
    store, now_ms = agent.replica.store, agent.watched.now_ms()
    since = await store.mark(MOVED_MARK)
    has_settled = elsewhere and since is not None and now_ms - int.from_bytes(since) >= SETTLED_MS
    if elsewhere and not has_settled:
        await store.set_marks({MOVED_MARK: since or now_ms.to_bytes(8), **agent.watched.marks()})
    elif since is not None:
        await store.set_marks({MOVED_MARK: None})
    return has_settled


async def _gave_way_at(agent: Agent) -> int | None:
    """When new keys were last begun because of a twin's word, as `watched` counts."""
    mark = await agent.replica.store.mark(NEW_KEYS_MARK)
    return None if mark is None else int.from_bytes(mark)


def _gave_way_lately(at_ms: int | None, now_ms: int) -> bool:
    """Whether a week has not passed since then; `now_ms` may be a little less, after a start that nobody noted."""
    return at_ms is not None and now_ms - at_ms < BETWEEN_NEW_KEYS_MS


def name_of(name: str, keys: DeviceKeys) -> str:
    """What a clone is called: as the machine that it was, with a word that is its own."""
    before = _ADDED.search(name)
    if before is not None and before[1] in WORDS:
        name = name[: before.start()]
    added = f" ({words_of(blake3(keys.signing.public).digest())[0]})"
    return name[: MAX_NAME_CHARS - len(added)] + added


async def _entries(agent: Agent, keys: DeviceKeys) -> list[Entry]:
    """By each right of the old keys, one entry that passes on what is left of it; the same whenever it is made."""
    rights: dict[bytes, Authority] = {}
    for right in agent.in_order(await agent.replica.authorities(agent.device)):
        rights.setdefault(right.space, right)
    given = await agent.replica.store.get([grant.grant for grant in rights.values()])
    return [
        compose(
            author=agent.keys.signing,
            space=space,
            kind=Kind.SUCCESSOR,
            grant=grant.grant,
            at=given[grant.grant].header.at + 1,
            payload=Successor.agreed(
                keys.signing, keys.agreement.public, keys.tls.fingerprint, space, agent.device
            ).encode(),
            salt=_derived(keys, space)[:SALT_BYTES],
        )
        for space, grant in sorted(rights.items())
        if grant.grant in given
    ]


def _new_keys(old: DeviceKeys, hardware: Hardware, bound: Binding) -> DeviceKeys:
    """Keys that follow from the old ones and from the hardware."""
    name = machine_name(hardware, bound.salt)
    signing, agreement, tls = (_derived(old, bytes([number]) + name) for number in range(3))
    return DeviceKeys.create(signing, agreement, tls)


def _drawn_keys(entropy: Entropy) -> DeviceKeys:
    return DeviceKeys.create(entropy(_SEED_BYTES), entropy(_SEED_BYTES), entropy(_SEED_BYTES))


def _derived(keys: DeviceKeys, about: bytes) -> bytes:
    return blake3(tagged(_DOMAIN, about), key=keys.signing.seed).digest()


def bind(folder: Path, hardware: Hardware, entropy: Entropy) -> None:
    """Remember the machine on which keys were made. Raises `LocalFailure`."""
    _bind(folder, hardware, _bound(folder), entropy)


def made_elsewhere(folder: Path, hardware: Hardware) -> bool:
    """Whether the keys in DIR were made on another machine."""
    bound = _bound(folder)
    return bound is not None and bound.is_elsewhere(hardware)


def _bind(folder: Path, hardware: Hardware, before: Binding | None, entropy: Entropy) -> None:
    """A machine that changes a little is remembered as it is now."""
    binding = Binding.of(hardware, entropy(BINDING_SALT_BYTES) if before is None else before.salt)
    if binding.parts and (before is None or binding.parts != before.parts):
        write_private(folder / BINDING_FILE, binding.encode())


def _bound(folder: Path) -> Binding | None:
    try:
        return Binding.parse((folder / BINDING_FILE).read_bytes())
    except OSError:
        return None


def _begun(folder: Path) -> DeviceKeys | None:
    try:
        return DeviceKeys.from_bytes((folder / NEXT_KEYS_FILE).read_bytes())
    except (OSError, LocalFailure):
        return None
