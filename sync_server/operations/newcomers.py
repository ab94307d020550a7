"""What `rotate server` tells of who came in by the old keys: a teacher's computer by its six words, a PC by its id.

Each is told: of many computers those that come after the first have their ids alone, and all PCs have one line, so that
none takes another's place (docs/adr/0564). Who is to be cut off is, before anything is told: the caller's line may be
cut (docs/adr/0585). docs/protocol.md, §5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.replica.console.operation import Outgoing
from protocol.rights.vouching import Device, device_words
from protocol.roles import SHARED
from sync_server.handlers.by_kit.newcomers import (
    came_in_elsewhere,
    cut_off_where_given_on,
    cut_off_with_codes,
    given_on_elsewhere,
    strange_offices,
)
from sync_server.handlers.store.keys_of_before import old_keys
from sync_server.opened.app import Server

_WITH_WORDS: Final = 100
"""Of so many computers the six words are told: each takes a hundredth of a second, and keys are made for nothing."""


@dataclass(frozen=True, slots=True)
class CutOffNewcomers:
    """Who was cut off as come in by codes of old keys, or `given_on` since, and which of these `stay` all the same."""

    by_codes: tuple[Device, ...] = ()
    given_on: tuple[Device, ...] = ()
    stay: tuple[Device, ...] = ()


async def cut_off_newcomers(server: Server, since_ms: int) -> CutOffNewcomers:
    """Cut off who goes with what old keys have said since then, whom those let in as well, and so on."""
    old = old_keys(server)
    roots, by_codes, given_on = set(old), dict[bytes, None](), dict[Device, None]()
    while True:
        came = await cut_off_with_codes(server, roots, since_ms)
        further = await cut_off_where_given_on(server, roots, since_ms)
        by_codes, given_on = by_codes | dict.fromkeys(came), given_on | dict.fromkeys(further)
        if roots.issuperset(gone := {*came, *(key for key, _ in further)}):
            break
        roots |= gone
    came_in = [server.replica.door.authorities_of(device)[0].pair for device in by_codes]
    return CutOffNewcomers(tuple(came_in), tuple(given_on), tuple(await given_on_elsewhere(server, roots)))


async def tell_of_newcomers(server: Server, outgoing: Outgoing, gone: CutOffNewcomers | None) -> None:
    """Who came in at a head teacher's computer by codes of the old keys, and stays where nobody was cut off."""
    if gone is not None:
        await _tell_of_cut_off(server, outgoing, gone)
        return
    old = old_keys(server)
    await _tell_of_each(
        outgoing,
        await strange_offices(server),
        lambda device, words: (
            f"the device {device} (“{words}”) lets others in by the word of an old key, and nobody here knows it: it "
            "stays, and codes that it made open nothing here. If the school does not know it: `sync-server revoke "
            f"{device}`; if it does, and its own page shows these words: "
            f"`sync-server grant --device {device} --space …`"
        ),
    )
    came = await came_in_elsewhere(server, old)
    by_strange = "by a code of somebody whom an old key let in and nobody here knows"
    await _tell_who_stays(server, outgoing, came.by_strange, by_strange)
    await _tell_who_stays(server, outgoing, came.by_old, "at a head teacher's computer by a code of an old key")


async def _tell_who_stays(server: Server, outgoing: Outgoing, came: Sequence[Device], how: str) -> None:
    """Who was let in so, and stays."""
    await _tell_of_each(
        outgoing,
        [each for each in came if not _is_nobodys(server, each)],
        lambda device, words: (
            f"the device {device} (“{words}”) was let in {how}, and stays; if the school does not know it: "
            f"`sync-server revoke {device}`"
        ),
    )
    await _tell_of_ids(
        outgoing,
        [each for each in came if _is_nobodys(server, each)],
        f"machines that were let in {how}, and stay. Which of these ids no PC of the school shows itself "
        "(`sync-agent status` there): `sync-server revoke ID`",
    )


async def _tell_of_cut_off(server: Server, outgoing: Outgoing, gone: CutOffNewcomers) -> None:
    await _tell_of_each(
        outgoing,
        gone.by_codes,
        lambda device, words: (
            f"cut off: the device {device} (“{words}”), which came in by a code that counts no more; if the "
            f"school knows it, `sync-server grant --device {device} --space …` lets it back in"
        ),
    )
    await _tell_of_given_on(server, outgoing, gone.given_on, gone.stay)


async def _tell_of_given_on(
    server: Server, outgoing: Outgoing, gone: Sequence[Device], stays: Sequence[Device]
) -> None:
    """Which devices that old keys had let in first were let in further since, and are cut off there, or stay."""
    shared = {each for each in (*gone, *stays) if _is_nobodys(server, each)}
    own_gone, own_stays = ([each for each in some if each not in shared] for some in (gone, stays))
    which = "the device {} (“{}”), a teacher's by a word that counts no more, which"
    await _tell_of_each(
        outgoing,
        own_gone,
        lambda device, words: (
            f"cut off: {which.format(device, words)} was let into more classes since; if the school knows it, and its "
            f"own page shows these words, `sync-server grant --device {device} --space …` lets it back in"
        ),
    )
    await _tell_of_each(
        outgoing,
        own_stays,
        lambda device, words: (
            f"not cut off: {which.format(device, words)} a head teacher's computer has let in besides; if its own page "
            f"does not show these words: `sync-server revoke {device}`"
        ),
    )
    which = "machines that a word let in which counts no more, and that"
    await _tell_of_ids(
        outgoing,
        [each for each in gone if each in shared],
        f"cut off: {which} were let into more classes since. Which of these ids a PC of the school shows itself "
        "(`sync-agent status` there), `sync-server grant --device ID --space …` lets back in",
    )
    await _tell_of_ids(
        outgoing,
        [each for each in stays if each in shared],
        f"not cut off: {which} a head teacher's computer has let in besides. Which of these ids no PC of the school "
        "shows itself (`sync-agent status` there): `sync-server revoke ID`",
    )


def _is_nobodys(server: Server, device: Device) -> bool:
    """Whether a device was never let in but as a machine that is nobody's own: it is known by its id."""
    return all(each.role in SHARED for each in server.replica.door.authorities_of(device[0]))


async def _tell_of_ids(outgoing: Outgoing, devices: Sequence[Device], line: str) -> None:
    """A line, and all ids that it is about: a room of PCs is thirty."""
    if devices:
        await outgoing.progress(f"{line}: {', '.join(key.hex() for key, _ in devices)}")


async def _tell_of_each(outgoing: Outgoing, devices: Sequence[Device], line: Callable[[str, str], str]) -> None:
    """A line about each device, of its id and its six words; of many a last one, with ids."""
    for device in devices[:_WITH_WORDS]:
        await outgoing.progress(line(device[0].hex(), await asyncio.to_thread(device_words, device)))
    rest = devices[_WITH_WORDS:]
    await _tell_of_ids(outgoing, rest, f"and so of {len(rest)} more")
