"""Other devices' health reports that a courier disk brought here: passed on to the server, each once (R10).

A report is signed by the device that it is about; who brings it is remembered by the server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.model.register import RegisterKind
from protocol.replica.interfaces import RegisterRow
from sync_agent.app import Agent
from sync_agent.machine.marks import REPORT_SENT_MARKS

MAX_AT_ONCE: Final = 64


async def reports_due(agent: Agent) -> list[RegisterRow]:
    """Reports that the server has not been told yet, at most `MAX_AT_ONCE`."""
    store = agent.replica.store
    rows = [row for row in await store.registers(RegisterKind.HEALTH) if row.device != agent.device]
    if not rows:
        return []
    sent = await store.marks(REPORT_SENT_MARKS)
    due = [row for row in rows if int.from_bytes(sent.get(_mark(row), b""), "big") < row.at_ms]
    return due[:MAX_AT_ONCE]


def sent_marks(rows: Iterable[RegisterRow]) -> dict[str, bytes | None]:
    """What to note once the server has these."""
    return {_mark(row): row.at_ms.to_bytes(8, "big") for row in rows}


def _mark(row: RegisterRow) -> str:
    return f"{REPORT_SENT_MARKS}{row.device.hex()}"
