"""Reports of how devices are, as callers bring them: which are kept (R10).

They count from devices that may read here, whoever carries them; a bad one spoils no other. Nobody fills a store with
them: what reads as no report, or comes under a key that gives nothing, is not kept; nor what
machines say that were lent to who is forgotten. docs/protocol.md, "Registers".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from heapq import nlargest
from typing import Final

from protocol.errors import PeerFault
from protocol.limits import MAX_CLOCK_LEAD_MS, MAX_REPORTS_OF_ONE_DEVICE
from protocol.model.register import is_report, parse_register, stored_register
from protocol.replica.at_work.forgotten import devices_of_forgotten
from protocol.replica.at_work.replica import Replica
from protocol.replica.interfaces import RegisterRow

_REGISTERS_AT_ONCE: Final = 128


async def keep_reports(replica: Replica, registers: Sequence[bytes], now_ms: int) -> list[RegisterRow]:
    """Keep those of these signed registers that are reports, good, and newer than what is held; returns them."""
    said: defaultdict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
    for number, data in enumerate(registers):
        if number % _REGISTERS_AT_ONCE == 0:
            await asyncio.sleep(0)
        with contextlib.suppress(PeerFault):
            claimed = stored_register(data)
            is_ahead = claimed.at_ms > now_ms + MAX_CLOCK_LEAD_MS
            if not is_ahead and is_report(claimed) and replica.door.authorities_of(claimed.device):
                said[claimed.device].append((claimed.at_ms, data))
    rows = []
    for number, (device, claims) in enumerate(said.items()):
        if number % _REGISTERS_AT_ONCE == 0:
            await asyncio.sleep(0)
        # the latest is kept; who brings thousands of one device's has few of them verified
        for _, data in nlargest(MAX_REPORTS_OF_ONE_DEVICE, claims):
            with contextlib.suppress(PeerFault):
                register = parse_register(data)
                if await replica.readable(device):
                    rows.append(RegisterRow(register.kind, register.subject, device, register.at_ms, data))
                    break
    # of whom that is, only what is signed is worth asking
    forgotten = await devices_of_forgotten(replica, [row.device for row in rows])
    return await replica.store.put_registers([row for row in rows if row.device not in forgotten])
