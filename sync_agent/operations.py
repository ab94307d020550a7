"""The commands of an enrolled agent by name: parameters in, the function that does it, the contract's JSON out.

One table serves the command line that owns the store, and the daemon that answers for it. Each command loads what it
needs when it is first asked for: a daemon at rest keeps none of it in memory.
"""

# ruff: noqa: ARG001, ARG002  (every operation takes the same three)

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, Refused
from protocol.model.work import ItemKind
from protocol.replica.at_work.replica import Entropy
from protocol.replica.console import parameters as given
from protocol.replica.console.frame import tell
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Operation, Outgoing, Params, Table
from protocol.replica.console.text import local_time
from protocol.replica.console.typed_by import by_of
from protocol.replica.office.acts import ids_told
from protocol.replica.steady import SteadyClock
from protocol.roles import SEES_ALL_WORK
from sync_agent.abbreviated import with_whole_ids
from sync_agent.app import Agent
from sync_agent.coursework import reading
from sync_agent.coursework.past_years import why_nobody
from sync_agent.device_operations import device_operations
from sync_agent.machine.addresses import address_of
from sync_agent.machine.command_names import ARE_OF_VERSIONS, COURIER_LET_IN
from sync_agent.machine.enrolled import ENROLMENT_FILE
from sync_agent.machine.few_threads import use_few_threads
from sync_agent.machine.progress import telling
from sync_agent.network.trouble import AT_A_DEVICE, Seen
from sync_agent.school.measures import ordered
from sync_agent.sync.withdrawn import why_not_listed

if TYPE_CHECKING:
    from protocol.folds.coursework import Work
    from sync_agent.coursework.publisher import Wish
    from sync_agent.hand_ins.file_names import SealedLists
    from sync_agent.transport.answers import Response
    from sync_agent.transport.interface import Transport

Connect: TypeAlias = "Callable[[str], Transport]"


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
    connect: Connect | None = None,
    begin: Callable[[str], Awaitable[None]] | None = None,
    steady: SteadyClock | None = None,
) -> AsyncIterator[Table]:
    """The table over the agent of DIR, whose lock the caller holds; it syncs by `connect`. Raises as `Agent.open`.

    `begin` is told where the server is as soon as it is known that it may be asked, while all else is loaded.
    """
    use_few_threads()
    agent = await Agent.open(folder, now_ms=now_ms, entropy=entropy, steady=steady)
    try:
        if begin is not None and not agent.budget.is_paused and (await ordered(agent)).drill is None:
            await begin(agent.enrolment.server_url)

        async def tell_drill() -> bool:
            from sync_agent.daemon import tell_drill_alone
            from sync_agent.transport.over_http import HttpTransport

            return await tell_drill_alone(agent, connect or HttpTransport)

        agent.tell_drill = tell_drill
        yield table(agent, connect)
    finally:
        await agent.close()


def before_enrolment(
    folder: Path,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
    connect: Connect,
    keep: Callable[[Path], None] | None = None,
) -> Table:
    """What a DIR offers that may not be enrolled yet, and whose lock the caller holds: to be enrolled.

    `keep` writes into DIR what a person chose for its network, once DIR is enrolled.
    """

    async def enroll_here(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.enrollment.by_code import enroll, told

        server, stick, code, name = (
            given.text_or_none(params, "server"),
            given.text_or_none(params, "stick"),
            given.text(params, "code"),
            given.text(params, "name"),
        )
        try:
            if stick is not None:
                from sync_agent.enrollment.by_stick import enroll_by_stick

                enrolled = await enroll_by_stick(
                    folder, Path(stick), code, name, url=server, now_ms=now_ms, entropy=entropy, say=tell
                )
            elif server is None:
                from sync_agent.enrollment.by_peer import enroll_by_peer

                address = address_of(given.text(params, "peer"), "--peer")
                enrolled = await enroll_by_peer(
                    folder, address, code, name, outgoing.progress, now_ms=now_ms, entropy=entropy
                )
            else:
                enrolled = await enroll(folder, server, code, name, now_ms=now_ms, entropy=entropy, connect=connect)
        finally:
            if keep is not None and (folder / ENROLMENT_FILE).exists():
                keep(folder)
        return told(enrolled, code)

    return {"enroll": _without_work(enroll_here)}


def _without_work(operation: Operation) -> Operation:
    """The operation, which says what helps, as no `doctor` can, and not that work is kept where there is none yet."""

    async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        try:
            return await operation(params, incoming, outgoing)
        except NoAnswer as error:
            sentence = error.message.replace("; the work is kept", "; nothing has changed, and the code is still good")
            seen = error.facts.get("seen")
            if isinstance(seen, Seen):
                words = AT_A_DEVICE.get(seen.trouble) if params.get("peer") else None
                if words is not None:
                    sentence = sentence.replace(seen.sentence(), words.seen)
                server = str(params.get("server") or "")
                remedy = seen.remedy(server, is_enrolled=False) if words is None else words.remedy
                sentence = f"{sentence}. What helps: {remedy}"
            raise NoAnswer(error.code, sentence, **error.facts) from error

    return operate


def table(agent: Agent, connect: Connect | None = None) -> Table:
    """Every operation that an open agent offers; where it syncs by itself, by `connect`."""
    commands = _Commands(agent, connect)
    offered: Table = {
        "publish": commands.publish,
        "withdraw": commands.withdraw,
        "restore": commands.restore,
        "settle": commands.settle,
        "items": commands.items,
        "versions": commands.versions,
        "cat": commands.cat,
        "fetch": commands.fetch,
        "checkout": commands.checkout,
        ARE_OF_VERSIONS: commands.are_of_versions,
        "people": commands.people,
        "hand-in": commands.hand_in,
        "hand-ins": commands.hand_ins,
        "open-hand-in": commands.open_hand_in,
        "confirm-opened": commands.confirm_opened,
        "feedback": commands.feedback,
        "sync": commands.sync,
        "status": commands.status,
        COURIER_LET_IN: commands.courier_let_in,
        "receipt": commands.receipt,
        "carry-over": commands.carry_over,
        "portfolio": commands.portfolio,
        "key-readers": commands.key_readers,
        "key-confirm": commands.key_confirm,
        "export-person": commands.export_person,
        "audit": commands.audit,
        **device_operations(agent),
    }
    return {name: with_whole_ids(agent, name, operation) for name, operation in offered.items()}


class _Commands:
    """The agent, and what it has read before."""

    def __init__(self, agent: Agent, connect: Connect | None) -> None:
        self._agent = agent
        self._connect = connect
        self._manifests = reading.Manifests()
        self._sealed_lists: SealedLists | None = None
        self._sync: Operation | None = None

    async def publish(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.coursework import publisher

        published = await publisher.publish(self._agent, _wish(params), incoming, outgoing)
        if params.get("item") is None:
            await self._tell_of_others(published.item, outgoing)
        if params.get("due_ms") is not None:
            await self._tell_of_due(published.item, outgoing)
        return {"item": published.item.hex(), "revision": published.revision.hex()}

    async def _tell_of_others(self, wanted: bytes, outgoing: Outgoing) -> None:
        """Say of a new item that there is one of its title: it was meant as a new version, perhaps."""
        item = await reading.find_item(self._agent, wanted)
        coursework = (await self._agent.replica.view(item.space)).coursework
        for other in reading.others_called(coursework, item)[:1]:
            what, number = other.shown.record.kind.value, other.id.hex()[:12]
            await outgoing.progress(
                f"there is a {what} “{other.shown.record.title}” here already; both are shown now. If this is a new "
                f"version of it: `publish … --item {number}`, and `withdraw {item.id.hex()[:12]}`"
            )

    async def _tell_of_due(self, wanted: bytes, outgoing: Outgoing) -> None:
        """Say of a date that was given what is odd about it: that of a lesson, and one that is past."""
        from sync_agent.coursework.odd_dates import OddDate, odd_date

        record = (await reading.find_item(self._agent, wanted)).shown.record
        odd = odd_date(record, self._agent.now_ms())
        if odd is OddDate.FOR_NOTHING:
            await outgoing.progress(
                f"nothing is handed in for this {record.kind.value}: its date is shown on its own page only. If it is "
                f"work to hand in: `publish --item {wanted.hex()[:12]} --kind {ItemKind.ASSIGNMENT.value}`"
            )
        elif odd is OddDate.PAST:
            await outgoing.progress(
                f"that date is past ({local_time(rfc3339(record.due_ms) or '')}): whatever is handed in is late. For "
                f"another one: `publish --item {wanted.hex()[:12]} --due DATE`"
            )

    async def withdraw(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.coursework import publisher

        return {"changed": await publisher.withdraw(self._agent, _item(params))}

    async def restore(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.coursework import publisher

        revision = given.identifier_or_none(params, "revision", Code.UNKNOWN_REVISION, "revision")
        if revision is None:
            return {"changed": await publisher.restore(self._agent, _item(params))}
        return {"changed": await publisher.restore_revision(self._agent, _item(params), revision, outgoing)}

    async def settle(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.coursework import publisher

        keep = given.identifier(params, "keep", Code.UNKNOWN_REVISION, "revision")
        shown = given.texts(params, "shown") if "shown" in params else None
        await publisher.settle(self._agent, _item(params), keep, shown)
        return {}

    async def items(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        for why in await why_not_listed(self._agent):
            await outgoing.progress(why)
        return await reading.list_items(self._agent, self._manifests)

    async def versions(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return await reading.list_versions(self._agent, _item(params))

    async def cat(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        await self._fetched(_item(params), None, outgoing)
        await reading.send_file(self._agent, _item(params), given.text(params, "path"), outgoing)
        return {}

    async def fetch(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        await self._fetched(_item(params), None, outgoing)
        return {}

    async def _fetched(self, wanted: bytes, revision: bytes | None, outgoing: Outgoing) -> None:
        """Bring back what made way for other content, or an earlier version, since somebody wants to read it.

        Raises `LocalFailure(INCOMPLETE)` where that is not possible now.
        """
        need = await reading.put_away_here(self._agent, wanted, revision)
        if need is None:
            return
        await outgoing.progress("these files are not kept on this device; they are being fetched …")
        await self._agent.ask_for(need)
        try:
            if self._agent.fetch_now is None:
                await self.sync({}, NO_FILES, outgoing)
            else:
                await self._agent.fetch_now()
        except (NoAnswer, LocalFailure) as failure:
            if isinstance(failure, LocalFailure) and failure.code is Code.STORAGE_FAILED:
                raise
            if await self._agent.holdings.is_complete(need):
                return  # it is something else that could not be had
            raise LocalFailure(
                Code.INCOMPLETE, f"these files are not kept on this device, and cannot be fetched now: {failure}"
            ) from failure

    async def checkout(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        revision = given.identifier_or_none(params, "revision", Code.UNKNOWN_REVISION, "revision")
        await self._fetched(_item(params), revision, outgoing)
        await reading.send_all(self._agent, _item(params), revision, outgoing)
        return {}

    async def are_of_versions(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        streams = set(given.texts(params, "streams"))
        found = await reading.files_of_versions(self._agent, self._manifests, _item(params))
        return {"streams": sorted(streams & found)}

    async def people(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        space = given.identifier(params, "space", Code.UNKNOWN_SPACE, "space")
        listed = await reading.list_people(self._agent, space)
        if why := None if listed else await why_nobody(self._agent, space):
            await outgoing.progress(why)
        return listed

    async def hand_in(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.hand_ins import handing_in

        work = await handing_in.hand_in(
            self._agent,
            _item(params),
            given.person(params, "person"),
            given.sizes(params, "files"),
            incoming,
            outgoing,
        )
        return {"id": work.hex(), "state": "local"}

    async def hand_ins(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.hand_ins import file_names, handing_in

        item = given.identifier_or_none(params, "item", Code.UNKNOWN_ITEM, "item")
        for why in await why_not_listed(self._agent):
            await outgoing.progress(why)
        self._sealed_lists = self._sealed_lists or file_names.SealedLists()
        return await handing_in.list_hand_ins(self._agent, item, self._manifests, self._sealed_lists)

    async def open_hand_in(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.hand_ins import handing_in

        await self._fetched(_work(params), None, outgoing)
        await handing_in.open_hand_in(self._agent, _work(params), outgoing)
        return {}

    async def confirm_opened(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.hand_ins import handing_in

        await handing_in.confirm_opened(self._agent, _work(params))
        return {}

    async def feedback(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.hand_ins import handing_in

        before = await handing_in.give_feedback(
            self._agent,
            _work(params),
            given.text(params, "text"),
            given.text_or_none(params, "mark"),
            redo=given.flag(params, "redo"),
            incoming=incoming,
            take_back=given.flag(params, "take_back"),
        )
        for line in await handing_in.told_of_feedback(self._agent, _work(params), before):
            await outgoing.progress(line)
        return {}

    async def sync(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.daemon import sync_alone
        from sync_agent.transport.over_http import HttpTransport

        if self._sync is None:
            self._sync = sync_alone(self._agent, self._connect or HttpTransport)
        return await telling(self._sync(params, incoming, outgoing), self._agent.progress, outgoing.progress)

    async def status(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.status import status

        return await status(self._agent)

    async def courier_let_in(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.courier import commands as courier_commands

        async def post(path: str, body: bytes) -> Response:
            from sync_agent.daemon import post_alone
            from sync_agent.transport.over_http import HttpTransport

            return await post_alone(self._agent, self._connect or HttpTransport)(path, body)

        result, by_server = await courier_commands.let_in_here(self._agent, params, post)
        if by_server:
            # the keys that the server has sealed to who came in go along with the stick
            await (self._agent.fetch_now() if self._agent.fetch_now else self.sync({}, NO_FILES, outgoing))
        return result

    async def receipt(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.portal.shown.proof import proof_of

        return await proof_of(self._agent, _work(params), given.text_or_none(params, "page"))

    async def carry_over(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.coursework.carrying_over import carry_over

        source, target = (given.identifier(params, key, Code.UNKNOWN_SPACE, "space") for key in ("from", "to"))
        flags = {key: params.get(key) is True for key in ("shown_only", "as_it_is_here")}
        also = given.texts(params, "also")
        done = await carry_over(self._agent, source, target, outgoing, also=also, **flags)
        return {
            "lessons": done.lessons,
            "there": list(done.there),
            "incomplete": list(done.incomplete),
            "unconfirmed": list(done.unconfirmed),
            "left": [{"item": each.item.hex(), "title": each.title, "why": each.why} for each in done.left],
            "bare": done.bare,
        }

    async def portfolio(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.hand_ins.year_end import portfolio

        space = given.identifier(params, "space", Code.UNKNOWN_SPACE, "space")
        person = None if params.get("person") is None else given.person(params, "person")
        said = ("renamed_too", "hidden_too", "shown_only", "as_it_is_here")
        flags = {key: params.get(key) is True for key in said}
        about = ids_told([each.hex() for each in (space, person) if each is not None])
        async with self._agent.acts.noted("sync-agent portfolio", by_of(params), about):
            done = await portfolio(self._agent, space, person, outgoing, **flags)
        return {
            "hand_ins": done.written,
            "not_opened": done.closed,
            "renamed": done.renamed,
            "hidden": done.hidden,
        }

    async def key_readers(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.keys.returns_told import readers_told

        reader = given.identifier_or_none(params, "reader", Code.UNKNOWN_DEVICE, "device")
        return await readers_told(self._agent, reader, outgoing)

    async def key_confirm(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from sync_agent.keys.confirming import confirm
        from sync_agent.keys.former_returns import confirm_former_return, former_return
        from sync_agent.space_names import space_names

        reader = given.identifier(params, "reader", Code.UNKNOWN_DEVICE, "device")
        person = None if params.get("person") is None else given.person(params, "person")
        shown_as = given.text_or_none(params, "shown_as")
        if (asked := await former_return(self._agent, reader)) is not None:
            return {"spaces": await confirm_former_return(self._agent, asked, shown_as)}
        done = await confirm(self._agent, reader, shown_as=shown_as, person=person)
        if not done.new:
            await outgoing.progress("confirmed already: it was said before, and holds")
        names = await space_names(self._agent) if done.left else {}
        left: list[JSON] = [{"space": names.get(space), "shown_as": way} for space, way in done.left]
        return {"spaces": done.new, **({"remains": left} if left else {})}

    async def export_person(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        from protocol.folds.coursework import HandInState
        from protocol.replica.access.export import export_person
        from protocol.replica.catalogues import DEFAULT_LANGUAGE
        from protocol.replica.office.mentioned import mentioned
        from protocol.replica.upkeep.orders import DestroyedHere, ends_of
        from sync_agent.coursework.known_as_of import tell_of_all
        from sync_agent.hand_ins.opening import opening_key
        from sync_agent.portal.wording import Register, Words
        from sync_agent.school.office import list_words

        agent = self._agent
        if await agent.role() not in SEES_ALL_WORK:
            raise Refused(Code.NO_RIGHT, "only a teacher's or a head teacher's device may do that")

        async def open_key(work: Work) -> bytes | None:
            return await opening_key(agent, work)

        person = given.person(params, "person")
        known = await tell_of_all(agent, (await mentioned(agent.replica, [person]))[person].spaces, outgoing)
        async with agent.acts.noted("sync-agent export-person", by_of(params), person.hex()):
            return await export_person(
                agent.replica,
                agent.holdings,
                person,
                open_key,
                outgoing,
                say=Words(DEFAULT_LANGUAGE, Register.ADULT),
                territory_name=agent.enrolment.territory_name,
                now_ms=agent.now_ms(),
                gone_in=(await DestroyedHere.of(agent.replica)).at,
                ends=await ends_of(agent.replica, agent.now_ms()),
                lies_as=lambda work: work.state if agent.made(work) else HandInState.SAFE,
                known=known,
                words=await list_words(agent),
                renamed_too=params.get("renamed_too") is True,
            )

    async def audit(self, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        """Who had archives and portfolios written here: the lines, oldest first."""
        return [
            {
                "at": rfc3339(line.act.at_ms),
                "what": line.act.what,
                "who": line.act.by,
                "about": line.act.about,
                "failed": line.act.failed,
                "line": line.number,
                "id": line.hash.hex(),
            }
            for line in await self._agent.acts.lines()
        ]


def _item(params: Params) -> bytes:
    return given.identifier(params, "item", Code.UNKNOWN_ITEM, "item")


def _work(params: Params) -> bytes:
    return given.identifier(params, "id", Code.UNKNOWN_HAND_IN, "hand-in")


def _wish(params: Params) -> Wish:
    """`subject` and `due_ms` that are not there stay as they are; None takes them away."""
    from sync_agent.coursework.publisher import Keep, Wish

    kind = given.text_or_none(params, "kind")
    if kind is not None and kind not in list(ItemKind):
        raise BadInput(Code.USAGE, f"an item is no “{given.shown(kind)}”; it is one of: {', '.join(ItemKind)}")
    return Wish(
        space=given.identifier_or_none(params, "space", Code.UNKNOWN_SPACE, "space"),
        item=given.identifier_or_none(params, "item", Code.UNKNOWN_ITEM, "item"),
        kind=None if kind is None else ItemKind(kind),
        title=given.text_or_none(params, "title"),
        subject=given.text_or_none(params, "subject") if "subject" in params else Keep.AS_IT_IS,
        due_ms=given.count_or_none(params, "due_ms") if "due_ms" in params else Keep.AS_IT_IS,
        text=given.text(params, "text") if params.get("text") is not None else Keep.AS_IT_IS,
        keep=given.identifier_or_none(params, "keep", Code.UNKNOWN_REVISION, "revision"),
        seen=given.identifier_or_none(params, "seen", Code.UNKNOWN_REVISION, "revision"),
    )
