"""The command's own end of a conversation about its kit: it looks, signs, opens, and gives nothing else away.

It stands before the files that a command sends and receives: questions are files without a name, answered in turn;
the others pass (docs/adr/0128). What the root signs is noted before anybody has it: whatever becomes of the command
then, the kit remembers it (docs/adr/0357).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from protocol.clock import milliseconds_of, rfc3339
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import FILE_PIECE_BYTES, MAX_CLOCK_LEAD_MS, MAX_KIT_QUESTION_BYTES
from protocol.model.entry import DOMAIN, Entry, Kind
from protocol.model.structure import Certificate
from protocol.replica.console.operation import JSON, FileData, FileEnd, FileEvent, FileStart, Outgoing
from sync_server.kit.consent import consents
from sync_server.kit.errand import NOT_SHOWN, Errand, uncalled_for
from sync_server.kit.errands import signer_of
from sync_server.kit.questions import NAMELESS, ToAgree, ToOpen, ToRewrap, ToSign, encode_answer, parse_question


class KitDesk:
    """Both the output of a command, around that for its files, and its input, which holds the answers."""

    def __init__(
        self,
        errand: Errand,
        outgoing: Outgoing,
        now_ms: Callable[[], int],
        note: Callable[[Sequence[Entry]], None] | None = None,
    ) -> None:
        """`now_ms` is the clock of the machine on which the command was typed; `note` is given all that was said."""
        self._errand = errand
        self._outgoing = outgoing
        self._now_ms = now_ms
        self._note = note
        self._question: bytearray | None = None
        self._answers: asyncio.Queue[FileEvent] = asyncio.Queue()
        self._has_signed = False
        self._said: list[Entry] = []

    @property
    def said(self) -> Sequence[Entry]:
        """What the roots have signed so far."""
        return self._said

    @property
    def has_signed(self) -> bool:
        """Whether anything was signed: whatever the command ends with, that may be in force."""
        return self._has_signed

    @property
    def keys(self) -> Mapping[str, JSON]:
        """The public halves, for whoever has the store open, and what the new root is to find named."""
        kit, new = self._errand.kit, self._errand.new
        found: dict[str, JSON] = {
            "root": kit.root.public.hex(),
            "recovery": kit.recovery.public.hex(),
            "earlier": [key.public.hex() for key in kit.earlier],
        }
        if new is not None:
            found |= {"new_root": new.root.public.hex(), "new_recovery": new.recovery.public.hex()}
            found["to_name"] = [name.hex() for name in self._errand.to_name]
        return found

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """The answers as they are given; the conversation ends with the command's result."""
        while True:
            yield await self._answers.get()

    async def start(self, path: str, size: int | None) -> None:
        """Begin a question, or a file."""
        if path == NAMELESS:
            self._question = bytearray()
        else:
            await self._outgoing.start(path, size)

    async def data(self, data: bytes) -> None:
        """Bytes of it. Raises `TooLarge`."""
        if self._question is None:
            await self._outgoing.data(data)
        elif len(self._question) + len(data) > MAX_KIT_QUESTION_BYTES:
            raise TooLarge(Code.TOO_LARGE, "the program that has the store open asks for too much at once")
        else:
            self._question += data

    async def end(self) -> None:
        """Answer the question that is whole. Raises what the errand refuses with."""
        if self._question is None:
            await self._outgoing.end()
            return
        data, self._question = bytes(self._question), None
        answer = encode_answer(self._answered(data))
        told, self._errand.looked_at = self._errand.looked_at, []
        for line in told:
            await self._outgoing.progress(line)
        self._answers.put_nowait(FileStart(NAMELESS, len(answer)))
        for at in range(0, len(answer), FILE_PIECE_BYTES):
            self._answers.put_nowait(FileData(answer[at : at + FILE_PIECE_BYTES]))
        self._answers.put_nowait(FileEnd())

    async def progress(self, text: str) -> None:
        """Tell the person one line."""
        await self._outgoing.progress(text)

    def _answered(self, data: bytes) -> list[bytes]:
        match parse_question(data):
            case ToSign() as asked:
                return self._signed(asked)
            case ToAgree(version, heads, evidence):
                agreed = self._errand.agreed(version, heads, evidence)
                self._has_signed = True
                return [agreed]
            case ToOpen(works, evidence):
                return self._errand.content_keys(works, evidence)
            case ToRewrap(device, reading_key, works):
                return self._errand.rewrapped(device, reading_key, works)

    def _signed(self, asked: ToSign) -> list[bytes]:
        """All of them, or none."""
        key = signer_of(self._errand, new=asked.new)
        evidence = {entry.id: entry for entry in asked.evidence}
        for entry in asked.entries:
            _check_author(entry, key.public)
            _check_time(entry, self._now_ms())
            _check_place(entry, self._errand)
            if asked.new:
                self._errand.check_new(entry)
            else:
                self._errand.check(entry, evidence)
            if entry.header.kind == Kind.CERTIFICATE:
                self._errand.looked_at.append(_certified(entry, asked.consent, self._errand.kit.territory))
        self._has_signed = True
        said = [replace(entry, signature=key.sign(DOMAIN, entry.header_bytes)) for entry in asked.entries]
        self._said += said
        if self._note is not None:
            self._note(self._said)
        return [entry.signature for entry in said]


def _check_author(entry: Entry, public: bytes) -> None:
    if entry.header.author != public or entry.header.grant is not None:
        raise PeerFault(Code.WRONG_KEY, "the program that has the store open asks for somebody else's signature")


def _certified(entry: Entry, word: bytes, territory: bytes) -> str:
    """What is told of a certificate. Raises where the key has not consented: it may be anybody's (docs/adr/0563)."""
    certificate = Certificate.parse(entry.payload or b"")
    if not consents(word, certificate, territory, entry.header.author):
        raise PeerFault(
            Code.NO_RIGHT,
            "the program that has the store open has a key certified as the server's, and does not show that this is "
            f"its own{NOT_SHOWN}",
        )
    return f"the kit has certified this key as the server's: {certificate.signing.hex()}"


def _check_time(entry: Entry, now_ms: int) -> None:
    """Within the lead that anybody's clock may have here: of two certificates of one root the later one counts."""
    at_ms = milliseconds_of(entry.header.at)
    if abs(at_ms - now_ms) > MAX_CLOCK_LEAD_MS:
        raise PeerFault(
            Code.NO_RIGHT,
            f"the program that has the store open dates what the root is to sign {rfc3339(at_ms)}, and here it is "
            f"{rfc3339(now_ms)}: nothing more was signed. If this machine's clock is wrong, set it and call this "
            "again; if it is right, make the server anew on another machine",
        )


def _check_place(entry: Entry, errand: Errand) -> None:
    """In the territory, and about nothing beside what its payload says, but where the errand needs it."""
    header = entry.header
    is_about = header.target is not None or header.subject is not None
    if (
        header.parents
        or (is_about and header.kind != Kind.WRAP)
        or (header.space != errand.kit.territory and header.kind not in errand.elsewhere)
    ):
        raise uncalled_for(entry)
