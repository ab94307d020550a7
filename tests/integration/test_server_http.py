"""The server's HTTP at its edges: what a broken, hostile or merely slow machine sends, and what it is answered."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from protocol.errors import Code, Refused, RelaisError
from protocol.identity import AgreementKey
from protocol.limits import MAX_REQUEST_BYTES, MAX_WAITING_CALLS_PER_ADDRESS
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.wire import CONTENT_TYPE, ENROLL_PATH, RECONCILE_PATH, SYNC_PATH, Call
from protocol.reconcile.checkpoint import Cursor
from tests.harness.http_desk import Desk, connected, error_code, http_desk
from tests.harness.patience import eventually
from tests.harness.raw_device import Answer, RawDevice, http_call, raw_call


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with http_desk(tmp_path_factory.mktemp("http")) as made:
        yield made


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
