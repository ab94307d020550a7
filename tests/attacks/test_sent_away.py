"""A server in wrong hands that tells machines to come back in a thousand years."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Code, NoAnswer
from protocol.messages.errors import encode_error
from tests.harness.attack import attack
from tests.harness.classroom import classroom

ROW = "a server sends every machine away for good"


@attack(ROW, off={"protocol.messages.errors.MAX_RETRY_AFTER_S": 2**64})
async def test_nobody_is_told_to_stay_away_for_longer_than_some_minutes(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        machine = await room.machine()

        async def busy(*_: Any) -> bytes:
            raise NoAnswer(Code.BUSY, "later")

        handlers = room.frontage.responder._handlers
        room.frontage.responder._handlers = dict.fromkeys(handlers, busy)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("protocol.replica.answering.serving.encode_error", lambda error: encode_error(error, 2**63))
            with pytest.raises(NoAnswer) as sent_away:
                await machine.session.sync()
        assert sent_away.value.code is Code.BUSY
        wait_s = sent_away.value.facts["retry_after_s"]
        assert isinstance(wait_s, int)
        assert wait_s <= 3_600
