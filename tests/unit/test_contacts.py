from __future__ import annotations

import os
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import decode, encode
from protocol.identity import SigningKey
from protocol.limits import MAX_NAME_CHARS, MAX_REGISTER_BYTES
from protocol.model.register import Health, RegisterKind, compose_register
from protocol.replica.answering.station import Contact, Report
from protocol.replica.interfaces import RegisterRow
from protocol.replica.storage.memory import MemoryStore
from sync_server.opened.contacts import DIRECT, MAX_TROUBLES, MAX_UNTAKEN, MAX_UNTOLD, UNTAKEN_MS, Contacts, Heard
from sync_server.opened.reports import Reports

NOW_MS = 1_795_000_000_000
DEVICE, COURIER = bytes(32), b"\x01" * 32
FINE = Health("Renard", "0.1.0", "Linux", None, 0, 0, 10**9)


def report(at_ms: int, *, written_ms: int | None = None, carrier: bytes = DEVICE) -> Report:
    row = RegisterRow(RegisterKind.HEALTH, DEVICE, DEVICE, at_ms if written_ms is None else written_ms, b"")
    return Report(row, carrier, at_ms)


def test_a_device_that_only_others_reach_is_heard_of_through_them() -> None:
    contacts = Contacts(MemoryStore())
    contacts.note(Contact(DEVICE, NOW_MS - 1_000_000, current=True), 0)
    contacts.note_report(report(NOW_MS, written_ms=NOW_MS - 5_000, carrier=COURIER), None)
    heard = contacts.of(DEVICE)
    assert (heard.seen_ms, heard.via) == (NOW_MS - 5_000, COURIER.hex())
    assert heard.current_ms == NOW_MS - 1_000_000, "that it holds everything was not said"


def test_old_news_of_a_device_does_not_hide_newer_ones() -> None:
    contacts = Contacts(MemoryStore())
    contacts.note(Contact(DEVICE, NOW_MS, current=True), 0)
    contacts.note_report(report(NOW_MS + 9, written_ms=NOW_MS - 1, carrier=COURIER), None)
    assert contacts.of(DEVICE).via == DIRECT
    contacts.note_report(report(NOW_MS + 10, written_ms=NOW_MS + 10**12, carrier=COURIER), None)
    assert contacts.of(DEVICE).seen_ms == NOW_MS + 10, "a clock that is ahead does not make anybody seen in the future"


def test_troubles_are_kept_with_their_time_and_the_same_again_says_nothing_new() -> None:
    contacts = Contacts(MemoryStore())
    for at_ms, code in ((1, "damaged"), (2, "damaged"), (5, "disk-full"), (9, None), (10, None), (12, "damaged")):
        contacts.note_report(report(at_ms), code)
    told = [(trouble.code, trouble.since_ms, trouble.until_ms) for trouble in contacts.of(DEVICE).troubles]
    assert told == [("damaged", 12, None), ("disk-full", 5, 9), ("damaged", 1, 5)]


@given(st.lists(st.sampled_from([None, "damaged", "disk-full", "bad-seal"]), max_size=60))
def test_at_most_twenty_troubles_are_kept_and_only_the_newest_may_be_open(codes: list[str | None]) -> None:
    heard = Heard()
    for at_ms, code in enumerate(codes):
        heard = heard.with_trouble(code, at_ms)
    assert len(heard.troubles) <= MAX_TROUBLES
    assert all(trouble.until_ms is not None for trouble in heard.troubles[1:])
    now = codes[-1] if codes else None
    open_one = [trouble.code for trouble in heard.troubles if trouble.until_ms is None]
    assert open_one == ([] if now is None else [now])
    assert Heard.parse(heard.encode()) == heard


async def test_what_was_heard_outlives_the_process() -> None:
    store = MemoryStore()
    contacts = Contacts(store)
    contacts.note_enrolment(DEVICE, "Renard", NOW_MS)
    contacts.note_report(report(NOW_MS + 5), "damaged")
    await contacts.flush()
    again = Contacts(store)
    await again.load()
    assert again.of(DEVICE) == contacts.of(DEVICE)
    assert Heard.parse(b"\xff") == Heard()


async def test_the_newest_report_of_each_device_is_at_hand_and_what_cannot_be_read_is_passed_over() -> None:
    store = MemoryStore()
    key = SigningKey(os.urandom(32))
    rows = []
    for at_ms, body in ((1, FINE.encode()), (2, replace(FINE, trouble="damaged", skew_ms=-60_000).encode())):
        made = compose_register(key, RegisterKind.HEALTH, key.public, at_ms, body)
        rows.append(RegisterRow(RegisterKind.HEALTH, key.public, key.public, at_ms, made.data))
    await store.put_registers(rows)
    reports = Reports(store)
    await reports.load()
    health = reports.of(key.public)
    assert health is not None
    assert (health.trouble, health.skew_ms) == ("damaged", -60_000)
    assert reports.note(RegisterRow(RegisterKind.HEALTH, DEVICE, DEVICE, 3, b"\x00nonsense")) is None
    assert reports.note(replace(rows[0], kind=2)) is None
    assert reports.of(DEVICE) is None


def _id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_of_what_a_device_sends_in_vain_the_latest_is_remembered_and_for_a_week() -> None:
    contacts = Contacts(MemoryStore())
    many = tuple(_id(number) for number in range(3 * MAX_UNTAKEN))
    for ran_ms, ids in ((0, many), (1, (_id(7), _id(1)))):
        contacts.note(Contact(DEVICE, NOW_MS, current=False, untaken=ids), ran_ms)
    heard = contacts.of(DEVICE)
    assert len(heard.untaken) == MAX_UNTAKEN
    assert {name for name, ran_ms in heard.untaken if ran_ms == 1} == {_id(7), _id(1)}
    assert Heard.parse(heard.encode()) == heard
    contacts.note(Contact(DEVICE, NOW_MS + 2 * UNTAKEN_MS, current=True), UNTAKEN_MS)
    assert {name for name, _ in contacts.of(DEVICE).untaken} == {_id(7), _id(1)}
    contacts.note(Contact(DEVICE, NOW_MS, current=True), UNTAKEN_MS + 1)
    assert contacts.of(DEVICE).untaken == ()


def test_a_report_that_more_is_left_takes_back_that_a_device_has_told_all_but_not_when_it_did() -> None:
    contacts = Contacts(MemoryStore())
    contacts.note(Contact(DEVICE, NOW_MS, current=True, told=bytes(8), asked_ago_ms=5), 50)
    contacts.note_report(report(NOW_MS + 1, carrier=COURIER), None)
    assert contacts.of(DEVICE).told == bytes(8)
    contacts.note_report(report(NOW_MS + 2, carrier=COURIER), None, untold=True)
    heard = contacts.of(DEVICE)
    assert (heard.told, heard.told_ms, heard.told_ran_ms) == (None, NOW_MS - 5, 45)


def test_of_which_spaces_a_device_has_not_told_is_remembered_and_one_with_too_many_has_told_nothing_new() -> None:
    contacts = Contacts(MemoryStore())
    closed = frozenset({_id(1), _id(2)})
    contacts.note(Contact(DEVICE, NOW_MS, current=True, told=bytes(8), untold=closed), 50)
    heard = contacts.of(DEVICE)
    assert heard.untold == closed
    assert Heard.parse(heard.encode()) == heard
    many = frozenset(_id(number) for number in range(MAX_UNTOLD + 1))
    contacts.note(Contact(DEVICE, NOW_MS + 9, current=True, told=bytes(8), untold=many), 59)
    heard = contacts.of(DEVICE)
    assert (heard.told_ms, len(heard.untold)) == (NOW_MS, MAX_UNTOLD + 1)
    assert heard.untold_of(b"some class of which nobody spoke."), "what is cut short may have named it"
    full = replace(heard, name="x" * MAX_NAME_CHARS, untaken=tuple((_id(each), 9) for each in range(MAX_UNTAKEN)))
    assert Heard.parse(full.encode()) == full
    assert full.with_told(bytes(8), closed, NOW_MS, 60).untold == closed


def test_what_a_device_says_to_hold_is_remembered_though_it_tells_nothing_until_it_tells() -> None:
    contacts = Contacts(MemoryStore())
    for space in (_id(1), _id(2)):
        contacts.note(Contact(DEVICE, NOW_MS, current=False, untold=frozenset({space})), 50)
    heard = contacts.of(DEVICE)
    assert heard.told is None
    assert heard.untold == {_id(1), _id(2)}
    assert Heard.parse(heard.encode()) == heard
    contacts.note(Contact(DEVICE, NOW_MS, current=True, told=bytes(8), untold=frozenset({_id(2)})), 51)
    contacts.note_report(report(NOW_MS + 1, carrier=COURIER), None, untold=True)
    assert contacts.of(DEVICE).untold == {_id(2)}


def test_a_note_of_before_that_says_not_of_which_spaces_a_device_had_told_says_nothing_but_when() -> None:
    told = Heard().with_told(bytes(8), frozenset(), NOW_MS, 7)
    assert Heard.parse(told.encode()) == told
    fields = decode(told.encode(), max_bytes=MAX_REGISTER_BYTES)
    assert isinstance(fields, dict)
    earlier = Heard.parse(encode({key: value for key, value in fields.items() if key != "told_but"}))
    assert (earlier.told, earlier.told_ms) == (None, NOW_MS)


def test_an_older_question_that_is_brought_later_moves_nothing() -> None:
    contacts = Contacts(MemoryStore())
    contacts.note(Contact(DEVICE, NOW_MS, current=True, told=bytes(8), asked_ago_ms=5), 50)
    contacts.note(Contact(DEVICE, NOW_MS + 100, current=True, told=bytes(8), asked_ago_ms=110), 150)
    assert (contacts.of(DEVICE).told_ms, contacts.of(DEVICE).told_ran_ms) == (NOW_MS - 5, 45)
