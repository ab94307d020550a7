"""A device made of protocol modules alone: it enrols, calls, fetches and sends over plain HTTP, and keeps the answers.

It shares no code with the agent, so that a test can send what no agent would.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from protocol.clock import at_from
from protocol.errors import RelaisError
from protocol.identity import AgreementKey, DeviceKeys
from protocol.messages.calls import ReconcileAnswer, ReconcileRequest, SyncAnswer, SyncRequest
from protocol.messages.enrollment import EnrollAnswer, parse_chain
from protocol.messages.wire import CONTENT_TYPE, ENROLL_PATH, PACKS_PATH, RECONCILE_PATH, SYNC_PATH, Call
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Certificate, Grant
from protocol.trust.envelope import open_answer, seal_request
from tests.harness.asking import asking_in_clear

NOW_MS = 1_795_000_000_000
TIMEOUT_S = 120


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names in lower case, of several of one name the last; `cookies` as they are sent back."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()


def http_call(
    url: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own; whose certificate is shown does not matter here."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        unchecked = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=unchecked)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request(
            method,
            path,
            body,
            dict(headers or {}),
            encode_chunked=isinstance(body, Iterable) and not isinstance(body, bytes),
        )
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        cookies = tuple(value.partition(";")[0] for value in response.headers.get_all("Set-Cookie", []))
        return Answer(response.status, told, response.read(), cookies)
    finally:
        connection.close()


def raw_call(url: str, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes on a connection, and read until the other side closes it."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=TIMEOUT_S) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


@dataclass
class RawDevice:
    """See the module. `grants` are its own, by space; `known` everything that it was sent."""

    url: str
    name: str = "Renard"
    keys: DeviceKeys = field(default_factory=lambda: DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32)))
    server_signing: bytes = b""
    server_agreement: bytes = b""
    grants: dict[bytes, bytes] = field(default_factory=dict)
    known: dict[bytes, Entry] = field(default_factory=dict)
    tips: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def id(self) -> bytes:
        return self.keys.signing.public

    def meet(self) -> None:
        """Learn the server's keys from its chain."""
        answer = http_call(self.url, "POST", ENROLL_PATH, b"")
        assert answer.status == 200
        self.trust(answer.body)

    def trust(self, chain: bytes) -> None:
        for entry in parse_chain(chain):
            if entry.header.kind == Kind.CERTIFICATE:
                certificate = Certificate.parse(entry.payload or b"")
                self.server_signing, self.server_agreement = certificate.signing, certificate.agreement

    def sealed(self, call: Call, payload: bytes) -> tuple[bytes, AgreementKey]:
        """A request's bytes, and the key that opens its answer."""
        reply = AgreementKey(os.urandom(32))
        request = seal_request(
            call,
            payload,
            device=self.keys.signing,
            recipient_public=self.server_agreement,
            reply=reply,
            ephemeral=os.urandom(32),
        )
        return request, reply

    def call(self, path: str, call: Call, payload: bytes) -> bytes:
        """The opened answer to a sealed call."""
        request, reply = self.sealed(call, payload)
        answer = http_call(self.url, "POST", path, request, {"Content-Type": CONTENT_TYPE})
        assert answer.headers["content-type"] == CONTENT_TYPE, answer
        return open_answer(answer.body, request, reply=reply, server_public=self.server_signing)

    def enroll(self, code: str) -> EnrollAnswer:
        """Use a code. Raises what the server refuses with."""
        self.meet()
        request = asking_in_clear(self.keys, code, self.name)
        answer = EnrollAnswer.parse(self.call(ENROLL_PATH, Call.ENROLL, request.encode()))
        for entry in answer.entries:
            self.known[entry.id] = entry
            if entry.header.kind == Kind.GRANT:
                grant = Grant.parse(entry.payload or b"")
                if grant.signing == self.id:
                    self.grants[entry.header.space] = entry.id
        return answer

    def sync(self, request: SyncRequest | None = None) -> SyncAnswer:
        """One sync call, as it is."""
        answer = SyncAnswer.parse(self.call(SYNC_PATH, Call.SYNC, (request or SyncRequest()).encode()))
        for page in answer.pages:
            self.known.update({entry.id: entry for entry in page.entries})
        return answer

    def reconcile(self, request: ReconcileRequest) -> ReconcileAnswer:
        """One reconcile call, as it is."""
        return ReconcileAnswer.parse(self.call(RECONCILE_PATH, Call.RECONCILE, request.encode()))

    def refusal(self, request: SyncRequest | None = None) -> RelaisError:
        """The error with which a sync call is answered."""
        try:
            self.sync(request)
        except RelaisError as error:
            return error
        raise AssertionError("the call was not refused")

    def say(
        self,
        space: bytes,
        kind: Kind,
        payload: bytes,
        *,
        subject: bytes | None = None,
        target: bytes | None = None,
        at_ms: int = NOW_MS,
    ) -> Entry:
        """An entry of this device, under its grant for the space."""
        earlier = self.tips.get(space)
        entry = compose(
            author=self.keys.signing,
            space=space,
            kind=kind,
            grant=self.grants[space],
            at=at_from(at_ms),
            payload=payload,
            salt=os.urandom(16),
            subject=subject,
            target=target,
            prev=() if earlier is None else (earlier,),
        )
        self.tips[space] = entry.id
        return entry

    def fetch(self, capability: str, **headers: str) -> Answer:
        """A pack, or part of it."""
        return http_call(self.url, "GET", f"{PACKS_PATH}/{capability}", None, headers)

    def send(self, capability: str, data: bytes, offset: int = 0, headers: Mapping[str, str] | None = None) -> Answer:
        """Part of a pack, from `offset` on."""
        told = {"Authorization": f"Bearer {capability}", "Upload-Offset": str(offset), **(headers or {})}
        return http_call(self.url, "POST", PACKS_PATH, data, told)
