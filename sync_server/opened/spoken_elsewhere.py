"""That a key of this server's is used elsewhere: words under it are brought that this server did not say, or it calls.

Rules:
- what this server says lies in its store before anybody hears of it. So what others bring, under a key that is its own,
  and what was not there, somebody else has said who has that key: whoever took a copy of it, or this very server in a
  folder that was put back from a copy without `restore`;
- that is noted in the transaction that lets the word in, whoever brings it and whatever it says: afterwards it looks
  like any other;
- no server calls anybody: whoever calls under such a key has a copy of it, and only listens, maybe (docs/adr/0549);
- a key of a server before this one is heeded likewise once whatever was said under it has come (`of_before`);
- the first words are named; of all there is a number, and when they came by this server's own clock: their dates are
  their author's;
- a store that lost entries is brought its own words too: who tells of it says so.

docs/protocol.md, "Sync"; docs/adr/0536, docs/adr/0547.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from protocol.canonical import decode, encode
from protocol.errors import PeerFault
from protocol.fields import Fields, compact
from protocol.model.entry import ID_BYTES, Entry, ids_in

ELSEWHERE_MARKS: Final = "spoken-elsewhere/"
"""+ hex of a key of this server's → canonical {first, last, count, ids, ended, called} (`Elsewhere`)."""
NAMED: Final = 32
"""So many of these words are named: the first."""
_MOST_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """How many words were brought under a key, the ids of the first, when (ms) the first and the last of them came.

    `is_ended` once new keys have held back all that came since before the first. `called_ms` is when somebody first
    called under it; without any word the first and the last are that too.
    """

    first_ms: int
    last_ms: int
    count: int = 0
    ids: tuple[bytes, ...] = ()
    is_ended: bool = False
    called_ms: int | None = None

    @property
    def is_more(self) -> bool:
        """Whether there are words beside those that are named."""
        return self.count > len(self.ids)

    def with_words(self, ids: Collection[bytes], now_ms: int) -> Elsewhere:
        """The same once these have come too."""
        named = (*self.ids, *ids)[:NAMED]
        return replace(self, last_ms=now_ms, count=self.count + len(ids), ids=named)

    def encode(self) -> bytes:
        """To a mark."""
        return encode(
            compact(
                first=self.first_ms,
                last=self.last_ms,
                count=self.count,
                ids=b"".join(self.ids),
                ended=self.is_ended,
                called=self.called_ms,
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> Elsewhere:
        """From a mark. Raises `PeerFault`."""
        fields = Fields(decode(data, max_bytes=_MOST_BYTES), "what a key has said elsewhere")
        named = ids_in(fields.octets("ids", most=NAMED * ID_BYTES))
        return cls(
            fields.count("first"),
            fields.count("last"),
            fields.count("count"),
            named,
            fields.flag("ended"),
            fields.count_or_none("called"),
        )


class SpokenElsewhere:
    """What was brought under each key that is, or was, this server's. `own` says which those are."""

    def __init__(self, own: Callable[[], Collection[bytes]], now_ms: Callable[[], int]) -> None:
        """Nothing is read yet."""
        self._own = own
        self._now_ms = now_ms
        self.by_key: dict[bytes, Elsewhere] = {}
        self.of_before: frozenset[bytes] = frozenset()
        """The keys of servers before this one of which there is nothing more to come."""

    def load(self, marks: Mapping[str, bytes]) -> None:
        """Go by what was noted; what cannot be read is noted anew with the next word."""
        for mark, noted in marks.items():
            try:
                self.by_key[bytes.fromhex(mark.removeprefix(ELSEWHERE_MARKS))] = Elsewhere.parse(noted)
            except (PeerFault, ValueError):
                continue

    def called(self, key: bytes) -> Mapping[str, bytes | None]:
        """What to note of a call under a server's key: the first alone, of a key that is heeded."""
        now_ms = self._now_ms()
        heard = self.by_key.get(key, Elsewhere(now_ms, now_ms))
        if heard.called_ms is not None or key not in self._heeded():
            return {}
        self.by_key[key] = replace(heard, called_ms=now_ms)
        return {ELSEWHERE_MARKS + key.hex(): self.by_key[key].encode()}

    def ended_since(self, since_ms: int) -> Mapping[str, bytes | None]:
        """What to note once new keys have held back what came since then: whatever was brought later counts no more."""
        ended = {key: replace(heard, is_ended=True) for key, heard in self.by_key.items() if since_ms <= heard.first_ms}
        self.by_key |= ended
        return {ELSEWHERE_MARKS + key.hex(): heard.encode() for key, heard in ended.items()}

    def is_due(self, own: bytes) -> bool:
        """Whether machines are to be told: of the key in use, or of one of before that nobody has ended."""
        return own in self.by_key or not self.of_before.isdisjoint(self.by_key)

    def witness(self, came: Iterable[Entry]) -> Mapping[str, bytes | None]:
        """What to note with entries that others have brought, and that were not here (`Replica.witness`)."""
        heeded, ids = self._heeded(), defaultdict[bytes, list[bytes]](list)
        for entry in came:
            if entry.header.author in heeded:
                ids[entry.header.author].append(entry.id)
        now_ms = self._now_ms()
        for key, words in ids.items():
            self.by_key[key] = self.by_key.get(key, Elsewhere(now_ms, now_ms)).with_words(words, now_ms)
        return {ELSEWHERE_MARKS + key.hex(): self.by_key[key].encode() for key in ids}

    def _heeded(self) -> frozenset[bytes]:
        return self.of_before.union(self._own())
