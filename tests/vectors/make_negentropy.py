"""Record negentropy.json: dialogues of two implementations of Negentropy v1, neither of which is ours.

The asking side is JavaScript (make_negentropy.mjs), the answering side the Rust crate `negentropy` inside the loopback
relay of the PyPI package `nostr-sdk` (MIT), which knows signed notes only: so the records are notes, and their ids are
what that format makes them. The relay stops a message at 60,000 bytes. Run in a scratch folder, never in CI:

    npm install nostr-tools@2.25.2 && pip install aiohttp nostr-sdk==0.45.1
    python PROJECT/tests/vectors/make_negentropy.py > PROJECT/tests/vectors/negentropy.json
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp

SECRET = "11" * 32
RELAY_FRAME_BYTES = 60_000
LITERAL_BYTES = 700
FORMULA = (
    'record n: timestamp = 1700000000 + (n * 7919 mod spread), id = SHA-256 of the text [0,"AUTHOR",timestamp,1,[],"n"]'
    " with this file's author. A side holds the records from..to (not including to) of `initiator` or `responder` "
    "without those that `initiator_lacks_every` or `responder_lacks_every` divides (0: lacks none). `messages` "
    "alternate, the initiator's first, in hex, or as [size in bytes, SHA-256] where long. `have` and `need` are what "
    "the initiator learns, as numbers of records."
)
CASES: list[dict[str, Any]] = [
    {"name": "both empty", "initiator": [0, 0], "responder": [0, 0]},
    {"name": "nothing here", "initiator": [0, 0], "responder": [0, 3]},
    {"name": "nothing there", "initiator": [0, 3], "responder": [0, 0]},
    {"name": "31 records are listed", "initiator": [0, 31], "responder": [1, 32]},
    {"name": "32 records are split", "initiator": [0, 32], "responder": [0, 31]},
    {"name": "equal", "initiator": [0, 1000], "responder": [0, 1000]},
    {
        "name": "both lack some",
        "initiator": [0, 2000],
        "responder": [0, 2000],
        "initiator_lacks_every": 97,
        "responder_lacks_every": 151,
    },
    {
        "name": "all at one moment",
        "initiator": [0, 700],
        "responder": [0, 700],
        "spread": 1,
        "initiator_lacks_every": 60,
        "responder_lacks_every": 70,
    },
    {
        "name": "few moments",
        "initiator": [0, 700],
        "responder": [0, 700],
        "spread": 12,
        "initiator_lacks_every": 100,
        "responder_lacks_every": 130,
    },
    {"name": "the responder's frame cuts a list", "initiator": [0, 20], "responder": [0, 2500]},
    {
        "name": "the responder's frame cuts a split",
        "initiator": [0, 3900],
        "responder": [0, 4000],
        "responder_lacks_every": 9,
    },
    {
        "name": "the initiator's frame is small",
        "initiator_frame_limit_bytes": 4096,
        "initiator": [0, 1500],
        "responder": [0, 1500],
        "initiator_lacks_every": 23,
        "responder_lacks_every": 31,
    },
]


class Notes:
    """The records of one dialogue as notes: kind 1 for the relay, told apart by their own author key."""

    def __init__(self, sdk: Any) -> None:
        self._sdk = sdk
        self._keys = sdk.Keys.parse(SECRET)
        self.author: str = self._keys.public_key().to_hex()

    def timestamp(self, case: dict[str, Any], n: int) -> int:
        return 1_700_000_000 + n * 7919 % int(case["spread"])

    def id(self, case: dict[str, Any], n: int) -> str:
        text = f'[0,"{self.author}",{self.timestamp(case, n)},1,[],"{n}"]'
        return hashlib.sha256(text.encode()).hexdigest()

    def signed(self, case: dict[str, Any], n: int) -> Any:
        builder = self._sdk.EventBuilder(self._sdk.Kind(1), str(n))
        moment = self._sdk.Timestamp.from_secs(self.timestamp(case, n))
        note = json.loads(builder.custom_created_at(moment).finalize(self._keys).as_json())
        assert note["id"] == self.id(case, n)
        return note


def held(case: dict[str, Any], side: str) -> list[int]:
    first, end = case[side]
    lacks = case[f"{side}_lacks_every"]
    return [n for n in range(first, end) if not lacks or n % lacks]


async def record(sdk: Any, http: aiohttp.ClientSession, case: dict[str, Any]) -> dict[str, Any]:
    notes = Notes(sdk)
    limit = sdk.RateLimit(max_reqs=100_000, notes_per_minute=10_000_000)
    builder = sdk.LocalRelayBuilder().addr("127.0.0.1").rate_limit(limit)
    relay = builder.max_filter_limit(1_000_000).default_filter_limit(1_000_000).build()
    await relay.run()
    here = Path(__file__).with_suffix(".mjs")
    pipe = asyncio.subprocess.PIPE
    asking = await asyncio.create_subprocess_exec("node", str(here), stdin=pipe, stdout=pipe, limit=2**24)
    assert asking.stdin is not None
    assert asking.stdout is not None
    async with http.ws_connect(str(await relay.url()), max_msg_size=0) as socket:
        for n in held(case, "responder"):
            await socket.send_json(["EVENT", notes.signed(case, n)])
            assert (await socket.receive_json())[2] is True
        items = [[notes.timestamp(case, n), notes.id(case, n)] for n in held(case, "initiator")]
        line = json.dumps({"items": items, "frame_limit_bytes": case["initiator_frame_limit_bytes"]})
        messages: list[str] = []
        learned: dict[str, set[str]] = {"have": set(), "need": set()}
        while True:
            asking.stdin.write(line.encode() + b"\n")
            step = json.loads(await asking.stdout.readline())
            for side, ids in learned.items():
                ids.update(step[side])
            if step["message"] is None:
                break
            opening = ["NEG-OPEN", "dialogue", {"kinds": [1]}] if not messages else ["NEG-MSG", "dialogue"]
            await socket.send_json([*opening, step["message"]])
            line = (await socket.receive_json())[2]
            messages += [step["message"], line]
    asking.stdin.close()
    await asking.wait()
    relay.shutdown()
    number = {notes.id(case, n): n for n in range(max(case["initiator"][1], case["responder"][1]))}
    differences = {side: sorted(number[entry] for entry in ids) for side, ids in learned.items()}
    return {**case, "messages": [shortened(message) for message in messages], **differences}


def shortened(message: str) -> object:
    data = bytes.fromhex(message)
    return message if len(data) <= LITERAL_BYTES else [len(data), hashlib.sha256(data).hexdigest()]


async def main() -> None:
    sdk = importlib.import_module("nostr_sdk")
    lacks = {"initiator_lacks_every": 0, "responder_lacks_every": 0}
    defaults = {"spread": 100_000, **lacks, "initiator_frame_limit_bytes": RELAY_FRAME_BYTES}
    async with aiohttp.ClientSession() as http:
        dialogues = [await record(sdk, http, {**defaults, **case}) for case in CASES]
    vectors = {
        "format": "Negentropy v1, branching 16, lists below 32",
        "author": Notes(sdk).author,
        "responder_frame_limit_bytes": RELAY_FRAME_BYTES,
        "formula": FORMULA,
    }
    lines = ",\n".join(f"  {json.dumps(dialogue)}" for dialogue in dialogues)
    sys.stdout.write(f'{json.dumps(vectors, indent=1)[:-2]},\n "dialogues": [\n{lines}\n ]\n}}\n')


if __name__ == "__main__":
    asyncio.run(main())
