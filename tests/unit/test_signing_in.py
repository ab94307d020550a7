from __future__ import annotations

from random import Random

from protocol.clock import DAY_MS
from sync_server.handlers.accounts.administrators import UNKNOWN_VERIFIER, Administrator, opens, verifier_of
from sync_server.handlers.accounts.factors import Factors
from sync_server.web import signing_in
from sync_server.web.signing_in import CODES, FREE_FAILURES, IDLE_S, LONGEST_S, LONGEST_WAIT_S, Sessions, Throttle

ACCOUNT = Administrator("Anne", "", 0)


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def test_a_session_lasts_while_it_is_used_and_no_longer_than_half_a_day() -> None:
    clock = Clock()
    sessions = Sessions(Random(1).randbytes, clock)
    token = sessions.begin(ACCOUNT, Factors())
    while clock.s <= LONGEST_S:
        assert sessions.find(token, use=True) is not None
        clock.s += IDLE_S
    assert sessions.find(token, use=True) is None


def test_what_a_page_fetches_by_itself_does_not_keep_a_session() -> None:
    clock = Clock()
    sessions = Sessions(Random(1).randbytes, clock)
    token = sessions.begin(ACCOUNT, Factors())
    clock.s = IDLE_S
    assert sessions.find(token, use=False) is not None
    clock.s += 1
    assert sessions.find(token, use=False) is None


def test_only_the_token_itself_opens_a_session_and_it_is_kept_nowhere() -> None:
    sessions = Sessions(Random(1).randbytes, Clock())
    token = sessions.begin(ACCOUNT, Factors())
    for other in (None, "", token[:-1], token + "A", token.swapcase()):
        assert sessions.find(other, use=True) is None
    assert token not in repr(vars(sessions))
    sessions.end(token)
    sessions.end(token)
    assert sessions.find(token, use=True) is None


def test_the_oldest_session_ends_when_there_are_too_many(monkeypatch: object) -> None:
    sessions = Sessions(Random(1).randbytes, Clock())
    first, *others = (sessions.begin(ACCOUNT, Factors()) for _ in range(signing_in.MAX_SESSIONS + 1))
    assert sessions.find(first, use=True) is None
    assert all(sessions.find(token, use=True) for token in others)


def test_waits_double_up_to_a_bound_and_are_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    who = ("name anne", "address 203.0.113.7")
    waits = []
    for _ in range(FREE_FAILURES + 12):
        clock.s += throttle.wait_s(who)
        throttle.failed(who)
        waits.append(throttle.wait_s(who))
    assert waits[: FREE_FAILURES - 1] == [0.0] * (FREE_FAILURES - 1)
    assert waits[FREE_FAILURES - 1 : FREE_FAILURES + 2] == [2.0, 4.0, 8.0]
    assert max(waits) == LONGEST_WAIT_S
    assert throttle.wait_s(("name benoît", "address 203.0.113.7")) > 0, "the address waits under another name"
    assert throttle.wait_s(("name benoît", "address 198.51.100.9")) == 0
    clock.s += signing_in.FORGOTTEN_AFTER_S + 1
    assert throttle.wait_s(who) == 0


def test_success_is_a_new_start() -> None:
    throttle = Throttle(Clock())
    for _ in range(FREE_FAILURES):
        throttle.failed(["name anne"])
    throttle.succeeded(["name anne"])
    assert throttle.wait_s(["name anne"]) == 0


def test_what_was_right_never_counted_and_began_no_wait() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    who = ["name anne"]
    for _ in range(FREE_FAILURES):
        throttle.failed(who)
    clock.s += 2.0
    throttle.take_back(throttle.failed(who))
    assert throttle.wait_s(who) == 0, "the wait that was sat out does not begin anew"
    throttle.failed(who)
    assert throttle.wait_s(who) == 4.0, "and nothing was forgiven"


def test_what_somebody_else_got_wrong_meanwhile_still_counts() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    who = ["name anne"]
    for _ in range(FREE_FAILURES - 1):
        throttle.failed(who)
    right = throttle.failed(who)
    clock.s += 2.0
    throttle.failed(who)
    throttle.take_back(right)
    assert throttle.wait_s(who) == 2.0
    throttle.succeeded(who)
    throttle.take_back(right)
    assert throttle.wait_s(who) == 0


def test_who_has_the_passphrase_gets_a_hundred_tries_at_codes_in_a_day() -> None:
    clock = Clock()
    throttle = Throttle(clock, CODES)
    who = ["name anne"]
    tries = 0
    while clock.s <= DAY_MS / 1000:
        throttle.failed(who)
        tries += 1
        clock.s += throttle.wait_s(who)
    assert tries < 120
    # nor is it quicker to wait until they are forgotten
    assert CODES.forgotten_after_s >= DAY_MS / 1000


def test_a_stranger_who_tries_many_names_does_not_fill_the_memory() -> None:
    throttle = Throttle(Clock())
    for number in range(signing_in.MAX_REMEMBERED + 100):
        throttle.failed([f"name {number}"])
    assert len(throttle._failures) == signing_in.MAX_REMEMBERED


def test_a_verifier_proves_one_text_however_its_accents_are_typed() -> None:
    verifier = verifier_of("clé à molette rouillée", b"0123456789abcdef")
    assert opens(verifier, "cle\N{COMBINING ACUTE ACCENT} à molette rouillée")
    assert not opens(verifier, "cle à molette rouillee")
    assert not opens(verifier, "clé à molette rouillée" + "x" * 5_000)
    assert not opens(UNKNOWN_VERIFIER, "")
