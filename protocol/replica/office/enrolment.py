"""Enrolment: a device shows a code and gets the grants that the code's invitation promises.

Rules:
- what a code shows is told to whoever lets in, a server in wrong hands too: where the invitation holds the code's key,
  the device proves that it has the whole code (docs/adr/0297);
- of several invitations of one code the one counts that this office has made, a server as it has noted, else one for
  which the code vouches, at a server of somebody known before others, else the first that came here, where none that
  counts says otherwise (docs/adr/0457);
- one for which the code vouches says who may honour it: who is not among them says so, and the code stays good;
- it counts if the fold holds it, its author outranks the role and is not cut off, its author's grant
  holds in every space, and whom it is for is still on the list of each: who was let go comes back by no older code;
- at a server a code counts whose maker is known there, or comes of keys that still count (docs/adr/0299);
- it ends by this office's clock, with the stay that it opens, and once programs ran here for a day longer than it was
  good for, whatever that clock says (docs/adr/0321); its uses are the devices whose grants name it, or what says it
  again word for word, so that a reborn server knows them;
- all grants are one durable transaction; the same device key asking again gets the same answer;
- by which code a device came in is noted as this office lets it in by it: whoever has a copy of a server's key says of
  any device that it came in by any code, one that was used or ran out as well (docs/adr/0399);
- whoever shows no code that was made here waits for nobody and keeps nobody waiting (`known_codes`).

docs/protocol.md, "Enrolment".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from protocol.clock import milliseconds_of, rfc3339
from protocol.errors import Code, Refused
from protocol.identity import check_agreement, three_words
from protocol.limits import MAX_CLOCK_LEAD_MS
from protocol.messages.enrollment import EnrollAnswer, EnrollRequest
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Invite
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.text import local_time
from protocol.replica.office.arrivals import has_been_here
from protocol.replica.office.bureau import Office
from protocol.replica.office.known_codes import KnownCodes
from protocol.replica.office.known_here import KnownHere, made_here, note_enrolled
from protocol.replica.office.names import distinct
from protocol.rights.door import Authority
from protocol.rights.honouring import may_honour
from protocol.roles import DEVICES, RANK, Role
from protocol.trust.envelope import OpenedRequest


class Enrolment:
    """Answers the call `enroll`. Enrolments run one after the other, so that a code's last use is given once."""

    def __init__(
        self,
        office: Office,
        enrolled: Callable[[bytes, str, int], None],
        server_url: str | None = None,
        *,
        codes: KnownCodes | None = None,
        turn: asyncio.Lock | None = None,
        check_use: Callable[[Entry], Awaitable[None]] | None = None,
    ) -> None:
        """`enrolled` hears of every device, its name and the time; `server_url` is where a device finds the server.

        `codes` are what the program knows already, `turn` what it holds while it writes. `check_use` refuses a code
        that would count, where the program knows why it may not be used.
        """
        self._office = office
        self._enrolled = enrolled
        self._server_url = server_url
        self._codes = codes or KnownCodes()
        self._one_at_a_time = turn or asyncio.Lock()
        self._check_use = check_use

    async def answer(self, opened: OpenedRequest) -> bytes:
        """The sealed call's answer. Raises `Refused` (CODE_WRONG, CODE_EXPIRED, CODE_USED, REVOKED), `PeerFault`."""
        request = EnrollRequest.parse(opened.payload)
        check_agreement(request.agreement)
        office = self._office
        shown = await self._codes.shown(office, request, opened.device)
        if not shown:
            raise _wrong()
        async with self._one_at_a_time:
            entry, invite = await self._invitation(shown, request, opened.device)
            granted = await self._granted({one.id for one in shown if one.payload == entry.payload})
            grants = [authority.grant for authority in granted if authority.key == opened.device]
            if not grants:
                self._check_open(invite, granted)
                await self._check_not_outlived(entry, invite)
                await self._check_not_cut(opened.device, invite)
                if self._check_use is not None:
                    await self._check_use(entry)
            now_ms = office.now_ms()
            # before there is a grant: who hears of that is told the name with it
            self._enrolled(opened.device, request.name, now_ms)
            if not grants:
                await note_enrolled(office, invite.person, (opened.device, request.agreement), invite.role, entry)
                grants = await self._grant(opened.device, request, entry, invite)
        # by it a newcomer sees that this server's certificate is a later one than the code's
        then = () if invite.hosts is None or invite.hosts.certificate is None else (invite.hosts.certificate,)
        entries = await office.replica.credentials([*then, *grants, entry.id])
        return EnrollAnswer(now_ms, office.territory_name, entries, self._server_url).encode()

    async def _invitation(self, shown: Sequence[Entry], request: EnrollRequest, device: bytes) -> tuple[Entry, Invite]:
        """The entry of a code, if it counts, and if this device has the whole of its code.

        Whoever reads an invitation can write another one of the same code, for something else: of several it is the one
        that was made here, else one for which the code vouches, else the first that came, unless another one that
        counts says otherwise. If that does not count, none does.
        """
        entry = await self._made_here(shown)
        if entry is None:
            entry = await self._likeliest([one for one in shown if _is_vouched(request, device, one)])
        if entry is None:
            entry = shown[0]
            await self._check_unambiguous(entry, shown)
        invite = Invite.parse(entry.payload or b"")
        if request.proves(invite.key, device) and await self._counts(entry, invite):
            await self._check_known(entry)
            self._check_host(invite)
            return entry, invite
        raise _wrong()

    async def _check_unambiguous(self, first: Entry, shown: Sequence[Entry]) -> None:
        """No honest office says a code twice, and in which order they came a backup says as it likes (docs/adr/0329).

        Raises `Refused` (CODE_WRONG).
        """
        said = Invite.parse(first.payload or b"")
        for other in shown:
            meant = Invite.parse(other.payload or b"")
            if meant != said and await self._counts(other, meant):
                raise Refused(
                    Code.CODE_WRONG,
                    "this code stands for two things here, and nothing says which of them is meant: somebody else has "
                    "used it for another one. Ask for a new code, and tell whoever gave you this one",
                )

    def _check_host(self, invite: Invite) -> None:
        """Let in nobody who will not believe this office. Raises `Refused` (CODE_WRONG); the code stays good."""
        office = self._office
        if invite.hosts and not may_honour(office.replica.door, invite.hosts, office.own_device[0]):
            raise Refused(
                Code.CODE_WRONG,
                "this code was made before the computer that answers could let anybody in, or where that was not "
                "known: make a new code on that computer, or use this one where it was made, or at the server",
            )

    async def _made_here(self, shown: Sequence[Entry]) -> Entry | None:
        """Which entry of a code this very office has made; with a server's key others make such as well."""
        own = [entry for entry in shown if entry.header.author == self._office.own_device[0]]
        return next(iter(await made_here(self._office.replica.store, own) if self._is_server else own), None)

    async def _likeliest(self, vouched: Sequence[Entry]) -> Entry | None:
        """Of what says the same of a code who is believed to have made it: somebody whom a server knows, or the first.

        Whoever has a line, and a copy of a server's key, can have said it again before its maker is heard.
        """
        if self._is_server and len(vouched) > 1:
            known = await KnownHere.of(self._office)
            for entry in vouched:
                if await known.is_made_by_somebody_known(entry):
                    return entry
        return next(iter(vouched), None)

    @property
    def _is_server(self) -> bool:
        return self._office.rank >= RANK[Role.SERVER]

    async def _check_known(self, entry: Entry) -> None:
        """At a server who made a code is known, or comes of keys that still count. Raises `Refused` (CODE_WRONG)."""
        office = self._office
        maker = office.replica.door.authority(entry.header.grant)
        if not self._is_server or maker is None or maker.rank >= RANK[Role.SERVER]:
            return
        if not await (await KnownHere.of(office)).is_from_known_hands(maker):
            raise Refused(
                Code.CODE_WRONG,
                f"this server does not know the computer that made this code ({maker.key.hex()[:8]}), which was let in "
                "with a key that has been replaced: whoever runs the server makes a new code, or lets that computer in "
                "by its name first (`grant --device`)",
            )

    async def _counts(self, entry: Entry, invite: Invite) -> bool:
        door = self._office.replica.door
        roster = (await self._office.replica.view(entry.header.space)).roster
        if entry.id in roster.held_back or invite.role not in DEVICES or not invite.spaces:
            return False
        if await self._is_void(entry, invite):
            return False
        if door.rank_of(entry.header) <= RANK[invite.role] or not await self._is_listed(invite):
            return False
        author = door.authority(entry.header.grant)
        return all(
            door.knows_space(space) and (author is None or door.covers(author, space)) for space in invite.spaces
        )

    async def _is_void(self, entry: Entry, invite: Invite) -> bool:
        """Whether the key that made a code, a server's too, has been cut off since: a thief may have had it."""
        author = self._office.replica.door.authority(entry.header.grant)
        if author is None:
            return False
        views = [await self._office.replica.view(space) for space in (entry.header.space, *invite.spaces)]
        return any(author.key in view.roster.cut for view in views)

    async def _is_listed(self, invite: Invite) -> bool:
        """Whether whom a code is for, if it is for somebody, has left none of its spaces since."""
        if invite.person is None:
            return True
        rosters = [(await self._office.replica.view(space)).roster for space in invite.spaces]
        return all(roster.who(invite.person) in roster.persons for roster in rosters)

    async def _granted(self, invites: Collection[bytes]) -> list[Authority]:
        """What a code has let in, by whichever of these that say it alike.

        What is held back is no use of it: who was cut off uses up no code of others.
        """
        replica = self._office.replica
        named = [authority for authority in replica.door.authorities() if authority.invite in invites]
        held = {space: (await replica.view(space)).roster.held_back for space in {each.space for each in named}}
        return [each for each in named if each.grant not in held[each.space]]

    def _check_open(self, invite: Invite, granted: Sequence[Authority]) -> None:
        now_ms = self._office.now_ms()
        if invite.expires_ms <= now_ms or (invite.until_ms is not None and invite.until_ms <= now_ms):
            raise _over()
        if len({authority.key for authority in granted}) >= invite.uses:
            raise _used(granted)

    async def _check_not_outlived(self, entry: Entry, invite: Invite) -> None:
        """Let in nobody by a code that was here for longer than it is good for, whatever the clock says now."""
        ends_ms = invite.expires_ms if invite.until_ms is None else min(invite.expires_ms, invite.until_ms)
        # an entry is dated by so much ahead of the clock at most, which makes its code no shorter
        good_ms = max(0, ends_ms - milliseconds_of(entry.header.at)) + MAX_CLOCK_LEAD_MS
        if await has_been_here(self._office.replica.store, entry, good_ms, self._office.running):
            raise _over()

    async def _check_not_cut(self, device: bytes, invite: Invite) -> None:
        for space in invite.spaces:
            if device in (await self._office.replica.view(space)).roster.cut:
                raise Refused(
                    Code.REVOKED, "this machine's access has been withdrawn; it can come back with new keys only"
                )

    async def _grant(self, device: bytes, request: EnrollRequest, entry: Entry, invite: Invite) -> list[bytes]:
        payload = Grant(
            signing=device,
            agreement=request.agreement,
            tls_sha256=request.tls_sha256,
            role=invite.role,
            person=invite.person,
            invite=entry.id,
            until_ms=invite.until_ms,
        ).encode()
        drafts = [Draft(space, Kind.GRANT, None, payload) for space in distinct(invite.spaces)]
        grants = [written.id for written in await self._office.say(drafts)]
        await self._office.tend_keys(invite.spaces, let_in=True)
        return grants


def _is_vouched(request: EnrollRequest, device: bytes, entry: Entry) -> bool:
    """Whether a code, of which `device` proves that it has the whole, says itself what this invitation says."""
    invite = Invite.parse(entry.payload or b"")
    return request.proves(invite.key, device) and invite.is_vouched


def _over() -> Refused:
    return Refused(Code.CODE_EXPIRED, "this code is no longer valid; ask for a new one")


def _used(granted: Sequence[Authority]) -> Refused:
    """That a code is used up, and by which computer last: who knows that it is none of theirs is the first to know."""
    if not granted:
        return Refused(Code.CODE_USED, "this code has been used already; ask for a new one")
    last = max(granted, key=lambda authority: (authority.at, authority.key))
    words, when = three_words(last.key), local_time(rfc3339(milliseconds_of(last.at)) or "")
    return Refused(
        Code.CODE_USED,
        f"this code has been used already, on {when}, by the computer {last.key.hex()[:8]}, three words “{words}”: if "
        "that is nobody's whom you know, tell whoever gave you the code at once; ask for a new one",
    )


def _wrong() -> Refused:
    return Refused(Code.CODE_WRONG, "this code opens nothing here; ask for a new one")
