"""What sealing costs: a hand-in of 20 MB sealed and opened, its key for 50 readers, a call's envelope; memory of 1 GB.

The first four are functions of the protocol, on CPU time of one core, the best of several rounds. The memory is that of
the commands `hand-in` and `open-hand-in`, over real stores.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

from bench.admission import one_core
from bench.relais import School
from bench.results import Result, Setting
from protocol.identity import AgreementKey, SigningKey
from protocol.limits import FILE_PIECE_BYTES, MAX_READERS_PER_HAND_IN
from protocol.messages.wire import Call
from protocol.trust.envelope import open_answer, open_request, seal_answer, seal_request
from protocol.trust.sealing import SealedFile, SealReader, SealWriter, wrap_info, wrap_key

WORK_BYTES: Final = 20_000_000
LARGE_BYTES: Final = 1_000_000_000
ROUNDS: Final = 5
ENVELOPES: Final = 200
MEMORY_GOAL_BYTES: Final = 120e6
_TABLE: Final = "sealing"


def measure(setting: Setting) -> Iterator[Result]:
    """One table."""
    with one_core():
        yield from _of_the_protocol()
    yield from _of_the_commands(setting.work / "sealing")


def _of_the_protocol() -> Iterator[Result]:
    data, key = os.urandom(WORK_BYTES), os.urandom(32)
    sealed = _sealed(data, key)
    goal = {"megabytes_per_s": 100.0}
    seal_s, open_s = _best(lambda: _sealed(data, key)), _best(lambda: _opened(sealed, key))
    yield Result(_TABLE, "seal a hand-in of 20 MB", {"megabytes_per_s": WORK_BYTES / 1e6 / seal_s}, goal)
    yield Result(_TABLE, "open it again", {"megabytes_per_s": WORK_BYTES / 1e6 / open_s}, goal)
    readers = [AgreementKey(os.urandom(32)).public for _ in range(MAX_READERS_PER_HAND_IN)]
    info = wrap_info(space=bytes(32), item=bytes(32), person=bytes(16), author=bytes(32), commitment=bytes(32))
    wrap_s = _best(lambda: [wrap_key(key, reader, info, os.urandom(32)) for reader in readers])
    yield Result(_TABLE, "its key for 50 readers", {"cpu_ms": 1000 * wrap_s}, {"cpu_ms": 10.0})
    device, server, agreement = SigningKey(os.urandom(32)), SigningKey(os.urandom(32)), AgreementKey(os.urandom(32))
    message = os.urandom(200)

    def ask(count: int) -> None:
        for _ in range(count):
            seal_request(
                Call.SYNC,
                message,
                device=device,
                recipient_public=agreement.public,
                reply=AgreementKey(os.urandom(32)),
                ephemeral=os.urandom(32),
            )

    reply = AgreementKey(os.urandom(32))
    request = seal_request(
        Call.SYNC,
        message,
        device=device,
        recipient_public=agreement.public,
        reply=reply,
        ephemeral=os.urandom(32),
    )
    asked = open_request(request, [agreement])
    answer = seal_answer(message, asked, server=server, ephemeral=os.urandom(32))
    goal = {"cpu_ms": 0.5}
    sent_s = _best(lambda: ask(ENVELOPES)) / ENVELOPES
    taken_s = _best(lambda: [open_request(request, [agreement]) for _ in range(ENVELOPES)]) / ENVELOPES
    yield Result(_TABLE, "a request: signed, sealed; opened, verified", {"cpu_ms": 1000 * (sent_s + taken_s)}, goal)
    back_s = (
        _best(
            lambda: [
                open_answer(
                    seal_answer(message, asked, server=server, ephemeral=os.urandom(32)),
                    request,
                    reply=reply,
                    server_public=server.public,
                )
                for _ in range(ENVELOPES)
            ]
        )
        / ENVELOPES
    )
    if open_answer(answer, request, reply=reply, server_public=server.public) != message:
        raise AssertionError("an answer did not open")
    yield Result(_TABLE, "its answer, the same", {"cpu_ms": 1000 * back_s}, goal)


def _of_the_commands(folder: Path) -> Iterator[Result]:
    school = School.found(folder)
    space = school.add_class("CM1")
    teacher = str(school.tell_server("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"])
    pupil = str(school.tell_server("person", "add", "Léa", "--role", "pupil", "--space", space)["person"])
    task = folder / "devoir.txt"
    task.write_text("Racontez.")
    goals = {"client_peak_bytes": MEMORY_GOAL_BYTES}
    with school.serving():
        school.tell("teacher", *school.enrolment("teacher", [space], teacher))
        school.tell("pupil", *school.enrolment("machine", [space]))
        words = ("publish", str(task), "--space", space, "--title", "Devoir", "--kind", "assignment")
        item = str(school.tell("teacher", *words)["item"])
        school.tell("teacher", "sync")
        school.tell("pupil", "sync")
        for size in (WORK_BYTES, LARGE_BYTES):
            named = f"{size / 1e6:,.0f} MB"
            work = folder / "film.mp4"
            _write_noise(work, size)
            made = school.measure("pupil", "hand-in", item, str(work), "--person", pupil)
            yield Result(
                _TABLE,
                f"hand-in of {named}, the command",
                {"wall_s": made.wall_s, "client_peak_bytes": made.client.peak_bytes},
                goals,
            )
            school.tell("pupil", "sync")
            school.tell("teacher", "sync")
            rows = school.tell("teacher", "hand-ins")
            newest = max(rows, key=lambda row: str(row["at"]))["id"]
            opened = school.measure("teacher", "open-hand-in", newest, str(folder / f"copie-{size}"))
            yield Result(
                _TABLE,
                f"open-hand-in of {named}, the command",
                {"wall_s": opened.wall_s, "client_peak_bytes": opened.client.peak_bytes},
                goals,
            )
    shutil.rmtree(folder)


def _write_noise(path: Path, size: int) -> None:
    rng = Random(size)
    with path.open("wb") as file:
        for _ in range(size // 10_000_000):
            file.write(rng.randbytes(10_000_000))


def _sealed(data: bytes, key: bytes) -> list[bytes]:
    writer = SealWriter(key, [SealedFile("film.mp4", len(data))])
    view = memoryview(data)
    out: list[bytes] = []
    for at in range(0, len(data), FILE_PIECE_BYTES):
        out += writer.feed(bytes(view[at : at + FILE_PIECE_BYTES]))
    return [*out, *writer.finish()]


def _opened(sealed: list[bytes], key: bytes) -> None:
    reader = SealReader(key)
    for number, chunk in enumerate(sealed, 1):
        reader.feed(chunk, last=number == len(sealed))
    reader.finish()


def _best(work: Callable[[], object]) -> float:
    """The least CPU seconds of some rounds."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)
