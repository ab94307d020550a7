"""Who is signed in, and how often somebody may try (docs/adr/0012).

Rules:
- a session is a random token that only the browser holds; here lies its hash, with whose it is; nothing is on disk, so
  that a restart signs everybody out;
- a session ends when it was not used for an hour, after twelve hours in any case, with its account, and when that asks
  for something else than it did at sign-in (`factors`);
- what a page fetches by itself is no use of it: a screen that nobody sits at signs itself out;
- where an account has a second factor, a passphrase opens nothing but the question for it;
- what a passkey signs is a random challenge that is good for one answer and for a few minutes;
- after a few failures a name, and an address, must wait, twice as long each time, and a browser that is known by itself
  (`known_browsers`); unknown names cost the same time as known ones, and however long, the same room;
- what is right costs no wait: a right passphrase is not counted where more is asked for, and forgives nothing there;
  codes are counted by themselves: only who knows the passphrase makes somebody wait for one (docs/adr/0269).
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from blake3 import blake3

from protocol.replica.at_work.replica import Entropy
from sync_server.handlers.accounts.administrators import Administrator
from sync_server.handlers.accounts.factors import Factors
from sync_server.handlers.accounts.webauthn import CHALLENGE_BYTES

IDLE_S: Final = 3600.0
LONGEST_S: Final = 12 * 3600.0
MAX_SESSIONS: Final = 1_000
FREE_FAILURES: Final = 5
LONGEST_WAIT_S: Final = 300.0
FORGOTTEN_AFTER_S: Final = 3600.0
MAX_REMEMBERED: Final = 10_000
TICKET_S: Final = 300.0
TICKET_TRIES: Final = 5
MAX_TICKETS_OF_ONE: Final = 10
CHALLENGE_S: Final = 300.0

_TOKEN_BYTES: Final = 32
_TOKEN_CHARS: Final = 43


@dataclass(slots=True)
class _Challenge:
    """What a passkey is asked to sign; taken, it is gone."""

    value: bytes | None = None
    given_s: float = 0.0

    def give(self, entropy: Entropy, now_s: float) -> bytes:
        self.value, self.given_s = entropy(CHALLENGE_BYTES), now_s
        return self.value

    def take(self, now_s: float) -> bytes | None:
        value, self.value = self.value, None
        return value if now_s - self.given_s <= CHALLENGE_S else None


@dataclass(slots=True)
class Session:
    """Somebody's visit: the account as it was at sign-in, when it began and was last used (monotonic seconds).

    `factors` are what the account asked for then, and a passkey that was added in this very session.
    """

    account: Administrator
    factors: Factors
    begun_s: float
    used_s: float
    challenge: _Challenge = field(default_factory=_Challenge)

    def holds(self, asked: Factors) -> bool:
        """Whether it was opened with what the account asks for now."""
        return asked == self.factors


class Sessions:
    """The sessions of one server. `clock_s` is a monotonic clock."""

    def __init__(self, entropy: Entropy, clock_s: Callable[[], float]) -> None:
        self._entropy = entropy
        self._clock_s = clock_s
        self._by_hash: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, account: Administrator, factors: Factors) -> str:
        """A new session's token. Beyond `MAX_SESSIONS` the oldest ends."""
        token = _token(self._entropy)
        now_s = self._clock_s()
        self._by_hash[_hash(token)] = Session(account, factors, now_s, now_s)
        while len(self._by_hash) > MAX_SESSIONS:
            self._by_hash.popitem(last=False)
        return token

    def find(self, token: str | None, *, use: bool) -> Session | None:
        """The session of a token, if it lasts; `use` makes it last longer."""
        if token is None or len(token) != _TOKEN_CHARS:
            return None
        name = _hash(token)
        session = self._by_hash.get(name)
        if session is None:
            return None
        now_s = self._clock_s()
        if now_s - session.used_s > IDLE_S or now_s - session.begun_s > LONGEST_S:
            del self._by_hash[name]
            return None
        if use:
            session.used_s = now_s
        return session

    def end(self, token: str | None) -> None:
        """Forget a session; again is no error."""
        if token is not None:
            self._by_hash.pop(_hash(token), None)

    def challenge(self, session: Session) -> bytes:
        """A new challenge for a passkey that is to be made in this session; an earlier one is good for nothing more."""
        return session.challenge.give(self._entropy, self._clock_s())

    def take_challenge(self, session: Session) -> bytes | None:
        """The challenge that was given last, once."""
        return session.challenge.take(self._clock_s())


@dataclass(slots=True)
class _Ticket:
    account: Administrator
    who: tuple[str, ...]
    begun_s: float
    tries: int = 0
    challenge: _Challenge = field(default_factory=_Challenge)


class Tickets:
    """Who has shown a passphrase and owes a second factor: minutes, and a few tries. `clock_s` is a monotonic clock."""

    def __init__(self, entropy: Entropy, clock_s: Callable[[], float]) -> None:
        self._entropy = entropy
        self._clock_s = clock_s
        self._by_hash: OrderedDict[bytes, _Ticket] = OrderedDict()

    def begin(self, account: Administrator, who: tuple[str, ...]) -> str:
        """A ticket's token. Beyond `MAX_TICKETS_OF_ONE` the oldest of `who` ends, beyond `MAX_SESSIONS` that of all.

        Right passphrases are free: who knows one must not push out the tickets of everybody else.
        """
        token = _token(self._entropy)
        of_one = [name for name, ticket in self._by_hash.items() if ticket.who == who]
        for name in of_one[: max(len(of_one) - MAX_TICKETS_OF_ONE + 1, 0)]:
            del self._by_hash[name]
        self._by_hash[_hash(token)] = _Ticket(account, who, self._clock_s())
        while len(self._by_hash) > MAX_SESSIONS:
            self._by_hash.popitem(last=False)
        return token

    def whose(self, token: str) -> Administrator | None:
        """Whose ticket it is; None once there were too many tries, or it is too old."""
        found = self._by_hash.get(_hash(token))
        return None if found is None or self.left_s(token) < 0 else found.account

    def use(self, token: str) -> None:
        """One try more."""
        found = self._by_hash.get(_hash(token))
        if found is not None:
            found.tries += 1

    def left_s(self, token: str) -> float:
        """How long a ticket can be used still; below 0 if no more."""
        found = self._by_hash.get(_hash(token))
        if found is None or found.tries >= TICKET_TRIES:
            return -1.0
        return found.begun_s + TICKET_S - self._clock_s()

    def challenge(self, token: str) -> bytes | None:
        """A new challenge for the passkeys of a ticket's account; an earlier one is good for nothing more."""
        found = self._by_hash.get(_hash(token))
        return None if found is None else found.challenge.give(self._entropy, self._clock_s())

    def take_challenge(self, token: str) -> bytes | None:
        """The challenge that was given last, once."""
        found = self._by_hash.get(_hash(token))
        return None if found is None else found.challenge.take(self._clock_s())

    def end(self, token: str) -> None:
        """Forget a ticket; again is no error."""
        self._by_hash.pop(_hash(token), None)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many failures are free, how long a wait grows, and after how long without one they are forgotten."""

    free: int
    longest_wait_s: float
    forgotten_after_s: float


PASSPHRASES: Final = Pace(FREE_FAILURES, LONGEST_WAIT_S, FORGOTTEN_AFTER_S)
# six digits are found by patience alone: whoever has the passphrase gets about a hundred tries a day
CODES: Final = Pace(FREE_FAILURES, 900.0, 24 * 3600.0)


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    last_s: float


@dataclass(frozen=True, slots=True)
class Counted:
    """One attempt as it was counted, under one key, and what stood there before."""

    key: bytes
    before: _Failures | None
    after: _Failures


class Throttle:
    """How long a name or an address must wait before its next attempt. `clock_s` is a monotonic clock."""

    def __init__(self, clock_s: Callable[[], float], pace: Pace = PASSPHRASES) -> None:
        self._clock_s = clock_s
        self._pace = pace
        self._failures: OrderedDict[bytes, _Failures] = OrderedDict()

    def wait_s(self, who: Iterable[str]) -> float:
        """How long to wait still; 0 if an attempt is allowed now."""
        now_s = self._clock_s()
        return max((self._left_s(_hash(name), now_s) for name in who), default=0.0)

    def failed(self, who: Iterable[str]) -> tuple[Counted, ...]:
        """An attempt has failed, or is about to be judged: then what is returned takes it back."""
        counted = tuple(map(self._count, map(_hash, who)))
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)
        return counted

    def take_back(self, counted: Iterable[Counted]) -> None:
        """An attempt was right: it never counted, and began no wait. What went wrong before it still counts."""
        for one in counted:
            found = self._failures.get(one.key)
            if found is None:
                continue
            # somebody else's attempt that came meanwhile stays, with the wait that it began
            left = one.before if found is one.after else replace(found, count=found.count - 1)
            if left is None or left.count < 1:
                del self._failures[one.key]
            else:
                self._failures[one.key] = left

    def succeeded(self, who: Iterable[str]) -> None:
        """An attempt has succeeded: what went wrong before is forgotten."""
        for key in map(_hash, who):
            self._failures.pop(key, None)

    def _count(self, key: bytes) -> Counted:
        now_s = self._clock_s()
        before = self._failures.pop(key, None)
        if before is not None and now_s - before.last_s > self._pace.forgotten_after_s:
            before = None
        after = self._failures[key] = _Failures(1 if before is None else before.count + 1, now_s)
        return Counted(key, before, after)

    def _left_s(self, key: bytes, now_s: float) -> float:
        failures, pace = self._failures.get(key), self._pace
        if failures is None or failures.count < pace.free or now_s - failures.last_s > pace.forgotten_after_s:
            return 0.0
        # the exponent is bounded, so that no number of attempts makes it a number that does not fit
        wait_s = min(2.0 ** min(failures.count - pace.free + 1, 16), pace.longest_wait_s)
        return max(failures.last_s + wait_s - now_s, 0.0)


def _token(entropy: Entropy) -> str:
    return base64.urlsafe_b64encode(entropy(_TOKEN_BYTES)).rstrip(b"=").decode()


def _hash(text: str) -> bytes:
    return blake3(text.encode(errors="surrogatepass")).digest()
