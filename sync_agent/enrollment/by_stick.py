"""Being let in by a stick that goes to and fro, with no network at all (docs/adr/0048; docs/protocol.md, "Enrolment").

Rules:
- the stick names who lets in; each must be certified under the root that the code names before the code's secret is
  sealed to it: a finder, a carrier or a false chain learns nothing;
- keys, requests and the keys of their answers are durable in DIR before the request lies on the stick, so that whatever
  answer comes back, weeks later, opens;
- an answer counts if the asked host signed it over the request's hash: an old or another machine's is nothing;
- then the stick is imported, which brings what the device may read, and what the device says goes out by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from protocol.canonical import decode, encode
from protocol.errors import BadInput, Code, NoAnswer, PeerFault, Refused
from protocol.fields import Fields
from protocol.identity import AgreementKey, territory_id
from protocol.limits import MAX_LETTER_BYTES, MAX_LETTERS_PER_DISK, MAX_REQUEST_BYTES, MAX_URL_CHARS
from protocol.messages.enrollment import EnrollAnswer
from protocol.portable_names import displayable
from protocol.replica.at_work.replica import Entropy
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params
from protocol.replica.private_file import remove_private, write_private
from protocol.trust.envelope import open_answer
from protocol.trust.invitation import Invitation, parse_code
from sync_agent.app import Agent
from sync_agent.courier.commands import export_to, import_from
from sync_agent.courier.disk import CourierDisk
from sync_agent.courier.letters import (
    Letter,
    name_of,
    read_letter,
    read_letters,
    remove_letter,
    territories_on,
    write_letter,
)
from sync_agent.enrollment.by_code import Enrolled, check_name, device_keys, finish, sealed_ask, take_in
from sync_agent.keys.binding import Hardware
from sync_agent.keys.hardware import hardware
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.keys.succession import made_elsewhere
from sync_agent.machine.enrolled import ENROLMENT_FILE
from sync_agent.machine.sync_result import SyncResult
from sync_agent.transport.interface import normal_url
from sync_agent.transport.server_chain import Host, host_in

PENDING_FILE: Final = "asked-by-stick"
"""In DIR → canonical {code's hash, rows [chain, request, reply key's seed]}: what may still be answered."""

_SEED_BYTES: Final = 32
_PASSES: Final = 4
_MAX_PENDING: Final = 8
_MAX_PENDING_BYTES: Final = (_MAX_PENDING + 1) * 2 * MAX_LETTER_BYTES


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that lies on a stick: to whom, its bytes, the seed of the key that its answer is sealed to."""

    chain: bytes
    request: bytes
    reply: bytes

    @property
    def name(self) -> str:
        return name_of(self.request)


async def enroll_by_stick(
    folder: Path,
    stick: Path,
    code: str,
    name: str,
    *,
    url: str | None = None,
    now_ms: Callable[[], int],
    entropy: Entropy,
    say: Callable[[str], None],
    identify: Callable[[], Hardware] = hardware,
) -> Enrolled:
    """Enrol DIR, whose lock the caller holds, by what comes and goes on a stick; may be repeated.

    Without the server's `url`, whoever passed the request on says where it is, which carriers can change: it is told.
    Raises `NoAnswer` while the stick has no answer yet, and as `enrollment.enroll` does.
    """
    invitation = parse_code(code)
    check_name(name)
    if not (folder / ENROLMENT_FILE).exists():
        machine = await asyncio.to_thread(identify)
        where = None if url is None else normal_url(url)
        await _let_in(folder, stick, invitation, name.strip(), where, now_ms, entropy, machine)
    agent = await Agent.open(folder, now_ms=now_ms, entropy=entropy)
    if url is None:
        say(f"the server is said to be at {agent.enrolment.server_url}; enrol with --server if that is wrong")
    try:
        return await finish(agent, agent.enrolment.server_url, code, lambda: _exchange(agent, stick, say))
    finally:
        await agent.close()


async def _let_in(
    folder: Path,
    stick: Path,
    invitation: Invitation,
    name: str,
    url: str | None,
    now_ms: Callable[[], int],
    entropy: Entropy,
    machine: Hardware,
) -> None:
    """Take an answer that has come, or leave requests. Raises `NoAnswer` after that.

    What lies there as an answer and is none of whom was asked is taken off the stick: it keeps no other from being
    taken, or given.
    """
    known = [] if made_elsewhere(folder, machine) else _pending(folder, invitation)
    hosts, found_false = _hosts_on(stick, invitation), False
    for disk, _, _ in hosts:
        for asked in known:
            letter = read_letter(disk.place, Letter.ANSWER, asked.name)
            if letter is not None:
                try:
                    said = _said(asked, letter, invitation)
                except PeerFault:
                    remove_letter(disk.place, Letter.ANSWER, asked.name)
                    found_false = True
                    continue
                await _take(folder, disk, asked, said, invitation, name, url, now_ms, entropy, machine)
                return
    keys = device_keys(folder, entropy, machine)
    whom = {asked.name: _host_in(asked.chain, invitation) for asked in known}
    for _, chain, host in hosts:
        if len(known) < _MAX_PENDING and not any(_are_same(host, other) for other in whom.values()):
            request, reply = sealed_ask(keys, host, invitation, name, entropy)
            known.append(_Asked(chain, request, reply.seed))
            whom[known[-1].name] = host
    _remember(folder, invitation, known)
    for disk, _, host in hosts:
        for asked in known:
            if _are_same(host, whom[asked.name]):
                write_letter(disk, Letter.ASK, asked.name, asked.request)
    _wait(stick, found_false=found_false)


@dataclass(frozen=True, slots=True)
class _Said:
    """What whoever was asked has said, and where its server is by the word of who carried that."""

    host: Host
    opened: bytes
    hint: str | None


def _said(asked: _Asked, letter: bytes, invitation: Invitation) -> _Said:
    """From a letter. Raises `PeerFault` if that is not the word of whom was asked."""
    host = _host_in(asked.chain, invitation)
    if host is None:
        raise PeerFault(Code.WRONG_KEY, "who was asked has no right to let anybody in")
    fields = Fields(decode(letter, max_bytes=MAX_LETTER_BYTES), "an answer on a stick")
    sealed, hint = fields.octets("answer", most=MAX_LETTER_BYTES), fields.text_or_none("server", MAX_URL_CHARS)
    opened = open_answer(sealed, asked.request, reply=AgreementKey(asked.reply), server_public=host.signing)
    return _Said(host, opened, hint)


async def _take(
    folder: Path,
    disk: CourierDisk,
    asked: _Asked,
    said: _Said,
    invitation: Invitation,
    name: str,
    url: str | None,
    now_ms: Callable[[], int],
    entropy: Entropy,
    machine: Hardware,
) -> None:
    """Enrol by an answer; one that refuses is taken off the stick, so that another code may ask."""
    try:
        answer = EnrollAnswer.parse(said.opened)
    except Refused:
        remove_letter(disk.place, Letter.ANSWER, asked.name)
        remove_letter(disk.place, Letter.ASK, asked.name)
        remove_private(folder / PENDING_FILE)
        raise
    keys = device_keys(folder, entropy, machine)
    where = EnrollAnswer(answer.time_ms, answer.territory_name, answer.entries, url or answer.server_url or said.hint)
    enrolment = await take_in(folder, said.host, invitation, name, where, keys.signing.public, now_ms, url=None)
    enrolment.write(folder)
    remove_private(folder / PENDING_FILE)
    for kind in (Letter.ASK, Letter.ANSWER):
        remove_letter(disk.place, kind, asked.name)


async def _exchange(agent: Agent, stick: Path, say: Callable[[str], None]) -> SyncResult:
    """Take what the stick brings, and let it bring away what this device says."""
    from sync_agent.operations import table  # noqa: PLC0415 — it imports this

    operations = table(agent)

    async def run(name: str, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return await operations[name](params, incoming, outgoing)

    territory, told = agent.replica.territory, set[str]()

    def once(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            say(sentence)

    try:
        # what an entry names is known to be wanted once the entry is here
        for _ in range(_PASSES):
            if not (await import_from(stick, territory, run, once))["bytes"]:
                break
    except Refused as refused:
        if refused.code is not Code.CANNOT_READ:
            raise
    await tend_reading_keys(agent)
    try:
        await export_to(stick, territory, run, once)
    except Refused as refused:
        if refused.code is not Code.CANNOT_READ:
            raise
        say("this device is let in; what it may read comes with the stick's next way")
    return SyncResult()


# --- who lets in ------------------------------------------------------------------------------------------------------


def _hosts_on(stick: Path, invitation: Invitation) -> list[tuple[CourierDisk, bytes, Host]]:
    """Those on the stick to whom the code's secret may be sealed. Raises `BadInput(MISSING_FILE)`, `Refused`."""
    shown = displayable(str(stick))
    if not stick.is_dir():
        raise BadInput(Code.MISSING_FILE, f"{shown} does not exist, or is no folder")
    found: list[tuple[CourierDisk, bytes, Host]] = []
    places = territories_on(stick)
    for place in places:
        for chain in read_letters(place, Letter.WHO, lambda chain: _host_in(chain, invitation) is not None).values():
            host = _host_in(chain, invitation)
            if host is not None:
                disk = CourierDisk(stick, territory_id(host.root))
                if disk.place == place and not any(_are_same(host, other) for _, _, other in found):
                    found.append((disk, chain, host))
    if found:
        return found[:MAX_LETTERS_PER_DISK]
    if places:
        raise Refused(Code.WRONG_TERRITORY, f"nobody on {shown} is of the system that this code was made for")
    raise BadInput(
        Code.MISSING_FILE,
        f"{shown} names nobody who could let this device in: a device of the system has to write it first, with "
        "`sync-agent courier export`",
    )


def _host_in(chain: bytes, invitation: Invitation) -> Host | None:
    """Whom a chain proves under the root that the code names."""
    return host_in(chain, invitation.matches, invitation.matches)


def _are_same(one: Host, other: Host | None) -> bool:
    """Whether two chains, of which anybody may make longer ones, name the same."""
    return other is not None and (one.signing, one.agreement) == (other.signing, other.agreement)


# --- what was asked ---------------------------------------------------------------------------------------------------


def _pending(folder: Path, invitation: Invitation) -> list[_Asked]:
    """What was asked with this code and may still be answered."""
    try:
        data = (folder / PENDING_FILE).read_bytes()
        fields = Fields(decode(data, max_bytes=_MAX_PENDING_BYTES), "what was asked by stick")
        if fields.octets("code") != invitation.secret_hash:
            return []
        rows = [Fields(row, "a request") for row in fields.rows("asked", _MAX_PENDING)]
        return [
            _Asked(
                row.octets("chain", most=MAX_LETTER_BYTES),
                row.octets("request", most=MAX_REQUEST_BYTES),
                row.octets("reply", _SEED_BYTES),
            )
            for row in rows
        ]
    except (OSError, PeerFault):
        return []


def _remember(folder: Path, invitation: Invitation, known: list[_Asked]) -> None:
    rows = [{"chain": asked.chain, "request": asked.request, "reply": asked.reply} for asked in known]
    write_private(folder / PENDING_FILE, encode({"code": invitation.secret_hash, "asked": rows}))


def _wait(stick: Path, *, found_false: bool) -> NoReturn:
    what = "what lay there as an answer was of nobody who was asked, and is gone. " if found_false else ""
    raise NoAnswer(
        Code.UNREACHABLE,
        f"{what}this device's request lies on {displayable(str(stick))}: bring the stick to the head teacher's device, "
        "or to any that reaches the server (`sync-agent courier export` there), and enrol here again with it",
    )
