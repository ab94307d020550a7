"""Which machines have not told all of late: for whoever gives a command about people, and as an archive says it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from protocol.replica.access.known import Known
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.console.operation import Outgoing
from sync_server.handlers.by_kit.not_heard import NotHeard, not_heard_about
from sync_server.opened.app import Server


async def tell_of_unheard(
    server: Server, persons: Collection[bytes], outgoing: Outgoing, so: str, *, is_told: bool = False
) -> list[Known]:
    """Tell which machines of these people's classes have not told all of late, then what follows: `so`.

    `is_told` says that it was told already what this server was made of.
    """
    found, names = await not_heard_about(server, persons), await made_spaces(server.replica)
    lines = [
        f"warning: “{names[space].name if space in names else space.hex()}”: {sentence}"
        for space, each in found.items()
        for sentence in replace(each, made_anew=None).sentences
    ]
    if (made_anew := next((each.made_anew for each in found.values()), None)) is not None:
        why = "" if is_told else f": {made_anew.sentence}"
        lines.append(f"warning: machines of any class may not even be known here{why}")
    for line in (*lines, so) if lines else ():
        await outgoing.progress(line)
    return [_known(server, space, each) for space, each in found.items()]


def _known(server: Server, space: bytes, unheard: NotHeard) -> Known:
    silent = {device.id: device.heard.told_ms for device in (*unheard.machines, *unheard.absent)}
    others = unheard.made_anew is not None or bool(unheard.offices)
    return Known(space, server.now_ms(), silent, are_others_unknown=others)
