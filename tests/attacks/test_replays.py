"""What was said once, said again by somebody else (docs/attacks.md)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protocol.errors import RelaisError
from protocol.messages.calls import SyncRequest
from protocol.messages.wire import SYNC_PATH, Call
from tests.harness.attack import attack
from tests.harness.fleet import pages_over
from tests.harness.raw_device import RawDevice, http_call
from tests.harness.server_in_process import office


@attack(
    "replayed request or answer",
    off={"protocol.replica.answering.serving.seal_answer": lambda payload, _, **__: payload},
)
async def test_a_request_said_again_by_somebody_else_changes_nothing_and_tells_them_nothing(tmp_path: Path) -> None:
    pupil = "Éloïse Rejouée"
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        await made.add_person(pupil, "pupil")
        device = RawDevice(url)
        code = await made.invite("machine")
        try:
            await asyncio.to_thread(device.enroll, code)
            request, _ = device.sealed(Call.SYNC, SyncRequest().encode())
        except RelaisError:  # without the seal around answers it understands none
            request, _ = device.sealed(Call.SYNC, SyncRequest().encode())
        before = [(row["space"], row["fingerprint"]) for row in await made.do("space list")]
        answers = [await asyncio.to_thread(http_call, url, "POST", SYNC_PATH, request) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert len({answer.body for answer in answers}) == 3
        for answer in answers:
            assert pupil.encode() not in answer.body
            assert bytes.fromhex(made.space) not in answer.body
        assert [(row["space"], row["fingerprint"]) for row in await made.do("space list")] == before
