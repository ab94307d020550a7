"""Who is signed in at this machine's portal: in memory, by a random token in a cookie, ended by going away.

Rules:
- a session ends after `IDLE_S` without use; what an open page fetches by itself is no use;
- it stands on the verifiers that proved the person, each in its class alone: when a teacher sets another, it is over
  there; whoever signs in in a second class goes on in the first;
- a restart ends all; few are kept, the least used goes first.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

IDLE_S: Final = 600.0
MAX_SESSIONS: Final = 64
_TOKEN_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Session:
    """A person, the entries with the verifiers that proved them, by space, and when they last did something."""

    person: bytes
    proofs: Mapping[bytes, bytes]
    used_s: float


class Sessions:
    """All sessions of one portal. `clock_s` only goes forward."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._open: OrderedDict[str, Session] = OrderedDict()

    def begin(self, person: bytes, space: bytes, entry: bytes, before: str = "") -> str:
        """A new session; its token. That of `before` ends, and is part of it if it was the same person's."""
        known = self.find(before, used=False)
        proofs = {} if known is None or known.person != person else known.proofs
        if known is not None:
            self.end(before)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._open[token] = Session(person, {**proofs, space: entry}, self._clock_s())
        while len(self._open) > MAX_SESSIONS:
            self._open.popitem(last=False)
        return token

    def find(self, token: str, *, used: bool) -> Session | None:
        """The session of this token, if it goes on; `used` makes it go on longer."""
        given = token.encode(errors="surrogatepass")  # a cookie may hold any bytes
        known = next((name for name in self._open if hmac.compare_digest(name.encode(), given)), None)
        if known is None:
            return None
        session = self._open[known]
        now_s = self._clock_s()
        if now_s - session.used_s >= IDLE_S:
            del self._open[known]
            return None
        if used:
            self._open[known] = session = replace(session, used_s=now_s)
            self._open.move_to_end(known)
        return session

    def end(self, token: str) -> None:
        """End a session, if there is one."""
        self._open.pop(token, None)
