"""What is said of a hand-in, and what of that takes the place of what (R5; docs/protocol.md, "Coursework").

Rules (docs/adr/0360, 0395):
- a word takes the place of what the same computer said before, and of what another of the same person's said that
  leads to it by words of confirmation: of nobody else's, though it speaks as the same person;
- who speaks for a person goes by need as well: where all that led on is lost, retired or cut off for a minute, whoever
  is granted as that person is heard. What was said before stands beside what such a one says;
- that a computer calls the earlier one its own is nothing: anybody's says so of anybody's;
- what a device that is out had said, and counts by a ruling other than the root's, takes the place of nothing, and
  stands behind what counts by itself: whoever has the server's key lets count what a finder said (docs/adr/0493);
- what leads to whom is in the words alone: neither dates nor what a replica remembers make it, and all have the same.

Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from protocol.clock import milliseconds_of
from protocol.model.entry import Entry
from protocol.model.work import Feedback
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, Voices


@dataclass(frozen=True, slots=True)
class FeedbackNote:
    """What somebody says of a hand-in: its entry, author, time and words, and the grant under which it was given.

    `voice` is whose word it is: a person's id, else the device's key; `device` are the keys of who wrote it.
    """

    id: bytes
    author: bytes
    at_ms: int
    record: Feedback
    voice: bytes
    device: Device
    grant: bytes | None = None


class _Led(NamedTuple):
    """Devices of one voice, each with a bit of its own, and with those of all to which it leads, itself included."""

    bit: Mapping[Device, int]
    to: Mapping[Device, int]


class Remarks:
    """What is said of hand-ins, by one roster: which of a person's devices lead to which is found once for all."""

    def __init__(self, roster: Roster) -> None:
        """Nothing is found yet."""
        self._roster: Final = roster
        self._voices: Voices | None = None
        self._found: Final[dict[tuple[bytes, frozenset[Device]], _Led]] = {}

    def of(self, entry: Entry) -> FeedbackNote:
        """What an entry says of a hand-in, and whose word that is. Raises `PeerFault` if it is none."""
        header = entry.header
        record = Feedback.parse(entry.payload or b"")
        given = self._roster.granted.get(header.grant or b"")
        voice = self._roster.voice(header.grant) or header.author
        device = (header.author, b"") if given is None else given.pair
        return FeedbackNote(entry.id, header.author, milliseconds_of(header.at), record, voice, device, header.grant)

    def standing(self, in_order: Iterable[Entry]) -> tuple[FeedbackNote, ...]:
        """What stands of these, which come in the order in which they are to be shown.

        In the place of each is said what comes before it alone. What says nothing, since it was taken back, stands
        behind all that says something, and what a ruling lets count of a device that is out behind all others.
        """
        notes = [self.of(entry) for entry in in_order]
        devices: defaultdict[bytes, set[Device]] = defaultdict(set)
        for note in notes:
            devices[note.voice].add(note.device)
        led = {voice: self._led(voice, theirs) for voice, theirs in devices.items()}
        said: defaultdict[bytes, int] = defaultdict(int)
        found = []
        for note in notes:
            if not led[note.voice].to[note.device] & said[note.voice]:
                found.append(note)
            if not self._is_let_count(note):
                said[note.voice] |= led[note.voice].bit[note.device]
        return tuple(sorted(found, key=lambda note: (note.record.says_nothing, self._is_let_count(note))))

    def _is_let_count(self, note: FeedbackNote) -> bool:
        return note.id in self._roster.let_count and note.author in self._roster.cut

    def replaced_by(self, device: Device, voice: bytes, notes: Iterable[FeedbackNote]) -> list[FeedbackNote]:
        """In whose place, of these, a further word of a device would be said that speaks with this voice."""
        theirs = [note for note in notes if note.voice == voice]
        led = self._led(voice, {device, *(note.device for note in theirs)})
        return [note for note in theirs if led.to[note.device] & led.bit[device]]

    def _led(self, voice: bytes, devices: Collection[Device]) -> _Led:
        if len(devices) == 1:
            alone = dict.fromkeys(devices, 1)
            return _Led(alone, alone)
        if self._voices is None:
            self._voices = self._roster.voices.with_over()
        asked = voice, frozenset(devices)
        if asked not in self._found:
            bits = {device: 1 << place for place, device in enumerate(devices)}
            self._found[asked] = _Led(bits, self._voices.led_to_among(voice, bits))
        return self._found[asked]
