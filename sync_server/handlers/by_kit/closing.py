"""A class at the end of its year: what it held is forgotten everywhere, by the kit (§5; docs/protocol.md, "Erasure").

Rules:
- lessons are carried over, and families get their portfolio, before (`sync-agent carry-over`, `portfolio`): a class
  with work that no teacher has opened is not closed unless that is wished. Who opened counts where the list of the
  class has them as a teacher, and the work was meant for them: whoever had the server's keys says so of all of it under
  a name of their own (docs/adr/0253);
- nor is one with work or lessons that are hidden, by an erasure or a revocation of anybody's: what the kit closes is
  destroyed, and what an erasure alone hides, or a revocation, is not; nor with lessons that somebody has withdrawn, or
  made something else of, to whom no computer of their author's leads: who was let in by the server speaks as a teacher,
  too (docs/adr/0388, docs/adr/0410). By whom what is withdrawn was is told (docs/adr/0356);
- nor, but for a word more, one of which machines have told nothing of late (`not_heard`, docs/adr/0323);
- what comes for it afterwards, from a machine that nobody reached, is told (`came_after_closing`);
- who was a pupil of the class, has work there and stands on its list no more is named before: one word takes anybody
  off it (`off_the_list`, docs/adr/0295);
- whoever has the server's key gives one class the name of another: which class this is is said by its year, by all that
  it was ever called, and by when something was done in it last. One that has by now the name of another of the school
  is not closed unless it is said that this one is meant (docs/adr/0289);
- one erasure of the space, signed by the root, in the space above: a tombstone that everybody keeps. Hidden wherever
  it arrives, destroyed there a week later; a machine that was off for months hears of it before anything else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache

from protocol.errors import BadInput, Code
from protocol.folds.coursework import Coursework, Item, Work
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.model.work import ItemKind
from protocol.replica.at_work.replica import Draft
from protocol.replica.at_work.signer import RootKit
from protocol.replica.at_work.views import SpaceView
from protocol.replica.office.as_root import check_kit, write_as_root
from protocol.replica.office.erasures import said_already, turns_of
from protocol.replica.office.frozen import frozen_fault, frozen_in
from protocol.replica.office.mentioned import day_of
from protocol.replica.office.not_shown import NotShown, not_shown, switched_by
from protocol.replica.office.opened import is_opened_by_the_listed
from protocol.replica.office.spaces import SpacePast, pasts_beside, space_records, uai_of
from protocol.replica.office.taken_names import is_taken
from protocol.replica.office.whose_words import names_of_words
from protocol.replica.upkeep.orders import DestroyedHere
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import PersonRole
from sync_server.handlers.by_kit.came_after_closing import closed_mark
from sync_server.handlers.by_kit.not_heard import NotHeard, not_heard_in
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class Closing:
    """What goes with a class: pupils on its list, items, hand-ins, and how many of those nobody has opened.

    `hidden` are further ones, which nobody is shown, and of which it cannot be told, and `hidden_items` such items;
    `not_heard` who may hold others. `withdrawn_by` is how many items each person has withdrawn, or made no
    lesson any more, by name, and `withdrawn` how many lessons were by nobody to whom their author's computers lead.
    `opened_by` is how many each person says to have opened, by the name that a list has for them, whether that counts
    or not.
    """

    pupils: int
    items: int
    hand_ins: int
    unopened: int
    opened_by: Mapping[str | None, int]
    hidden: int
    hidden_items: int
    withdrawn: int
    withdrawn_by: Mapping[str | None, int]
    not_heard: NotHeard


@dataclass(frozen=True, slots=True)
class Which:
    """Which class it is: its name by now, what it was, when a lesson, assignment or work came last, by its own date.

    `taken` says that it has by now a name that is or was another's of the school.
    """

    name: str
    school: str | None
    past: SpacePast
    last_ms: int | None
    taken: bool

    def sentence(self) -> str:
        """For whoever closes it."""
        last = "nothing was done in it" if self.last_ms is None else f"last at work {day_of(self.last_ms)}"
        return f"{self.past.told(self.name)}, in the school {self.school or '?'}; {last}"


async def close_space(
    server: Server, kit: RootKit | None, space: bytes, *, unopened_too: bool, renamed_too: bool, unheard_too: bool
) -> Closing:
    """Close a class; without a kit only say what would go.

    Raises `BadInput` (BAD_KIT, USAGE for what is no class; NOT_YET while somebody of it is frozen, while there is work
    that nobody has opened, or may be on machines that have not told, or if another class had its name).
    """
    above = _above(server, space)
    view = await server.replica.view(space)
    lying = await not_shown(server.replica, view, (await DestroyedHere.of(server.replica)).at(space))
    works = view.coursework.hand_ins.values()
    is_opened = await is_opened_by_the_listed(server.replica, view.roster)
    found = Closing(
        sum(person.role is PersonRole.PUPIL for person in view.roster.persons.values()),
        len(view.coursework.items),
        len(works),
        sum(not is_opened(work) for work in works),
        await _opened_by(server, view.roster, works),
        *_hidden(lying),
        *await _withdrawn(server, view, lying.whole),
        await not_heard_in(server, space),
    )
    if kit is None or space in await said_already(server, above, by_kit=True):
        return found
    check_kit(server, kit)
    if frozen := await frozen_in(server.replica, space):
        raise frozen_fault(frozen)
    if not renamed_too and (await which_class(server, space)).taken:
        raise BadInput(
            Code.NOT_YET,
            "this class has by now a name that another class of the school had, and nothing has been closed yet. "
            "Whoever has the server, or the school, can exchange two names: say --renamed-too if this one is meant",
        )
    if space in view.roster.erased and not unopened_too:
        raise BadInput(
            Code.NOT_YET,
            "somebody has erased this class already, not by the kit: what was handed in there is hidden, and cannot be "
            "counted. `erasures` says who; `unerase` shows it again, or say --unopened-too if it may go",
        )
    if found.unopened and not unopened_too:
        raise BadInput(
            Code.NOT_YET,
            f"nobody who teaches this class has opened {found.unopened} of the hand-ins, or nothing proves it: a key "
            "of theirs was said by several devices, or went with somebody who was forgotten (`erasures`), or the work "
            "was sealed to the kit alone, and another than the first teacher here has opened it, or who has opened it "
            "came to another's name (“M. Roy (2)”) and nobody has confirmed them. `opened_by` says who says so; say "
            "--unopened-too if they may go",
        )
    if found.hidden and not unopened_too:
        raise BadInput(
            Code.NOT_YET,
            f"{found.hidden} of the hand-ins are hidden, by an erasure or since a device was cut off, and cannot be "
            "counted as opened. `erasures` and `waiting` say by whose word, and how they are shown again; or say "
            "--unopened-too if they may go",
        )
    if (found.hidden_items or found.withdrawn) and not unopened_too:
        raise BadInput(
            Code.NOT_YET,
            f"{found.hidden_items} items are hidden, by an erasure or since a device was cut off, and "
            f"{found.withdrawn} were withdrawn by somebody whom no computer of their author's has confirmed, or made "
            "no lesson any more: no `carry-over` takes them along unasked. `erasures` and `waiting` say by whose word "
            "they are hidden, `withdrawn_by` who has withdrawn or changed any: ask whose they were, or say "
            "--unopened-too if they may go",
        )
    if not unheard_too:
        found.not_heard.check()
    order = Erasure(space, (await turns_of(server.replica))[space])
    # before it is closed: whatever cuts this short, what comes late is told
    await server.store.set_marks(await closed_mark(server, space))
    await write_as_root(server, kit, [Draft(above, Kind.ERASE, None, order.encode())])
    return found


def _above(server: Server, space: bytes) -> bytes:
    """The school in which a class lies. Raises `BadInput(USAGE)` for what is no class."""
    door = server.replica.door
    above = door.parent(space)
    if above is None or above == door.territory:
        raise BadInput(Code.USAGE, "a class is closed, not a school or the territory")
    return above


async def which_class(server: Server, space: bytes) -> Which:
    """Which class that is, for whoever closes it. Raises `BadInput(USAGE)` for what is no class."""
    school = await uai_of(server, _above(server, space))
    coursework = (await server.replica.view(space)).coursework
    pasts, name = await pasts_beside(server, space), (await space_records(server))[space].name
    others = [other for one, past in pasts.items() if one != space for other in past.names.names]
    now_ms = server.now_ms()
    said = [work.at_ms for work in coursework.hand_ins.values()]
    said += [version.at_ms for item in coursework.items.values() for version in item.versions.values()]
    past = pasts[space]
    # what is dated ahead is no later than now
    last_ms = max((min(at_ms, now_ms) for at_ms in said), default=None)
    return Which(name, school, past, last_ms, is_taken(name, past.names.names, others))


def _hidden(lying: NotShown) -> tuple[int, int]:
    """How many hand-ins, and items, are hidden and not destroyed here yet, also where the rest has not come."""
    return len(lying.hand_ins), len(lying.items)


async def _withdrawn(server: Server, view: SpaceView, lying: Coursework) -> tuple[int, Mapping[str | None, int]]:
    """How many lessons were by nobody to whom their author's computers lead; and how many items by each.

    What was a lesson, and is by now something else, is withdrawn as such. What it was, and who began it, goes by all
    that is `lying` here, hidden or not.
    """
    said = list[tuple[Item, bytes | None]]()
    for item in view.coursework.items.values():
        whole = lying.items.get(item.id, item)
        if item.withdrawn and (word := await switched_by(server.replica, item)) is not None:
            said.append((whole, word.header.grant))
        elif item.shown.record.kind is not ItemKind.LESSON and whole.was_ever(ItemKind.LESSON):
            said.append((whole, item.shown.grant))
    names = await names_of_words(server.replica, view.roster, {grant for _, grant in said})
    heeded = _heeded_by_authors(server, view.roster)
    strange = sum(item.was_ever(ItemKind.LESSON) and not heeded(item, grant) for item, grant in said)
    return strange, Counter(names.get(grant) for _, grant in said)


def _heeded_by_authors(server: Server, roster: Roster) -> Callable[[Item, bytes | None], bool]:
    """Whether a word under a grant is of the author of an item, or of whom theirs have confirmed.

    The author is who began it: whoever has the server's key says a further version of anything. Of nobody's items, an
    administrator's, anybody who teaches is heeded: no `carry-over` takes them along.
    """
    authority, ever = server.replica.door.authority, roster.voices.with_over()

    @cache
    def confirmed_by(person: bytes) -> Collection[Device]:
        return ever.circle(person, *roster.starts.get(person, ())).others

    def heeded(item: Item, grant: bytes | None) -> bool:
        given, begun = authority(grant), item.versions.get(item.id)
        spoken_as = roster.spoken_as(given)
        if given is None or spoken_as is None or begun is None:
            return False
        author = authority(begun.grant)
        if author is None or author.person is None:
            return True
        return author.person == spoken_as or given.pair in confirmed_by(author.person)

    return heeded


async def _opened_by(server: Server, roster: Roster, works: Collection[Work]) -> Mapping[str | None, int]:
    names = await names_of_words(server.replica, roster, {grant for work in works for grant in work.opened_under})
    return Counter(name for work in works for name in {names.get(grant) for grant in work.opened_under})
