"""The devices of the school that multicast finds: who they are, which become neighbours, what stands in the way (R15).

Rules:
- loopback is no network: nothing is announced there;
- a listener for every interface speaks to the groups of both families; one name at two addresses is one member; one
  group that could not be joined is tried again at every look;
- of a name that is heard from several places the one counts whose announcement weighs most (`announcement`);
- who shows a tag under this device's own key may be its clone, and is called, whoever else is chosen;
- a member can announce machines that there are not: beside those who are chosen of all, those are called who would be
  chosen without whoever has lately not answered;
- whoever has just been switched on looks about itself before it asks the server for what others may be fetching, a
  little longer where it has met others before, and until then counts among those who may ask;
- who is about to fetch much says so, asks once more who is there, and hears all of them first;
- where multicast does not work, people are told what does: `--peer` with the address of a device; where others are
  announced and none can be called, that the network keeps them apart.

docs/protocol.md, "Neighbours", "One download".
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from protocol.errors import Code
from protocol.identity import SEED_BYTES, SigningKey
from protocol.messages.introduction import NONCE_BYTES, announced_name, noise_bytes
from protocol.replica.at_work.replica import Entropy
from protocol.replica.process.unforeseen import Unforeseen, lasting
from sync_agent.lan.finding.announcement import (
    MAX_ANNOUNCED_TAGS,
    Member,
    Members,
    Secrets,
    State,
    hint_text,
    placed_text,
    sealed,
    shows_key,
)
from sync_agent.lan.finding.looking import in_moments
from sync_agent.lan.finding.mdns import MAX_KNOWN, Discovery, Found, Join
from sync_agent.lan.finding.mdns_messages import Instance, Ip
from sync_agent.lan.finding.multicast import Place, ipv4_beside, place_of, shown_address
from sync_agent.lan.finding.neighbour_choice import neighbours_of, ranking_of
from sync_agent.lan.finding.not_found import kept_apart, no_multicast, nobody_found
from sync_agent.machine.addresses import Address
from sync_agent.sync.electing import Stage
from sync_agent.sync.pulse import Course

SILENT_S: Final = 1_800.0
"""For so long who did not answer is not counted upon."""
MAX_TWINS: Final = 4
LOOK_AGAIN_S: Final = 20.0
PATIENCE_S: Final = 10.0
LOOKS_ALONE: Final = 2
"""So many looks in a row that find nobody, while the server is out of reach, are told to people."""
LOOKS_APART: Final = 7
"""So many looks in a row that find devices and reach none: one that was switched off is announced for less long."""
REACHED_LATELY_S: Final = 90.0
LOOKS_S: Final = 2.0
"""After so long who is there has answered."""
EXPECTS_S: Final = 10.0
"""For so long a device that has met others looks for the first of them."""
BEGINS_S: Final = 20.0
"""After so long it is known whether a device that was switched on reaches the server."""
SPEAKS_S: Final = (0.3, 5.0)
"""So long those are waited for who are asked what they are at: until all have answered, and no longer ..."""
LATENESS: Final = 3.0
"""... but so many times as long as its own word took to come back to it: others hear and are heard as late."""
CATCHES_UP_S: Final = 3.0
"""So long neighbours are waited for that are about to bring something."""
QUIET_S: Final = 3.0
"""Who says again and again that it fetches, and has not for so long, goes behind others that do."""


_Places: TypeAlias = tuple[Place | None, Place | None]
_Addresses: TypeAlias = tuple[Ip | None, Ip | None]
_Group: TypeAlias = tuple[Discovery, str]
"""Who speaks there, and the host by whose interface."""


class Neighbourhood:
    """Announces this device, and says whom to call."""

    def __init__(
        self,
        secrets: Callable[[], Secrets],
        own: bytes,
        entropy: Entropy,
        on_change: Callable[[], None],
        join: Join | None = None,
    ) -> None:
        """`secrets` gives those of this device as they are known now, `own` is that of its key.

        `on_change` hears that `chosen` or `twins` may differ.
        """
        self._signer = SigningKey(entropy(SEED_BYTES))
        self.name = announced_name(self._signer.public)
        self.problem: tuple[Code, str, str] | None = None
        self.recognises = secrets
        """The secrets by which others are known: more than are announced by a device to which nothing is open."""
        self.gone: Callable[[], set[Address]] = set
        """The addresses at which nobody answers any more, though they were announced a moment ago."""
        self.in_touch: Callable[[], bool] = lambda: False
        """Whether a link stands with anybody, found or named."""
        self.hears: Callable[[], bool] = lambda: False
        """Whether the line stands on which the server tells of news: then it is reached, however quiet it is."""
        self.expects = False
        """Whether this device has met others before."""
        self.caught_up: Callable[[], bool] = lambda: True
        """Whether no neighbour is about to bring anything: none is being met, or has told of news and not come."""
        self.looked: Callable[[], None] = lambda: None
        """Hears that this device knows now who is there."""
        self.may_fetch: Callable[[], bool] = lambda: True
        """Whether this device takes what is new: not while it is paused, or its disk is full."""
        self._secrets = secrets
        self._own = own
        self._entropy = entropy
        self._on_change = on_change
        self._port = 0
        self._host = ""
        self._reached_until_s = 0.0
        self.looks = False
        self._is_found = False
        self._begins = True
        self._silent_until_s: dict[Address, float] = {}
        self._looks_alone = 0
        self._looks_apart = 0
        self._stage = Stage.RESTS
        self._course: Course | None = None
        self._lost_s: dict[str, float] = {}
        """Who did not answer, and when that was seen: it is not there until it says something."""
        self._address: Ip | None = None
        self._ipv4: Ip | None = None
        """Its address in the group of IPv4, beside that of IPv6."""
        self._ipv4_host: str | None = None
        self._stands: _Places = (None, None)
        self._membership = contextlib.AsyncExitStack()
        self._left: list[_Group] = []
        """The groups of which this device could not become part, while it is of another one."""
        self._leaves = False
        self._count = 0
        self._shown: tuple[tuple[bytes, ...], State, _Addresses, tuple[Instance, Instance]] | None = None
        self._judge = Members(self._recognised)
        words = itertools.count(1).__next__
        self._discovery = Discovery(self.name, self._instance, on_change, self._judge, join, words)
        self._beside = Discovery(self.name, self._instance_beside, on_change, self._judge, join, words)

    @contextlib.asynccontextmanager
    async def open(self, url: str, host: str, unforeseen: Unforeseen) -> AsyncIterator[None]:
        """Be found at the port of `url` on the network of `host` while the context lasts."""
        self._host, self._port = host, int(url.rsplit(":", 1)[1])
        self._ipv4_host = ipv4_beside(host)
        if _is_loopback(host):
            yield
            return
        self._stands = await self._find_places()
        async with contextlib.AsyncExitStack() as self._membership:
            await self._join()
            self.looks = self._is_found
            async with (
                lasting("looking for neighbours", self._look, unforeseen),
                lasting("beginning to look for neighbours", self._begin, unforeseen),
            ):
                yield

    async def _join(self) -> None:
        """Become part of the group where this device is now, or of both; what keeps it from all is told."""
        groups = [(self._discovery, self._host)]
        groups += [] if self._ipv4_host is None else [(self._beside, self._ipv4_host)]
        why = await self._enter(groups)
        self._is_found = len(why) < len(groups)
        if not self._is_found:
            self.problem = no_multicast(self._named, str(why[0].strerror or why[0]))

    async def _enter(self, groups: Sequence[_Group]) -> list[OSError]:
        """Become part of these groups; what keeps this device from those that are left for the next look."""
        why: list[OSError] = []
        self._left = []
        for discovery, host in groups:
            try:
                await self._membership.enter_async_context(discovery.open(host))
            except OSError as reason:
                why.append(reason)
                self._left.append((discovery, host))
        if len(why) < len(groups):
            self._membership.callback(self._leave)
        return why

    async def _follow(self) -> bool:
        """Whether the network is another one, or there is one at last: then this device becomes part of that."""
        places = await self._find_places()
        if places == self._stands and (self._is_found or places == (None, None)):
            if self._left and self._is_found:
                await self._enter(self._left)
            return False
        self._stands = places
        await self._membership.aclose()
        self._leaves = False
        await self._join()
        return True

    def members(self) -> dict[str, Member]:
        """The devices that were found and have a space in common with this one, by name."""
        gone = self.gone()
        members: dict[str, Member] = {}
        for found in self._found():
            member = self._judge.shown(found)
            if member is not None:
                before = members.setdefault(member.name, member)
                if _weight(member, gone) > _weight(before, gone):
                    members[member.name] = member
        return members

    def _found(self) -> list[Found]:
        return [*self._discovery.found(), *self._beside.found()] if self._port else []

    def _recognised(self) -> Secrets:
        return self.recognises()

    def chosen(self) -> dict[Address, Member]:
        """The neighbours among them, by address."""
        members = self.members()
        silent = self._silent()
        answering = [name for name, member in members.items() if member.address not in silent]
        names = neighbours_of(self.name, members) | neighbours_of(self.name, answering)
        return {members[name].address: members[name] for name in names}

    def _silent(self) -> set[Address]:
        """Where somebody was called in vain lately, also if they are called no more."""
        now_s = asyncio.get_running_loop().time()
        known = {address: until_s for address, until_s in self._silent_until_s.items() if until_s > now_s}
        known |= dict.fromkeys(self.gone(), now_s + SILENT_S)
        self._silent_until_s = dict(list(known.items())[-MAX_KNOWN:])
        return set(self._silent_until_s)

    def twins(self) -> set[Address]:
        """Where somebody announces itself with this device's own key, under another name than this process."""
        twins = [one.address for one in self._found() if shows_key(one.instance, one.address, self._own)]
        return set(twins[-MAX_TWINS:])

    def reached_server(self) -> None:
        """The server has just answered: this device may fetch for others."""
        self._begins = False
        self._reached_until_s = asyncio.get_running_loop().time() + REACHED_LATELY_S
        self._announce_if_changed()

    @property
    def reaches_server(self) -> bool:
        """Whether the server answered lately, or would tell if there were news; and what it says is taken.

        Who is fetching does, however long that takes.
        """
        if self._stage is not Stage.RESTS or self._course is not None:
            return self._course is not Course.STALLS
        reached = self.hears() or asyncio.get_running_loop().time() < self._reached_until_s
        return reached and self.may_fetch()

    def lost_server(self) -> None:
        """The server does not answer: others had better ask."""
        self._begins = False
        self._reached_until_s = 0.0
        self._announce_if_changed()

    def ranking(self, space: bytes) -> list[str]:
        """The devices that may ask the server for all who share `space`, as they are named; none if no other is there.

        This one is among them while it reaches the server itself, or may. Who is at it comes first: one that has just
        been switched on does not begin anew what another is in the middle of; then who is about to.
        """
        states = {member.name: member.state for member in self._may_fetch(space)}
        if not states:
            return []
        own = self._state()
        if own.reaches_server or own.begins:
            states[self.name] = own
        at_it = {name for name, state in states.items() if state.is_at_it}
        quiet = {name for name in at_it - {self.name} if states[name].goes_on and self._is_quiet(name)}
        about_to = {name for name, state in states.items() if state.claims}
        rest = states.keys() - at_it - about_to
        return [name for names in (at_it - quiet, quiet, about_to, rest) for name in ranking_of(space, names)]

    def is_at_it(self, name: str) -> bool:
        """Whether a member says that it is in the middle of fetching much."""
        member = self.members().get(name)
        return member is not None and member.state.is_at_it

    def says_it_fetches(self, name: str) -> bool:
        """Whether a member says that it is fetching much, or about to."""
        member = self.members().get(name)
        return member is not None and member.state.fetches

    def fetches(self, stage: Stage) -> None:
        """How far this device is with fetching much from the server."""
        if self._course is Course.STALLS:
            self._reached_until_s = 0.0
        self._stage, self._begins, self._course = stage, False, None
        self._announce_if_changed()

    def goes_on(self, course: Course) -> None:
        """Say again that this device is at it, or that its line stands still."""
        self._course = course
        if self._port and not _is_loopback(self._host):
            for voice in self._voices():
                voice.announce()

    def word_of(self, name: str) -> int | None:
        """The number of the last word of a member that is at it and says so again and again; None of any other."""
        member = self.members().get(name)
        says_again = member is not None and member.state.goes_on and (member.state.is_at_it or member.state.sends)
        last = self._last(name) if says_again else None
        return None if last is None else last.number

    def sends(self, name: str) -> bool:
        """Whether a member says that it is sending much."""
        member = self.members().get(name)
        return member is not None and member.state.sends

    def comes_to(self, space: bytes) -> set[str]:
        """The others that share `space` to which content comes, by what they have said a moment ago.

        Programs from before say only that they are at it.
        """
        others = {member.name: member.state for member in self._may_fetch(space) if member.state.is_at_it}
        return {name for name, at in others.items() if not at.goes_on or (at.comes and not self._is_quiet(name))}

    def halted(self, space: bytes) -> int:
        """How many that share `space` were at it, and say that their line stands still, or nothing any more."""
        others = [one for one in self.members().values() if space in one.spaces and one.state.goes_on]
        at_it = [one for one in others if one.state.fetches]
        return len([one for one in others if not (one.state.fetches or one.state.sends)]) + sum(
            self._is_quiet(one.name) for one in at_it
        )

    def does_not_answer(self, name: str) -> None:
        """A member was asked, and is not there: until it says something."""
        self._lost_s[name] = asyncio.get_running_loop().time()
        while len(self._lost_s) > MAX_KNOWN:
            del self._lost_s[next(iter(self._lost_s))]

    def _is_lost(self, name: str) -> bool:
        lost_s = self._lost_s.get(name)
        last = None if lost_s is None else self._last(name)
        return lost_s is not None and (last is None or last.heard_s <= lost_s)

    def _is_quiet(self, name: str) -> bool:
        last = self._last(name)
        return last is None or asyncio.get_running_loop().time() - last.heard_s >= QUIET_S

    def _last(self, name: str) -> Found | None:
        """The last word of who has a name."""
        member = self.members().get(name)
        words = [found for found in self._found() if found.instance.name == name]
        shown = [(found, self._judge.shown(found)) for found in words]
        own = [found for found, said in shown if member and said and said.standing == member.standing]
        return max(own, key=lambda found: found.number, default=None)

    @property
    def late_s(self) -> float:
        """How late words have come here since this device was switched on: others are as late, most likely."""
        return max(voice.late_s for voice in self._voices())

    async def hear_neighbours(self) -> None:
        """Let neighbours bring what they have, for a moment: until all have been asked, or have come."""
        await in_moments(0.0, CATCHES_UP_S, self.caught_up)

    async def hear_others(self) -> None:
        """Ask those who are there what they are at, and wait for their words.

        Who was never met is waited for as long as this device's own words have shown others' to be late, no longer.
        """
        least_s, most_s = SPEAKS_S
        if self._is_found and self._discovery.heard_itself and not (self.expects or self.members()):
            await in_moments(0.0, most_s, lambda: self._discovery.echo(self._instance()) is not None)
        # what comes back within a moment is in time
        late_s = min(self.late_s, most_s) if self.late_s > least_s else 0.0
        if self._is_found and not (self.expects or self.members()):
            await in_moments(0.0, LATENESS * late_s, lambda: bool(self.members()))
        if not self._is_found or not (self.expects or self.members()):
            return
        asked_s = asyncio.get_running_loop().time()
        for voice in self._voices():
            voice.ask()
        await in_moments(least_s, most_s if self.members() else LOOKS_S, self._all_have_spoken)
        echo = self._echo()
        if echo is not None:
            # one word may come back at once while others lie for as long as an earlier one did
            late_s = max(echo.heard_s - asked_s, late_s)
            await in_moments(0.0, LATENESS * late_s, self._all_have_spoken)
        elif self._heard_itself and self.members():
            # later than all that was waited: what was said before its word lies unread as well
            await in_moments(0.0, LATENESS * most_s, self._all_have_spoken)

    def _all_have_spoken(self) -> bool:
        """Whether every member has said something after what this one said last had come to all."""
        echo = self._echo()
        gone = self.gone()
        there = {name for name, one in self.members().items() if one.address not in gone and not self._is_lost(name)}
        if echo is None or not there:
            return False
        return there <= {found.instance.name for found in self._found() if found.number > echo.number}

    def _voices(self) -> list[Discovery]:
        """Where this device speaks: to one group, or to both."""
        return [self._discovery] if self._ipv4_host is None else [self._discovery, self._beside]

    @property
    def _heard_itself(self) -> bool:
        return any(voice.heard_itself for voice in self._voices())

    def _echo(self) -> Found | None:
        """What this device said last as it came back, where it came back last; None before it has everywhere."""
        said = zip(self._voices(), self._said(), strict=False)
        echoes = [voice.echo(instance) for voice, instance in said if voice.heard_itself]
        if not echoes or None in echoes:
            return None
        return max((echo for echo in echoes if echo is not None), key=lambda echo: echo.number)

    def address_of(self, name: str) -> Address | None:
        """Where a member is that was named."""
        member = self.members().get(name)
        return None if member is None else member.address

    def _announce_if_changed(self) -> None:
        is_new = self._shown is None or self._shown[1:3] != (self._state(), (self._address, self._ipv4))
        if is_new and self._port and not _is_loopback(self._host):
            for voice in self._voices():
                voice.announce()

    def _may_fetch(self, space: bytes) -> list[Member]:
        """The others that share `space` and may ask the server."""
        gone = self.gone()
        return [
            member
            for member in self.members().values()
            if member.may_fetch
            and space in member.spaces
            and member.address not in gone
            and not self._is_lost(member.name)
        ]

    async def _begin(self) -> None:
        """Look about until it is known who is there, then until it is known whether the server is reached."""
        if self.looks:
            await in_moments(LOOKS_S, EXPECTS_S if self.expects else 2 * LOOKS_S, self._has_looked)
            self.looks = False
            self.looked()
        await in_moments(0.0, BEGINS_S, lambda: not self._begins)
        self._begins = False
        self._announce_if_changed()

    def _has_looked(self) -> bool:
        return self._heard_itself and not (self.expects and not self.members())

    async def _look(self) -> None:
        """Notice what no message tells: who fell silent, that multicast brings nothing back, that nobody is found."""
        await asyncio.sleep(PATIENCE_S)
        while True:
            self._look_once()
            self._on_change()
            await asyncio.sleep(LOOK_AGAIN_S)
            if await self._follow():
                await asyncio.sleep(PATIENCE_S)
            self._announce_if_changed()

    def _look_once(self) -> None:
        is_alone = not (self.reaches_server or self.members() or self.in_touch())
        self._looks_alone = self._looks_alone + 1 if is_alone else 0
        self._looks_apart = self._looks_apart + 1 if self._calls_in_vain() else 0
        if self._looks_apart >= LOOKS_APART:
            self.problem = kept_apart(self._named, len(self.members()))
        elif self._heard_itself:
            self.problem = nobody_found(self._named) if self._looks_alone >= LOOKS_ALONE else None
        elif self.problem is None or self.problem[0] is Code.DEVICES_APART:
            self.problem = no_multicast(self._named, "not even this device's own announcement came back")

    @property
    def _named(self) -> str:
        """What people call the network that this device listens on: an address of it."""
        address = self._ipv4 or self._address
        return self._host if address is None else str(address)

    def _calls_in_vain(self) -> bool:
        """Whether devices are announced, and every one that this one called did not answer, nor has any called it."""
        chosen = self.chosen().keys()
        return bool(chosen) and chosen <= self.gone() and not self.in_touch()

    async def _find_places(self) -> _Places:
        """Where this device is, in either family: a network may give it another address at any time."""
        loop, beside = asyncio.get_running_loop(), self._ipv4_host
        place = await loop.run_in_executor(None, place_of, self._host)
        ipv4 = None if beside is None else await loop.run_in_executor(None, place_of, beside)
        self._address = None if place is None else place.address
        self._ipv4 = None if ipv4 is None else ipv4.address
        return place, ipv4

    def _leave(self) -> None:
        self._leaves = True

    def _state(self) -> State:
        fetches, claims = self._stage is not Stage.RESTS, self._stage is Stage.CLAIMS
        goes_on, stalls = self._course is not None, self._course is Course.STALLS
        comes = self._course is Course.COMES
        return State(self.reaches_server, fetches and not stalls, self._leaves, claims, self._begins, goes_on, comes)

    def _instance(self) -> Instance:
        return self._said()[0]

    def _instance_beside(self) -> Instance:
        return self._said()[1]

    def _said(self) -> tuple[Instance, Instance]:
        """What is announced, and what beside it to IPv4's group: of one number, so that the one counts that answers."""
        secrets, state, addresses = (self._own, *self._secrets()), self._state(), (self._address, self._ipv4)
        if self._shown is None or self._shown[:3] != (secrets, state, addresses):
            self._count += 1
            own = self._composed(secrets, state, self._address)
            beside = own if self._ipv4_host is None else self._composed(secrets, state, self._ipv4)
            self._shown = secrets, state, addresses, (own, beside)
        return self._shown[3]

    def _composed(self, secrets: tuple[bytes, ...], state: State, address: Ip | None) -> Instance:
        plain = Instance(self.name, self._port, shown_address(address), b"")
        noise = self._entropy(noise_bytes(min(len(secrets), MAX_ANNOUNCED_TAGS)))
        nonce = self._entropy(NONCE_BYTES)
        if address is None:
            return replace(plain, txt=hint_text(secrets, self.name, nonce, noise, state))
        text = placed_text(secrets, plain, address, nonce, noise, state, self._count)
        return sealed(replace(plain, txt=text), address, self._signer)


def _weight(member: Member, gone: set[Address]) -> tuple[int, int, bool]:
    """What is by who has the name, then what is bound to a place, then the latest, then one that answers."""
    return (*member.standing, member.address not in gone)


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
