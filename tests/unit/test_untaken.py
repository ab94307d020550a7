"""What of a push counts as not taken (docs/adr/0338)."""

from __future__ import annotations

from random import Random

from protocol.errors import Code
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Refusal
from protocol.replica.answering.told import untaken_of
from tests.harness.history import World


def test_all_that_waits_or_was_refused_counts_but_for_the_quota_of_somebody_else() -> None:
    entries = World(Random(5)).entries
    request = SyncRequest(push=tuple(entries), refused=(Refusal(bytes(32), Code.MALFORMED),))
    other, waits, *_ = entries
    mine = next(entry for entry in entries if entry.header.author != other.header.author)
    refused = [Refusal(each.id, Code.OVER_QUOTA) for each in (mine, other)]
    found = untaken_of(request, (waits.id,), refused, lambda key: key != other.header.author)
    assert set(found) == {waits.id, bytes(32), mine.id}
    refused = [Refusal(other.id, Code.MISSING_GRANT)]
    assert other.id in untaken_of(request, (), refused, lambda _key: False)
