"""Messages, registers, chains and capabilities: what travels is what was meant, or is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import decode, encode
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError, TooLarge
from protocol.identity import SigningKey
from protocol.limits import MAX_ENROLMENT_BYTES, MAX_HELD_BYTES
from protocol.messages.calls import ReconcileAnswer, ReconcileRequest, SyncAnswer, SyncRequest
from protocol.messages.enrollment import EnrollAnswer, EnrollRequest, encode_chain, parse_chain
from protocol.messages.errors import encode_error, error_from
from protocol.messages.parts import Held, InlinePack, Link, Offer, Refusal, SpacePage, Upload, Wanted
from protocol.messages.wire import Capability, Purpose
from protocol.model.register import Health, RegisterKind, compose_register, parse_register
from protocol.reconcile.checkpoint import CHAIN_START, Checkpoint, Cursor, next_chain
from protocol.transfer.deflate_parameters import NO_LEVELS, Profile
from tests.harness.history import World

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
KEY = SigningKey(bytes(range(32)))


@pytest.fixture(scope="module")
def world() -> World:
    return World(Random(5))


def full_request(world: World) -> SyncRequest:
    return SyncRequest(
        generation=bytes(8),
        cursors=(Cursor(ONE, 3, bytes(8), complete=True), Cursor(TWO[:4], 0, bytes(8), complete=False)),
        credentials=tuple(world.entries[:1]),
        push=tuple(world.entries[1:3]),
        packs=(InlinePack(ONE, b"pack"),),
        offers=(Offer(ONE, TWO, 9),),
        want=(Wanted(ONE, TWO),),
        registers=(b"register",),
    )


def full_answer(world: World) -> SyncAnswer:
    checkpoint = Checkpoint(ONE, 7, bytes(8), bytes(16))
    return SyncAnswer(
        time_ms=5,
        generation=bytes(8),
        pages=(SpacePage(checkpoint, tuple(world.entries[:2]), (), more=True),),
        stale=(ONE,),
        closed=(TWO,),
        packs=(InlinePack(ONE, b"pack"),),
        links=(Link(ONE, TWO, 9, "capability"), Link(ONE, TWO, 9, "capability", bytes(32))),
        lacks=(Wanted(ONE, TWO),),
        uploads=(Upload(TWO, 4, "capability"), Upload(TWO, 4, "capability", bytes(32))),
        waiting=(ONE,),
        refused=(Refusal(TWO, Code.NO_RIGHT),),
        more=True,
        backup_ms=7,
        elsewhere=True,
    )


def test_every_message_survives_its_encoding(world: World) -> None:
    entries = tuple(world.entries[:2])
    checkpoint = Checkpoint(ONE, 7, bytes(8), bytes(16))
    for message, parse in (
        (full_request(world), SyncRequest.parse),
        (SyncRequest(), SyncRequest.parse),
        (SyncRequest(levels=Profile(0b000100000)), SyncRequest.parse),
        (SyncRequest(levels=NO_LEVELS), SyncRequest.parse),
        (SyncAnswer(time_ms=0, levels=NO_LEVELS), SyncAnswer.parse),
        (full_answer(world), SyncAnswer.parse),
        (SyncAnswer(time_ms=0), SyncAnswer.parse),
        (SyncRequest(standing=bytes(16)), SyncRequest.parse),
        (SyncRequest(withdrawn=(bytes(8), b"\x01" * 8)), SyncRequest.parse),
        (SyncRequest(certificate=bytes(range(32))), SyncRequest.parse),
        (SyncRequest(untaken=70_000), SyncRequest.parse),
        (SyncRequest(sets=bytes(16), ended=(ONE, TWO)), SyncRequest.parse),
        (SyncAnswer(time_ms=0, unlike=True), SyncAnswer.parse),
        (ReconcileRequest(ONE, b"a", entries, entries, (), (TWO,)), ReconcileRequest.parse),
        (ReconcileRequest(ONE, None, offered=(ONE, TWO)), ReconcileRequest.parse),
        (
            ReconcileAnswer(9, b"a", checkpoint, entries, (ONE,), (TWO,), (Refusal(ONE, Code.NO_RIGHT),), (TWO,)),
            ReconcileAnswer.parse,
        ),
        (EnrollRequest(bytes(10), ONE, TWO, "Renard"), EnrollRequest.parse),
        (EnrollRequest(bytes(10), ONE, TWO, "Renard", in_clear=True), EnrollRequest.parse),
        (EnrollRequest(bytes(10), ONE, TWO, "Renard", proof=bytes(64)), EnrollRequest.parse),
        (EnrollAnswer(3, "Cher", entries), EnrollAnswer.parse),
    ):
        assert parse(message.encode()) == message
    assert parse_chain(encode_chain(entries)) == entries


def test_a_quiet_request_says_nothing_but_its_cursors() -> None:
    quiet = SyncRequest(generation=bytes(8), cursors=(Cursor(ONE[:4], 300, bytes(8), complete=True),))
    assert set(decode(quiet.encode(), max_bytes=1000)) == {"generation", "cursors"}  # type: ignore[arg-type]
    assert len(SyncAnswer(time_ms=2**40).encode()) < 16


def test_levels_of_deflate_that_do_not_exist_are_refused() -> None:
    for message, parse in ((SyncRequest(), SyncRequest.parse), (SyncAnswer(time_ms=0), SyncAnswer.parse)):
        with pytest.raises(PeerFault):
            parse(broken(message.encode(), "deflates", 512))


def test_one_bad_entry_does_not_spoil_those_beside_it(world: World) -> None:
    good = world.entries[0]
    row = [good.header_bytes, good.signature, good.salt, b"swapped payload"]
    value = decode(SyncRequest(push=(world.entries[1],)).encode(), max_bytes=10**6)
    assert isinstance(value, dict)
    value["push"] = [row, *value["push"]]
    request = SyncRequest.parse(encode(value))
    assert request.push == (world.entries[1],)
    assert request.refused == (Refusal(good.id, Code.BAD_COMMITMENT),)


def test_a_flag_that_is_nil_is_the_same_as_one_that_is_absent() -> None:
    assert SyncAnswer.parse(encode({"time": 1, "more": None})) == SyncAnswer(time_ms=1)


def broken(message: bytes, key: str, value: object) -> bytes:
    fields = decode(message, max_bytes=10**7)
    assert isinstance(fields, dict)
    return encode({**fields, key: value})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generation", bytes(7)),
        ("generation", 1),
        ("certificate", bytes(31)),
        ("cursors", {}),
        ("cursors", [1]),
        ("cursors", [[bytes(5), 1, bytes(8), True]]),
        ("cursors", [[ONE, -1, bytes(8), True]]),
        ("cursors", [[ONE, 2**63, bytes(8), True]]),
        ("push", [b""]),
        ("push", [[]]),
        ("packs", [[ONE[:4], b""]]),
        ("packs", [b""]),
        ("offers", [[ONE, TWO, -1]]),
        ("offers", [[ONE, TWO, 2**30]]),
        ("want", [[ONE, b""]]),
        ("registers", [1]),
        ("registers", [bytes(9000)]),
    ],
)
def test_a_request_with_a_field_of_the_wrong_form_is_malformed(world: World, key: str, value: object) -> None:
    with pytest.raises(PeerFault) as caught:
        SyncRequest.parse(broken(full_request(world).encode(), key, value))
    assert caught.value.code is Code.MALFORMED


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time", None),
        ("time", 2**48),
        ("pages", [[ONE, 1, bytes(8), bytes(16), [], 1]]),
        ("pages", [[ONE, 1, bytes(8), bytes(15), [], True]]),
        ("pages", [[ONE, 2**63, bytes(8), bytes(16), [], True]]),
        ("stale", [b"short"]),
        ("links", [[ONE, TWO, 1, b"bytes"]]),
        ("links", [[ONE, TWO, 1, "x" * 300]]),
        ("links", [[ONE, TWO, 1, "x", b"short"]]),
        ("links", [[ONE, TWO, 1, "x", ONE, ONE]]),
        ("uploads", [[TWO, 1, "x", "no bytes"]]),
        ("uploads", [[TWO, 1]]),
        ("refused", [[ONE]]),
        ("more", 1),
    ],
)
def test_an_answer_with_a_field_of_the_wrong_form_is_malformed(world: World, key: str, value: object) -> None:
    with pytest.raises(PeerFault) as caught:
        SyncAnswer.parse(broken(full_answer(world).encode(), key, value))
    assert caught.value.code is Code.MALFORMED


def test_too_much_inline_content_is_refused() -> None:
    with pytest.raises(TooLarge):
        SyncRequest.parse(SyncRequest(packs=(InlinePack(ONE, bytes(600_000)),)).encode())


def test_what_is_held_beyond_the_bound_of_all_spaces_together_is_passed_over() -> None:
    rows = (Held(ONE, bytes(MAX_HELD_BYTES - 1)), Held(TWO, bytes(2)), Held(TWO, bytes(1)))
    assert SyncRequest.parse(SyncRequest(held=rows).encode()).held == rows[:1]


def test_an_enrolment_is_small() -> None:
    with pytest.raises(TooLarge):
        EnrollRequest.parse(broken(EnrollRequest(bytes(10), ONE, TWO, "PC").encode(), "x", bytes(MAX_ENROLMENT_BYTES)))


def test_a_refusal_with_a_code_of_a_later_version_still_refuses(world: World) -> None:
    data = broken(full_answer(world).encode(), "refused", [[ONE, "from-the-future"]])
    assert SyncAnswer.parse(data).refused == (Refusal(ONE, Code.MALFORMED),)


def test_a_chain_or_an_enrolment_with_an_unreadable_entry_is_refused_whole(world: World) -> None:
    good = world.entries[0]
    row = [good.header_bytes, good.signature, good.salt, b"swapped payload"]
    with pytest.raises(PeerFault):
        parse_chain(encode({"chain": [row]}))
    with pytest.raises(PeerFault):
        EnrollAnswer.parse(encode({"time": 1, "name": "Cher", "entries": [row]}))


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (Refused(Code.CODE_USED, "used"), Refused),
        (NoAnswer(Code.BUSY, "later"), NoAnswer),
        (LocalFailure(Code.DISK_FULL, "full"), NoAnswer),
        (PeerFault(Code.NOT_CANONICAL, "no"), PeerFault),
        (BadInput(Code.BAD_NAME, "no"), BadInput),
    ],
)
def test_an_error_reaches_the_caller_as_what_it_is(error: RelaisError, family: type[RelaisError]) -> None:
    for parse in (SyncAnswer.parse, ReconcileAnswer.parse, EnrollAnswer.parse):
        with pytest.raises(family) as caught:
            parse(encode_error(error, retry_after_s=7))
        assert caught.value.code == error.code
        # what is wrong with the server's disk is not to be taken for this machine's
        is_the_servers = isinstance(error, LocalFailure) and caught.value.message.startswith("the server")
        assert caught.value.message == error.message or (is_the_servers and error.message in caught.value.message)


def test_a_code_that_this_version_does_not_know_is_no_failure_of_this_machine() -> None:
    error = error_from("from-the-future", "something new")
    assert type(error) is PeerFault
    assert (error.code, error.message) == (Code.UNKNOWN_FORMAT, "something new")


@given(st.binary(max_size=300))
def test_random_bytes_never_do_worse_than_being_refused(data: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [SyncRequest.parse, SyncAnswer.parse, parse_register, parse_chain]
    for parse in [*parsers, ReconcileRequest.parse, ReconcileAnswer.parse, EnrollRequest.parse, EnrollAnswer.parse]:
        with contextlib.suppress(RelaisError):
            parse(data)


# registers, chains, capabilities


def test_a_register_says_what_its_device_signed_and_nothing_else() -> None:
    health = Health("Renard", "0.1.0", "linux", None, 1, 2, 3)
    register = compose_register(KEY, RegisterKind.HEALTH, KEY.public, 12, health.encode())
    assert parse_register(register.data) == register
    assert Health.parse(register.body) == health
    signed, signature = decode(register.data, max_bytes=10_000)  # type: ignore[misc]
    assert isinstance(signed, bytes)
    for bad in (
        encode([signed.replace(b"Renard", b"Hibou!"), signature]),
        encode([signed, bytes(64)]),
        encode([encode([1, 2]), signature]),
        encode([signed]),
    ):
        with pytest.raises(PeerFault):
            parse_register(bad)


def test_a_chain_depends_on_every_arrival_and_on_their_order() -> None:
    once = next_chain(CHAIN_START, ONE)
    assert once != CHAIN_START
    assert next_chain(once, TWO) != next_chain(next_chain(CHAIN_START, TWO), ONE)


def test_a_capability_to_send_names_who_may() -> None:
    key = bytes(32)
    may = Capability.to_send(ONE, TWO, 99, 1000, b"K" * 32)
    assert Capability.check(may.issue(key), key, Purpose.SEND, 1000) == may
    assert may.sender == b"K" * 16
    with pytest.raises(PeerFault):
        Capability.check(Capability(Purpose.SEND, ONE, TWO, 99, 1000).issue(key), key, Purpose.SEND, 1000)


def test_the_key_of_a_link_is_its_issuers_to_tell_and_good_for_that_link_alone() -> None:
    key = bytes(32)
    keyed = Capability(Purpose.FETCH, ONE, TWO, 99, 1000, keyed=True)
    found = Capability.check(keyed.issue(key), key, Purpose.FETCH, 1000)
    assert (found, found.link_key) == (keyed, keyed.link_key_under(key))
    others = (
        keyed.link_key_under(ONE),
        *(replace(keyed, **change).link_key_under(key) for change in ({"pack": ONE}, {"space": TWO}, {"size": 98})),
        Capability.to_send(ONE, TWO, 99, 1000, b"K" * 32, keyed=True).link_key_under(key),
        Capability.to_send(ONE, TWO, 99, 1000, b"L" * 32, keyed=True).link_key_under(key),
    )
    assert len({found.link_key, *others}) == 1 + len(others)
    plain = Capability.check(replace(keyed, keyed=False).issue(key), key, Purpose.FETCH, 1000)
    assert plain.link_key == b"", "a program from before knows of none"


def test_a_capability_opens_one_pack_for_one_purpose_for_a_while() -> None:
    key = bytes(32)
    capability = Capability(Purpose.FETCH, ONE, TWO, 99, 1000)
    text = capability.issue(key)
    assert Capability.check(text, key, Purpose.FETCH, 1000) == capability
    for bad, with_key, purpose, now_s in (
        (text, key, Purpose.SEND, 1000),
        (text, key, Purpose.FETCH, 1001),
        (text, ONE, Purpose.FETCH, 1000),
        (text[:-2] + "AA", key, Purpose.FETCH, 1000),
        ("", key, Purpose.FETCH, 1000),
        ("é", key, Purpose.FETCH, 1000),
        ("A", key, Purpose.FETCH, 1000),
    ):
        with pytest.raises(PeerFault) as caught:
            Capability.check(bad, with_key, purpose, now_s)
        assert caught.value.code is Code.BAD_CAPABILITY
