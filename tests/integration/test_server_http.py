"""The server's HTTP at its edges: what a broken, hostile or merely slow machine sends, and what it is answered."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from protocol.errors import Code, Refused, RelaisError
from protocol.identity import AgreementKey
from protocol.limits import MAX_REQUEST_BYTES, MAX_WAITING_CALLS_PER_ADDRESS
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.parts import Offer, Upload, Wanted
from protocol.messages.wire import CONTENT_TYPE, ENROLL_PATH, PACKS_PATH, RECONCILE_PATH, SYNC_PATH, Call
from protocol.model.entry import Kind
from protocol.model.work import ContentRef, HandIn
from protocol.reconcile.checkpoint import Cursor
from protocol.transfer.chunking import chunk_list
from protocol.transfer.pack import FinishedPack
from protocol.transfer.pack_writer import PackWriter
from tests.harness.caller import in_sealed_form
from tests.harness.machines import Machine
from tests.harness.patience import PATIENCE_S, eventually
from tests.harness.raw_device import Answer, RawDevice, http_call, raw_call
from tests.harness.server_thread import running_server

PACK_BYTES = 300_000


@dataclass
class Desk:
    """A running server with a class, a teacher's device and a machine."""

    server: Machine
    url: str
    space: bytes
    pupil: bytes
    teacher: RawDevice
    machine: RawDevice

    def invite(self, role: str, *more: str) -> str:
        return str(self.server.ok("invite", "--role", role, "--space", self.space.hex(), *more)["code"])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("http")
    server = Machine("server", folder / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(folder / "kit"))
    with running_server(server.folder) as url:
        space = server.ok("space", "add", "CM2 B", "--school", "0180001D")["space"]
        person = server.ok("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
        pupil = server.ok("person", "add", "Léa", "--role", "pupil", "--space", space)["person"]
        made = Desk(server, url, bytes.fromhex(space), bytes.fromhex(pupil), RawDevice(url), RawDevice(url))
        made.teacher.enroll(made.invite("teacher", "--person", person))
        made.machine.enroll(made.invite("machine"))
        yield made


def connected(desk: Desk) -> socket.socket:
    parts = urlsplit(desk.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE_S)


def error_code(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/json"
    document = json.loads(answer.body)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"code", "message"}
    return str(document["error"]["code"])


def post(desk: Desk, path: str, body: bytes, **headers: str) -> Answer:
    return http_call(desk.url, "POST", path, body, {"Content-Type": CONTENT_TYPE, **headers})


# --- sealed calls -----------------------------------------------------------------------------------------------------


def test_a_quiet_sync_of_eight_spaces_costs_less_than_a_kilobyte_of_http(desk: Desk) -> None:
    spaces = [
        desk.server.ok("space", "add", f"Groupe {number}", "--school", "0180001D")["space"] for number in range(5)
    ]
    device = RawDevice(desk.url)
    code = desk.server.ok("invite", "--role", "machine", *(word for space in spaces for word in ("--space", space)))
    device.enroll(code["code"])
    news = device.sync()
    cursors = tuple(
        Cursor(page.checkpoint.space[:4], page.checkpoint.count, page.checkpoint.chain, complete=True)
        for page in news.pages
    )
    assert len(cursors) == 7, "five groups, their school, the territory"
    quiet = SyncRequest(generation=news.generation, cursors=cursors)
    assert not device.sync(quiet).pages
    request, _ = device.sealed(Call.SYNC, quiet.encode())
    host = urlsplit(desk.url).netloc
    head = (
        f"POST {SYNC_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(request)}\r\n\r\n"
    )
    sent = head.encode() + request
    answer = raw_call(desk.url, sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(sent) + len(answer) < 1000, (len(sent), len(answer))


@pytest.mark.parametrize("path", [SYNC_PATH, RECONCILE_PATH])
@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", Code.UNKNOWN_FORMAT), (b"\x07" * 100, Code.UNKNOWN_FORMAT), (b"\x00" * 20, Code.MALFORMED)],
)
def test_what_is_no_request_is_named(desk: Desk, path: str, body: bytes, code: Code) -> None:
    answer = post(desk, path, body)
    assert (answer.status, error_code(answer)) == (400, code)


@pytest.mark.parametrize("at", [9, 41, 60, -1])
def test_a_request_that_was_changed_on_the_way_does_not_open(desk: Desk, at: int) -> None:
    request = bytearray(desk.machine.sealed(Call.SYNC, SyncRequest().encode())[0])
    request[at] ^= 1
    answer = post(desk, SYNC_PATH, bytes(request))
    assert (answer.status, error_code(answer)) == (400, Code.BAD_SEAL)


@pytest.mark.parametrize("length", [1, 8, 9, 57, 100])
def test_a_request_that_was_cut_short_does_not_open(desk: Desk, length: int) -> None:
    request = desk.machine.sealed(Call.SYNC, SyncRequest().encode())[0]
    answer = post(desk, SYNC_PATH, request[:length])
    assert answer.status == 400
    assert error_code(answer) in {Code.MALFORMED, Code.BAD_SEAL}


def test_a_request_sealed_to_a_foreign_key_is_answered_with_the_chain_that_leads_to_the_right_one(desk: Desk) -> None:
    stranger = RawDevice(desk.url, keys=desk.machine.keys)
    stranger.server_agreement = AgreementKey(os.urandom(32)).public
    answer = post(desk, SYNC_PATH, stranger.sealed(Call.SYNC, SyncRequest().encode())[0])
    assert (answer.status, answer.headers["content-type"]) == (421, CONTENT_TYPE)
    stranger.trust(answer.body)
    assert stranger.server_agreement == desk.machine.server_agreement
    assert stranger.sync().pages


def test_a_message_that_is_not_canonical_is_refused_inside_the_envelope(desk: Desk) -> None:
    with pytest.raises(RelaisError) as raised:
        SyncAnswer.parse(desk.machine.call(SYNC_PATH, Call.SYNC, b"\x81\xd9\x04want\x90"))
    assert raised.value.code is Code.NOT_CANONICAL


@pytest.mark.parametrize(
    ("path", "call"), [(RECONCILE_PATH, Call.SYNC), (SYNC_PATH, Call.RECONCILE), (ENROLL_PATH, Call.SYNC)]
)
def test_a_call_sent_to_another_calls_address_is_refused(desk: Desk, path: str, call: Call) -> None:
    request, _ = desk.machine.sealed(call, SyncRequest().encode())
    assert post(desk, path, request).status == 400


def test_a_device_that_nobody_let_in_is_told_so_sealed(desk: Desk) -> None:
    stranger = RawDevice(desk.url)
    stranger.meet()
    assert stranger.refusal().code is Code.UNKNOWN_DEVICE
    with pytest.raises(Refused):
        stranger.sync()


def test_a_replayed_request_does_nothing_new(desk: Desk) -> None:
    request, _ = desk.machine.sealed(Call.SYNC, SyncRequest().encode())
    before = desk.server.ok("status")["entries"]
    assert {post(desk, SYNC_PATH, request).status for _ in range(3)} == {200}
    assert desk.server.ok("status")["entries"] == before


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_of_the_largest_size_is_read_and_one_byte_more_is_not(desk: Desk) -> None:
    answer = post(desk, SYNC_PATH, b"\x07" * MAX_REQUEST_BYTES)
    assert (answer.status, error_code(answer)) == (400, Code.UNKNOWN_FORMAT)
    answer = post(desk, SYNC_PATH, b"\x07" * (MAX_REQUEST_BYTES + 1))
    assert (answer.status, error_code(answer)) == (413, Code.TOO_LARGE)


def test_a_size_beyond_the_bound_is_refused_before_the_body_comes(desk: Desk) -> None:
    head = f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_REQUEST_BYTES + 1}\r\n\r\n"
    with connected(desk) as connection:
        connection.sendall(head.encode())
        assert connection.recv(13) == b"HTTP/1.1 413 "


def test_an_undeclared_size_is_refused_at_the_first_byte_too_many(desk: Desk) -> None:
    pieces = [b"\x07" * 65_536] * (MAX_REQUEST_BYTES // 65_536)
    answer = http_call(desk.url, "POST", SYNC_PATH, iter(pieces), {"Transfer-Encoding": "chunked"})
    assert (answer.status, error_code(answer)) == (400, Code.UNKNOWN_FORMAT)
    answer = http_call(desk.url, "POST", SYNC_PATH, iter([*pieces, b"\x07"]), {"Transfer-Encoding": "chunked"})
    assert (answer.status, error_code(answer)) == (413, Code.TOO_LARGE)


@pytest.mark.parametrize("path", [SYNC_PATH, ENROLL_PATH, RECONCILE_PATH])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity"])
def test_an_encoded_body_is_refused(desk: Desk, path: str, encoding: str) -> None:
    answer = post(desk, path, gzip.compress(bytes(1_000_000)), **{"Content-Encoding": encoding})
    assert (answer.status, error_code(answer)) == (415, Code.ENCODED_BODY)


def test_a_body_that_breaks_off_leaves_the_server_as_it_was(desk: Desk) -> None:
    request = desk.machine.sealed(Call.SYNC, SyncRequest().encode())[0]
    head = f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    for length in (0, 1, len(request) - 1):
        assert not raw_call(desk.url, head + request[:length], half_close=True).startswith(b"HTTP/1.1 200")
    assert desk.machine.sync().pages


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/sync HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_with_400_and_the_server_goes_on(desk: Desk, data: bytes) -> None:
    answer = raw_call(desk.url, data, half_close=True)
    assert answer[:13] in {b"", b"HTTP/1.1 400 ", b"HTTP/1.0 400 "}
    assert http_call(desk.url, "GET", "/livez").status == 200


def test_addresses_and_methods_that_mean_nothing_are_named_in_json(desk: Desk) -> None:
    answer = http_call(desk.url, "GET", "/v1/nothing")
    assert (answer.status, error_code(answer)) == (404, Code.UNKNOWN_PATH)
    answer = http_call(desk.url, "GET", SYNC_PATH)
    assert (answer.status, error_code(answer), answer.headers["allow"]) == (405, Code.USAGE, "POST")
    assert "server" not in answer.headers
    assert "date" not in answer.headers


def test_more_callers_than_can_wait_are_asked_to_come_back(desk: Desk) -> None:
    head = f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
    with ExitStack() as waiting:
        for _ in range(MAX_WAITING_CALLS_PER_ADDRESS):
            waiting.enter_context(connected(desk)).sendall(head)

        def turned_away() -> Answer | None:
            answer = post(desk, SYNC_PATH, b"\x07" * 100)
            return answer if answer.status == 503 else None

        answer = eventually("there is no room left", turned_away)
        assert error_code(answer) == Code.BUSY
        assert int(answer.headers["retry-after"]) > 0
        assert http_call(desk.url, "GET", "/readyz").status == 200
    eventually("there is room again", lambda: post(desk, SYNC_PATH, b"\x07").status == 400)


# --- content ----------------------------------------------------------------------------------------------------------


@dataclass
class Sealed:
    """A hand-in's content: its pack, whole, and the stream that the entry names."""

    data: bytes
    finished: FinishedPack
    stream: bytes


def sealed_content(size: int = PACK_BYTES) -> Sealed:
    writer = PackWriter()
    chunks = in_sealed_form(os.urandom(size))
    for chunk in chunks:
        writer.add_chunk(chunk)
    stream = writer.add_stream(chunk_list(chunks))
    finished = writer.finish()
    return Sealed(writer.take(), finished, stream)


@pytest.fixture
def offered(desk: Desk) -> tuple[Sealed, Upload]:
    """A hand-in that the server has heard of, and where it wants its content."""
    content = sealed_content()
    payload = HandIn(ContentRef(content.stream, PACK_BYTES, 0), None).encode()
    entry = desk.machine.say(desk.space, Kind.HAND_IN, payload, subject=desk.pupil, target=os.urandom(32))
    answer = desk.machine.sync(
        SyncRequest(push=(entry,), offers=(Offer(desk.space, content.finished.hash, content.finished.size),))
    )
    assert not answer.refused
    (upload,) = answer.uploads
    assert (upload.pack, upload.offset) == (content.finished.hash, 0)
    return content, upload


def receipts(desk: Desk) -> int:
    return sum(row["state"] == "server" for row in desk.server.ok("hand-ins", "--space", desk.space.hex()))


def test_content_arrives_in_any_pieces_and_only_whole_content_gets_a_receipt(
    desk: Desk, offered: tuple[Sealed, Upload]
) -> None:
    content, upload = offered
    before = receipts(desk)
    size = len(content.data)
    cuts = [0, 0, 1, 2, 65_535, 65_536, 65_537, 200_000, size - 1]
    for start, end in pairwise(cuts):
        answer = desk.machine.send(upload.capability, content.data[start:end], start)
        assert (answer.status, answer.headers["upload-offset"], answer.body) == (204, str(end), b"")
        assert receipts(desk) == before
    answer = desk.machine.send(upload.capability, content.data[-1:], size - 1)
    assert (answer.status, answer.headers["upload-offset"]) == (201, str(size))
    assert receipts(desk) == before + 1
    again = desk.machine.send(upload.capability, content.data, 0)
    assert (again.status, again.headers["upload-offset"]) == (201, str(size)), "sent twice is sent"
    (held,) = desk.machine.sync(
        SyncRequest(offers=(Offer(desk.space, content.finished.hash, content.finished.size),))
    ).uploads
    assert held.offset == content.finished.size


def test_content_that_continues_at_another_place_is_told_where(desk: Desk, offered: tuple[Sealed, Upload]) -> None:
    content, upload = offered
    for offset in (1, 100, len(content.data)):
        answer = desk.machine.send(upload.capability, content.data[offset:], offset)
        assert (answer.status, error_code(answer), answer.headers["upload-offset"]) == (409, Code.WRONG_OFFSET, "0")
    assert desk.machine.send(upload.capability, content.data[:10], 0).status == 204
    answer = desk.machine.send(upload.capability, content.data, 0)
    assert (answer.status, answer.headers["upload-offset"]) == (409, "10")


def test_an_upload_cut_off_in_the_middle_keeps_what_came_and_goes_on_from_there(
    desk: Desk, offered: tuple[Sealed, Upload]
) -> None:
    content, upload = offered
    head = (
        f"POST {PACKS_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {upload.capability}\r\n"
        f"Upload-Offset: 0\r\nContent-Length: {len(content.data)}\r\n\r\n"
    )
    offer = SyncRequest(offers=(Offer(desk.space, content.finished.hash, content.finished.size),))

    def kept() -> int:
        (wanted,) = desk.machine.sync(offer).uploads
        return wanted.offset

    with connected(desk) as connection:
        connection.sendall(head.encode() + content.data[:200_000])
        here = eventually("something of it is kept", kept)
    assert 0 < here <= 200_000
    # what was still on its way when the line was cut may have come meanwhile: then we are told where to go on
    answer = desk.machine.send(upload.capability, content.data[here:], here)
    while answer.status == 409:
        here = int(answer.headers["upload-offset"])
        assert 0 < here <= 200_000
        answer = desk.machine.send(upload.capability, content.data[here:], here)
    assert (answer.status, answer.headers["upload-offset"]) == (201, str(len(content.data)))


def test_who_goes_on_with_what_another_request_of_theirs_has_brought_meanwhile_is_told_where(
    desk: Desk, offered: tuple[Sealed, Upload]
) -> None:
    content, upload = offered
    head = (
        f"POST {PACKS_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {upload.capability}\r\n"
        f"Upload-Offset: 0\r\nContent-Length: {len(content.data)}\r\nConnection: close\r\n\r\n"
    )
    offer = SyncRequest(offers=(Offer(desk.space, content.finished.hash, content.finished.size),))
    with connected(desk) as connection:
        connection.sendall(head.encode() + content.data[:200_000])
        here = eventually("something of it is kept", lambda: desk.machine.sync(offer).uploads[0].offset)
        answer = desk.machine.send(upload.capability, content.data[here:], here)
        while answer.status == 409:
            here = int(answer.headers["upload-offset"])
            answer = desk.machine.send(upload.capability, content.data[here:], here)
        assert answer.status == 201
        connection.sendall(content.data[200_000:])
        told = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert told.startswith(b"HTTP/1.1 409")
    assert b"\r\nupload-offset: 0\r\n" in told.lower()
    assert desk.machine.send(upload.capability, content.data, 0).status == 201


def test_an_upload_of_undeclared_length_is_taken(desk: Desk, offered: tuple[Sealed, Upload]) -> None:
    content, upload = offered
    pieces = [content.data[at : at + 7_777] for at in range(0, len(content.data), 7_777)]
    told = {"Authorization": f"Bearer {upload.capability}", "Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    assert http_call(desk.url, "POST", PACKS_PATH, iter(pieces), told).status == 201


def test_bytes_that_are_not_the_pack_are_thrown_away(desk: Desk, offered: tuple[Sealed, Upload]) -> None:
    content, upload = offered
    wrong = bytearray(content.data)
    wrong[1000] ^= 1
    answer = desk.machine.send(upload.capability, bytes(wrong), 0)
    assert answer.status == 400
    assert error_code(answer)
    assert desk.machine.send(upload.capability, content.data, 0).status == 201


def test_no_byte_beyond_the_announced_size_is_taken(desk: Desk, offered: tuple[Sealed, Upload]) -> None:
    content, upload = offered
    answer = desk.machine.send(upload.capability, content.data + b"x", 0)
    assert (answer.status, error_code(answer)) == (413, Code.TOO_LARGE)
    told = {"Authorization": f"Bearer {upload.capability}", "Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    answer = http_call(desk.url, "POST", PACKS_PATH, iter([content.data, b"x"]), told)
    assert (answer.status, error_code(answer)) == (413, Code.TOO_LARGE)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": ""}, 403, Code.BAD_CAPABILITY),
        ({"Authorization": "Bearer "}, 403, Code.BAD_CAPABILITY),
        ({"Authorization": "Bearer AAAA"}, 403, Code.BAD_CAPABILITY),
        ({"Authorization": "Bearer é"}, 403, Code.BAD_CAPABILITY),
        ({"Upload-Offset": ""}, 400, Code.MALFORMED),
        ({"Upload-Offset": "-1"}, 400, Code.MALFORMED),
        ({"Upload-Offset": "1e3"}, 400, Code.MALFORMED),
        ({"Upload-Offset": "9" * 30}, 400, Code.MALFORMED),
        ({"Content-Encoding": "gzip"}, 415, Code.ENCODED_BODY),
    ],
)
def test_an_upload_without_its_papers_is_refused(
    desk: Desk, offered: tuple[Sealed, Upload], headers: dict[str, str], status: int, code: Code
) -> None:
    content, upload = offered
    answer = desk.machine.send(upload.capability, content.data, 0, headers)
    assert (answer.status, error_code(answer)) == (status, code)


@pytest.fixture(scope="module")
def link(desk: Desk) -> Callable[[], tuple[bytes, str]]:
    """Content at the server, and a link by which the teacher may fetch it."""
    content = sealed_content()
    payload = HandIn(ContentRef(content.stream, PACK_BYTES, 0), None).encode()
    entry = desk.machine.say(desk.space, Kind.HAND_IN, payload, subject=desk.pupil, target=os.urandom(32))
    offer = Offer(desk.space, content.finished.hash, content.finished.size)
    (upload,) = desk.machine.sync(SyncRequest(push=(entry,), offers=(offer,))).uploads
    assert desk.machine.send(upload.capability, content.data, 0).status == 201

    def ask() -> tuple[bytes, str]:
        found = desk.teacher.sync(SyncRequest(want=(Wanted(desk.space, content.stream),))).links
        return content.data, next(one.capability for one in found if one.pack == content.finished.hash)

    return ask


def test_content_is_fetched_whole_or_in_part(desk: Desk, link: Callable[[], tuple[bytes, str]]) -> None:
    data, capability = link()
    whole = desk.teacher.fetch(capability)
    assert (whole.status, whole.body, whole.headers["content-length"]) == (200, data, str(len(data)))
    assert whole.headers["accept-ranges"] == "bytes"
    size = len(data)
    for value, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=0-65535", 0, 65_536),
        ("bytes=262144-", 262_144, size),
        ("bytes=100-300000000", 100, size),
        ("bytes=-1", size - 1, size),
        ("bytes=-99999999", 0, size),
    ):
        part = desk.teacher.fetch(capability, Range=value)
        assert (part.status, part.body) == (206, data[start:end]), value
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)


def test_a_range_behind_the_end_is_answered_416_with_the_size(
    desk: Desk, link: Callable[[], tuple[bytes, str]]
) -> None:
    data, capability = link()
    for value in (f"bytes={len(data)}-", "bytes=-0"):
        answer = desk.teacher.fetch(capability, Range=value)
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(data)}")


def test_ranges_that_are_several_or_mean_nothing_get_the_whole(
    desk: Desk, link: Callable[[], tuple[bytes, str]]
) -> None:
    data, capability = link()
    for value in ("bytes=0-1,5-6", "bytes=5-4", "lines=1-2"):
        answer = desk.teacher.fetch(capability, Range=value)
        assert (answer.status, answer.body) == (200, data)


def test_a_part_is_given_only_of_the_content_that_the_caller_has_begun(
    desk: Desk, link: Callable[[], tuple[bytes, str]]
) -> None:
    data, capability = link()
    tag = desk.teacher.fetch(capability).headers["etag"]
    assert desk.teacher.fetch(capability, Range="bytes=5-", **{"If-Range": tag}).body == data[5:]
    assert desk.teacher.fetch(capability, Range="bytes=5-", **{"If-Range": '"other"'}).body == data


def test_a_link_is_for_fetching_and_nobody_can_make_one(
    desk: Desk, link: Callable[[], tuple[bytes, str]], offered: tuple[Sealed, Upload]
) -> None:
    data, capability = link()
    for text in ("AAAA", capability[:-1], capability[:-2] + "__", "é", offered[1].capability):
        answer = http_call(desk.url, "GET", f"{PACKS_PATH}/{text.encode().hex() if text == 'é' else text}")
        assert (answer.status, error_code(answer)) == (403, Code.BAD_CAPABILITY)
    assert desk.teacher.send(capability, data, 0).status == 403


def test_a_machine_may_not_fetch_what_another_handed_in(desk: Desk, link: Callable[[], tuple[bytes, str]]) -> None:
    link()
    other = RawDevice(desk.url)
    other.enroll(desk.invite("machine"))
    streams = [
        HandIn.parse(entry.payload or b"").content.stream
        for entry in (*other.known.values(), *desk.teacher.known.values())
        if entry.header.kind == Kind.HAND_IN
    ]
    answer = other.sync(SyncRequest(want=tuple(Wanted(desk.space, stream) for stream in streams)))
    assert (answer.links, answer.packs) == ((), ())


def test_a_reader_who_goes_away_is_no_trouble(desk: Desk, link: Callable[[], tuple[bytes, str]]) -> None:
    data, capability = link()
    with connected(desk) as connection:
        connection.sendall(f"GET {PACKS_PATH}/{capability} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(100)
    assert desk.teacher.fetch(capability).body == data


# --- supervision ------------------------------------------------------------------------------------------------------


def test_alive_is_said_without_looking(desk: Desk) -> None:
    assert http_call(desk.url, "GET", "/livez").status == 200


def test_ready_means_that_database_packs_disk_and_schema_are_there(desk: Desk) -> None:
    answer = http_call(desk.url, "GET", "/readyz")
    assert (answer.status, json.loads(answer.body)) == (200, {"ready": True, "problems": {}})
    packs = desk.server.folder / "packs"
    aside = packs.rename(desk.server.folder / "elsewhere")
    try:
        answer = http_call(desk.url, "GET", "/readyz")
        assert answer.status == 503
        assert set(json.loads(answer.body)["problems"]) == {"packs"}
        assert http_call(desk.url, "GET", "/livez").status == 200
    finally:
        aside.rename(packs)
    assert http_call(desk.url, "GET", "/readyz").status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"FOO /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nLong: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/sync HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_like_all_else_and_hears_of_no_library(desk: Desk, sent: bytes) -> None:
    parts = urlsplit(desk.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert b"Content-Type: application/json" in head
    assert json.loads(body)["error"]["code"] == "malformed"
    assert b"aiohttp" not in head


def test_monitoring_that_asks_under_a_name_is_told_to_ask_the_address(desk: Desk) -> None:
    for path in ("/metrics", "/readyz"):
        answer = http_call(desk.url, "GET", path, headers={"Host": "relais.example.org"})
        assert answer.status == 421
        assert "ask the address that the listener has" in json.loads(answer.body)["error"]["message"]


def test_monitoring_reads_figures_and_no_names(desk: Desk) -> None:
    desk.machine.sync()
    answer = http_call(desk.url, "GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    text = answer.body.decode()
    for name in (
        'relais_devices{school="0180001D",state="syncing"} ',
        "relais_sync_lag_seconds_count ",
        'relais_sync_sessions_total{result="ok"} ',
        'relais_sync_bytes_total{direction="in"} ',
        "relais_handins_pending ",
        'relais_oldest_unsent_handin_seconds{school="0180001D"} ',
        "relais_conflicts_total 0\n",
        "relais_storage_free_bytes ",
        "relais_build_info{version=",
    ):
        assert f"\n{name}" in f"\n{text}", name
    assert "Léa" not in text
    assert desk.machine.id.hex() not in text


def test_connections_are_kept_for_the_next_call(desk: Desk) -> None:
    parts = urlsplit(desk.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    try:
        for _ in range(3):
            request, _reply = desk.machine.sealed(Call.SYNC, SyncRequest().encode())
            connection.request("POST", SYNC_PATH, request)
            kept = connection.sock
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            assert connection.sock is kept
    finally:
        connection.close()
