"""The kit is used on a server that somebody else had (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import at_from
from protocol.errors import BadInput, PeerFault
from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Entry, Kind, compose, unsigned
from protocol.model.structure import Certificate, Erasure, Grant, PersonKey, RecoveryKey, Revocation, Rewrap, Ruling
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.command import run_command
from protocol.replica.console.control import serve_control
from protocol.replica.console.operation import JSON, FileData, FileEvent, Incoming, Outgoing, Params
from protocol.replica.console.ownership import acquire
from protocol.replica.office.as_root import write_as_root
from protocol.rights.vouching import device_words
from protocol.roles import Role
from protocol.trust.kit import Kit
from sync_agent.keys.confirming import own_device
from sync_agent.transport.sealed_calls import server_of
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in, new_kit
from sync_server.kit.away import KitAway
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from sync_server.opened.data_folder import NEXT_KEYS_FILE
from sync_server.opened.keys import ServerKeys
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk, no_table
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device

DAY_MS, YEAR_MS = 86_400_000, 365 * 86_400_000
KIT_ROW = "whoever has the store open is brought the kit"


async def handed_in(here: Town) -> tuple[str, Device, Device, bytes]:
    """Work that a pupil has handed in to Mme Petit: who she is, her laptop, the pupils' machine, the work's id."""
    petit, lea = await here.office.add_person("Mme Petit", "teacher"), await here.office.add_person("Léa", "pupil")
    laptop, machine = await here.device("teacher", petit), await here.device("machine")
    item = await here.assignment(laptop)
    await here.sync(machine)
    work = await here.work(machine, item, lea)
    await here.sync(machine)
    return petit, laptop, machine, work


@attack(
    "a server's operator names a device of their own as a teacher's",
    off={
        "sync_server.handlers.by_kit.standing.is_shown": lambda *_: True,
        "sync_server.kit.errands.is_shown": lambda *_: True,
    },
)
async def test_the_kit_opens_earlier_work_to_the_device_that_was_shown_and_to_no_other(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        petit, lost, machine, work = await handed_in(here)
        await here.sync(lost)
        await Desk(lost.agent).ask("confirm-opened", id=work.hex())
        await here.sync(lost, machine)
        await here.office.do("revoke", device=lost.agent.device.hex())
        laptop = await here.device("teacher", petit)
        # meanwhile somebody has the server, and names a device of theirs as hers
        server, spy = here.office.server, new_device(os.urandom)
        space, person = bytes.fromhex(here.office.space), bytes.fromhex(petit)
        given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, person, None)
        (grant,) = await server.write([Draft(space, Kind.GRANT, server.grant, given.encode())])
        for ahead_ms in (-(30 * 86_400_000), 60_000):
            said = compose(
                author=spy.signing,
                space=space,
                kind=Kind.PERSON_KEY,
                grant=grant.id,
                at=at_from(here.office.clock() + ahead_ms),
                payload=PersonKey(spy.agreement.public).encode(),
                salt=bytes(16),
                subject=person,
            )
            assert (await server.replica.admit([said], source=b"x", now_ms=here.office.clock())).admitted
        words = device_words(own_device(laptop.agent))
        asked = {"person": petit, "words": words, "space": [here.office.space]}
        assert await here.office.with_kit("rewrap", kit, **asked) == {"hand_ins": 1}
        found = (await server.replica.view(space)).coursework.hand_ins[work]
        assert content_key_of(found, {spy.agreement.public: spy.agreement}) is None
        await here.sync(laptop)
        assert await Desk(laptop.agent).files("open-hand-in", id=work.hex())


# --- who has the store open is a thief, and the kit comes near it (docs/adr/0128) ------------------------------------


class Thief:
    """Has the store of DIR open when the command with the kit comes: it is asked what it likes."""

    def __init__(self, here: Town, kit: Kit, command: str, new: Kit | None = None, /, **params: Any) -> None:
        self._here, self._server = here, here.office.server
        errand = errand_of(command, kit, params, new, os.urandom)
        desk = KitDesk(errand, here.office.said, here.office.clock)
        self.kit = KitAway(self._server, desk.keys, desk, desk)

    async def has_signed(self, *drafts: Draft) -> None:
        """Say something as the root. Raises what the command refuses with."""
        await write_as_root(self._server, self.kit, drafts)

    async def takes_over(self, ahead_ms: int = 0, heads: Sequence[bytes] | None = None) -> Entry:
        """Have the root say that the new one follows it: with all that it has said, or with what is named."""
        territory = self._server.replica.territory
        said = [entry.id for entry in await self._server.store.authored(territory, self.kit.root.public)]
        agreed = await self.kit.agree(1, said if heads is None else heads)
        rotation = Draft(territory, Kind.ROOT_ROTATION, None, agreed)
        return await self.has_signed_of_a_header(rotation, ahead_ms=ahead_ms, prev=said[-1:])

    async def has_signed_of_a_header(
        self, draft: Draft, *, ahead_ms: int = 0, new: bool = False, prev: Sequence[bytes] = ()
    ) -> Entry:
        """The same, dated as the thief likes, and let in nowhere yet. Raises what the command refuses with."""
        root = self.kit.new_root if new else self.kit.root
        assert root is not None
        wish = unsigned(
            author=root.public,
            space=draft.space,
            kind=draft.kind,
            grant=None,
            at=at_from(self._here.office.clock() + ahead_ms),
            payload=draft.payload,
            salt=os.urandom(16),
            subject=draft.subject,
            target=draft.target,
            parents=draft.parents,
            prev=prev,
        )
        (signature,) = await root.signatures([wish])
        return replace(wish, signature=signature)


def spy_as_admin(here: Town) -> Draft:
    spy = new_device(os.urandom)
    given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.ADMIN, None, None)
    return Draft(here.office.server.replica.territory, Kind.GRANT, None, given.encode())


def cutting_off(here: Town, key: bytes) -> Draft:
    return Draft(here.office.server.replica.territory, Kind.REVOKE, None, Revocation(key, ()).encode())


@attack(KIT_ROW, off={"sync_server.kit.errands.RotatingServer.check": lambda *_: None})
async def test_new_keys_for_the_server_are_no_rights_for_whoever_holds_its_folder(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
        thief = Thief(here, kit_in(tmp_path / "server" / "kit", None), "rotate server")
        for wish in (spy_as_admin(here), cutting_off(here, laptop.agent.device)):
            with pytest.raises(PeerFault, match="does not need"):
                await thief.has_signed(wish)
        roster = (await here.office.server.replica.view(here.office.server.replica.territory)).roster
        assert not any(authority.role is Role.ADMIN for authority in roster.authorities)
        assert laptop.agent.device not in roster.cut


@attack(KIT_ROW, off={"sync_server.kit.errands.CuttingOff.check": lambda *_: None})
async def test_the_device_that_the_kit_cuts_off_is_the_one_that_was_typed(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
        machine = await here.device("machine")
        kit = kit_in(tmp_path / "server" / "kit", None)
        thief = Thief(here, kit, "revoke", device=machine.agent.device.hex())
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed(cutting_off(here, laptop.agent.device))
        await thief.has_signed(cutting_off(here, machine.agent.device))


def forgetting(here: Town, covers: str) -> Draft:
    return Draft(here.office.server.replica.territory, Kind.ERASE, None, Erasure(bytes.fromhex(covers)).encode())


@attack(KIT_ROW, off={"sync_server.kit.forgetting.Erasing.check": lambda *_: None})
async def test_whoever_is_to_be_forgotten_takes_nobody_else_with_them(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        lea, tom = [await here.office.add_person(name, "pupil") for name in ("Léa", "Tom")]
        thief = Thief(here, kit_in(tmp_path / "server" / "kit", None), "erase", person=[lea], named=["Léa"])
        with pytest.raises(BadInput, match="nobody has been forgotten"):
            await thief.has_signed(forgetting(here, tom))
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed(forgetting(here, here.office.space))
        await thief.has_signed(forgetting(here, lea))
        view = await here.office.server.replica.view(here.office.server.replica.territory)
        assert view.roster.erased == {bytes.fromhex(lea)}


def _by_its_beginning(text: str, *_sizes: int) -> bytes:
    return _Beginning(bytes.fromhex(text))


class _Beginning(bytes):
    """Counts as every name that begins so."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and other.startswith(bytes(self))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(bytes(self))


@attack(KIT_ROW, off={"sync_server.kit.forgetting.Erasing.check": lambda *_: None})
async def test_a_pupil_whose_id_begins_as_that_of_a_class_takes_no_class_with_them(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        thief = Thief(here, kit, "erase", person=[here.office.space[:32]])
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed(forgetting(here, here.office.space))


@attack(KIT_ROW, off={"sync_server.kit.errand.whole": _by_its_beginning})
async def test_the_beginning_of_an_id_opens_no_work_and_cuts_nobody_off_by_the_kit(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        laptop = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
        with pytest.raises(BadInput, match="no whole id"):
            await Thief(here, kit, "revoke", device=laptop.agent.device.hex()[:8]).has_signed(
                cutting_off(here, laptop.agent.device)
            )


@attack(
    KIT_ROW,
    off={
        "sync_server.kit.forgetting.Closing.check": lambda *_: None,
        "sync_server.kit.taking_back.TakingBack._is_meant": lambda *_: True,
    },
)
async def test_the_class_that_is_closed_and_the_erasure_that_is_taken_back_are_those_that_were_typed(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        lea, tom = [await here.office.add_person(name, "pupil") for name in ("Léa", "Tom")]
        other = (await here.office.do("space add", name="CM1", school="0180002A"))["space"]
        with pytest.raises(PeerFault, match="does not need"):
            await Thief(here, kit, "space close", space=other).has_signed(forgetting(here, here.office.space))
        await here.office.with_kit("erase", kit, person=[lea, tom])
        said = await here.office.server.store.scan_kinds([Kind.ERASE])
        (about_tom,) = [each.id for each in said if Erasure.parse(each.payload or b"").covers.hex() == tom]
        ruling = Draft(here.office.server.replica.territory, Kind.RULING, None, Ruling((), (about_tom,)).encode())
        with pytest.raises(PeerFault, match="does not need"):
            await Thief(here, kit, "unerase", covers=lea, counting_too=True).has_signed(ruling)
        assert bytes.fromhex(tom) in (await here.office.server.replica.view(here.space)).roster.erased


@attack(KIT_ROW, off={"sync_server.kit.errands.Exporting.opens": lambda *_: True})
async def test_what_is_written_of_one_pupil_opens_no_other_pupils_work(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        petit = await here.office.add_person("Mme Petit", "teacher")
        lea, tom = [await here.office.add_person(name, "pupil") for name in ("Léa", "Tom")]
        laptop, machine = await here.device("teacher", petit), await here.device("machine")
        item = await here.assignment(laptop)
        await here.sync(machine)
        works = [await here.work(machine, item, pupil) for pupil in (lea, tom)]
        await here.sync(machine)
        found = (await here.office.server.replica.view(here.space)).coursework.hand_ins
        thief = Thief(here, kit_in(tmp_path / "server" / "kit", None), "export-person", person=lea, named="Léa")
        await thief.kit.shows(bytes.fromhex(lea))
        assert [await thief.kit.content_key(found[work]) is not None for work in works] == [True, False]


def certified(here: Town, *, own: bool = True) -> Draft:
    """A server of the thief's own, whose keys lie where a rotation has those that it makes; or the one that is."""
    server, draw = here.office.server, os.urandom
    keys = ServerKeys.create(draw(32), draw(32), draw(32)) if own else server.keys
    if own:
        keys.write(server.folder, NEXT_KEYS_FILE)
    payload = Certificate(keys.signing.public, keys.agreement.public).encode()
    return Draft(server.replica.territory, Kind.CERTIFICATE, None, payload)


def recovering(here: Town, kit: Kit) -> Draft:
    payload = RecoveryKey(kit.recovery.public).encode()
    return Draft(here.office.server.replica.territory, Kind.RECOVERY_KEY, None, payload)


@attack(KIT_ROW, off={"sync_server.kit.desk._check_time": lambda *_: None})
async def test_a_certificate_that_a_thief_had_signed_leads_nobody_past_the_server_that_is_made_anew(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        machine = await here.device("machine")
        await here.sync(machine)
        kit, server = kit_in(tmp_path / "server" / "kit", None), here.office.server
        thief = Thief(here, kit, "rotate server")
        with suppress(PeerFault):
            forged = await thief.has_signed_of_a_header(certified(here), ahead_ms=30 * YEAR_MS)
            for replica in (machine.agent.replica, server.replica):  # the honest one, made anew elsewhere
                await replica.admit([forged], source=b"x", now_ms=here.office.clock())
        here.office.clock.advance(60_000)
        await here.office.with_kit("rotate server", kit)
        with suppress(PeerFault):  # "what answers is an older server than this machine has seen"
            await here.sync(machine)
        assert (await server_of(machine.agent.replica)).key == server.keys.signing.public


@attack(KIT_ROW, off={"sync_server.kit.desk._check_time": lambda *_: None})
@pytest.mark.parametrize("ahead_ms", [DAY_MS + 60_000, -DAY_MS - 60_000, 30 * YEAR_MS])
async def test_the_root_signs_nothing_that_is_dated_further_from_its_own_clock_than_a_clock_may_be(
    tmp_path: Path, ahead_ms: int
) -> None:
    async with town(tmp_path) as here:
        kit, new = kit_in(tmp_path / "server" / "kit", None), new_kit("Cher", os.urandom)
        with pytest.raises(PeerFault, match="clock is wrong"):
            await Thief(here, kit, "rotate server").has_signed_of_a_header(certified(here), ahead_ms=ahead_ms)
        for wish in (certified(here, own=False), recovering(here, new)):
            thief = Thief(here, kit, "rotate root", new)
            await thief.takes_over()
            with pytest.raises(PeerFault, match="clock is wrong"):
                await thief.has_signed_of_a_header(wish, ahead_ms=ahead_ms, new=True)
            await thief.has_signed_of_a_header(wish, ahead_ms=ahead_ms // 100_000, new=True)


@attack(KIT_ROW, off={"sync_server.kit.desk._check_place": lambda *_: None})
async def test_what_the_root_signs_lies_in_the_territory_and_is_about_nothing_that_it_does_not_say(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        kit, wish = kit_in(tmp_path / "server" / "kit", None), certified(here)
        for odd in (
            replace(wish, space=here.space),
            replace(wish, subject=os.urandom(16)),
            replace(wish, target=os.urandom(32)),
            replace(wish, parents=(os.urandom(32),)),
        ):
            with pytest.raises(PeerFault, match="does not need"):
                await Thief(here, kit, "rotate server").has_signed_of_a_header(odd)


@attack(KIT_ROW, off={"sync_server.kit.errand.Once.is_first": lambda *_: True})
async def test_one_command_certifies_once_and_names_another_root_once(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit, new = kit_in(tmp_path / "server" / "kit", None), new_kit("Cher", os.urandom)
        one, other = Thief(here, kit, "rotate server"), Thief(here, kit, "rotate root", new)
        await other.takes_over()
        with pytest.raises(PeerFault, match="does not need"):
            await other.takes_over(60_000)
        of_the_new_root = (certified(here, own=False), recovering(here, new))
        for thief, wish, is_new in ((one, certified(here), False), *((other, wish, True) for wish in of_the_new_root)):
            await thief.has_signed_of_a_header(wish, new=is_new)
            with pytest.raises(PeerFault, match="does not need"):
                await thief.has_signed_of_a_header(wish, ahead_ms=60_000, new=is_new)


@attack(KIT_ROW, off={"sync_server.kit.errands.RotatingRoot.check_new": lambda *_: None})
async def test_a_new_root_certifies_no_server_that_the_old_one_had_not(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit, new = kit_in(tmp_path / "server" / "kit", None), new_kit("Cher", os.urandom)
        thief = Thief(here, kit, "rotate root", new)
        await thief.takes_over()
        for wish in (certified(here), cutting_off(here, here.office.server.keys.signing.public)):
            with pytest.raises(PeerFault, match="does not need"):
                await thief.has_signed_of_a_header(wish, new=True)
        await thief.has_signed_of_a_header(certified(here, own=False), new=True)


@attack(KIT_ROW, off={"sync_server.kit.errands.Judging._is_meant": lambda *_: True})
@pytest.mark.parametrize("by_device", [False, True])
async def test_the_kit_lets_in_the_work_that_was_named_and_nothing_that_a_thief_puts_beside_it(
    tmp_path: Path, *, by_device: bool
) -> None:
    async with town(tmp_path) as here:
        petit, lea = await here.office.add_person("Mme Petit", "teacher"), await here.office.add_person("Léa", "pupil")
        laptop, machine, others = [
            await here.device(role, petit if role == "teacher" else None) for role in ("teacher", "machine", "machine")
        ]
        item = await here.assignment(laptop)
        await here.sync(machine, others)
        work, foreign = await here.work(machine, item, lea), await here.work(others, item, lea)
        await here.sync(machine, others)
        wraps = {wrap.header.target: wrap.id for wrap in await here.office.server.store.scan_kinds([Kind.WRAP])}
        (right,) = await here.office.server.replica.authorities(machine.agent.device)
        named = machine.agent.device if by_device else work
        thief = Thief(here, kit_in(tmp_path / "server" / "kit", None), "accept", named=[named.hex()])

        def counting(*ids: bytes, refused: tuple[bytes, ...] = (), space: bytes = here.space) -> Draft:
            return Draft(space, Kind.RULING, None, Ruling(ids, refused).encode())

        for wish in (
            counting(foreign),
            counting(work, wraps[foreign]),
            counting(right.grant),
            counting(os.urandom(32)),
            counting(work, refused=(work,)),
            counting(work, space=here.office.server.replica.territory),
        ):
            with pytest.raises(PeerFault, match="does not need"):
                await thief.has_signed(wish)
        await thief.has_signed(counting(work, wraps[work]))


@attack(KIT_ROW, off={"sync_server.kit.errands.signature_holds": lambda _: True})
async def test_work_that_a_thief_calls_a_devices_is_not_let_in_with_what_the_device_wrote(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        device, kit = new_device(os.urandom).signing.public, kit_in(tmp_path / "server" / "kit", None)

        def said(author: bytes, kind: Kind, payload: bytes) -> Entry:
            at, salt = at_from(here.office.clock()), os.urandom(16)
            return unsigned(author=author, space=here.space, kind=kind, grant=None, at=at, payload=payload, salt=salt)

        forged = said(device, Kind.HAND_IN, b"")  # nobody has signed it
        ruling = said(kit.root.public, Kind.RULING, Ruling((forged.id,), ()).encode())
        errand = errand_of("accept", kit, {"named": [device.hex()]}, None, os.urandom)
        with pytest.raises(PeerFault, match="does not need"):
            errand.check(ruling, {forged.id: forged})


@attack(KIT_ROW, off={"sync_server.kit.errands.may_be_judged_by_kit": lambda *_, **__: True})
async def test_no_erasure_is_taken_back_by_a_word_that_refuses_what_a_device_said(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        lea = await here.office.add_person("Léa", "pupil")
        await here.office.do("erase", person=[lea], dry_run=False)
        (erasure,) = await here.office.server.store.scan_kinds([Kind.ERASE])
        named = [erasure.header.author.hex()]
        thief = Thief(here, kit_in(tmp_path / "server" / "kit", None), "refuse", named=named)
        wish = Draft(erasure.header.space, Kind.RULING, None, Ruling((), (erasure.id,)).encode())
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed(wish)
        view = await here.office.server.replica.view(here.space)
        assert bytes.fromhex(lea) in view.roster.erased


@attack(KIT_ROW, off={"sync_server.kit.taking_back.TakingBack._is_meant": lambda *_: True})
async def test_an_erasure_is_taken_back_in_its_own_space(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        lea = await here.office.add_person("Léa", "pupil")
        await here.office.with_kit("erase", kit, person=[lea])
        (said,) = await here.office.server.store.scan_kinds([Kind.ERASE])
        typed = {"covers": lea, **await here.office.named_for("unerase", {"covers": lea})}
        thief = Thief(here, kit, "unerase", **typed, counting_too=True)
        ruling = Ruling((), (said.id,)).encode()
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed_of_a_header(Draft(here.space, Kind.RULING, None, ruling))
        await thief.has_signed_of_a_header(Draft(said.header.space, Kind.RULING, None, ruling))


@attack(KIT_ROW, off={"sync_server.kit.taking_back.TakingBack._check_own": lambda *_: None})
async def test_what_the_kit_itself_has_erased_is_taken_back_where_that_was_typed_alone(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        lea = await here.office.add_person("Léa", "pupil")
        await here.office.with_kit("erase", kit, person=[lea])
        (said,) = await here.office.server.store.scan_kinds([Kind.ERASE])
        ruling = Draft(said.header.space, Kind.RULING, None, Ruling((), (said.id,)).encode())
        typed = {"covers": lea, **await here.office.named_for("unerase", {"covers": lea})}
        with pytest.raises(BadInput, match="the kit itself has said so"):
            await Thief(here, kit, "unerase", **typed).has_signed(ruling)
        await Thief(here, kit, "unerase", **typed, counting_too=True).has_signed(ruling)


async def test_no_key_of_the_kit_leaves_the_command(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        sent = bytearray()

        async def listening(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
            async def heard() -> AsyncIterator[FileEvent]:
                async for event in incoming:
                    sent.extend(event.data if isinstance(event, FileData) else b"")
                    yield event

            sent.extend(repr(params).encode())
            away = KitAway.of(here.office.server, params["kit"], Heard(heard()), outgoing)
            assert away is not None
            await rotate_server(here.office.server, away)
            return {}

        data_dir = tmp_path / "held"
        data_dir.mkdir()
        owner = acquire(data_dir)
        assert owner is not None
        desk = KitDesk(errand_of("rotate server", kit, {}, None, os.urandom), here.office.said, here.office.clock)
        with owner:
            async with serve_control({"rotate server": listening}, owner):
                await run_command(data_dir, "rotate server", {"kit": desk.keys}, desk, desk, no_table)
    for secret in (kit.root.seed, kit.recovery.seed):
        assert secret not in sent
        assert secret.hex().encode() not in sent
    assert kit.root.public.hex().encode() in sent


class Heard:
    """An input that passes through somebody's hands."""

    def __init__(self, events: AsyncIterator[FileEvent]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[FileEvent]:
        return self._events


@attack(KIT_ROW, off={"sync_server.kit.errands.Rewrapping._is_typed": lambda *_: True})
async def test_a_rewrap_for_one_class_opens_no_work_of_another(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        petit, laptop, _, work = await handed_in(here)
        other = (await here.office.do("space add", name="CM1", school="0180002A"))["space"]
        found = (await here.office.server.replica.view(here.space)).coursework.hand_ins[work]
        said = await here.office.server.store.scan_kinds([Kind.PERSON_KEY])
        words = device_words(own_device(laptop.agent))
        for typed in ([other], []):
            thief = Thief(here, kit, "rewrap", person=petit, words=words, space=typed)
            with pytest.raises(PeerFault, match="a class that nobody has named here with --space"):
                await thief.kit.rewrapped([found], own_device(laptop.agent), said[-1])
            used = Rewrap(here.space, bytes.fromhex(petit), 1).encode()
            with pytest.raises(PeerFault, match="does not need"):
                await thief.has_signed(Draft(here.office.server.replica.territory, Kind.REWRAP, None, used))
        with pytest.raises(BadInput, match="is no whole id"):
            Thief(here, kit, "rewrap", person=petit, words=words, space=["0180001D"])
        honest = Thief(here, kit, "rewrap", person=petit, words=words, space=[here.space.hex()])
        assert await honest.kit.rewrapped([found], own_device(laptop.agent), said[-1]) != [None]
