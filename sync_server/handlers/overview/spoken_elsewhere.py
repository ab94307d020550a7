"""What is told of a key of this server's that has spoken elsewhere (docs/adr/0536).

Rules:
- of the key in use it is told until that is replaced: who has a copy goes on;
- of an earlier key, as long as one of its first such words counts: new keys without a time keep what was here. Where
  there were more than are named, until new keys have a time before the first: whoever says the first may end them;
- of a key of a server before this one until nobody goes by it any more: a machine that was away may have told late what
  that server had said;
- people read how many there were, since when, and what the first say; the command that ends it is named.

docs/operate.md, "If something is wrong"; docs/adr/0547.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.model.entry import Entry, kind_name
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import local_time
from protocol.replica.office.held_in_space import not_held_back
from sync_server.opened.app import Server
from sync_server.opened.spoken_elsewhere import Elsewhere

_REMEDY_BEFORE_WORDS: Final = (
    "What it says is a server's all the same: `sync-server rotate server --kit KIT --since TIME`, a time before "
    "anybody else may have had the key"
)
_REMEDY: Final = (
    "Names, lists, rights and erasures may be theirs: before anything that goes by them, `sync-server rotate server "
    "--kit KIT --since TIME`, a time before that, and before anybody else may have had the key; `sync-server status` "
    "shows the first of these words"
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A key, what was brought under it, the first of these words, and whether the key was replaced since.

    `lost_ms` is when this server's database was damaged last: its own words come back to it then. `is_of_before` is a
    key that this server never had: it was made anew, from a backup or the kit.
    """

    key: bytes
    heard: Elsewhere
    words: Sequence[Entry]
    is_replaced: bool
    lost_ms: int | None
    is_of_before: bool

    def row(self) -> JSON:
        """As `status` has it."""
        return {
            "key": self.key.hex(),
            "replaced": self.is_replaced,
            "words": self.heard.count,
            "first": rfc3339(self.heard.first_ms),
            "last": rfc3339(self.heard.last_ms),
            "called": None if self.heard.called_ms is None else rfc3339(self.heard.called_ms),
            "shown": [
                {
                    "id": word.id.hex(),
                    "kind": kind_name(word.header.kind),
                    "space": word.header.space.hex(),
                    "at": rfc3339(word.timestamp_ms),
                }
                for word in self.words
            ],
        }

    @property
    def sentence(self) -> str:
        """For whoever types a command."""
        if self.is_call_alone:
            return self._sentence_of_call
        if self.is_of_before:
            return self._sentence_of_before
        key = "an earlier key of this server's, whose words count still," if self.is_replaced else "this server's key"
        lost = "" if self.lost_ms is None else f", or its database lost them when it was damaged, {_told(self.lost_ms)}"
        return (
            f"warning: {key} has spoken elsewhere: since {_told(self.heard.first_ms)} {self._words} "
            "under it that this server did not say. Somebody has a copy of it, or DIR was put back from a copy "
            f"without `restore`{lost}. {_REMEDY}"
        )

    @property
    def uses(self) -> int:
        """So many words, and one for all calls."""
        return self.heard.count + (self.heard.called_ms is not None)

    @property
    def is_call_alone(self) -> bool:
        """Whether somebody has called under it, and no word was brought."""
        return not self.heard.count

    @property
    def _sentence_of_call(self) -> str:
        key = "a key of the server before this one, which counts still," if self.is_of_before else "this server's key"
        return (
            f"warning: {key} is used elsewhere: since {_told(self.heard.first_ms)} somebody has called this server "
            f"under it, and no server does. Somebody has a copy of it, and was given nothing. {_REMEDY_BEFORE_WORDS}"
        )

    @property
    def _sentence_of_before(self) -> str:
        return (
            "warning: a key of the server before this one, which counts still, has spoken elsewhere: since "
            f"{_told(self.heard.first_ms)} {self._words} under it that no machine had told when all were heard. "
            "Somebody has a copy of it, or a machine that was away has told late what that server had said. "
            f"{_REMEDY}. As TIME, one before this server was made anew: until all had told it heeded no such key"
        )

    @property
    def _words(self) -> str:
        return "a word was brought" if self.heard.count == 1 else f"{self.heard.count} words were brought"


async def spoken_elsewhere(server: Server) -> list[Spoken]:
    """Of each key of this server's of which that is to be told: the one in use first."""
    own, lost_ms = server.keys.signing.public, None if server.loss is None else server.loss.at_ms
    found = []
    for key, heard in sorted(server.elsewhere.by_key.items(), key=lambda each: (each[0] != own, each[1].first_ms)):
        known = await server.store.get(heard.ids)
        words = [known[name] for name in heard.ids if name in known]
        is_open = (heard.is_more and not heard.is_ended) or key in server.elsewhere.of_before
        if key == own or is_open or await not_held_back(server.replica, words):
            is_of_before = key not in server.own_keys
            found.append(Spoken(key, heard, words, key != own, lost_ms, is_of_before))
    return found


def _told(at_ms: int) -> str:
    return local_time(rfc3339(at_ms) or "")
