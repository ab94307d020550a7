"""Commands that the server and a head teacher's device have in common: parameters in, the contract's JSON out.

What one of them does besides (whom it may let in, what it warns of) is said beside its own table.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.beside_words import beside_words, unlike_words
from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.identity import school_id
from protocol.replica.console import parameters as given
from protocol.replica.console.by_name import Named
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.console.text import local_time, many_of
from protocol.replica.office import grants, withdrawals
from protocol.replica.office.bureau import Office
from protocol.replica.office.confirmed_by_lost import Confirmed
from protocol.replica.office.doubles import described_along, made_one_with, others_called
from protocol.replica.office.further_words import (
    ask_whether_meant,
    ask_who_is_let_in,
    called_by,
    doubted_to_leave,
    doubted_to_let_in,
    each_called_by,
    repeated,
)
from protocol.replica.office.heard import devices_of_the_same
from protocol.replica.office.invitations import Wanted, invite
from protocol.replica.office.known_here import note_told
from protocol.replica.office.losses import NEW_KEYS, lost
from protocol.replica.office.made_classes import add_space, rename_space
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.names import (
    NO_YEAR,
    device_id,
    lifetime_ms,
    moment_ms,
    next_year_perhaps,
    person_id,
    year_meant,
)
from protocol.replica.office.phrases_of_lost import Drawn
from protocol.replica.office.sign_ins_of_lost import OpenedSignIns
from protocol.replica.office.spaces import (
    open_spaces_named,
    space_named,
    space_records,
    spaces_named,
)
from protocol.replica.office.stays_out import (
    asks_to_look,
    cut_off_by,
    lines_of,
    reported_by_others,
    why_it_stays_out,
)
from protocol.replica.office.who_that_is import who_that_is
from protocol.replica.office.withdrawals import Kept, Withdrawn
from protocol.rights.vouching import Device, device_words
from protocol.roles import RANK, RUNS_A_SCHOOL, Role


@dataclass(frozen=True, slots=True)
class Seen:
    """What a program knows of a device: what it calls itself, and when it was last heard of."""

    name: str | None = None
    at_ms: int | None = None


UNSEEN: Final = Seen()
STRANGE: Final = "strange"
OTHERS: Final = "others"
MAX_TOLD_SPACES: Final = 20
MAX_TOLD_DEVICES: Final = 20
"""Of so many devices the words are told: each set takes a hundredth of a second, and a thief names thousands."""


async def new_space(office: Office, params: Params, school: str, program: str, outgoing: Outgoing) -> JSON:
    """`space add` in the school of this UAI; what looks like a mistake is told, and its year where nobody said one.

    A class without a year is never past (docs/adr/0047), and nobody notices that it was not closed.

    Who teaches there is on its list before anybody else can be (docs/adr/0391).
    """
    persons = [person_id(text) for text in given.texts(params, "person")]
    for person, called in zip(persons, each_called_by(params, len(persons)), strict=True):
        above = school_id(office.replica.territory, school)
        near = [above if office.replica.door.knows_space(above) else office.home]
        await ask_whether_meant(person, await repeated(office, person, near), outgoing, called=called)
    said = given.text_or_none(params, "year")
    now_ms = max(office.now_ms(), office.replica.proven_ms or 0)
    year = year_meant(said, now_ms)
    added = await add_space(office, given.text(params, "name"), school, year)
    let_in = [(person, await grants.grant_person(office, person, [added.id])) for person in persons]
    for person, looked in let_in:
        await _told_of_let_in(office, person, [added.id], looked, program, outgoing)
    if said is None:
        await outgoing.progress(
            f"of the school year {year}, which is today's: `--year` says another, `--year {NO_YEAR}` that it is of none"
        )
        if following := next_year_perhaps(now_ms):
            await outgoing.progress(
                "if it is a class for September, it is past by then, and no command gives it another year: make one "
                f"with `--year {following}`, and `space close` this one"
            )
    for warning in added.warnings:
        await outgoing.progress(f"warning: {warning}")
    return {"space": added.id.hex()}


async def space_rename(office: Office, params: Params, outgoing: Outgoing) -> JSON:
    """`space rename`."""
    space = space_named(office, given.text(params, "space"))
    if warning := await rename_space(office, space, given.text(params, "name")):
        await outgoing.progress(f"warning: {warning}")
    return {}


async def new_code(office: Office, params: Params, role: Role, outgoing: Outgoing) -> JSON:
    """`invite` for a role that the office may let in; whose device it is to let in is asked about first."""
    text, stay = given.text_or_none(params, "person"), given.text_or_none(params, "for")
    person = None if text is None else person_id(text)
    spaces = await open_spaces_named(office, given.texts(params, "space"))
    if person is not None:
        is_meant = params.get("renamed_too") is True
        await ask_who_is_let_in(office, person, spaces, outgoing, "no code has been made yet", is_meant=is_meant)
    wanted = Wanted(
        role=role,
        spaces=spaces,
        person=person,
        uses=given.count(params, "uses"),
        lifetime_ms=lifetime_ms(given.text(params, "ttl")),
        stay_ms=None if stay is None else lifetime_ms(stay),
    )
    made = await invite(office, wanted)
    return {
        "code": made.code,
        "expires": rfc3339(made.expires_ms),
        "fingerprint": made.fingerprint,
        "role": role.value,
        "uses": wanted.uses,
        "opens": await _opened(office, spaces),
        "whose": None if person is None else await _listed_as(office, person, spaces[0]),
    }


async def _opened(office: Office, spaces: Iterable[bytes]) -> str:
    """Classes as they are called: who typed a name sees which was meant."""
    records = await space_records(office)
    return ", ".join(str(Named(space, records[space].name if space in records else None)) for space in spaces)


async def _listed_as(office: Office, person: bytes, space: bytes) -> str:
    """Somebody as a class lists them, likewise."""
    return str(Named(person, (await office.replica.view(space)).roster.persons[person].name))


@dataclass(frozen=True, slots=True)
class LookedAt:
    """The devices at which people should look: each with its words, and whether it came along; how many are not shown.

    Grants call somebody's as many as a thief likes, and each word is dear to work out.
    """

    rows: list[JSON]
    left_off: int


async def let_in_device(
    office: Office,
    device: bytes,
    spaces: Sequence[bytes],
    program: str,
    outgoing: Outgoing,
    chosen: grants.Standing | None = None,
    *,
    called: str | None,
) -> None:
    """`grant --device`; whose it is comes onto the list there, and is asked about as with `grant --person`."""
    person = (chosen or (await grants.standings_of(office, device, spaces))[0]).person
    if person is not None:
        await ask_whether_meant(person, await doubted_to_let_in(office, person, spaces), outgoing, called=called)
    await tell_of_let_in(office, device, await grants.grant_device(office, device, spaces, chosen), program, outgoing)


async def tell_of_let_in(office: Office, device: bytes, let_in: grants.LetIn, program: str, outgoing: Outgoing) -> None:
    """Where else a device that was let in had been cut off, and that a stay which had ended has no end now.

    And that this takes back what others had reported, who may know that it is still lost (docs/adr/0234).
    """
    if let_in.reported_ms is not None:
        await outgoing.progress(
            f"it had been reported lost, or cut off, {local_time(rfc3339(let_in.reported_ms) or '')}: with this it "
            f"counts again, where that was said too. If nobody has found it, `{program} lost {device.hex()}` says so "
            "once more"
        )
    if let_in.ended_ms is not None:
        await outgoing.progress(
            f"its stay ended {local_time(rfc3339(let_in.ended_ms) or '')}: now it is let in for good. To end that, "
            f"`{program} ungrant --device {device.hex()} --space …`; for some days, a code (`invite --for`)"
        )
    if let_in.still_out:
        records = await space_records(office)
        places = let_in.still_out
        names = ", ".join(f"“{records[space].name}”" if space in records else space.hex() for space in places)
        everywhere = " ".join(f"--space {space.hex()}" for space in places)
        await outgoing.progress(
            f"it stays cut off in {names}, and out of what `grant --person` does: `{program} grant --device "
            f"{device.hex()} {everywhere}` takes all of that back"
        )
    given = await grants.raised(office, device, let_in.spaces, grants.names_as(let_in.standing))
    if given is not None and given.higher is None and given.role in RUNS_A_SCHOOL:
        await outgoing.progress(f"it comes in as what it was let in as first: {given.role} there, who lets others in")
    await _tell_if_raised(device, given, program, outgoing)
    if office.rank >= RANK[Role.SERVER] and let_in.standing.teaches:
        await _tell_what_it_shows(let_in.standing, program, outgoing)


async def _tell_what_it_shows(standing: grants.Standing, program: str, outgoing: Outgoing) -> None:
    """With which keys somebody's computer was let in: an id names one of the two, and grants any other beside it."""
    words = await asyncio.to_thread(device_words, standing.device)
    end = f"`{program} revoke {standing.device[0].hex()}`"
    await outgoing.progress(f"the page on its own screen has to show “{words}”; if it does not: {end}")


async def _tell_if_raised(device: bytes, given: grants.Raised | None, program: str, outgoing: Outgoing) -> None:
    """That other grants call a device more than what it was let in as: nobody honest makes it another one."""
    if given is not None and given.higher is not None:
        await outgoing.progress(
            f"the device {device.hex()} comes in as {given.role}, and as no more; grants call it {given.higher} as "
            f"well. If nobody decided that, whoever wrote them may have had the server's key: `{program} devices` "
            "shows where it is what, and `rotate server --kit --since`, at the server, ends what was said since. If it "
            f"is meant to be more there, a code (`{program} invite`) says so, in a folder of its own"
        )


async def let_in_person(
    office: Office, person: bytes, spaces: Sequence[bytes], program: str, outgoing: Outgoing
) -> LookedAt:
    """`grant --person`: which of their devices stay out is told, and what lets one in; and which is new here."""
    looked = await grants.grant_person(office, person, spaces)
    return await _told_of_let_in(office, person, spaces, looked, program, outgoing)


async def _told_of_let_in(
    office: Office,
    person: bytes,
    spaces: Sequence[bytes],
    found: Iterable[grants.Looked],
    program: str,
    outgoing: Outgoing,
) -> LookedAt:
    """What is told of somebody's devices once they were let in as far as they come along."""
    rows: list[JSON] = []
    looked = sorted(found, key=lambda each: each.why is not grants.Why.NEW)  # those that came along first
    cuts = await cut_off_by(office, [each.device[0] for each in looked[:MAX_TOLD_DEVICES]])
    for each in looked[:MAX_TOLD_DEVICES]:
        device, comes_along = each.device[0].hex(), each.why is grants.Why.NEW
        words = await asyncio.to_thread(device_words, each.device) if asks_to_look(each) else None
        chosen = grants.Standing(each.device, person, teaches=True).name
        is_in = not comes_along and await _is_in_each(office, each.device[0], spaces)
        row: dict[str, JSON] = {"device": device, "comes_along": comes_along, "is_in": is_in, "words": words}
        rows.append({**row, "chosen": chosen, "why": each.why.value})
        shows = f"the page on its own screen has to show “{words}”"
        if comes_along:
            await outgoing.progress(
                f"the device {device} comes along, and nobody here knows it yet: {shows}; if it does not: "
                f"`{program} revoke {device}`"
            )
            # not before: what fails on the way is said again, and would be told by nobody (docs/adr/0417)
            await note_told(office, person, each.device)
            continue
        why = why_it_stays_out(office, each, cuts.get(each.device[0]))
        if words is not None:
            why = f"nothing here says that it is this person's; {shows}"
        where = "is in already" if is_in else "stays out"
        await outgoing.progress(f"the device {device} {where}: {why}; {_what_next(each, program, is_in=is_in)}")
    if any(each.why is grants.Why.UNKNOWN for each in looked):
        reported = await reported_by_others(office, person, spaces)
        for line in () if reported is None else await lines_of(office, reported, program):
            await outgoing.progress(line)
    same = await devices_of_the_same(office.replica, person, spaces)
    rows += await _told_of_the_same(office, same[:MAX_TOLD_DEVICES], program, outgoing)
    left_off = max(0, len(looked) - MAX_TOLD_DEVICES) + max(0, len(same) - MAX_TOLD_DEVICES)
    if left_off:
        await outgoing.progress(f"and {left_off} more that grants call this person's; `devices` lists all")
    theirs = grants.devices_of(office, [person])
    if theirs and not any([await _is_in_each(office, key, spaces) for key in theirs]):
        await outgoing.progress("they are on the list there, and no device of theirs is let in")
    for key in theirs[:MAX_TOLD_DEVICES]:
        given = await grants.raised(office, key, spaces, grants.stands_for(person))
        await _tell_if_raised(key, given, program, outgoing)
    return LookedAt(rows, left_off)


def _what_next(each: grants.Looked, program: str, *, is_in: bool) -> str:
    """What lets a device in that stays out, or ends that it is in: of a stolen laptop no line that lets it in."""
    device = each.device[0].hex()
    if each.why is grants.Why.CUT_OFF:
        out = f"`{program} lost {device}` cuts it off there too. " if is_in else ""
        return f"{out}only what was found, and is in the hands of whose it is, is let in again (`grant --device`)"
    let_in = f"`{program} grant --device {device} --space …`"
    if is_in:
        return f"if so: {let_in}; if not: `{program} ungrant --device {device} --space …`"
    return f"to let it in all the same: {let_in}"


async def _is_in_each(office: Office, device: bytes, spaces: Iterable[bytes]) -> bool:
    """Whether a device that was not let in now reads in each of these spaces all the same: whoever let it in before."""
    return all([(await office.replica.view(space)).roster.may_read(device) for space in spaces])


async def _told_of_the_same(
    office: Office, same: Sequence[tuple[Device, bytes]], program: str, outgoing: Outgoing
) -> list[JSON]:
    """Which devices stay out that are known as somebody's whom a list calls the same as who is let in."""
    rows: list[JSON] = []
    names = await mentioned(office.replica, {other for _, other in same}) if same else {}
    for device, other in same:
        key, words = device[0].hex(), await asyncio.to_thread(device_words, device)
        chosen = grants.Standing(device, other, teaches=True).name
        rows.append({"device": key, "comes_along": False, "words": words, "chosen": chosen, "same": other.hex()})
        await outgoing.progress(
            f"the device {key} stays out: the page on its own screen has to show “{words}”; to let it in all the same: "
            f"`{program} grant --device {key} --space …`. It is known here as the one of {other.hex()}, whom a list "
            f"calls the same person: {unlike_words(names[other].shown())}"
        )
    return rows


async def ungrant(office: Office, params: Params, outgoing: Outgoing, *, looked: bool = False) -> JSON:
    """`ungrant`; if somebody `looked` at it, with the devices that may be somebody else's (`STRANGE`)."""
    spaces = spaces_named(office, given.texts(params, "space"))
    device, person = device_or_person(params)
    told: dict[str, JSON] = {}
    if device is not None:
        told |= await told_of(await withdrawals.ungrant_device(office, device, spaces), outgoing)
        told |= await told_of_absent(office, [device], outgoing)
    if person is not None:
        await outgoing.progress(f"to be taken off: {await who_that_is(office.replica, person)}")
        found = await doubted_to_leave(office, person, spaces)
        await ask_whether_meant(person, found, outgoing, called=called_by(params))
        others = await told_of_others(office, person, outgoing)
        withdrawn = await withdrawals.ungrant_person(office, person, spaces)
        told |= others | await told_of_gone(office, withdrawn, outgoing)
        if looked and withdrawn.strange:
            told[STRANGE] = [key.hex() for key, _ in withdrawn.strange]
    return told


async def told_of_others(office: Office, person: bytes, outgoing: Outgoing) -> dict[str, JSON]:
    """Which other ids go along with somebody, and whom lists call the same, and who stays (`OTHERS`), where any do."""
    along = await made_one_with(office, [person])
    stay = await others_called(office, [person], along)
    for line in [*await described_along(office, along), *stay.values()]:
        await outgoing.progress(line)
    return {OTHERS: [other.hex() for other in stay]} if stay else {}


async def told_of(withdrawn: Withdrawn, outgoing: Outgoing) -> dict[str, JSON]:
    """What a withdrawal has left, and what of what was said waits now, as commands say it and tell people."""
    for device, classes in withdrawn.cut_short.items():
        await outgoing.progress(
            f"the device {device.hex()} has spoken in {classes} classes, and a revocation has not room for all: "
            "what it said in the newest counts no more, and waits. `sync-server waiting` lists it; `accept ID` lets it "
            "count after all"
        )
    cut_short: list[JSON] = [{"device": key.hex(), "classes": count} for key, count in withdrawn.cut_short.items()]
    for space in withdrawn.frozen:
        await outgoing.progress(
            f"not taken off the list of {space.hex()}: it says that what there is about them is frozen, and shows them "
            "nowhere. That is lifted at the server alone (`sync-server person unfreeze`); then say this again"
        )
    told = await told_of_kept(withdrawn.kept, outgoing)
    await _tell_of_gone(withdrawn, outgoing)
    return {**told, "cut_short": cut_short} if cut_short else told


async def told_of_gone(office: Office, withdrawn: Withdrawn, outgoing: Outgoing) -> dict[str, JSON]:
    """The same where somebody has left, and took devices along."""
    gone = [key for key, _ in (*withdrawn.strange, *withdrawn.led)]
    return await told_of(withdrawn, outgoing) | await told_of_absent(office, gone, outgoing)


async def told_of_absent(office: Office, devices: Iterable[bytes], outgoing: Outgoing) -> dict[str, JSON]:
    """How many words of devices that are cut off were kept from who says so; nothing where none were."""
    absent = await withdrawals.absent_of(office, devices)
    if absent:
        await outgoing.progress(
            f"what it has said leads to {absent} words that are not here: once it is cut off they count for nothing, "
            "wherever they lie, and wait. What an honest device says has no gaps: somebody keeps these from this "
            "computer, or has that device's key. `sync-server waiting` lists what turns up; `accept ID` lets work count"
        )
    return {"absent": absent} if absent else {}


async def _tell_of_gone(withdrawn: Withdrawn, outgoing: Outgoing) -> None:
    """Which devices somebody's leaving took along, each with its words: those first that may be somebody else's."""
    for number, device in enumerate([*withdrawn.strange, *withdrawn.led][:MAX_TOLD_DEVICES]):
        key, words = device[0].hex(), await asyncio.to_thread(device_words, device)
        line = f"cut off: the device {key}, “{words}”"
        if number < len(withdrawn.strange):
            line += (
                ", though no device of this person's leads to it: if it is somebody else's, whose screen shows these "
                f"words, `grant --device {key} --space …` lets it back in"
            )
        await outgoing.progress(line)
    more = len(withdrawn.strange) + len(withdrawn.led) - MAX_TOLD_DEVICES
    if more > 0:
        await outgoing.progress(f"and {more} more; `devices` lists all")


async def told_of_kept(kept: Sequence[Kept], outgoing: Outgoing) -> dict[str, JSON]:
    """What a withdrawal has left, as commands say it and tell people: nothing where it took all."""
    for each in kept:
        await outgoing.progress(
            f"not done: the device {each.device.hex()} still reads “{each.name}”, as {each.role}, which is not this "
            f"computer's to take; who runs the server can: `sync-server revoke {each.device.hex()}`"
        )
    return {"remains": [each.row() for each in kept]} if kept else {}


def since_of(office: Office, params: Params) -> int | None:
    """The time from which on nothing counts, where one is given. Raises `BadInput(BAD_DATE)`."""
    text = given.text_or_none(params, "since")
    return None if text is None else moment_ms(text, office.now_ms())


async def report_loss(
    office: Office,
    params: Params,
    outgoing: Outgoing,
    seen: Mapping[bytes, Seen],
    governs: Callable[[bytes], bool] = lambda _: True,
    besides: Callable[[bytes], Awaitable[None]] | None = None,
) -> JSON:
    """`lost`, with what the program knows of devices; `governs` as of `revoke_device`, `besides` cuts off what else is.

    All that it does is done before anything is told (docs/adr/0585).
    """
    cut = params.get("dry_run") is not True
    since_ms = since_of(office, params)
    device, anyway = device_id(given.text(params, "device")), params.get("anyway") is True

    def named(key: bytes) -> str | None:
        return seen.get(key, UNSEEN).name

    loss = await lost(office, device, cut=cut, since_ms=since_ms, anyway=anyway, name_of=named, governs=governs)
    if cut and besides is not None:
        await besides(device)
    if loss.teaches and cut:
        await outgoing.progress(NEW_KEYS)
    if cut:
        await outgoing.progress(_waits(since_ms))
        await told_of_kept(loss.remains, outgoing)
    absent = await told_of_absent(office, [device], outgoing)
    await _tell_whose_else(loss.others, outgoing)
    await _tell_of_copies(loss.copies, outgoing)
    await _tell_of_image(device, loss.image, outgoing)
    await _tell_of_confirmed(loss.confirmed, outgoing)
    await _tell_of_besides(loss.besides, outgoing)
    await _tell_of_phrases(device, loss.phrases, outgoing)
    await tell_of_sign_ins(loss.sign_ins, outgoing, by="it")
    last_seen = rfc3339(seen.get(device, UNSEEN).at_ms)
    known: dict[str, JSON] = {"device": device.hex(), "name": named(device), "last_seen": last_seen, "revoked": cut}
    return {**known, **loss.rows(), "absent": 0, **absent}


async def _tell_whose_else(others: Sequence[str | None], outgoing: Outgoing) -> None:
    """Whose else further rights call a lost device: nobody honest makes it another's (docs/adr/0515)."""
    if others:
        names = ", ".join("somebody without a name here" if name is None else f"“{name}”" for name in others)
        await outgoing.progress(
            f"other rights call it the computer of {names}. If nobody decided that, whoever wrote them may have had "
            "the server's key: `rotate server --kit --since`, at the server, ends what was said since"
        )


async def _tell_of_more(devices: Sequence[object], where: str, outgoing: Outgoing) -> None:
    """Of how many of these nothing was told, and where they stand."""
    if len(devices) > MAX_TOLD_DEVICES:
        await outgoing.progress(f"and {len(devices) - MAX_TOLD_DEVICES} more; `{where}` of `lost --json` lists all")


@dataclass(frozen=True, slots=True)
class _Reading:
    """A device, by its six words where these are told, and all that it reads as `role`, as a sentence names it."""

    key: str
    words: str | None
    role: Role
    reads: str


def _readings(places: Iterable[tuple[Kept, str | None]]) -> list[_Reading]:
    """Each device once, however many classes it reads: one pair of words to compare, and one command."""
    named = defaultdict[tuple[str, str | None, Role], dict[str, None]](dict)
    for kept, words in places:
        named[kept.device.hex(), words, kept.role][f"“{beside_words(kept.name)}”"] = None
    return [_Reading(*each, ", ".join(names)) for each, names in named.items()]


async def _tell_of_copies(copies: Sequence[Kept], outgoing: Outgoing) -> None:
    """Whose keys came of a lost device and who reads on, since somebody has let it in by name (docs/adr/0235)."""
    devices = _readings((each, None) for each in copies)
    for each in devices[:MAX_TOLD_DEVICES]:
        await outgoing.progress(
            f"the device {each.key} has keys that came of it, and reads {each.reads}, as {each.role}: somebody has let "
            f"it in by name. If nobody knows where it stands, it may be in the same hands: `lost {each.key}` cuts it "
            "off too"
        )
    await _tell_of_more(devices, "copies", outgoing)


async def _tell_of_image(device: bytes, image: Sequence[Kept], outgoing: Outgoing) -> None:
    """With whose keys a lost device was copied, and who reads on with them (docs/adr/0339)."""
    devices = _readings((each, None) for each in image)
    for each in devices[:MAX_TOLD_DEVICES]:
        await outgoing.progress(
            f"the keys of {device.hex()} came of those of the device {each.key}, which reads {each.reads}, as "
            f"{each.role}. They lay on its disk when it was copied, and do so each morning where it is set back to its "
            "image: who found them there goes on as that one. If that may be, `confirm` its other copies, then "
            f"`lost {each.key}` cuts those keys off too, and that machine is enrolled anew"
        )
    await _tell_of_more(devices, "image", outgoing)


async def _tell_of_confirmed(confirmed: Sequence[Confirmed], outgoing: Outgoing) -> None:
    """Who goes on as somebody's by a lost device's word alone (docs/adr/0247)."""
    devices = _readings((each.kept, each.words) for each in confirmed)
    for each in devices[:MAX_TOLD_DEVICES]:
        await outgoing.progress(
            f"the device {each.key} ({each.words}) reads as {each.role}, and the lost one alone has confirmed it: one "
            "of its person's own shows these six words. If none does, it may be in the same hands: "
            f"`lost {each.key}` cuts it off too. It reads {each.reads}"
        )
    await _tell_of_more(devices, "confirmed", outgoing)


async def _tell_of_besides(besides: Sequence[Confirmed], outgoing: Outgoing) -> None:
    """Who is called the same person's, and goes on in that name (docs/adr/0397)."""
    devices = _readings((each.kept, each.words) for each in besides)
    for each in devices[:MAX_TOLD_DEVICES]:
        await outgoing.progress(
            f"the device {each.key} ({each.words}) is called the same person's, and the lost one has not confirmed it: "
            "new work is sealed to it as theirs. One of its person's own shows these six words; if none does, somebody "
            f"else has it: `lost {each.key}` cuts it off too. It reads {each.reads}"
        )
    await _tell_of_more(devices, "besides", outgoing)


async def _tell_of_phrases(device: bytes, phrases: Sequence[Drawn], outgoing: Outgoing) -> None:
    """The papers that somebody may have who had a lost device (docs/adr/0247)."""
    days = [local_time(rfc3339(each.drawn_ms) or "") for each in phrases if each.counts]
    if days:
        more = f" and {len(days) - MAX_TOLD_DEVICES} before (`phrases` of `lost --json`)"
        listed = ", ".join(days[:MAX_TOLD_DEVICES]) + (more if len(days) > MAX_TOLD_DEVICES else "")
        await outgoing.progress(
            f"phrases were drawn on it: {listed}. With such a paper a computer that comes in as this person's is "
            "theirs, and opens their pupils' work: ask whether they drew each. One that is not theirs, and whatever "
            f"else the device said since, counts no more by `lost {device.hex()} --since TIME`, with a time before it"
        )


async def tell_of_sign_ins(sign_ins: Sequence[OpenedSignIns], outgoing: Outgoing, by: str) -> None:
    """In which classes somebody who has a lost device signs in as a pupil, `by` what (docs/adr/0281)."""
    if sign_ins:
        places = [f"“{each.name}” ({many_of(each.pupils, 'pupil')})" for each in sign_ins]
        more = f" and {len(places) - MAX_TOLD_SPACES} more (`sign_ins` with `--json`)"
        listed = ", ".join(places[:MAX_TOLD_SPACES]) + (more if len(places) > MAX_TOLD_SPACES else "")
        await outgoing.progress(
            f"by what pupils sign in on shared computers (pictures, PINs) can be found out with {by} in {listed}, and "
            "stays good until it is drawn anew: a teacher of the class does that, on the class's page of sign-ins, "
            "which says so too"
        )


def _waits(since_ms: int | None) -> str:
    """What is told of what a lost device has said: where it waits, and whose word it waits for."""
    if since_ms is None:
        what = "what turns up of it from now on"
    else:
        what = f"what it said since {local_time(rfc3339(since_ms) or '')}, and all that had not come here by then,"
    return (
        f"{what} counts for nothing, and waits for somebody's word: who runs the server lists it with "
        "`sync-server waiting`; `accept ID` lets it count after all, `refuse ID` takes it off the list"
    )


def device_or_person(params: Params) -> tuple[bytes | None, bytes | None]:
    """Which of both is named. Raises `BadInput(USAGE)` for both or none."""
    device, person = given.text_or_none(params, "device"), given.text_or_none(params, "person")
    if (device is None) == (person is None):
        raise BadInput(Code.USAGE, "one of --device and --person is needed, and not both")
    return (
        None if device is None else device_id(device),
        None if person is None else person_id(person),
    )
