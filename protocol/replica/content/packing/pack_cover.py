"""Which packs to fetch or send for a set of chunks."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from protocol.replica.interfaces import PackInfo


def smallest_cover(holders: Mapping[PackInfo, set[bytes]]) -> list[PackInfo]:
    """Few packs that together hold all that any of them holds: always the one that brings most, the smallest of equals.

    (The greedy answer to set cover; Chvátal, "A Greedy Heuristic for the Set-Covering Problem", 1979.)
    """
    queue = [(-len(chunks), pack.size, pack.hash, pack) for pack, chunks in holders.items()]
    heapq.heapify(queue)
    chosen: list[PackInfo] = []
    covered: set[bytes] = set()
    while queue:
        _, size, pack_hash, pack = heapq.heappop(queue)
        gain = len(holders[pack] - covered)
        if gain and queue and -gain > queue[0][0]:
            heapq.heappush(queue, (-gain, size, pack_hash, pack))
        elif gain:
            chosen.append(pack)
            covered |= holders[pack]
    return chosen
