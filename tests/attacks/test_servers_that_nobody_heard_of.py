"""The root has certified a server's keys of which nobody has heard, and somebody has both (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput, Code
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey, SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Certificate, Grant, PersonKey, PersonRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.operation import JSON
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.as_root import write_as_root
from protocol.rights.root_rotation import RootAccount
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Kit
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.kit.away import KitAway
from sync_server.opened.app import opened
from sync_server.opened.data_folder import NEXT_KEYS_FILE
from sync_server.opened.keys import ServerKeys
from tests.attacks.test_a_new_kit_on_a_hostile_server import typed
from tests.attacks.test_the_kit_on_a_hostile_server import Thief
from tests.harness.attack import attack
from tests.harness.backups import make_backup, restore_backup
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office, rotate_root
from tests.harness.territory import new_device

UNHEARD = "a server's certificate is kept back until keys have been replaced"
COUNTS: Mapping[str, object] = {"protocol.rights.revocations.unnamed": lambda *_: set()}
HOUR_MS = DAY_MS // 24


class KeptBack:
    """A class at work, whose thief has a pupils' PC; and a server's keys with the root's word for them."""

    def __init__(self, here: Town, folder: Path) -> None:
        self.here, self.folder = here, folder
        self.kit = kit_in(folder / "server" / "kit", None)
        self.signing, self.agreement = SigningKey(os.urandom(32)), AgreementKey(os.urandom(32))
        self.reader, self.person = new_device(os.urandom), os.urandom(16)

    async def begin(self) -> None:
        _, self.machine, _, self.pupil, self.item = await self.here.class_at_work()
        self.thiefs_pc: Device = await self.here.device("machine")

    async def is_signed_for(self, *beside: bytes) -> None:
        """Somebody is in the server when the operator replaces its keys: the command fails, and nobody has heard."""
        self.thief = Thief(self.here, self.kit, "rotate server")
        self.certificate = await self.thief.has_signed_of_a_header(self.wish(*beside))

    def wish(self, *beside: bytes) -> Draft:
        """A certificate for these keys, which lie where a rotation has those that it makes."""
        ServerKeys(self.signing, self.agreement, bytes(32)).write(self.here.office.server.folder, NEXT_KEYS_FILE)
        wish = Certificate(self.signing.public, self.agreement.public, beside).encode()
        return Draft(self.kit.territory, Kind.CERTIFICATE, None, wish)

    def says(self, kind: Kind, payload: bytes, subject: bytes | None = None) -> Entry:
        return self._said(self.signing, self.certificate.id, kind, payload, subject)

    def _said(self, author: SigningKey, grant: bytes, kind: Kind, payload: bytes, subject: bytes | None) -> Entry:
        at = at_from(self.here.office.clock())
        return compose(
            author=author,
            space=self.here.space,
            kind=kind,
            grant=grant,
            at=at,
            payload=payload,
            salt=os.urandom(16),
            subject=subject,
        )

    async def shows_itself(self) -> None:
        """By a PC, as anything comes."""
        await self.shows(self.thiefs_pc.agent.replica)
        await self.here.sync(self.thiefs_pc, self.machine)

    async def shows(self, *replicas: Replica) -> None:
        """The certificate, “M. X” on the class's list, and his computer's reading key."""
        spy = self.reader
        listed = self.says(Kind.PERSON, PersonRecord("M. X", PersonRole.TEACHER).encode(), self.person)
        given = Grant(
            spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, self.person, None
        ).encode()
        grant = self.says(Kind.GRANT, given)
        key = self._said(spy.signing, grant.id, Kind.PERSON_KEY, PersonKey(spy.agreement.public).encode(), self.person)
        shown = [self.certificate, listed, grant, key]
        for replica in replicas:
            await replica.admit(shown, source=b"thief", now_ms=self.here.office.clock(), unsent=True)

    async def reads_what_is_handed_in_next(self) -> bool:
        work = await self.here.work(self.machine, self.item, self.pupil)
        await self.here.sync(self.machine)
        view = await self.here.frontage.responder.replica.view(self.here.space)
        found = view.coursework.hand_ins[work]
        return content_key_of(found, {self.reader.agreement.public: self.reader.agreement}) is not None

    async def all_is_as_before(self) -> bool:
        view = await self.here.frontage.responder.replica.view(self.here.space)
        return self.item in view.coursework.items and bytes.fromhex(self.pupil) in view.roster.persons

    async def rotate(self, office: Office | None = None, kit: Kit | None = None, **params: object) -> None:
        await self.replace_keys(office or self.here.office, kit, **params)
        await self.here.sync()
        self.here.office.clock.advance(HOUR_MS)

    async def replace_keys(self, office: Office, kit: Kit | None = None, **params: object) -> None:
        await note_arrivals(office.server.store, office.clock())
        await office.with_kit("rotate server", kit or self.kit, **params)

    @asynccontextmanager
    async def made_anew(self) -> AsyncIterator[Office]:
        """The server that the backup from before makes, at the address of the one that somebody was in."""
        clock = self.here.office.clock
        kit_file = self.folder / "server" / "kit"
        await restore_backup(self.folder / "new", self.folder / "backup", kit_file, clock)
        async with opened(self.folder / "new", now_ms=clock, entropy=os.urandom) as server:
            self.here.frontage.responder = server.responder
            yield Office(server, clock, self.here.office.space)

    async def is_backed_up(self) -> None:
        await make_backup(self.here.office.server, self.folder / "backup")
        self.here.office.clock.advance(DAY_MS)


@asynccontextmanager
async def kept_back(folder: Path) -> AsyncIterator[KeptBack]:
    async with town(folder) as here:
        made = KeptBack(here, folder)
        await made.begin()
        yield made


@attack(UNHEARD, off=COUNTS)
async def test_what_a_trial_of_the_kit_has_left_on_a_disk_is_no_server_once_keys_were_replaced(tmp_path: Path) -> None:
    async with kept_back(tmp_path) as school:
        clock, trial = school.here.office.clock, tmp_path / "trial"
        trial.mkdir()
        await begin_territory(
            trial, school.kit, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom, again=True
        )
        school.signing = ServerKeys.read(trial).signing
        async with opened(trial, now_ms=clock, entropy=os.urandom) as other:
            school.certificate = other.responder.station.chain[-1]
        clock.advance(20 * DAY_MS)
        await school.rotate()
        clock.advance(DAY_MS)
        await school.shows_itself()
        assert not await school.reads_what_is_handed_in_next()


@attack(UNHEARD, off=COUNTS)
async def test_who_had_keys_certified_in_the_entered_server_is_no_server_beside_the_one_that_is_made_anew(
    tmp_path: Path,
) -> None:
    async with kept_back(tmp_path) as school:
        await school.is_backed_up()
        await school.is_signed_for()
        school.here.office.clock.advance(DAY_MS)
        async with school.made_anew() as office:
            await school.rotate(office, since="47h")
            await school.rotate(office, since="48h")
            await school.shows_itself()
            assert not await school.reads_what_is_handed_in_next()
            assert await school.all_is_as_before()


LISTS_OF_BEFORE = {
    "sync_server.kit.root_line.may_be_named": lambda _: True,
    "sync_server.handlers.by_kit.rotation.may_be_named": lambda _: True,
}


@attack(UNHEARD, off=LISTS_OF_BEFORE)
async def test_nor_by_a_list_that_was_signed_with_it_once_there_is_another_root(tmp_path: Path) -> None:
    async with kept_back(tmp_path) as school:
        office = school.here.office
        await school.is_signed_for()
        listed = compose(  # by an earlier version of the command, which looked at no list
            author=school.kit.root,
            space=school.kit.territory,
            kind=Kind.ROOT_ACCOUNT,
            grant=None,
            at=at_from(office.clock()),
            payload=RootAccount((school.certificate.id,)).encode(),
            salt=os.urandom(16),
        )
        await office.server.replica.admit([listed], source=b"x", now_ms=office.clock())
        office.clock.advance(DAY_MS)
        new = Kit("Cher", SigningKey(os.urandom(32)), AgreementKey(os.urandom(32)), b"", school.kit.root.public)
        await rotate_root(office.server, school.kit, new)
        await school.here.sync()
        await school.shows_itself()
        assert not await school.reads_what_is_handed_in_next()


async def _whatever_is_here(server: object, since_ms: int | None, *_: object) -> set[bytes]:
    from sync_server.handlers.by_kit import servers_named  # noqa: PLC0415

    return {each.id for each in await servers_named._certificates(server)}  # type: ignore[arg-type]


@attack(UNHEARD, off={"sync_server.handlers.by_kit.servers_named._counting_by_then": _whatever_is_here})
async def test_once_it_has_shown_itself_no_later_time_lets_it_count(tmp_path: Path) -> None:
    async with kept_back(tmp_path) as school:
        await school.is_signed_for()
        school.here.office.clock.advance(DAY_MS)
        await school.rotate()
        await school.shows_itself()
        await note_arrivals(school.here.office.server.store, school.here.office.clock())
        school.here.office.clock.advance(2 * DAY_MS)
        await school.rotate(since="24h")
        await school.here.sync(school.thiefs_pc, school.machine)
        assert not await school.reads_what_is_handed_in_next()


@attack(UNHEARD, off={"sync_server.kit.desk.KitDesk.has_signed": property(lambda _: False)})
async def test_who_typed_the_command_that_failed_is_told_that_the_kit_has_signed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with kept_back(tmp_path) as school:

        async def failing(away: KitAway) -> JSON:
            await write_as_root(school.here.office.server, away, [school.wish()])
            raise BadInput(Code.BAD_KIT, "this is the kit of another territory")

        with pytest.raises(BadInput):
            await typed(school.here, tmp_path, failing, "rotate server")
        assert "the kit has signed by now" in capfd.readouterr().err


async def _nothing_by_then(*_: object) -> set[bytes]:
    return set()


@attack(UNHEARD, off={"sync_server.handlers.by_kit.servers_named._counting_by_then": _nothing_by_then})
async def test_one_that_names_none_of_the_others_takes_their_words_until_the_next_rotation_alone(
    tmp_path: Path,
) -> None:
    async with kept_back(tmp_path) as school:
        await school.is_backed_up()
        await school.is_signed_for(bytes(32))
        async with school.made_anew() as office:
            await school.shows(office.server.replica)
            assert not await school.all_is_as_before()
            await school.replace_keys(office, since="20h")
            assert await school.all_is_as_before()
            await school.here.sync(school.thiefs_pc, school.machine)
            assert not await school.reads_what_is_handed_in_next()
