"""What a rotation of the root has to name by itself of what the old kit remembers (docs/adr/0343).

Rules:
- what a rotation names stays wherever it is heard. What its lists hold, and what its words lead to, stays where
  somebody shows these; whoever has the server when it is signed may show them to nobody;
- there is room for few, and whoever has the server may have had the kit sign many words for one name that was typed: of
  each name one is chosen before the second of any, the first that was noted; of names first those that were noted last.

docs/protocol.md, "Root rotation".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, islice, zip_longest
from typing import Final

from protocol.model.entry import Entry
from sync_server.kit.memory import name_in
from sync_server.kit.root_line import may_be_named

MOST_TO_NAME: Final = 80
"""Beside as many lists as there may be, and the certificates and recovery keys that nobody remembers."""


def to_name(remembered: Iterable[Entry]) -> Sequence[bytes]:
    """Which of a root's words that its kit remembers, in the order in which they were noted."""
    by_name: defaultdict[tuple[int, bytes | None], list[bytes]] = defaultdict(list)
    for each in filter(may_be_named, remembered):
        by_name[each.header.kind, name_in(each)].append(each.id)
    in_turn = chain.from_iterable(zip_longest(*reversed(by_name.values())))
    return list(islice((name for name in in_turn if name is not None), MOST_TO_NAME))
