"""“Mon école”, on a head teacher's device: classes, people, codes, stays; with or without a server.

Rules:
- every form is the command of the same name, with the same checks;
- a code is shown once, on the page that answers;
- what forgets somebody asks to be meant: a box to tick beside the button, and a page more (`forgetting`);
- who comes onto a list, or off one, is written there by this computer's own word: it asks first where lists have, or
  had, them otherwise (docs/adr/0489); so it does before a code for their computer (docs/adr/0545);
- beside the list of a class stand those whom it had, and shows no more by no sure word (`gone`, docs/adr/0530);
- beside a pupil stands which other classes of the year have them too (docs/adr/0524);
- a teacher's computer comes in once somebody has seen its six words, unless it is known here as hers;
- of two teachers of one name each is chosen by the name that their words are signed with (docs/adr/0521);
- of a class whose name another has, or had, is told which one it is; who lets somebody in there, makes a code, or
  calls it otherwise, says that it is meant, unless its name is a word that nobody says with a copied key (0533, 0534).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from aiohttp import web

from protocol.beside_words import beside_words
from protocol.errors import BadInput, Code, Refused
from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON
from protocol.replica.office.called_here import SIGN
from protocol.replica.office.commands import MAX_TOLD_DEVICES, OTHERS, STRANGE
from protocol.replica.office.further_words import Repeated, doubted_to_leave, doubted_to_let_in, doubted_to_rename
from protocol.replica.office.grants import Why, standings_of
from protocol.replica.office.left_over import classes_not_closed
from protocol.replica.office.list_words import SURE, ListWords
from protocol.replica.office.made_classes import twin_of
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN
from protocol.replica.office.names import NO_YEAR, device_id, person_id, year_meant
from protocol.replica.office.people import duplicates_in
from protocol.replica.office.several_classes import also_in
from protocol.replica.office.spaces import space_records
from protocol.replica.office.stays import stays_of
from protocol.replica.office.stays_out import CutOff, cut_off_by
from protocol.replica.office.whose_device import whose_device
from protocol.replica.office.whose_words import signatures
from protocol.rights.roster import Person
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import words_of
from sync_agent.lan.finding.multicast import reached_at
from sync_agent.machine.called import is_called_anothers
from sync_agent.machine.command_names import CHOSEN, LEFT_OFF, LOOK_AT
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.each_page.shared_names import Told, told_of_names
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.head.doubles import MAX_DEVICES_NAMED, Pair, pairs_of
from sync_agent.portal.head.forgetting import ALSO, who_goes
from sync_agent.portal.head.gone import MAX_GONE_SHOWN, by_whom, gone_in_doubt
from sync_agent.portal.shown.proof import picture_of
from sync_agent.portal.shown.shelf import Room
from sync_agent.school.device_names import called_as, device_names, key_words
from sync_agent.school.devices import LET_IN, SchoolDevice, counted_again, reported_ms, school_devices
from sync_agent.school.forgetting import forgettings
from sync_agent.school.held_back import held_back_in_school
from sync_agent.school.let_count import let_count_here
from sync_agent.school.office import SchoolOffice
from sync_agent.transport.spoken_elsewhere import has_spoken_elsewhere

_ROLES: Final = (PersonRole.PUPIL, PersonRole.TEACHER, PersonRole.GUARDIAN)
_STAYS: Final = ("", "15d", "30d", "90d")
_CODE_LASTS: Final = "72h"
_CODE_LASTS_MS: Final = 72 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Inspected:
    """A computer at which somebody has to look: its words, unless none would let it in, and whether it came in.

    `seen` names what the words are of, for who lets it in having seen them; `other` is as whose it is known here, if it
    is another id's that a list calls the same person. Without words, `why` it stays out.
    """

    device: bytes
    called: str
    words: str | None
    is_in: bool
    seen: str
    other: str | None = None
    before: bool = False
    """Whether it was in already, by whatever word."""
    why: str = ""
    is_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Doubted:
    """Somebody of whom it is asked whether they are meant, by a form of the class's page, and its `fields`.

    Lists have, or had, them as `others` too; `name` and `role` are what would be written.
    """

    form: str
    fields: Mapping[str, str]
    name: str
    role: str
    others: Sequence[str]


class SchoolPages:
    """Handlers; where this device runs no school, there are no such pages."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def show(self, request: web.Request) -> web.Response:
        """The school: its classes, and whose access ends when."""
        visit, office = await enter_school(self._desk, request)
        rooms = self._rooms(visit, office)
        stays = [
            {
                "name": self._name(visit, stay.person),
                "room": next((room.name for room in rooms if room.space == stay.space), "?"),
                "day": visit.say.day(stay.until_ms, visit.now_ms),
                "over": stay.until_ms <= visit.now_ms,
                "for_good": stay.for_good,
            }
            for stay in await stays_of(office)
        ]
        held_back = await held_back_in_school(office.replica, office.home)
        return self._desk.page(
            visit,
            "school.html",
            rooms=rooms,
            stays=stays,
            forgetting=await self._forgetting(visit, office),
            elsewhere=await has_spoken_elsewhere(office.agent),
            taken_back=len(await counted_again(office)),
            held_back=sum(held_back.waiting.values()),
            held_back_of=await self._whose(visit, office, held_back.waiting),
            refused=sum(held_back.refused.values()),
            refused_of=await self._whose(visit, office, held_back.refused),
            let_count=len(await let_count_here(office.agent)),
            shared=await self._told_of_names(visit, office, rooms),
            not_closed={
                each.space: visit.say("school.not_closed", year=each.year, day=each.past_day, space=each.space.hex())
                for each in await classes_not_closed(office.replica, await space_records(office), visit.now_ms)
            },
            year=year_meant(None, visit.now_ms),
            done=request.query.get("done"),
        )

    async def _whose(self, visit: Visit, office: SchoolOffice, devices: Collection[bytes]) -> str:
        """The first of some devices by name, and whose they are said to be: whoever has the server invents others."""
        names = await device_names(office.agent) if devices else {}
        told = []
        for device in islice(devices, MAX_DEVICES_NAMED):
            given = office.replica.door.authorities_of(device)
            if any(each.role is Role.SERVER for each in given):
                told.append(visit.say("held_back.server"))
                continue
            person = (await whose_device(office.replica, device)).person
            called = beside_words(names.get(device) or "") or key_words(device, office.replica.door)
            told.append(called if person is None else f"{called} ({self._name(visit, person)})")
        return ", ".join([*told, *(["…"] if len(devices) > len(told) else [])])

    async def _forgetting(self, visit: Visit, office: SchoolOffice) -> list[dict[str, object]]:
        """Who is to be forgotten, at whose word, and from when on for good."""
        agent, say = self._desk.shelf.agent, visit.say
        rows: list[dict[str, object]] = []
        for each in await forgettings(agent.replica, office.governs, visit.now_ms):
            by = self._by(visit, each.by, each.grant)
            day = say.day(each.final_ms, visit.now_ms)
            where = say("school.on_lists", n=each.listed) if each.listed > each.persons else ""
            pace = say("school.a_day") if each.listed > 1 else ""
            rows.append(
                {"by": by, "persons": each.persons, "where": where, "day": day + pace, "in_doubt": each.in_doubt}
            )
        return rows

    def _by(self, visit: Visit, author: bytes, grant: bytes | None) -> str:
        """Whose word something is that was said under a grant."""
        return by_whom(self._desk.shelf, visit, author, grant)

    async def add_class(self, request: web.Request) -> web.Response:
        """A class more."""
        fields = await self._desk.fields(request)
        _, office = await enter_school(self._desk, request)
        name, year = fields.get("name", ""), fields.get("year", "").strip() or NO_YEAR
        twin = await twin_of(office, name, None if year == NO_YEAR else year, office.home)
        made = await self._desk.do("space add", {"name": name, "year": year})
        return see(f"/school/{made['space']}?done={'class' if twin is None else 'twin'}")

    async def show_class(self, request: web.Request) -> web.Response:
        """A class: its people, who was added twice, codes."""
        visit, office = await enter_school(self._desk, request)
        return await self._class_page(visit, office, self._room(visit, office, request), done=request.query.get("done"))

    async def rename(self, request: web.Request) -> web.Response:
        """Another name for it."""
        fields, visit, room = await self._form(request)
        office = await SchoolOffice.of(self._desk.shelf.agent)
        if not await self._is_class_meant(visit, office, room, fields):
            return await self._class_page(visit, office, room, done="class_changed")
        await self._desk.do("space rename", {"space": room.space.hex(), "name": fields.get("name", "")})
        return see(f"/school/{room.space.hex()}?done=renamed")

    async def add_person(self, request: web.Request) -> web.Response:
        """Somebody more."""
        fields, _, room = await self._form(request)
        role = fields.get("role", "")
        done = await self._desk.do(
            "person add", {"name": fields.get("name", ""), "role": role, "space": [room.space.hex()]}
        )
        added = bytes.fromhex(str(done["person"]))
        groups = await duplicates_in(self._desk.shelf.agent.replica, room.space)
        is_shared = any(added in {each.id for each in group} for group in groups)
        said = "person" if not is_shared else "namesake" if role == PersonRole.PUPIL else "person_twice"
        return see(f"/school/{room.space.hex()}?done={said}")

    async def rename_person(self, request: web.Request) -> web.Response:
        """Another name for somebody, on every list of the school."""
        fields, visit, room = await self._form(request)
        person, name = given.person(fields, "person"), fields.get("name", "")
        office = await SchoolOffice.of(self._desk.shelf.agent)
        was, is_meant = room.roster.persons.get(person), fields.get("renamed") == "yes"
        if was is None or fields.get("was") != was.name:
            return await self._class_page(visit, office, room, done="changed")
        if not is_meant and (others := await doubted_to_rename(office, person, name)):
            role = visit.say(f"family.role_{was.role}")
            asked = Doubted("name", {"person": person.hex(), "name": name, "was": was.name}, name, role, others)
            return await self._class_page(visit, office, room, doubted=asked)
        await self._desk.do("person rename", {"person": person.hex(), "name": name, "renamed_too": is_meant})
        return see(f"/school/{room.space.hex()}?done=person_renamed")

    async def merge(self, request: web.Request) -> web.Response:
        """Two are one on this list, if it is meant, of those that were shown as they were shown."""
        fields, visit, room = await self._form(request)
        if fields.get("meant") != "yes":
            raise BadInput(Code.USAGE, "what cannot be undone must be meant: tick the box")
        person, into = (given.person(fields, key) for key in ("person", "into"))
        office = await SchoolOffice.of(self._desk.shelf.agent)
        shown = [pair.seen for pair in await self._doubles(visit, office, room) if pair.is_of(into, person)]
        if fields.get("seen") not in shown:
            return await self._class_page(visit, office, room, done="changed")
        both: dict[str, JSON] = {"person": person.hex(), "into": into.hex(), "space": [room.space.hex()]}
        meant: dict[str, JSON] = {f"{too}_too": fields.get(too) == "yes" for too in ("renamed", "listed")}
        await self._desk.do("person merge", both | meant)
        return see(f"/school/{room.space.hex()}?done=merged")

    async def leave(self, request: web.Request) -> web.Response:
        """Off this list; what they made stays."""
        fields, visit, room = await self._form(request)
        person, called = given.person(fields, "person"), _called_so(fields)
        office = await SchoolOffice.of(self._desk.shelf.agent)
        found = await doubted_to_leave(office, person, [room.space])
        if (doubted := _doubted(visit, found, "leave", {"person": person.hex()}, called)) is not None:
            return await self._class_page(visit, office, room, doubted=doubted, done=_changed(called))
        whom: dict[str, JSON] = {"person": person.hex(), "space": [room.space.hex()], "called": called}
        done = await self._desk.do("ungrant", whom | {LOOK_AT: True})
        left = _left_as(done, self._desk.shelf.agent.device.hex())
        return see(f"/school/{room.space.hex()}?done={','.join(left)}")

    async def erase(self, request: web.Request) -> web.Response:
        """Forget somebody, if it is meant, seen by all their names; of whom lists call the same, those ticked."""
        fields, visit, room = await self._form(request)
        if fields.get("meant") != "yes":
            raise BadInput(Code.USAGE, "what cannot be undone must be meant: tick the box")
        person = given.person(fields, "person")
        if fields.get("asked") != "yes":
            office = await SchoolOffice.of(self._desk.shelf.agent)
            return await who_goes(self._desk, visit, office, room, person)
        also: list[JSON] = [field.removeprefix(ALSO) for field in fields if field.startswith(ALSO)]
        whom: dict[str, JSON] = {"person": [person.hex(), *also], "renamed_too": fields.get("renamed") == "yes"}
        await self._desk.do("erase", whom | {"alone": True})
        return see(f"/school/{room.space.hex()}?done=erased")

    async def let_in(self, request: web.Request) -> web.Response:
        """A computer, or a teacher with theirs, of another class of the school."""
        fields, visit, room = await self._form(request)
        what, _, whom = fields.get("who", "").partition(":")
        if what not in ("device", "person"):
            raise BadInput(Code.USAGE, "choose who is let in")
        office, called = await SchoolOffice.of(self._desk.shelf.agent), _called_so(fields)
        if not await self._is_class_meant(visit, office, room, fields):
            return await self._class_page(visit, office, room, done="class_changed")
        seen, left_off = fields.get("seen"), 0
        shown = await self._to_be_seen(visit, room, whom) if what == "device" and not seen else []
        if not shown:
            doubted = await self._doubted_to_let_in(visit, office, room, fields)
            if doubted is not None:
                return await self._class_page(visit, office, room, doubted=doubted, done=_changed(called))
            wanted: dict[str, JSON] = {what: whom, "space": [room.space.hex()], "called": called, LOOK_AT: True}
            answered = await self._desk.do("grant", wanted | ({CHOSEN: seen} if seen else {}))
            shown, left_off = await self._looked_at(visit, answered)
            if not shown:
                return see(f"/school/{room.space.hex()}?done=let_in")
        return await self._class_page(visit, office, room, looked=shown, left_off=left_off)

    async def _doubted_to_let_in(
        self, visit: Visit, office: SchoolOffice, room: Room, fields: Mapping[str, str]
    ) -> Doubted | None:
        """What is asked about whoever comes onto the list with a computer, or without one."""
        what, _, whom = fields["who"].partition(":")
        seen = fields.get("seen", "")
        if what == "person":
            person: bytes | None = person_id(whom)
        else:
            standings = await standings_of(office, device_id(whom), [room.space])
            person = next((each for each in standings if each.name == seen), standings[0]).person
        found = None if person is None else await doubted_to_let_in(office, person, [room.space])
        return _doubted(visit, found, "let-in", {"who": fields["who"], "seen": seen}, _called_so(fields))

    async def _to_be_seen(self, visit: Visit, room: Room, whom: str) -> list[Inspected]:
        """The words by which a teacher's computer is known from any other: nothing else says which one this is.

        One for each pair of keys, and each person, by which grants name it: what is let in is what was looked at. What
        was first named as the pupils' is the pupils', whoever calls it a teacher's later.
        """
        office = await SchoolOffice.of(self._desk.shelf.agent)
        standings = await standings_of(office, device_id(whom), [room.space])
        if not standings[0].teaches:
            return []
        standings = [each for each in standings if each.teaches][:MAX_TOLD_DEVICES]
        words = await words_of(each.device for each in standings)
        called = await self._called_by_key(visit, office)
        return [
            Inspected(each.device[0], called(each.device[0], each.person), words[each.device], False, each.name)
            for each in standings
        ]

    async def _looked_at(self, visit: Visit, answered: Mapping[str, JSON]) -> tuple[list[Inspected], int]:
        """What `grant` says that people should look at, and how many more there are."""
        rows = answered.get(LOOK_AT)
        if not isinstance(rows, list) or not rows:
            return [], 0
        office = await SchoolOffice.of(self._desk.shelf.agent)
        called = await self._called_by_key(visit, office)
        cuts = await cut_off_by(office, {bytes.fromhex(str(row["device"])) for row in rows if isinstance(row, dict)})
        found = []
        for row in rows:
            assert isinstance(row, dict)  # noqa: S101  (as `let_in_person` answers)
            device, words = bytes.fromhex(str(row["device"])), row["words"]
            comes, seen = bool(row["comes_along"]), "" if words is None else str(row[CHOSEN])
            same = row.get("same")
            other = None if same is None else beside_words(self._name(visit, bytes.fromhex(str(same))))
            shown = None if words is None else str(words)
            before = bool(row.get("is_in"))
            reason = Why(str(row.get("why", Why.UNKNOWN.value)))
            why = "" if shown else self._why_out(visit, reason, cuts.get(device))
            is_cut_off = reason is Why.CUT_OFF
            found.append(Inspected(device, called(device, None), shown, comes, seen, other, before, why, is_cut_off))
        return found, int(str(answered[LEFT_OFF]))

    def _why_out(self, visit: Visit, why: Why, cut: CutOff | None) -> str:
        """Why a computer stays out, as far as it hangs on no look at its screen."""
        say = visit.say
        if why not in (Why.CUT_OFF, Why.LEFT):
            return say(f"school.looked_{why.value}")
        if cut is None:
            return say("school.looked_out")
        by = self._by(visit, cut.word.by, cut.word.grant)
        return say(f"school.looked_{why.value}", when=say.when(cut.word.at_ms, visit.now_ms), by=by)

    async def code(self, request: web.Request) -> web.Response:
        """A code for a PC, or for a teacher's laptop, for good or for a while."""
        fields, visit, room = await self._form(request)
        office = await SchoolOffice.of(self._desk.shelf.agent)
        if not await self._is_class_meant(visit, office, room, fields):
            return await self._class_page(visit, office, room, done="class_changed")
        person, called = fields.get("person", ""), _called_so(fields)
        found = await doubted_to_let_in(office, person_id(person), [room.space]) if person else None
        asked = {key: fields.get(key, "") for key in ("person", "for", "uses")}
        if (doubted := _doubted(visit, found, "code", asked, called)) is not None:
            return await self._class_page(visit, office, room, doubted=doubted, done=_changed(called))
        stay = fields.get("for", "")
        wanted: dict[str, JSON] = {
            "role": "teacher" if person else "machine",
            "space": [room.space.hex()],
            "person": person or None,
            "uses": 1 if person else _number(fields.get("uses", "1")),
            "ttl": _CODE_LASTS,
            "for": stay if stay in _STAYS and stay else None,
            "renamed_too": called is not None,
        }
        made = await self._desk.do("invite", wanted)
        return await self._class_page(
            visit,
            office,
            room,
            code=str(made["code"]),
            fingerprint=str(made["fingerprint"]),
            whom=bytes.fromhex(person) if person else None,
            uses=wanted["uses"],
            done="code",
        )

    # --- what they share ----------------------------------------------------------------------------------------------

    async def _form(self, request: web.Request) -> tuple[dict[str, str], Visit, Room]:
        fields = await self._desk.fields(request)
        visit, office = await enter_school(self._desk, request)
        return fields, visit, self._room(visit, office, request)

    def _room(self, visit: Visit, office: SchoolOffice, request: web.Request) -> Room:
        wanted = given.identifier(request.match_info, "space", Code.UNKNOWN_SPACE, "space")
        found = next((room for room in self._rooms(visit, office) if room.space == wanted), None)
        if found is None:
            raise BadInput(Code.UNKNOWN_SPACE, "this school has no such class")
        return found

    def _rooms(self, visit: Visit, office: SchoolOffice) -> list[Room]:
        return sorted(
            (room for room in visit.classes if office.governs(room.space)), key=lambda room: room.name.casefold()
        )

    async def _told_of_names(self, visit: Visit, office: SchoolOffice, rooms: Iterable[Room]) -> Mapping[bytes, Told]:
        return await told_of_names(visit, self._desk.shelf, {room.space for room in rooms}, office.home)

    async def _is_class_meant(self, visit: Visit, office: SchoolOffice, room: Room, fields: Mapping[str, str]) -> bool:
        """Whether this class is meant by who has seen what is told of it, or nothing is to be asked."""
        told = (await self._told_of_names(visit, office, self._rooms(visit, office))).get(room.space)
        return not await _is_asked(office, told) or (told is not None and fields.get("class_meant") == told.seen)

    async def _class_page(
        self,
        visit: Visit,
        office: SchoolOffice,
        room: Room,
        *,
        code: str | None = None,
        fingerprint: str | None = None,
        whom: bytes | None = None,
        uses: JSON = 1,
        looked: Sequence[Inspected] = (),
        left_off: int = 0,
        doubted: Doubted | None = None,
        done: str | None = None,
    ) -> web.Response:
        say, rooms, persons = visit.say, self._rooms(visit, office), room.roster.persons.values()
        signed = await self._signed([room, *rooms])
        named = beside_words(signed.get(whom or b"", ""))
        devices = [device for device in await school_devices(office) if device.role in LET_IN]
        elsewhere = {person.id for other in rooms for person in other.teachers} - room.roster.persons.keys()
        people = [
            (
                role.value,
                sorted(
                    (each for each in persons if each.role is role),
                    key=lambda each: (signed.get(each.id, each.name).casefold(), room.number_of(each.id)),
                ),
            )
            for role in (*_ROLES, PersonRole.ADMIN)
        ]
        listens_at = self._desk.shelf.agent.listens_at
        shared = (await self._told_of_names(visit, office, rooms)).get(room.space)
        gone = await gone_in_doubt(self._desk, visit, office, room.space)
        reported = await reported_ms(office, {each.key for each in devices} | {each.device for each in looked})
        return self._desk.page(
            visit,
            "school_class.html",
            room=room,
            shared=shared,
            asked=await _is_asked(office, shared),
            looked=looked,
            left_off=left_off,
            doubted=doubted,
            reported={key: say.when(said_ms, visit.now_ms) for key, said_ms in reported.items()},
            people=[(role, listed) for role, listed in people if listed],
            also_in=await also_in(self._desk.shelf.agent.replica, room.space, room.roster.persons),
            gone=gone[:MAX_GONE_SHOWN],
            more_gone=max(0, len(gone) - MAX_GONE_SHOWN),
            doubles=await self._doubles(visit, office, room),
            known_as={**room.whole_names, **signed},
            teachers=_by_name(signed, {person.id for person in room.teachers}),
            devices=[(device, self._called(visit, device)) for device in devices if room.space in device.spaces],
            other_devices=[
                (device, self._called(visit, device)) for device in devices if room.space not in device.spaces
            ],
            other_teachers=_by_name(signed, elsewhere),
            numbered={one.id for one in _signing(rooms) if signed.get(one.id, "").startswith(f"{one.name} (")},
            roles=[role.value for role in _ROLES],
            stays=_STAYS,
            ends={
                each.key: say(
                    "school.ends_not" if each.for_good else "school.ends", day=say.day(each.until_ms, visit.now_ms)
                )
                for each in await stays_of(office)
                if each.space == room.space
            },
            code=code,
            fingerprint=fingerprint,
            picture=None if code is None else picture_of(code),
            whom=say("school.code_laptop", name=named) if named else say.count("school.code_pcs", _number(str(uses))),
            until=say.when(visit.now_ms + _CODE_LASTS_MS, visit.now_ms),
            back_until=say.day(visit.now_ms + ERASURE_DELAY_MS, visit.now_ms),
            address=None if listens_at is None else await asyncio.to_thread(reached_at, listens_at),
            server=self._desk.shelf.agent.enrolment.server_url,
            done=done,
        )

    async def _signed(self, rooms: Iterable[Room]) -> dict[bytes, str]:
        """What the words of each who teaches in these classes are signed with: two of one name are told apart."""
        signed: dict[bytes, str] = {}
        for room in rooms:
            persons = {person.id for person in _signing([room])} - signed.keys()
            signed |= await signatures(self._desk.shelf.agent.replica, room.roster, persons)
        return signed

    async def _doubles(self, visit: Visit, office: SchoolOffice, room: Room) -> list[Pair]:
        called = await self._called_by_key(visit, office)
        return await pairs_of(visit, office, room, called, lambda author, grant: self._by(visit, author, grant))

    async def _called_by_key(self, visit: Visit, office: SchoolOffice) -> Callable[[bytes, bytes | None], str]:
        """What people know a device by, as this person's, or else as whoever's it is."""
        devices = {each.key: each for each in await school_devices(office)}

        def called(key: bytes, person: bytes | None) -> str:
            if key not in devices:
                return key_words(key, office.replica.door)
            return self._called(visit, devices[key] if person is None else replace(devices[key], person=person))

        return called

    def _called(self, visit: Visit, device: SchoolDevice) -> str:
        """What people know a device by: the name that it gives itself, whose it is, and words that it cannot choose."""
        person = None if device.person is None else self._name(visit, device.person)
        return called_as(device.name, person, key_words(device.key, self._desk.shelf.agent.replica.door))

    def _name(self, visit: Visit, person: bytes | None) -> str:
        return visit.voice_of(person) or visit.say("unknown.person")


async def _is_asked(office: SchoolOffice, told: Told | None) -> bool:
    """Whether the name of a class is no word of this computer's, of one that it knows, or the kit's."""
    return told is not None and await (await ListWords.of(office)).whose(told.said) not in SURE


def _called_so(fields: Mapping[str, str]) -> str | None:
    """By which name whoever ticked the box of the panel saw somebody there."""
    return fields.get("called") if fields.get("renamed") == "yes" else None


def _left_as(answered: Mapping[str, JSON], own: str) -> list[str]:
    """What is told of whoever was taken off a list, what may be wrong first: each that there is hides no other.

    This head's `own` computer, which reads on, is none of theirs.
    """
    rows = answered.get("remains")
    kept = [row for row in rows if isinstance(row, dict) and row["device"] != own] if isinstance(rows, list) else []
    found = {"left_strange": answered.get(STRANGE), "left_others": answered.get(OTHERS), "left_kept": kept}
    return [said for said, rows in found.items() if rows] or ["left"]


def _changed(called: str | None) -> str | None:
    return None if called is None else "changed"


def _doubted(
    visit: Visit, found: Repeated | None, form: str, fields: Mapping[str, str], called: str | None
) -> Doubted | None:
    """What is asked before it is said; nothing once it is `called` what was seen."""
    if found is None or (not found.is_doubted if called is None else called == found.name):
        return None
    others = [*found.names[:MAX_NAMES_SHOWN], *(visit.say(f"family.role_{role}") for role in found.roles)]
    fields = {**fields, "called": found.name}
    return Doubted(form, fields, found.name, visit.say(f"family.role_{found.role}"), others)


def _signing(rooms: Iterable[Room]) -> list[Person]:
    return [person for room in rooms for person in room.roster.persons.values() if person.role in SIGN]


def _by_name(called: Mapping[bytes, str], persons: Collection[bytes]) -> list[tuple[bytes, str]]:
    found = [(person, name) for person, name in called.items() if person in persons]
    return sorted(found, key=lambda each: each[1].casefold())


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0  # noqa: PLR2004  (digits)


async def enter_school(desk: Desk, request: web.Request) -> tuple[Visit, SchoolOffice]:
    """Raises `HTTPNotFound` where this device runs no school."""
    try:
        office = await SchoolOffice.of(desk.shelf.agent)
    except Refused as refusal:
        if is_called_anothers(refusal):
            raise
        raise web.HTTPNotFound from None
    return await desk.visit(request), office
