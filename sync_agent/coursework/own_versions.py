"""Which versions of an item are its teacher's own word on this device, and as which one stays what is not brought.

Whoever has the server writes versions of every item, and this device signs what it publishes.

Rules (docs/protocol.md, "Coursework"; docs/adr/0305):
- a teacher's own word is what this device wrote, what her other devices did, and whom these have confirmed, whatever
  has ended since: what is not brought stays as such a version has it without a question. What another device said that
  was held back, and counts by a ruling other than the root's, is no such word (docs/adr/0487, 0493);
- files stay as any other version has them once somebody has named that one, by its id, and they are here to be looked
  at; words that are not given stay as the shown version has them, and that is told;
- who says which head they were shown is told if another one is shown by now, that this very device did not write.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, LocalFailure
from protocol.folds.coursework import Item, Version
from protocol.model.entry import Entry
from protocol.model.work import ContentRef
from protocol.replica.console.parameters import shown
from protocol.replica.office.whose_words import names_of_words
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from sync_agent.app import Agent
from sync_agent.coursework.reading import need_of
from sync_agent.keys.confirming import circle_ever, own_grant, own_grants


@dataclass(frozen=True, slots=True)
class OwnVoice:
    """Whose versions are this device's teacher's own word in a space: `own` devices, and `confirmed` ones of others.

    `keys` are those of computers that are heeded whatever lists say: this device's, and any that was named by hand.
    `person` is who its teacher is.
    """

    keys: frozenset[bytes]
    door: Door
    roster: Roster
    person: bytes | None = None
    own: Collection[Device] = frozenset()
    confirmed: Collection[Device] = frozenset()

    def is_own(self, version: Version) -> bool:
        """Whether one of this teacher's devices wrote it."""
        return self._is_by(self.own, version.id, version.author, version.grant)

    def has(self, version: Version) -> bool:
        """Whether it may be said again in this teacher's name without a question."""
        return self._speaks(version.id, version.author, version.grant)

    def said(self, word: Entry) -> bool:
        """Whether another word, about an item, is of one of those whose versions may be said again."""
        return self._speaks(word.id, word.header.author, word.header.grant)

    def stands_by(self, version: Version) -> bool:
        """Whether it is such a word already: one that counts by a ruling may end with that, and is said once more."""
        return self.has(version) and version.id not in self.roster.let_count

    def stands_by_word(self, word: Entry) -> bool:
        """The same of another word, about an item."""
        return self.said(word) and word.id not in self.roster.let_count

    def newest(self, item: Item) -> Version | None:
        """The first of them that an item has, as they are shown."""
        return next(filter(self.has, item.versions.values()), None)

    def is_called_own(self, version: Version) -> bool:
        """Whether a list says of who wrote it that it is this teacher's, heeded here or not."""
        given = self.door.authority(version.grant)
        if self.person is None or given is None or given.person is None:
            return False
        return self.roster.who(given.person) == self.roster.who(self.person)

    def and_of(self, computers: Collection[bytes]) -> Self:
        """The same, and whatever these computers have said."""
        return replace(self, keys=self.keys.union(computers))

    def _speaks(self, word: bytes, author: bytes, grant: bytes | None) -> bool:
        return any(self._is_by(devices, word, author, grant) for devices in (self.own, self.confirmed))

    def _is_by(self, devices: Collection[Device], word: bytes, author: bytes, grant: bytes | None) -> bool:
        if author in self.keys:
            return True
        if word in self.roster.let_count:
            return False
        given = self.door.authority(grant)
        return given is not None and given.pair in devices and self.roster.spoken_as(given) is not None


async def own_voice(agent: Agent, space: bytes) -> OwnVoice:
    """That of this device's teacher in a space; of a device that names nobody there, what it wrote itself."""
    roster = (await agent.replica.view(space)).roster
    voice = OwnVoice(frozenset({agent.device}), agent.replica.door, roster)
    grant = await own_grant(agent, await own_grants(agent), space)
    if grant is None or grant.person is None:
        return voice
    circle = circle_ever(agent, roster, grant.person)
    return replace(voice, person=grant.person, own=circle.own, confirmed=circle.others)


@dataclass(frozen=True, slots=True)
class Kept:
    """The version as which stays what is not brought.

    `question` is asked before anything does, `unseen` is why its files cannot.
    """

    version: Version
    question: BadInput | None = None
    unseen: LocalFailure | None = None

    @property
    def words(self) -> str:
        """Said where its words stay, and nobody is asked: its files are what somebody would sign unseen."""
        name = self.version.id.hex()[:12]
        return f"what you do not give, a title or a date, stays as the version {name} has it, which is none of yours"

    @property
    def content(self) -> ContentRef:
        """Its files. Raises `BadInput(NOT_YET)`, `LocalFailure(INCOMPLETE)`."""
        if self.question is not None:
            raise self.question
        if self.unseen is not None:
            raise self.unseen
        return self.version.record.content


async def to_keep(agent: Agent, item: Item, named: bytes | None, seen: bytes | None) -> Kept:
    """As which version stays what is not brought: as the one that is `named`, else as the shown one.

    `seen` is the head of which who asks was shown. Raises `BadInput` (NOT_YET, UNKNOWN_REVISION).
    """
    check_seen(agent, item, seen)
    if seen not in (None, item.shown.id):
        named = None  # a page that is sent once more from before what this device published since
    version = item.shown if named is None else item.versions.get(named)
    if version is None:
        raise BadInput(Code.UNKNOWN_REVISION, f"this item has no revision “{(named or b'').hex()}” here")
    voice = await own_voice(agent, item.space)
    if voice.has(version):
        return Kept(version)
    unseen = None
    if not await agent.holdings.is_complete(need_of(item, version)):
        unseen = LocalFailure(
            Code.INCOMPLETE,
            "the files of that version, which is not yours, have not all arrived on this device: nothing of it is "
            "published in your name before you can look at them",
        )
    return Kept(version, None if named is not None else await _question(agent, item, voice), unseen)


def check_seen(agent: Agent, item: Item, seen: bytes | None) -> None:
    """Raise `BadInput(NOT_YET)` where somebody who was shown the head `seen` would not know of the one shown by now."""
    if seen in (None, item.shown.id) or (item.shown.author == agent.device and seen in item.versions):
        return
    raise BadInput(
        Code.NOT_YET,
        "another version of this has come meanwhile; nothing was published",
        revision=item.shown.id.hex(),
    )


async def _question(agent: Agent, item: Item, voice: OwnVoice) -> BadInput:
    version, mine = item.shown, voice.newest(item)
    names = await names_of_words(agent.replica, voice.roster, {version.grant})
    by = f"by {names[version.grant]}" if version.grant in names else "by nobody whom this device knows by name"
    number = item.id.hex()[:12]
    yours = "" if mine is None else f"; {mine.id.hex()[:12]} is the last one that is yours"
    return BadInput(
        Code.NOT_YET,
        f"nothing was published: what you do not give would stay as the version {version.id.hex()[:12]} has it, “"
        f"{shown(version.record.title)}”, which is none of yours: {by}, {rfc3339(version.at_ms)}. Look at it "
        f"(`versions {number}`, `checkout {number} FOLDER`), then say which one you mean: `--keep REVISION`{yours}",
        revision=version.id.hex(),
    )
