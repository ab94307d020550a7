"""Sign-in: verifiers that only a school's own devices open, the switch, locks, and how long one waits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.canonical import encode
from protocol.errors import Code, PeerFault
from protocol.folds.opened_sign_ins import Gone, gone_from, opened_by
from protocol.folds.sign_in import (
    Method,
    SignInKey,
    SignInRecord,
    SignIns,
    SignInWraps,
    Verifier,
    fold_sign_ins,
    holders,
    newest_key,
    normal,
    unwrap,
)
from protocol.identity import AgreementKey
from protocol.limits import MAX_PARENTS, MAX_SIGN_IN_TRIES
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Certificate, PersonKey, Revocation
from protocol.rights.roster import fold_roster
from protocol.roles import Role
from sync_agent.school.sign_in import drawn_pictures
from sync_agent.school.sign_in_tries import Tries
from tests.harness.history import World, Writer
from tests.unit.test_rights import opened

SPACE, OTHER = b"s" * 32, b"o" * 32
LEA, TOM = b"l" * 16, b"t" * 16
SALT, NONCE = bytes(16), bytes(12)
KEY = SignInKey(bytes(range(32)))


def code_of(call: object) -> Code:
    assert callable(call)
    with pytest.raises(PeerFault) as raised:
        call()
    return raised.value.code


# --- secrets and seals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "secret", "form"),
    [
        (Method.PICTURES, "1-12-3", "1-12-3"),
        (Method.PICTURES, "7-7-7", "7-7-7"),
        (Method.PICTURES, "1-2", None),
        (Method.PICTURES, "1-2-13", None),
        (Method.PICTURES, "01-2-3", None),
        (Method.PIN, " 4711 ", "4711"),
        (Method.PIN, "471", None),
        (Method.PIN, "47I1", None),
        (Method.PIN, "\N{FULLWIDTH DIGIT FOUR}711", "4711"),
        (Method.PASSWORD, "chou-fleur", "chou-fleur"),
        (Method.PASSWORD, "e\N{COMBINING ACUTE ACCENT}" * 6, "é" * 6),
        (Method.PASSWORD, "court", None),
        (Method.PASSWORD, "x" * 201, None),
        (Method.PASSPHRASE, "trop court", None),
        (Method.PASSPHRASE, "quatre mots en file", "quatre mots en file"),
    ],
)
def test_a_secret_has_one_form_or_none(method: Method, secret: str, form: str | None) -> None:
    assert normal(method, secret) == form


def test_a_verifier_proves_its_secret_and_no_other_and_no_other_method() -> None:
    verifier = Verifier.of(Method.PIN, "4711", SALT)
    assert verifier.proves("4711")
    assert not verifier.proves("4712")
    assert Verifier.of(Method.PASSWORD, "4711", SALT).hash != verifier.hash
    assert Verifier.of(Method.PIN, "4711", bytes([1]) * 16).hash != verifier.hash


def test_a_sealed_verifier_opens_for_its_person_in_its_space_only() -> None:
    verifier = Verifier(Method.PICTURES, SALT, bytes(32))
    sealed = KEY.seal(verifier, SPACE, LEA, NONCE)
    assert KEY.open(sealed, SPACE, LEA) == verifier
    for key, space, person, data in (
        (KEY, SPACE, TOM, sealed),
        (KEY, OTHER, LEA, sealed),
        (SignInKey(bytes(32)), SPACE, LEA, sealed),
        (KEY, SPACE, LEA, sealed[:-1]),
        (KEY, SPACE, LEA, b""),
    ):
        with pytest.raises(PeerFault) as refused:
            key.open(data, space, person)
        assert refused.value.code is Code.BAD_SEAL
    assert "00010203" not in repr(KEY)


def test_a_wrap_opens_for_its_device_and_holds_the_key_that_it_names() -> None:
    device, other = AgreementKey(b"d" * 32), AgreementKey(b"e" * 32)
    wrap = KEY.wrap(SPACE, device.public, b"w" * 32)
    assert unwrap(wrap, device, SPACE, KEY.commitment).key == KEY.key
    assert code_of(lambda: unwrap(wrap, other, SPACE, KEY.commitment)) is Code.BAD_SEAL
    assert code_of(lambda: unwrap(wrap, device, OTHER, KEY.commitment)) is Code.BAD_SEAL
    false = SignInKey(bytes(32))
    false.commitment = KEY.commitment  # type: ignore[misc]  # a wrap that claims to hold another key
    lying = false.wrap(SPACE, device.public, b"w" * 32)
    assert code_of(lambda: unwrap(lying, device, SPACE, KEY.commitment)) is Code.BAD_SEAL


def test_payloads_survive_their_encoding_and_what_is_malformed_is_refused() -> None:
    record = SignInRecord(KEY.commitment, b"sealed")
    assert SignInRecord.parse(record.encode()) == record
    assert SignInRecord.parse(SignInRecord(on=True).encode()).on
    wraps = SignInWraps(KEY.commitment, ((b"r" * 32, bytes(80)),))
    assert SignInWraps.parse(wraps.encode()) == wraps
    assert wraps.encode() == encode({"key": KEY.commitment, "wraps": [[b"r" * 32, bytes(80)]]}), "as ever"
    assert SignInWraps.parse(replace(wraps, drawn=True).encode()).drawn
    assert (
        code_of(lambda: SignInWraps.parse(encode({"key": KEY.commitment, "wraps": [[b"r", b"s"]]}))) is Code.MALFORMED
    )
    assert code_of(lambda: Verifier.parse(encode({"method": 9, "salt": SALT, "hash": bytes(32)}))) is Code.MALFORMED


def test_the_vector_is_what_this_code_writes() -> None:
    vector = json.loads((Path(__file__).parents[1] / "vectors" / "sign_in.json").read_text(encoding="utf-8"))
    said = {name: bytes.fromhex(text) for name, text in vector.items() if name not in {"method", "secret"}}
    method, key = Method(vector["method"]), SignInKey(said["sign_in_key"])
    verifier = Verifier.of(method, vector["secret"], said["salt"])
    device = AgreementKey(said["device_secret"])
    assert verifier.hash == said["hash"]
    assert key.commitment == said["name"]
    assert key.wrap(said["space"], device.public, said["ephemeral"]) == said["wrap"]
    assert key.seal(verifier, said["space"], said["person"], said["nonce"]) == said["sealed"]


# --- the fold ---------------------------------------------------------------------------------------------------------


class Room:
    """A class whose teacher sets sign-in, and the fold over what was said."""

    def __init__(self) -> None:
        self.world = World(Random(3))
        self.space = self.world.classes[0]
        adult = bytes(16)
        self.teacher = self.world.enrol(Role.TEACHER, self.space, person=adult)
        self.world.say(self.teacher, self.space, Kind.PERSON_KEY, PersonKey(bytes(32)).encode(), subject=adult)
        self.machine = self.world.enrol(Role.MACHINE, self.space)

    def set(self, person: bytes | None, *parents: bytes, on: bool = False) -> Entry:
        record = SignInRecord(on=on) if person is None else SignInRecord(KEY.commitment, b"sealed")
        return self.world.say(self.teacher, self.space, Kind.SIGN_IN, record.encode(), subject=person, parents=parents)

    def colleague(self) -> tuple[Writer, Entry]:
        """Another teacher of the class, and the word by which hers counts."""
        person = len(self.world.entries).to_bytes(16, "big")
        made = self.world.enrol(Role.TEACHER, self.space, person=person)
        key = PersonKey(person + person)
        return made, self.world.say(made, self.space, Kind.PERSON_KEY, key.encode(), subject=person)

    def switch(self, author: Writer, *parents: bytes, on: bool) -> Entry:
        return self.world.say(author, self.space, Kind.SIGN_IN, SignInRecord(on=on).encode(), parents=parents)

    def report(self, author: Writer, *heads: bytes) -> Entry:
        cut = Revocation(author.key.public, heads).encode()
        return self.world.say(self.world.server, self.space, Kind.REVOKE, cut)

    def again(self, person: bytes, target: bytes, *parents: bytes, author: Writer | None = None) -> Entry:
        record = SignInRecord(KEY.commitment, b"sealed").encode()
        author = author or self.teacher
        return self.world.say(
            author, self.space, Kind.SIGN_IN, record, subject=person, target=target, parents=parents or (target,)
        )

    def lock(self, person: bytes, target: bytes) -> Entry:
        return self.world.say(self.machine, self.space, Kind.SIGN_IN_LOCK, b"\x80", subject=person, target=target)

    def fold(self) -> SignIns:
        door = opened(self.world)
        own = [entry for entry in self.world.entries if entry.header.space == self.space]
        above = [entry for entry in self.world.entries if entry.header.space != self.space]
        return fold_sign_ins(own, fold_roster(self.space, own, above, door))


def test_the_fold_does_not_depend_on_which_of_several_came_first() -> None:
    room = Room()
    beside = room.world.enrol(Role.MACHINE, room.space)
    set_for_lea = room.set(LEA)
    room.lock(LEA, set_for_lea.id)
    room.world.say(beside, room.space, Kind.SIGN_IN_LOCK, b"\x80", subject=LEA, target=set_for_lea.id)
    for seal in (b"2" * 80, b"1" * 80):
        wraps = SignInWraps(KEY.commitment, ((b"r" * 32, seal),))
        room.world.say(room.teacher, room.space, Kind.SIGN_IN_WRAP, wraps.encode())
    forwards = room.fold()
    room.world.entries[-4:] = room.world.entries[:-5:-1]
    assert room.fold() == forwards
    assert len(forwards.persons[LEA].locked_by) == len(forwards.given.of(KEY.commitment)[b"r" * 32]) == 2


def test_sign_in_is_off_until_a_teacher_says_otherwise_and_the_last_word_counts() -> None:
    room = Room()
    assert not room.fold().on
    first = room.set(None, on=True)
    assert room.fold().on
    room.set(None, first.id)
    assert not room.fold().on


def test_another_verifier_takes_the_place_of_the_one_before_and_lifts_its_lock() -> None:
    room = Room()
    first = room.set(LEA)
    room.lock(LEA, first.id)
    room.lock(TOM, first.id)  # about somebody else: means nothing
    assert room.fold().persons[LEA].locked_by == (room.machine.key.public,)
    second = room.set(LEA, first.id)
    assert room.fold().persons[LEA].entry == second.id
    assert room.fold().persons[LEA].locked_by == ()


def test_who_is_let_try_again_is_locked_by_what_is_missed_since_and_let_try_again_by_whoever_comes_next() -> None:
    room = Room()
    colleague, _ = room.colleague()
    verifier = room.set(LEA)
    room.lock(LEA, verifier.id)
    first = room.again(LEA, verifier.id, author=colleague)
    mine = room.fold().persons[LEA]
    assert (mine.set_in, mine.entry, mine.locked_by) == (verifier.id, first.id, ())
    room.lock(LEA, first.id)
    assert room.fold().persons[LEA].locked_by == (room.machine.key.public,)
    second = room.again(LEA, verifier.id, first.id, verifier.id)
    mine = room.fold().persons[LEA]
    assert (mine.set_in, mine.entry, mine.locked_by) == (verifier.id, second.id, ())
    assert mine.record == SignInRecord(KEY.commitment, b"sealed")


def test_who_was_let_try_again_stays_so_once_what_a_thief_said_between_is_held_back() -> None:
    room = Room()
    thief, _ = room.colleague()
    verifier = room.set(LEA)
    first = room.again(LEA, verifier.id)
    second = room.again(LEA, verifier.id, first.id)
    room.lock(LEA, second.id)
    between = [room.again(LEA, verifier.id, second.id, author=thief) for _ in range(MAX_PARENTS)]
    third = room.again(LEA, verifier.id, *(one.id for one in between))
    room.report(thief)
    mine = room.fold().persons[LEA]
    assert (mine.set_in, mine.entry, mine.locked_by) == (verifier.id, third.id, ())


def test_sign_in_that_was_put_off_stays_off_once_what_a_thief_said_between_is_held_back() -> None:
    room = Room()
    thief, _ = room.colleague()
    put_on = room.set(None, room.set(None).id, on=True)
    between = [room.switch(thief, put_on.id, on=False) for _ in range(MAX_PARENTS)]
    room.set(None, *(one.id for one in between))
    room.report(thief)
    assert not room.fold().on


def test_who_lets_somebody_try_again_at_one_verifier_sets_nothing_and_lifts_no_lock_of_another() -> None:
    room = Room()
    room.again(TOM, b"t" * 32)
    first = room.set(LEA)
    second = room.set(LEA, first.id)
    room.lock(LEA, second.id)
    room.again(LEA, first.id, second.id)
    found = room.fold().persons
    assert TOM not in found
    assert (found[LEA].set_in, found[LEA].entry) == (second.id, second.id)
    assert found[LEA].locked_by


def test_what_is_set_next_names_who_let_try_again_behind_all_that_was_set() -> None:
    """Programs from before take it for a verifier; to all others the next is to lead to what it replaces."""
    room = Room()
    verifier = room.set(LEA)
    for _ in range(MAX_PARENTS):
        room.again(LEA, verifier.id)
    line = room.fold().line(LEA)
    assert line[0] == verifier.id
    assert len(line) == MAX_PARENTS
    second = room.set(LEA, *line)
    assert room.fold().persons[LEA].entry == second.id


def test_what_cannot_be_read_is_passed_over() -> None:
    room = Room()
    room.world.say(room.teacher, room.space, Kind.SIGN_IN, b"\xff", subject=LEA)
    room.world.say(room.machine, room.space, Kind.SIGN_IN_WRAP, b"\x81\xa5wraps\x90")
    found = room.fold()
    assert (found.on, found.switch, found.persons, found.given.seals) == (False, (), {}, {})


def test_a_key_is_for_the_schools_own_devices_and_not_for_server_or_administrator() -> None:
    room = Room()
    world = room.world
    relay = world.enrol(Role.RELAY, world.school)
    head = world.enrol(Role.HEAD, world.school)
    admin = world.enrol(Role.ADMIN, world.school)
    door = opened(world)
    own = world.in_space(room.space)
    roster = fold_roster(room.space, own, [entry for entry in world.entries if entry not in own], door)
    wanted = set(holders(roster, world.territory))
    agreement = {authority.key: authority.agreement for authority in door.authorities()}
    for writer in (room.teacher, room.machine, relay, head):
        assert agreement[writer.key.public] in wanted
    for writer in (admin, world.server):
        assert agreement[writer.key.public] not in wanted


def test_what_is_set_after_a_device_was_let_go_lies_under_another_key() -> None:
    room = Room()
    room.set(LEA)
    wrapped(room, room.teacher, b"a" * 32, b"b" * 32, drawn=True)
    assert newest_key(room.fold(), [b"a" * 32, b"b" * 32, b"c" * 32]) == KEY.commitment
    assert newest_key(room.fold(), [b"a" * 32]) is None


def wrapped(room: Room, by: Writer, *recipients: bytes, drawn: bool = False) -> None:
    wraps = SignInWraps(KEY.commitment, tuple((one, bytes(80)) for one in recipients), drawn)
    room.world.say(by, room.space, Kind.SIGN_IN_WRAP, wraps.encode())


def gone(at: int, key: bytes = b"x" * 32) -> Gone:
    return Gone(key, frozenset({b"a" * 32}), at)


def test_a_machines_word_says_who_could_open_a_key_only_of_keys_from_before_it_was_cut_off() -> None:
    room = Room()
    at = room.set(LEA).header.at
    wrapped(room, room.machine, b"a" * 32)
    wrapped(room, room.teacher, b"b" * 32)
    assert opened_by(room.fold(), [gone(at + 1)]) == {LEA: [b"x" * 32]}
    assert opened_by(room.fold(), [gone(at)]) == {}


def test_a_teachers_word_says_at_any_time_who_could_open_a_key() -> None:
    room = Room()
    at = room.set(LEA).header.at
    assert opened_by(room.fold(), [gone(at - 1)]) == {}
    wrapped(room, room.teacher, b"a" * 32)
    assert opened_by(room.fold(), [gone(at - 1)]) == {LEA: [b"x" * 32]}


def test_who_has_set_something_under_a_key_has_it_though_it_gave_itself_none() -> None:
    room = Room()
    room.set(LEA)
    room.set(TOM)
    assert set(opened_by(room.fold(), [gone(0, room.teacher.key.public)])) == {LEA, TOM}


def test_a_device_whose_one_right_ended_is_not_taken_for_lost_and_a_revoked_one_is() -> None:
    for whole in (False, True):
        room = Room()
        room.set(LEA)
        door = opened(room.world)
        grant = door.authorities_of(room.machine.key.public)[0]
        wrapped(room, room.teacher, grant.agreement)
        cut = Revocation(room.machine.key.public, ()).encode()
        ends = None if whole else grant.grant
        revoked = room.world.say(room.world.server, room.space, Kind.REVOKE, cut, target=ends)
        own = room.world.in_space(room.space)
        door, above = opened(room.world), [entry for entry in room.world.entries if entry not in own]
        roster = fold_roster(room.space, own, above, door)
        assert room.machine.key.public in roster.cut
        found = gone_from(roster, door, {revoked.id: revoked.header.at})
        expected = [Gone(room.machine.key.public, frozenset({grant.agreement}), revoked.header.at)] if whole else []
        assert found == expected
        assert opened_by(fold_sign_ins(own, roster), found) == ({LEA: [room.machine.key.public]} if whole else {})


def gone_in(room: Room) -> dict[bytes, int]:
    """Who is gone from the class, with the time."""
    door, own = opened(room.world), room.world.in_space(room.space)
    roster = fold_roster(room.space, own, [entry for entry in room.world.entries if entry not in own], door)
    said_at = {entry.id: entry.header.at for entry in room.world.entries}
    return {one.key: one.cut_at for one in gone_from(roster, door, said_at)}


def test_who_fell_with_those_who_let_them_in_is_gone_since_the_last_of_these_was_cut_off() -> None:
    room = Room()
    world = room.world
    heads = tuple(
        world.tips[space, world.server.key.public][0] for space in (world.territory, world.school, room.space)
    )
    head = world.enrol(Role.HEAD, world.school)
    early = world.enrol(Role.MACHINE, room.space, by=head)
    room.report(head, early.grant or b"")
    later = world.enrol(Role.MACHINE, room.space, by=head)
    assert later.key.public in gone_in(room)
    assert early.key.public not in gone_in(room)
    cut = world.say(world.root, world.territory, Kind.REVOKE, Revocation(world.server.key.public, heads).encode())
    found, at = gone_in(room), cut.header.at
    assert (found[head.key.public], found[early.key.public], found[later.key.public]) == (at, at, at)
    assert room.machine.key.public not in found


def test_who_fell_with_a_server_that_a_new_certificate_does_not_name_is_gone_since_that() -> None:
    room = Room()
    world = room.world
    kept_back = Writer(world.new_key(), Role.SERVER, world.territory, None)
    certificate = Certificate(kept_back.key.public, bytes(32)).encode()
    kept_back.grant = world.say(world.root, world.territory, Kind.CERTIFICATE, certificate).id
    spy = world.enrol(Role.MACHINE, room.space, by=kept_back)
    assert gone_in(room) == {}
    anew = Certificate(world.new_key().public, bytes(32), (world.server.grant or b"",)).encode()
    named_at = world.say(world.root, world.territory, Kind.CERTIFICATE, anew).header.at
    assert gone_in(room)[spy.key.public] == named_at


def test_what_is_set_next_lies_under_a_key_that_somebody_has_drawn_who_is_not_out() -> None:
    room = Room()
    room.set(LEA)
    wrapped(room, room.machine, b"a" * 32, drawn=True)
    assert newest_key(room.fold(), [b"a" * 32]) is None, "a machine sets nothing, and draws nothing"
    wrapped(room, room.teacher, b"a" * 32)
    assert newest_key(room.fold(), [b"a" * 32]) is None
    wrapped(room, room.teacher, b"a" * 32, drawn=True)
    assert newest_key(room.fold(), [b"a" * 32]) == KEY.commitment
    room.report(room.teacher, room.teacher.grant or b"")
    assert room.fold().drawn == frozenset()


def test_who_is_cut_off_has_drawn_what_it_named_unless_somebody_else_says_so() -> None:
    room = Room()
    at = room.set(LEA).header.at
    book = replace(room.fold(), claimed={KEY.commitment: frozenset({b"x" * 32})})
    assert opened_by(book, [gone(at - 1)]) == {LEA: [b"x" * 32]}
    assert opened_by(replace(book, drawn=frozenset({KEY.commitment})), [gone(at - 1)]) == {}


# --- tries ------------------------------------------------------------------------------------------------------------


def test_one_waits_longer_after_each_miss_and_the_tenth_locks() -> None:
    tries, waits = Tries(SPACE), []
    for _ in range(MAX_SIGN_IN_TRIES):
        assert not tries.is_locked
        tries = tries.missed(1_000)
        waits.append(tries.wait_ms(1_000) // 1_000)
    assert waits == [0, 0, 15, 30, 60, 120, 300, 300, 300, 300]
    assert tries.is_locked


def test_a_clock_that_was_set_back_prolongs_no_wait_and_another_verifier_begins_anew() -> None:
    tries = Tries(SPACE, 4, 5_000_000)
    assert tries.wait_ms(5_000_000) == tries.wait_ms(10) == 30_000
    assert tries.wait_ms(5_030_000) == 0
    assert Tries.of(tries.encode(), SPACE) == tries
    assert Tries.of(tries.encode(), OTHER) == Tries(OTHER)
    assert Tries.of(b"\xff", SPACE) == Tries.of(None, SPACE) == Tries(SPACE)


def test_pictures_are_drawn_evenly() -> None:
    entropy = Random(5).randbytes
    drawn = [drawn_pictures(entropy) for _ in range(4_000)]
    counts = [sum(text.split("-").count(str(number)) for text in drawn) for number in range(1, 13)]
    assert all(normal(Method.PICTURES, text) for text in drawn)
    assert min(counts) > 850
    assert max(counts) < 1_150


def test_a_switch_that_is_held_back_stays_on_until_a_word_that_counts_names_what_cut_its_author_off() -> None:
    room = Room()
    on = room.set(None, on=True)
    report = room.report(room.teacher)
    assert (room.fold().on, room.fold().unsettled) == (True, frozenset({on.id}))
    assert room.fold().switch == (report.id, on.id)
    other, _ = room.colleague()
    off = room.switch(other, report.id, on=False)
    assert (room.fold().on, room.fold().unsettled) == (False, frozenset())
    room.set(None, off.id, on=True)  # whoever has the laptop goes on saying so
    assert not room.fold().on


def test_a_word_that_takes_the_place_of_a_switch_settles_it_before_and_after_that_is_held_back() -> None:
    room = Room()
    on = room.set(None, on=True)
    other, _ = room.colleague()
    room.switch(other, on.id, on=False)
    assert not room.fold().on
    room.report(room.teacher)
    assert not room.fold().on


def test_what_was_switched_on_since_by_a_laptop_that_is_reported_later_stays_on() -> None:
    room = Room()
    room.set(None, on=True)
    first = room.report(room.teacher)
    third, _ = room.colleague()
    second, key = room.colleague()
    off = room.switch(third, first.id, on=False)
    on = room.switch(second, off.id, on=True)
    room.report(second, key.id)
    assert (room.fold().on, room.fold().unsettled) == (True, frozenset({on.id}))


def test_a_switch_that_is_held_back_and_says_off_switches_nothing_off() -> None:
    room = Room()
    on = room.set(None, on=True)
    room.set(None, on.id, on=False)
    room.report(room.teacher, on.id)
    assert room.fold().on
