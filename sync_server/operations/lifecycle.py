"""Commands about rights, keys and the end of things: who is cut off, renamed, forgotten, and which keys take over.

The same shape as those in `table`, which enters them. The recovery kit stays with the command that has read
it: what its root says is signed there, and what its recovery key opens is opened there (`kit.away`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, Refused
from protocol.folds.coursework import HandInState, Work
from protocol.limits import ERASURE_DELAY_MS, MAX_ERASED_PER_DAY
from protocol.model.entry import ID_BYTES, PERSON_BYTES, Entry, Kind, kind_name
from protocol.replica.access.export import export_person
from protocol.replica.catalogues import DEFAULT_LANGUAGE
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.console.text import local_time, many_of
from protocol.replica.office import commands, list_commands, withdrawals
from protocol.replica.office.acts import Line
from protocol.replica.office.as_root import check_kit
from protocol.replica.office.doubles import made_one_with
from protocol.replica.office.erasures import check_known, erase_persons, ever_said, in_force
from protocol.replica.office.frozen import freeze_person, unfreeze_person
from protocol.replica.office.further_words import ask_whether_meant, ask_who_is_let_in, called_by, doubted_to_leave
from protocol.replica.office.leaving import tell_of_hidden_lists, told_of_partings
from protocol.replica.office.list_words import ListWords
from protocol.replica.office.names import device_id, entry_id, hex_or_none, person_id
from protocol.replica.office.namesakes import told_of_numbers
from protocol.replica.office.off_the_list import OffTheList, off_the_list
from protocol.replica.office.people import listings_of
from protocol.replica.office.replaced import check_in_place, told_of_replaced
from protocol.replica.office.sign_ins_of_lost import sign_ins_of_gone
from protocol.replica.office.spaces import space_named
from protocol.replica.office.taken_names import (
    NOBODY_YET,
    ask_about_names,
    ask_about_the_hidden,
    ask_about_those_along,
)
from protocol.replica.office.taking_back import (
    MAX_NAMED,
    Standing,
    check_not_destroyed,
    kits_line,
    take_back,
    told_of,
    told_of_gone,
)
from protocol.replica.office.who_that_is import described_with_doubles, who_that_is
from protocol.replica.upkeep.orders import DestroyedHere, ends_of
from protocol.roles import Role
from sync_server.handlers.accounts.administrators import told_of_ended
from sync_server.handlers.by_kit.closing import close_space, which_class
from sync_server.handlers.by_kit.held_rights import refused_of, told_of_accepted, words_of
from sync_server.handlers.by_kit.old_gaps import told_of_gaps
from sync_server.handlers.by_kit.rewrapping import rewrap
from sync_server.handlers.by_kit.rotation import rotate_root, rotate_server
from sync_server.handlers.by_kit.said_again import hidden_again, why_not_again
from sync_server.handlers.by_kit.servers_named import told_of_servers
from sync_server.handlers.by_kit.standing import standings
from sync_server.handlers.by_kit.waiting import list_waiting, rule
from sync_server.handlers.overview.let_go import let_go_of_all
from sync_server.handlers.overview.members import list_devices
from sync_server.handlers.record.audit import Act, trail
from sync_server.handlers.record.erasures import said_of_held_back, told_erasures, waiting_for_a_word
from sync_server.handlers.store.keys_of_before import old_keys
from sync_server.kit.away import KitAway
from sync_server.kit.shown import words_of_class
from sync_server.opened.app import Server
from sync_server.opened.kits_key import kits_key
from sync_server.operations.command import Command, KitCommand
from sync_server.operations.copies import confirm
from sync_server.operations.newcomers import cut_off_newcomers, tell_of_newcomers
from sync_server.operations.unheard import tell_of_unheard
from sync_server.operations.which_classes import check_chosen
from sync_server.web.wording import Words

MAX_TOLD_GONE: Final = 40
"""Of so many who are off a class's list it is told who they are: the first that came here."""
MAX_TOLD_ANEW: Final = 20
"""Of so many words that wait, and that no `accept` says again, it is told what does: the oldest."""
_NOT_IN_IT: Final = (
    "what of theirs lies on these machines alone is not in the archive, which says so: let them call (a cable, a "
    "stick: `courier`), and write it again, before anybody is forgotten"
)
_SEALED: Final = (
    "since this server opens none: `--kit KIT` writes their files as well, or `sync-agent export-person` on a computer "
    "that reads the class's work, a teacher's or the head teacher's"
)
_STILL_SHOWN: Final = (
    "what they have of theirs is shown there until they call, and what lies on them alone has not come here: have them "
    "call (a cable, a stick: `courier`) before"
)
_GOES_UNSEEN: Final = (
    "what of theirs lies on these machines alone is in no archive that was written before, and is hidden there when "
    "they call, and destroyed a week later. If a family is to have it, let them call (a cable, a stick: `courier`), "
    "and `export-person` write it, first: `unerase` shows again whom this forgets, for a week"
)


async def _revoke(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    device, since_ms = device_id(given.text(params, "device")), commands.since_of(server, params)
    anyway = params.get("anyway") is True
    if kit is not None:
        check_kit(server, kit)
    kept = await withdrawals.revoke_device(server, device, since_ms=since_ms, kit=kit, anyway=anyway)
    await let_go_of_all(server, device)
    told = await commands.told_of_kept(kept, outgoing) | await commands.told_of_absent(server, [device], outgoing)
    opened = await _opened_sign_ins(server, outgoing, since_ms)
    return {**told, "sign_ins": opened} if opened else told


async def _waiting(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    refused = params.get("refused") is True
    rows = await list_waiting(server, refused=refused)
    said_anew = () if refused else (why_not_again(each.entry, is_reported=each.is_reported) for each in rows)
    anew = [why for why in said_anew if why is not None]
    for why in anew[:MAX_TOLD_ANEW]:
        await outgoing.progress(f"not accepted by its id: {why}")
    if len(anew) > MAX_TOLD_ANEW:
        await outgoing.progress(f"and {len(anew) - MAX_TOLD_ANEW} more: `accept ID` says it of each")
    words = await words_of(server, {each.entry.id: each.gives for each in rows})
    return [
        {
            "id": each.entry.id.hex(),
            "space": each.entry.header.space.hex(),
            "kind": kind_name(each.entry.header.kind),
            "device": each.entry.header.author.hex(),
            "person": None if each.person is None else each.person.hex(),
            "words": words.get(each.entry.id),
            "at": rfc3339(each.entry.timestamp_ms),
            "until": rfc3339(each.facts.until_ms),
            "role": None if each.facts.role is None else each.facts.role.value,
            "leaves": each.facts.leaves,
            "freezes": each.facts.freezes,
            "same": None if each.facts.same_as is None else each.facts.same_as.hex(),
            "with_all": each.facts.with_all,
            "refused": each.refused,
            "name": each.name,
            "title": each.title,
        }
        for each in rows
    ]


async def _accept(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    return {"accepted": await _ruled(server, params, outgoing, kit, accept=True)}


async def _refuse(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    return {"refused": await _ruled(server, params, outgoing, kit, accept=False)}


async def _ruled(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None, *, accept: bool) -> int:
    """For how many entries the word counts. Raises `Refused(NO_RIGHT)` where it does for none of them."""
    named = [entry_id(text) for text in given.texts(params, "named")]
    entries = list((await server.store.get(named)).values())
    told = await told_of_accepted(server, entries) if accept else []
    refused = await refused_of(server, entries)
    ruled = await rule(server, named, accept=accept, kit=kit)
    for line in told:
        await outgoing.progress(line)
    for one in sorted(refused - await refused_of(server, entries)):
        await outgoing.progress(f"{one.hex()} had been refused: that is taken back")
    if ruled.idle:
        if not ruled.counting and not ruled.beyond:
            raise Refused(Code.NO_RIGHT, _idle(ruled.idle))
        await outgoing.progress(_idle(ruled.idle))
    if ruled.beyond:
        beyond = _beyond(ruled.beyond, "accept" if accept else "refuse", is_by_kit=kit is not None)
        if not ruled.counting:
            raise Refused(Code.NO_RIGHT, beyond)
        await outgoing.progress(beyond)
    return ruled.counting


def _idle(count: int) -> str:
    return (
        f"{count} of these were said again and change nothing: who is forgotten, or a class that is closed, stays so, "
        "and somebody may have said otherwise since. `waiting` lists them on; look at `person list` and `devices`"
    )


def _beyond(count: int, command: str, *, is_by_kit: bool) -> str:
    if is_by_kit:
        return (
            f"{count} of these came under what a root had signed that another one has replaced, and which counts no "
            "more: they are kept. Let that count first, if it is honest: `waiting` lists it, a server's certificate "
            "above all, by the id of the old root as its device; `accept ID --kit KIT` takes either id"
        )
    return (
        f"{count} of these wait by the kit's word (`rotate server --since`, `revoke --kit --since`), which stands "
        f"above the server's: they are kept, and count for nothing. `sync-server {command} ID --kit KIT` rules "
        "on them; and work counts where it is handed in, or published, once more"
    )


async def _person_retire(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    person = person_id(given.text(params, "person"))
    await outgoing.progress(f"to be taken off every list: {await who_that_is(server.replica, person)}")
    found = await doubted_to_leave(server, person)
    await ask_whether_meant(person, found, outgoing, called=called_by(params))
    others = await commands.told_of_others(server, person, outgoing)
    await _ask_whether_replaced(server, person, params, outgoing, "nobody has been taken off yet")
    told = await commands.told_of_gone(server, await withdrawals.retire_person(server, person), outgoing)
    return others | told | await _tell_of_hidden_lists(server, person, outgoing)


async def _tell_of_hidden_lists(server: Server, person: bytes, outgoing: Outgoing) -> dict[str, JSON]:
    return await tell_of_hidden_lists(server, [person, *await made_one_with(server, [person])], outgoing)


async def _person_freeze(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    person = person_id(given.text(params, "person"))
    for line in await described_with_doubles(server, [person], await made_one_with(server, [person])):
        await outgoing.progress(f"to be frozen: {line}")
    await _ask_whether_replaced(server, person, params, outgoing, "nobody has been frozen yet")
    lists = await freeze_person(server, person)
    await outgoing.progress(
        "on no list, and hidden with all their work, wherever this arrives. Until `person unfreeze` nobody erases them "
        "here or closes their classes; tell their teachers: on a machine that has not called they see it still"
    )
    await tell_of_unheard(server, [person], outgoing, _STILL_SHOWN)
    return {"person": person.hex(), "lists": lists, **await _tell_of_hidden_lists(server, person, outgoing)}


async def _ask_whether_replaced(
    server: Server, person: bytes, params: Params, outgoing: Outgoing, nothing_yet: str
) -> None:
    """Ask before what hides somebody, or takes them off: whoever is put in their place stays shown (docs/adr/0530)."""
    going = [person, *await made_one_with(server, [person])]
    found = await told_of_replaced(server.replica, going, outgoing, await ListWords.of(server), same_too=True)
    check_in_place(found, nothing_yet, is_meant=params.get("renamed_too") is True)


async def _person_unfreeze(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    person = person_id(given.text(params, "person"))
    others = await commands.told_of_others(server, person, outgoing)
    lists = await unfreeze_person(server, person)
    hidden = await _tell_of_hidden_lists(server, person, outgoing)
    return {"person": person.hex(), "lists": lists, **others, **hidden}


async def _space_close(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    space = space_named(server, given.text(params, "space"))
    flags = ("unopened_too", "renamed_too", "unheard_too")
    unopened_too, renamed_too, unheard_too = (params.get(key) is True for key in flags)
    which = await which_class(server, space)
    await outgoing.progress(f"the class: {which.sentence()}")
    if which.taken:
        await outgoing.progress(
            "warning: another class of the school has, or had, the name that this one has by now. Look which of them "
            "is meant: `space rename` puts a name right, --renamed-too closes this one"
        )
    off = await off_the_list(server.replica, space)
    await _tell_of_gone(off, outgoing)
    closing = await close_space(
        server, kit, space, unopened_too=unopened_too, renamed_too=renamed_too, unheard_too=unheard_too
    )
    for sentence in closing.not_heard.sentences:
        await outgoing.progress(f"warning: {sentence}")
    if kit is None:
        words = words_of_class(which.past.names.names[0], which.past.year, which.past.made_ms, which.school or "?")
        await outgoing.progress(
            "nothing was closed: this is what would go. Closing the class takes the kit, the whole id, and its name "
            f"with its year and school, as it was made: --kit KIT --named “{words}”"
        )
    else:
        await outgoing.progress("hidden wherever this arrives, at once; destroyed there seven days later")
    return {
        "closed": kit is not None,
        "name": which.name,
        "year": which.past.year,
        "made": rfc3339(which.past.made_ms),
        "names": [
            {"name": name, "since": rfc3339(since_ms)}
            for name, since_ms in zip(which.past.names.names, which.past.names.since_ms, strict=True)
        ],
        "last": rfc3339(which.last_ms),
        "taken": which.taken,
        "pupils": closing.pupils,
        "items": closing.items,
        "hand_ins": closing.hand_ins,
        "unopened": closing.unopened,
        "hidden": closing.hidden,
        "hidden_items": closing.hidden_items,
        "withdrawn_by": [
            {"name": name, "items": count}
            for name, count in sorted(closing.withdrawn_by.items(), key=lambda each: (-each[1], each[0] or ""))
        ],
        "unheard": closing.not_heard.rows(closing.not_heard.machines),
        "unheard_offices": closing.not_heard.rows(closing.not_heard.offices),
        "unheard_since_let_in": closing.not_heard.rows(closing.not_heard.absent),
        "opened_by": [
            {"name": name, "hand_ins": count}
            for name, count in sorted(closing.opened_by.items(), key=lambda each: (-each[1], each[0] or ""))
        ],
        "off_the_list": [
            {"person": each.person.hex(), "name": each.name, "hand_ins": each.hand_ins} for each in off.gone
        ],
        "never_listed": off.of_strangers,
    }


async def _tell_of_gone(off: OffTheList, outgoing: Outgoing) -> None:
    """Whose work goes with a class though its list has them no more, before it does."""
    for each in off.gone[:MAX_TOLD_GONE]:
        await outgoing.progress(f"goes with it: the work of {each.sentence()}. `portfolio` writes it as well")
    if len(off.gone) > MAX_TOLD_GONE:
        await outgoing.progress(f"and {len(off.gone) - MAX_TOLD_GONE} more, further down in the answer")
    if off.strangers:
        await outgoing.progress(
            f"goes with it: {many_of(off.of_strangers, 'hand-in')} of {many_of(off.strangers, 'id')} that never were "
            "pupils of its list"
        )


async def _lost(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    seen = {each.id: commands.Seen(each.name, each.heard.seen_ms) for each in await list_devices(server)}
    return await commands.report_loss(server, params, outgoing, seen, besides=lambda key: let_go_of_all(server, key))


async def _rewrap(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    person = person_id(given.text(params, "person"))
    spaces = [space_named(server, text) for text in given.texts(params, "space")]
    words = given.text_or_none(params, "words")
    check_kit(server, _needed(kit))
    stood = await standings(server, person, words, spaces or None)
    await check_chosen(server, stood, spaces, outgoing)
    is_meant = params.get("renamed_too") is True
    await ask_who_is_let_in(server, person, spaces, outgoing, "nothing has been opened yet", is_meant=is_meant)
    opened, passed_over = await rewrap(server, _needed(kit), person, stood, again=params.get("again") is True)
    if passed_over:
        await outgoing.progress(
            f"the kit had sealed {many_of(passed_over, 'work')} to this device before; none of that was sealed anew. "
            "If it does not open there, since that was on a server in wrong hands: the same command with --again"
        )
    return {"hand_ins": opened}


async def _rotate_server(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    since_ms = commands.since_of(server, params)
    also = {device_id(text) for text in given.texts(params, "also")}
    made = await rotate_server(server, _needed(kit), since_ms=since_ms, anyway=params.get("anyway") is True, also=also)
    gone = None if since_ms is None else await cut_off_newcomers(server, since_ms)
    if since_ms is None:
        stays = (
            "what the old keys signed until now stays valid. If somebody else had them, look at `audit`; and "
            "`rotate server --kit KIT --since TIME` takes back what they had not said here by that time, devices that "
            "they let in or cut off and names included. It can be said now, or later: of a time up to two months ago"
        )
    else:
        stays = (
            f"what the old keys signed, and what had not come here by {_local(since_ms)}, counts for nothing and waits "
            "(`waiting`; `accept ID` says a name again, or how else it is said, and `accept ID --kit KIT` lets work "
            "in); what this server has said with keys that it was given since then stays"
        )
    await outgoing.progress(
        f"devices follow at their next call; {stays}; codes that were made before are refused from now on"
    )
    for line in (*await told_of_gaps(server), *await told_of_servers(server), *await told_of_ended(server)):
        await outgoing.progress(line)
    if waiting := await waiting_for_a_word(server):
        await outgoing.progress(
            f"whom the old key had forgotten and nobody has destroyed yet ({waiting}) stay hidden, and are destroyed "
            "nowhere before somebody says so again: `erasures` calls them waiting; `erase` says it, `unerase` takes it "
            "back"
        )
    if shown_again := await said_of_held_back(server):
        await outgoing.progress(shown_again)
    held_back = [each.entry for each in await list_waiting(server)]
    if hidden := await hidden_again(server.replica, held_back):
        await outgoing.progress(
            f"who was to be forgotten, and was shown again by a word that counts no more ({hidden}), is hidden again, "
            "and destroyed a week from now: `waiting` names each; `unerase` says it anew of who is to stay"
        )
    await _tell_of_orders(server, held_back, outgoing)
    await tell_of_newcomers(server, outgoing, gone)
    opened = await _opened_sign_ins(server, outgoing, since_ms)
    return {"server": made.hex(), "sign_ins": opened} if opened else {"server": made.hex()}


async def _opened_sign_ins(server: Server, outgoing: Outgoing, since_ms: int | None) -> list[JSON]:
    """Tell by what pupils somebody signs in who is out by now, where more than one device may be since a time."""
    if since_ms is None:
        return []
    opened = await sign_ins_of_gone(server)
    await commands.tell_of_sign_ins(opened, outgoing, by="computers that are out")
    return [each.row() for each in opened]


async def _tell_of_orders(server: Server, held_back: Iterable[Entry], outgoing: Outgoing) -> None:
    """What heads have ordered whose computers were let in since, which goes with that access, whoever they are."""
    keys = old_keys(server)
    if cuts := sum(each.header.kind == Kind.REVOKE and each.header.author not in keys for each in held_back):
        await outgoing.progress(
            f"by others than the server, {cuts} revocations count for nothing as well, and wait: a laptop that was "
            "reported lost reads again until somebody says so anew (`lost DEVICE`). Look at them now: `waiting`"
        )


async def _rotate_root(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    chain, told = await rotate_root(server, _needed(kit), anyway=params.get("anyway") is True)
    await kits_key(server.replica)
    for line in told:
        await outgoing.progress(line)
    await outgoing.progress("devices follow at their next call; codes that were made before are refused from now on")
    return {"chain": chain.hex(), "version": len(server.replica.door.roots) - 1}


async def _audit(server: Server, _params: Params, _outgoing: Outgoing) -> JSON:
    """What entries say, and what this server has noted of who had it done, by their time."""
    said = [(each.entry.timestamp_ms, _said_row(each)) for each in await trail(server)]
    noted = [(line.act.at_ms, _noted_row(server, line)) for line in await server.acts.lines()]
    return [row for _, row in sorted([*noted, *said], key=lambda dated: dated[0])]


def _said_row(act: Act) -> JSON:
    return {
        "at": rfc3339(act.entry.timestamp_ms),
        "what": act.what,
        "by": act.role,
        "key": act.entry.header.author.hex(),
        "space": act.entry.header.space.hex(),
        "id": act.entry.id.hex(),
        "about": act.about,
        "who": None,
        "kit": act.role == "root",
        "failed": False,
        "line": None,
    }


def _noted_row(server: Server, line: Line) -> JSON:
    """With the keys that an entry has, too: what is noted is in no space but all of the server's."""
    return {
        "at": rfc3339(line.act.at_ms),
        "what": line.act.what,
        "by": Role.SERVER.value,
        "key": server.own_device[0].hex(),
        "space": server.home.hex(),
        "id": line.hash.hex(),
        "about": line.act.about,
        "who": line.act.by,
        "kit": line.act.with_kit,
        "failed": line.act.failed,
        "line": line.number,
    }


async def _export_person(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    person = person_id(given.text(params, "person"))
    if kit is not None:
        check_kit(server, kit)
        await kit.shows(person)

    async def open_key(work: Work) -> bytes | None:
        return None if kit is None else await kit.content_key(work)

    known = await tell_of_unheard(server, [person], outgoing, _NOT_IN_IT, is_told=True)
    counted = await export_person(
        server.replica,
        server.holdings,
        person,
        open_key,
        outgoing,
        say=Words(DEFAULT_LANGUAGE, server.now_ms()),
        territory_name=server.territory_name,
        now_ms=server.now_ms(),
        gone_in=(await DestroyedHere.of(server.replica)).at,
        ends=await ends_of(server.replica, server.now_ms()),
        lies_as=lambda _: HandInState.SERVER,
        known=known,
        words=await ListWords.of(server),
        renamed_too=params.get("renamed_too") is True,
    )
    if kit is None and (sealed := given.count(counted, "hand_ins") - given.count(counted, "opened")):
        await outgoing.progress(f"in it by title alone: {many_of(sealed, 'work')}, {_SEALED}")
    return counted


def _needed(kit: KitAway | None) -> KitAway:
    if kit is None:
        raise BadInput(Code.USAGE, "this takes the recovery kit")
    return kit


async def _erase(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    persons = [person_id(text) for text in given.texts(params, "person")]
    if kit is not None:
        check_kit(server, kit)
    await check_known(server, persons)
    alone = params.get("alone") is True
    along = [] if alone else await made_one_with(server, persons)
    for line in await described_with_doubles(server, persons, along):
        await outgoing.progress(f"to be forgotten: {line}")
    for line in await told_of_partings(server, persons):
        await outgoing.progress(line)
    going = [*persons, *along]
    for line in await told_of_numbers(server, going):
        await outgoing.progress(line)
    await tell_of_unheard(server, going, outgoing, _GOES_UNSEEN)
    dry = params.get("dry_run") is True
    is_meant = dry or params.get("renamed_too") is True
    words = await ListWords.of(server)
    await ask_about_names(server.replica, going, persons, outgoing, NOBODY_YET, words=words, is_meant=is_meant)
    if dry:
        return {"persons": [one.hex() for one in going]}
    if not alone:
        await ask_about_those_along(server.replica, persons, along)
    listed = sum(len(lists) for lists in (await listings_of(server.replica, going)).values())
    await erase_persons(server, going, kit)
    if kit is None and listed > MAX_ERASED_PER_DAY:
        await outgoing.progress(
            f"without --kit, each machine destroys {MAX_ERASED_PER_DAY} persons a day, counted once in each class"
        )
    await outgoing.progress("hidden wherever this arrives, at once; destroyed there seven days later")
    if kit is None:
        until = _local(server.now_ms() + ERASURE_DELAY_MS)
        await outgoing.progress(f"until {until} `sync-server unerase ID` takes it back, with the ids of `erasures`")
    else:
        # what was typed is said again, and nothing that this server alone would know
        typed = given.texts(params, "named") if len(going) == 1 else []
        today = (rfc3339(server.now_ms()) or "")[:10]
        for person in going[:MAX_NAMED]:
            line = kits_line(person, named=next(iter(typed), "NAME"), day=today)
            await outgoing.progress(f"the kit has said it, and alone takes it back: {line}")
    return {}


def _local(at_ms: int) -> str:
    """A time for the operator."""
    return local_time(rfc3339(at_ms) or "")


async def _erasures(server: Server, _params: Params, _outgoing: Outgoing) -> JSON:
    rows: list[JSON] = []
    for told in await told_erasures(server):
        each = told.forgetting
        rows.append(
            {
                "covers": each.covers.hex(),
                "state": "destroyed" if each.destroyed else "waiting" if each.in_doubt else "hidden",
                "by": each.entry.header.author.hex(),
                "at": rfc3339(each.entry.timestamp_ms),
                "name": told.name,
                "once": ", ".join(told.once),
                "who": told.by,
                "until": rfc3339(told.until_ms),
            }
        )
    return rows


_NOTHING_TAKEN_BACK: Final = "nothing has been taken back yet"


async def _unerase(server: Server, params: Params, outgoing: Outgoing, kit: KitAway | None) -> JSON:
    text = given.text(params, "covers")
    if kit is not None:
        check_kit(server, kit)
    known = {covers for _, covers in await (in_force if kit is None else ever_said)(server.replica)}
    covers = hex_or_none(text, PERSON_BYTES) or hex_or_none(text, ID_BYTES)
    counting_too, unseen_too = params.get("counting_too") is True, params.get("unseen_too") is True
    if unseen_too and kit is None:
        raise BadInput(Code.USAGE, "--unseen-too is about what the kit may have signed: say --kit KIT as well")
    if covers is None or (covers not in known and not unseen_too):
        raise BadInput(Code.UNKNOWN_PERSON, f"nothing that “{text}” names is erased; `erasures` shows what is")
    if covers not in known:
        await outgoing.progress("nothing here has that forgotten; what the kit may have signed of it counts no more")
    if kit is not None and params.get("destroyed_too") is not True:
        await check_not_destroyed(server.replica.store, covers)
    if kit is None and len(covers) == PERSON_BYTES:
        is_meant = params.get("renamed_too") is True
        await ask_about_the_hidden(server.replica, covers, outgoing, _NOTHING_TAKEN_BACK, is_meant=is_meant)
    done = await take_back(server, covers, kit, counting_too=counting_too, unseen_too=unseen_too)
    rank_of = server.replica.door.rank_of
    if any(one == covers and rank_of(each.header) > server.rank for each, one in await in_force(server.replica)):
        await outgoing.progress(
            f"it stays hidden: the kit has said so as well, and {kits_line(covers)} takes that back"
        )
    if kit is None and (gone := await told_of_gone(server, covers)) is not None:
        await outgoing.progress(gone)
    left = [each for each in done.left if each.standing is not Standing.TAKEN_BACK]
    for line in told_of(server, left):
        await outgoing.progress(line)
    if left:
        await outgoing.progress("that stands, and was not taken back; if it is to go as well, say --counting-too")
    return {"covers": covers.hex(), "taken_back": len(done.taken), "left": [each.entry.id.hex() for each in left]}


COMMANDS: Final[Mapping[str, Command]] = {
    "confirm": confirm,
    "waiting": _waiting,
    "person rename": list_commands.person_rename,
    "person retire": _person_retire,
    "person freeze": _person_freeze,
    "person unfreeze": _person_unfreeze,
    "space rename": commands.space_rename,
    "lost": _lost,
    "audit": _audit,
    "erasures": _erasures,
}

KIT_COMMANDS: Final[Mapping[str, KitCommand]] = {
    "revoke": _revoke,
    "space close": _space_close,
    "accept": _accept,
    "refuse": _refuse,
    "rewrap": _rewrap,
    "rotate server": _rotate_server,
    "rotate root": _rotate_root,
    "erase": _erase,
    "unerase": _unerase,
    "export-person": _export_person,
}
