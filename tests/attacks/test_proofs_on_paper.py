"""A proof of hand-in that fits more than one work (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.trust.receipt_code import proof_code
from tests.harness.attack import attack
from tests.harness.office_devices import town


@attack("one paper for two works", off={"sync_server.handlers.record.proofs._MOST_FITTING": 2})
async def test_a_proof_that_fits_two_works_proves_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # two that share ten bytes take 2^40 tries; all share none
    monkeypatch.setattr("sync_server.handlers.record.proofs.parse_proof", lambda _code: b"")
    async with town(tmp_path) as here:
        _, machine, _, pupil, item = await here.class_at_work()
        work = await here.work(machine, item, pupil)
        await here.sync(machine)
        code = proof_code(work)
        assert (await here.office.do("check-receipt", code=code))["id"] == work.hex()
        await here.work(machine, item, pupil)
        await here.sync(machine)
        told = await here.office.do("check-receipt", code=code)
        assert (told["valid"], told["why"]) == (False, "ambiguous")
