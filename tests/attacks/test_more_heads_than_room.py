"""Who has stolen a key says more heads than a revocation names, so that the honest line is left out of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput, Code, Refused
from protocol.identity import SigningKey
from protocol.limits import MAX_REVOKED_HEADS, MAX_ROOT_ACCOUNT_IDS, KiB
from protocol.model.ancestry import ancestors
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office import heads, withdrawals
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.heads import by_weight, heads_of
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.root_rotation import RootAccount
from protocol.roles import PersonRole, Role
from sync_agent.sync.withdrawn import take_withdrawals
from sync_server.handlers.by_kit import replaced_keys, rotation
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import Server
from tests.harness.attack import attack
from tests.harness.caller import caller
from tests.harness.classroom import classroom
from tests.harness.office_devices import town
from tests.harness.server_in_process import office
from tests.harness.territory import Territory, new_device

PUPILS = 25
KEY = SigningKey(bytes(32))


def by_all_that_leads_there(heads: Iterable[bytes], written: Mapping[bytes, Entry]) -> Iterator[bytes]:
    """Each by itself, whatever the others lead to."""
    return iter(sorted(heads, key=lambda head: len(ancestors([head], written)), reverse=True))


@attack("more heads than a revocation names", off={"protocol.replica.office.heads.by_weight": by_all_that_leads_there})
async def test_whoever_forks_without_end_takes_no_honest_line_out_of_the_revocation(tmp_path: Path) -> None:
    random = Random(3)
    async with office(tmp_path / "server") as desk:
        server, space = desk.server, bytes.fromhex(desk.space)
        school = server.replica.door.parent(space)
        assert school is not None
        head = await desk.enrol(await desk.invite("head", school.hex()), name="Portable de Mme Roux")
        grant = head.grants[0].id
        pupils = [
            Draft(
                space, Kind.PERSON, grant, PersonRecord(f"Élève {n}", PersonRole.PUPIL).encode(), random.randbytes(16)
            )
            for n in range(PUPILS)
        ]
        await server.replica.write(pupils, author=head.keys.signing, now_ms=desk.clock(), entropy=random.randbytes)
        begun = (await server.store.get([grant]))[grant].header.at + 1_000

        def said(number: int, *prev: bytes) -> Entry:
            nobody = PersonRecord("x", PersonRole.PUPIL, left=True).encode()
            return compose(
                author=head.keys.signing,
                space=space,
                kind=Kind.PERSON,
                grant=grant,
                at=begun + number,
                payload=nobody,
                salt=random.randbytes(16),
                subject=bytes(16),
                prev=prev,
            )

        trunk = [said(0)]
        for number in range(1, PUPILS + 5):
            trunk.append(said(number, trunk[-1].id))
        leaves = [said(1_000 + number, trunk[-1].id) for number in range(MAX_REVOKED_HEADS + 2)]
        await server.replica.admit([*trunk, *leaves], source=b"thief", now_ms=desk.clock(), bounded=True)

        await desk.do("revoke", device=head.id)
        roster = (await server.replica.view(space)).roster
        assert len(roster.persons) == PUPILS


async def _all_of_it(*_: object) -> None:
    """As if nobody asked what had come when."""


async def _all_of_this_key(server: Server, *_: object, **__: object) -> dict[bytes, None]:
    """The same, where a server's key is replaced."""
    return {server.keys.signing.public: None}


@attack("more heads than a revocation names", off={"protocol.replica.office.withdrawals._check_room": _all_of_it})
async def test_an_administrator_who_spoke_in_more_classes_than_that_is_cut_off_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "MAX_REVOKED_HEADS", 3)
    monkeypatch.setattr(withdrawals, "MAX_REVOKED_HEADS", 3)
    random = Random(7)
    async with office(tmp_path / "server") as desk:
        server, territory = desk.server, desk.server.replica.territory
        admin = new_device(random.randbytes)
        given = Grant(admin.signing.public, admin.agreement.public, admin.tls.fingerprint, Role.ADMIN, None, None)
        (grant,) = await server.say([Draft(territory, Kind.GRANT, None, given.encode())])
        made = [await desk.do("space add", name=f"Classe {number}", school="0180001D") for number in range(6)]
        lea = PersonRecord("Léa", PersonRole.PUPIL).encode()
        listing = [
            Draft(bytes.fromhex(each["space"]), Kind.PERSON, grant.id, lea, random.randbytes(16)) for each in made
        ]
        await server.replica.write(listing, author=admin.signing, now_ms=desk.clock(), entropy=random.randbytes)
        with pytest.raises(BadInput, match="in 6 classes"):
            await desk.do("revoke", device=admin.signing.public.hex())
        kit = kit_in(tmp_path / "server" / "kit", None)
        await desk.with_kit("revoke", kit, device=admin.signing.public.hex())
        for each in made:
            roster = (await server.replica.view(bytes.fromhex(each["space"]))).roster
            assert admin.signing.public in roster.cut
            assert [person.name for person in roster.persons.values()] == ["Léa"]


async def test_without_the_kit_it_is_cut_off_all_the_same_if_that_is_wished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawals, "MAX_REVOKED_HEADS", 1)
    async with office(tmp_path / "server") as desk:
        made = await desk.do("space add", name="CM1", school="0180001D")
        head = await desk.enrol(await desk.invite("admin", desk.space, made["space"]), name="Poste de M. Noir")
        for space in (desk.space, made["space"]):
            await desk.server.replica.write(
                [
                    Draft(
                        bytes.fromhex(space),
                        Kind.PERSON,
                        next(each.id for each in head.grants if each.header.space.hex() == space),
                        PersonRecord("Léa", PersonRole.PUPIL).encode(),
                        bytes(16),
                    )
                ],
                author=head.keys.signing,
                now_ms=desk.clock(),
                entropy=Random(1).randbytes,
            )
        await desk.do("revoke", device=head.id, anyway=True)
        assert head.keys.signing.public in (await desk.server.replica.view(bytes.fromhex(desk.space))).roster.cut


async def test_nobody_stays_on_the_lists_by_what_a_device_of_theirs_has_said_in_more_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawals, "MAX_REVOKED_HEADS", 1)
    async with office(tmp_path / "server") as desk:
        replica, person = desk.server.replica, await desk.add_person("M. Noir", "admin")
        made = await desk.do("space add", name="CM1", school="0180001D")
        admin = new_device(Random(7).randbytes)
        given = Grant(
            admin.signing.public,
            admin.agreement.public,
            admin.tls.fingerprint,
            Role.ADMIN,
            bytes.fromhex(person),
            None,
        )
        (grant,) = await desk.server.say([Draft(replica.territory, Kind.GRANT, None, given.encode())])
        lea = PersonRecord("Léa", PersonRole.PUPIL).encode()
        spoken = [
            Draft(bytes.fromhex(space), Kind.PERSON, grant.id, lea, bytes(16)) for space in (desk.space, made["space"])
        ]
        await replica.write(spoken, author=admin.signing, now_ms=desk.clock(), entropy=Random(1).randbytes)
        done = await desk.do("person retire", person=person)
        assert done["cut_short"] == [{"device": admin.signing.public.hex(), "classes": 2}]
        assert any("waits" in line for line in desk.said.lines)
        assert admin.signing.public in (await replica.view(replica.territory)).roster.cut
        assert "M. Noir" not in {row["name"] for row in await desk.do("person list", space=desk.space)}


@attack(
    "more heads than a revocation names", off={"sync_server.handlers.by_kit.rotation.replaced_keys": _all_of_this_key}
)
async def test_whoever_writes_without_end_with_the_servers_key_takes_nothing_with_it_that_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "MAX_REVOKED_HEADS", 4)
    for module in (rotation, replaced_keys):
        monkeypatch.setattr(module, "MOST_LISTED_HEADS", 4 + 16)
    async with town(tmp_path) as here:
        server, desk = here.office.server, here.office
        pc = await here.device("machine")
        names = {f"Élève {number}" for number in range(5)}
        for name in names:
            await desk.add_person(name, "pupil")
        gone = await desk.add_person("Léa", "pupil")
        await desk.do("erase", person=[gone])
        await note_arrivals(server.store, desk.clock())
        desk.clock.advance(DAY_MS)
        old, grant = server.keys.signing, server.grant
        stolen = [
            each for space in (here.space, server.replica.territory) for each in forked(old, grant, space, desk.clock())
        ]
        await server.replica.admit(stolen, source=b"thief", now_ms=desk.clock(), bounded=True)
        kit = kit_in(tmp_path / "server" / "kit", None)
        with pytest.raises(BadInput, match="--since"):
            await rotate_server(server, kit)
        with pytest.raises(BadInput) as too_early:
            await rotate_server(server, kit, since_ms=desk.clock() - 9 * DAY_MS)
        assert too_early.value.code is Code.BAD_DATE
        await rotate_server(server, kit, since_ms=desk.clock() - DAY_MS // 2)
        roster = (await server.replica.view(here.space)).roster
        assert {person.name for person in roster.persons.values()} == names
        assert bytes.fromhex(gone) in roster.erased
        assert roster.may_read(pc.agent.device)
        assert {each.id for each in stolen} <= roster.held_back


def forked(key: SigningKey, grant: bytes, space: bytes, at_ms: int) -> list[Entry]:
    """A trunk that is longer than the honest line, and more ends on it than there is room for."""
    nobody = PersonRecord("x", PersonRole.PUPIL, left=True).encode()

    def said(number: int, prev: tuple[bytes, ...]) -> Entry:
        return compose(
            author=key,
            space=space,
            kind=Kind.PERSON,
            grant=grant,
            at=at_from(at_ms, number),
            payload=nobody,
            salt=bytes(16),
            subject=bytes(16),
            prev=prev,
        )

    trunk = [said(0, ())]
    for number in range(1, 40):
        trunk.append(said(number, (trunk[-1].id,)))
    return [*trunk, *(said(1_000 + number, (trunk[-1].id,)) for number in range(22))]


@attack("more heads than a revocation names", off={"protocol.rights.revocations._are_here": lambda *_: True})
async def test_who_shows_a_revocation_and_keeps_its_lists_back_closes_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "MAX_REVOKED_HEADS", 3)
    monkeypatch.setattr(rotation, "MOST_LISTED_HEADS", 3 + 1_024)
    async with town(tmp_path) as here:
        made = [await here.office.do("space add", name=f"Classe {number}", school="0180001D") for number in range(4)]
        pcs = {each["space"]: await here.device("machine", space=each["space"]) for each in made}
        server = here.office.server
        await rotate_server(server, kit_in(tmp_path / "server" / "kit", None))
        said = [entry for entry in await server.store.scan_kinds([Kind.REVOKE]) if entry.header.grant is None]
        lists = await server.store.scan_kinds([Kind.ROOT_ACCOUNT])
        assert lists, "there are more heads than it names by itself"
        for shown in (said, [*said, *lists]):
            for space, pc in pcs.items():
                await take_withdrawals(pc.agent, shown, b"a neighbour")
                assert bytes.fromhex(space) in await pc.agent.spaces()
        roster = (await pcs[made[0]["space"]].agent.replica.view(server.replica.territory)).roster
        assert roster.cut, "with its lists it counts"
        shown_with_them = {entry.id for entry in await server.replica.credentials([said[0].id])}
        assert shown_with_them.issuperset(each.id for each in lists)


async def as_root(territory: Territory, *drafts: Draft) -> list[bytes]:
    written = await territory.replica.write(
        list(drafts), author=territory.keys.root, now_ms=territory.clock(), entropy=territory.entropy
    )
    return [entry.id for entry in written]


async def cut_off_with_lists(territory: Territory, device: bytes) -> None:
    """By the root, with ten lists of heads."""
    listed = [tuple(territory.entropy(32) for _ in range(MAX_ROOT_ACCOUNT_IDS)) for _ in range(10)]
    lists = await as_root(
        territory, *(Draft(territory.id, Kind.ROOT_ACCOUNT, None, RootAccount(ids).encode()) for ids in listed)
    )
    await as_root(territory, Draft(territory.id, Kind.REVOKE, None, Revocation(device, (), tuple(lists)).encode()))


@attack("more heads than a revocation names", off={"protocol.replica.answering.serving.lists_of": lambda _entry: ()})
async def test_a_revocation_with_many_lists_keeps_no_other_from_who_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.answering.serving.MAX_CREDENTIALS", 8)
    async with classroom(tmp_path) as room:
        territory = room.territory
        thief = await caller(territory, territory.responder(), Role.MACHINE, room.space, seed=5)
        await cut_off_with_lists(territory, thief.id)
        cut = Draft(room.space, Kind.REVOKE, None, Revocation(thief.id, ()).encode())
        (short,) = await as_root(territory, cut)
        with pytest.raises(Refused) as caught:
            await thief.sync()
        shown = caught.value.facts["withdrawn"]
        assert isinstance(shown, tuple)
        assert short in {entry.id for entry in shown}


@attack("who is cut off calls on", off={"sync_agent.transport.sealed_calls.beginnings_of": lambda _revocations: ()})
async def test_who_is_cut_off_is_shown_that_once(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        machine = await room.machine()
        await machine.session.sync()
        await cut_off_with_lists(room.territory, machine.agent.device)
        costs = []
        for _ in range(3):
            before = machine.way.traffic.bytes_in
            with pytest.raises(Refused):
                await machine.session.sync()
            costs.append(machine.way.traffic.bytes_in - before)
        assert costs[0] > 10 * MAX_ROOT_ACCOUNT_IDS * 32
        assert costs[1] < KiB
        assert costs[2] < KiB


def line(length: int, first: int, *prev: bytes) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(first, first + length):
        entries.append(
            compose(
                author=KEY,
                space=bytes(32),
                kind=Kind.PERSON,
                grant=bytes(32),
                at=number,
                payload=b"\x80",
                salt=bytes(16),
                subject=bytes(16),
                prev=(entries[-1].id,) if entries else prev,
            )
        )
    return entries


def test_heads_come_by_what_each_adds() -> None:
    long, short = line(5, 100), line(3, 200)
    twigs = [line(1, 300 + number, long[-1].id)[0] for number in range(4)]
    both = line(1, 400, long[2].id, short[0].id)[0]
    written = {entry.id: entry for entry in (*long, *short, *twigs, both)}
    heads = [*(twig.id for twig in twigs), both.id, short[-1].id]
    found = list(by_weight(heads, written))
    assert found[0] == twigs[0].id  # leads to six
    assert found[1] == short[-1].id  # to three more
    assert sorted(found) == sorted(heads)
    assert list(by_weight([], {})) == []


async def test_a_keys_own_heads_come_before_those_of_the_keys_that_it_made() -> None:
    own, spaces = b"own".ljust(32), [b"school".ljust(32), b"class".ljust(32)]
    made = [number.to_bytes(32, "big") for number in range(5)]

    async def tips(space: bytes, author: bytes) -> list[bytes]:
        return [author + space] if author == own or space == spaces[0] else []

    found = await heads_of(own, spaces, tips, MemoryStore(), made, most=3)
    assert found[:2] == [own + space for space in spaces]
    assert len(found) == 3
