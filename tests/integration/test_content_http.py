"""Content over the server's HTTP: sent in any pieces and fetched in any parts, by who may, whatever breaks off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from protocol.errors import Code
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Offer, Upload, Wanted
from protocol.messages.wire import PACKS_PATH
from protocol.model.entry import Kind
from protocol.model.work import ContentRef, HandIn
from protocol.transfer.chunking import chunk_list
from protocol.transfer.pack import FinishedPack
from protocol.transfer.pack_writer import PackWriter
from tests.harness.caller import in_sealed_form
from tests.harness.http_desk import Desk, connected, error_code, http_desk
from tests.harness.patience import eventually
from tests.harness.raw_device import RawDevice, http_call

PACK_BYTES = 300_000


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with http_desk(tmp_path_factory.mktemp("http")) as made:
        yield made


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


def head_of(upload: Upload, content: Sealed, *more: str) -> bytes:
    """The head of a request that brings all of some content."""
    size = len(content.data)
    lines = (f"Authorization: Bearer {upload.capability}", "Upload-Offset: 0", f"Content-Length: {size}", *more)
    return "\r\n".join((f"POST {PACKS_PATH} HTTP/1.1", "Host: x", *lines, "", "")).encode()


def offer_of(desk: Desk, content: Sealed) -> SyncRequest:
    return SyncRequest(offers=(Offer(desk.space, content.finished.hash, content.finished.size),))


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
    offer = offer_of(desk, content)

    def kept() -> int:
        (wanted,) = desk.machine.sync(offer).uploads
        return wanted.offset

    with connected(desk) as connection:
        connection.sendall(head_of(upload, content) + content.data[:200_000])
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
    offer = offer_of(desk, content)
    with connected(desk) as connection:
        connection.sendall(head_of(upload, content, "Connection: close") + content.data[:200_000])
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


def test_who_asks_for_the_head_alone_hears_what_the_whole_would_say(
    desk: Desk, link: Callable[[], tuple[bytes, str]]
) -> None:
    _, capability = link()
    path = f"{PACKS_PATH}/{capability}"
    whole = http_call(desk.url, "GET", path)
    for more in ({}, {"Range": "bytes=5-"}):
        head = http_call(desk.url, "HEAD", path, headers=more)
        assert (head.status, head.headers, head.body) == (200, whole.headers, b"")
    assert http_call(desk.url, "HEAD", f"{PACKS_PATH}/AAAA").status == 403


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
