"""Which returns count, and for whom the others wait: as docs/protocol.md says it (C20 to C25), one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from protocol.limits import MAX_PARENTS
from protocol.model.entry import Kind
from protocol.model.structure import Grant
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, Vouch
from tests.unit.test_returns import AnyDay, Life

Return = tuple[Device, frozenset[bytes] | None]
"""A device, and the reports that the grants name that are over; None for what it has now."""


class _Text:
    """The rules, said once more for a teacher whose laptops have spoken of one another alone."""

    def __init__(self, life: Life) -> None:
        self.roster: Roster = life.roster()
        entries = [entry for entry in life.world.entries if entry.id not in self.roster.held_back]
        grants = {entry.id: entry for entry in life.world.entries if entry.header.kind == Kind.GRANT}
        self.parents = {grant: entry.header.parents for grant, entry in grants.items()}
        given = {grant: Grant.parse(entry.payload or b"") for grant, entry in grants.items()}
        self.device: dict[bytes, Device] = {grant: (each.signing, each.agreement) for grant, each in given.items()}
        self.holding = {each.grant for each in self.roster.authorities if each.person == life.hers}
        said = [entry.header for entry in entries if entry.header.kind == Kind.VOUCH]
        self.words = [(each.grant, each.target) for each in said if each.grant is not None and each.target is not None]

    def names(self, grant: bytes) -> frozenset[bytes]:
        own = {name for name, key in self.roster.revocations.items() if key == self.device[grant][0]}
        found, key = frozenset(own - self.roster.ends) & set(self.parents[grant]), self.device[grant][0]
        through = [name for name in self.parents[grant] if name in self.device and self.device[name][0] == key]
        return frozenset(found.union(*(self.names(name) for name in through)))

    def return_of(self, grant: bytes) -> Return | None:
        device = self.device[grant]
        if grant in self.holding and device[0] in self.roster.reported - self.roster.cut:
            return device, None
        return (device, self.names(grant)) if grant in self.roster.again else None

    def was_never_away(self, device: Device) -> bool:
        stands = device in {self.device[grant] for grant in self.holding}
        return stands and device[0] not in self.roster.cut | self.roster.reported

    def is_before(self, one: Return | None, back: Return) -> bool:
        if one is None or one == back:
            return one is None
        return back[1] is None or (one[1] is not None and len(one[1]) <= len(back[1]))

    def linked(self, back: Return) -> Iterable[Device]:
        found, pending = set[Device](), [back[0]]
        while pending:
            device = pending.pop()
            for under, about in self.words:
                is_said_before = device != back[0] or self.is_before(self.return_of(under), back)
                after = self.device[about]
                if self.device[under] == device and is_said_before and after not in found:
                    found.add(after)
                    pending += [] if self.was_never_away(after) else [after]
        spoke = [(self.device[under], about) for under, about in self.words if self.device[about] == back[0]]
        found |= {voice for voice, about in spoke if self.is_before(self.return_of(about), back)}
        return filter(self.was_never_away, found - {back[0]})

    def leads(self, device: Device, back: Return) -> bool:
        """Whether it speaks for a return, or leads to who has."""
        spoken = [each for each in self.words if self.return_of(each[0]) is None and self.device[each[0]] != back[0]]
        found = [device]
        for one in found:
            for under, about in spoken:
                if self.device[under] == one:
                    if self.is_for(about, back):
                        return True
                    if (about in self.holding or back[1] is not None) and self.device[about] not in found:
                        found.append(self.device[about])
        return False

    def is_for(self, about: bytes, back: Return) -> bool:
        if self.device[about] != back[0]:
            return False
        spoken_of = self.return_of(about)
        present = frozenset().union(*(self.names(grant) for grant in self.holding if self.device[grant] == back[0]))
        return spoken_of == back or (spoken_of == (back[0], None) and present == back[1])

    def lacked(self, grants: Iterable[bytes]) -> dict[Return, frozenset[Device]]:
        """For whom each return waits that does."""
        backs = {back for grant in grants if (back := self.return_of(grant)) is not None}
        lacked = {back: frozenset(one for one in self.linked(back) if not self.leads(one, back)) for back in backs}
        return {back: devices for back, devices in lacked.items() if devices}


def _nothing(_: AnyDay) -> None:
    """As the days go."""


def _confirms_what_was(days: AnyDay) -> None:
    """Somebody says that what a laptop had was hers, or has, as who is asked."""
    grants = [entry for entry in days.life.world.entries if entry.header.kind == Kind.GRANT]
    of_hers = {laptop.device[0] for laptop in days.laptops}
    had = [each.id for each in grants if Grant.parse(each.payload or b"").signing in of_hers]
    for _ in range(2):
        voice, about = days.random.choice(days.laptops), days.random.choice(had)
        said = Vouch().encode()
        days.life.world.say(voice.writer, days.life.room, Kind.VOUCH, said, subject=days.life.hers, target=about)


def _lets_in_by_fewer_names(days: AnyDay) -> None:
    """Whoever has the server writes a right that names what he likes, and ends it."""
    laptop = days.random.choice(days.laptops)
    named = days.named[laptop.device]
    if days.random.random() < 0.3:
        some = days.random.sample(named, days.random.randrange(len(named) + 1))
        extra = days.life.lets_in(laptop, *some[:MAX_PARENTS], by=days.life.world.server)
        days.life.loses(laptop, by=days.life.world.server, ends=extra)


@pytest.mark.parametrize("more", [_nothing, _confirms_what_was, _lets_in_by_fewer_names])
@pytest.mark.parametrize("seed", range(20))
def test_the_fold_has_those_returns_wait_that_the_text_has_and_for_the_same_devices(
    seed: int, more: Callable[[AnyDay], None]
) -> None:
    days = AnyDay(seed)
    for _ in range(16):
        days.happens()
        more(days)
        text = _Text(days.life)
        voices, lacked = text.roster.voices, text.lacked(text.device)
        assert voices.waits_for == {back[0]: devices for back, devices in lacked.items() if back[1] is None}
        over = {grant: text.return_of(grant) for grant in text.roster.again}
        assert voices.unheard_by == {grant: lacked[back] for grant, back in over.items() if back in lacked and back[1]}
