"""A small program in the frame of both command lines; a process of its own where a test needs one."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from protocol.errors import BadInput, Code, NoAnswer, Refused
from protocol.replica.console.frame import Call, Notices, Program
from protocol.replica.console.operation import JSON
from protocol.replica.console.options import Argument, Option

PROGRAM = Program("sync-agent", "A program for tests.", lambda: "1.2.3")


@PROGRAM.command("publish")
def publish(
    call: Call,
    *,
    path: Annotated[list[str], Argument(metavar="PATH…")],
    space: Annotated[str, Option(metavar="ID")],
    peers: Annotated[list[str] | None, Option("--peer")] = None,
    uses: Annotated[int, Option(min=1)] = 1,
    behind_proxy: bool = False,
) -> JSON:
    """Say what was understood."""
    return {
        "path": path,
        "space": space,
        "peer": peers,
        "uses": uses,
        "behind": behind_proxy,
        "dir": str(call.data_dir),
    }


@PROGRAM.command("space add")
async def space_add(call: Call, *, name: Annotated[str, Argument()], school: Annotated[str, Option()]) -> JSON:
    """Say what was understood, after a turn of the loop."""
    await asyncio.sleep(0)
    return {"command": call.command, "name": name, "school": school}


@PROGRAM.command("say")
def say(call: Call, *, text: Annotated[str, Option(has_lines=True)]) -> JSON:
    """Say what was understood."""
    del call
    return {"text": text}


@PROGRAM.command("space list")
def space_list(call: Call, *, shape: str = "table") -> JSON:
    """Give results of several shapes."""
    del call
    rows: list[dict[str, JSON]] = [
        {"name": "6e B", "entries": 12, "fingerprint": None, "files": [{"path": "a"}, {"path": "b"}]},
        {"name": "École\x1b[31m\n", "entries": 7, "late": True, "files": []},
    ]
    shapes: dict[str, JSON] = {
        "table": rows,
        "empty": [],
        "nothing": {},
        "record": {"ok": False, "spaces": rows, "disk": {"free": 3}},
    }
    return shapes[shape]


@PROGRAM.command("verify", verdict=True)
def verify(call: Call, *, broken: bool = False) -> JSON:
    """End with a verdict."""
    del call
    return {"ok": not broken, "problems": ["pack 3"] if broken else []}


@PROGRAM.command("run", lasting=True)
def run(call: Call, *, listen: str = "nowhere") -> JSON:
    """Say what is kept in memory while the command lasts."""
    return {"listen": listen, "data": str(call.data_dir), "parser": "pydantic" in sys.modules}


@PROGRAM.command("note")
def note(call: Call) -> JSON:
    """Write into DIR which number the first file that is opened gets."""
    with (call.data_dir / "number").open("w") as file:
        file.write(str(file.fileno()))
    return {}


@PROGRAM.command("accents")
def accents(call: Call) -> JSON:
    """Make a file in DIR that has an accent in its name."""
    (call.data_dir / "été.txt").touch()
    return {}


@PROGRAM.command("cat", raw=True)
def cat(call: Call) -> JSON:
    """Write raw bytes."""
    del call
    sys.stdout.buffer.write(b"\xff\x00raw")
    return {"ignored": True}


@PROGRAM.command("fail")
def fail(call: Call, *, how: Annotated[str, Option()]) -> JSON:
    """Fail in a way."""
    del call
    raise {
        "input": BadInput(Code.UNKNOWN_ITEM, "there is no such item: é\x07"),
        "refused": Refused(Code.NO_RIGHT, "only teachers publish"),
        "silence": NoAnswer(Code.UNREACHABLE, "nobody answers"),
        "bug": ZeroDivisionError("one by zero"),
        "full": OSError(28, "No space left on device"),
        "interrupt": KeyboardInterrupt(),
        "locale": UnicodeEncodeError("latin-1", "☺.txt", 0, 1, "ordinal not in range(256)"),
    }[how]


@PROGRAM.command("flood", raw=True)
def flood(call: Call) -> JSON:
    """Write for ever."""
    del call
    while True:
        sys.stdout.buffer.write(b"x" * 65536)


@PROGRAM.command("wait")
async def wait(call: Call) -> JSON:
    """Wait for ever."""
    del call
    await Notices().progress("waiting")
    await asyncio.Event().wait()
    return {}


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
