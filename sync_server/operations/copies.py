"""`confirm`: a copy of a computer, which took keys of its own, is let in by name where it is in now (docs/adr/0385).

It is told by its id, with the name behind it, which class that is, and in which the copy stays out: what a stolen key
had given the computer that it was, and what was ended since, is confirmed by nobody who asks whether a number is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.office import commands
from protocol.replica.office.grants import confirm_clone, grants_of
from protocol.replica.office.names import device_id
from protocol.replica.office.spaces import shown_by_id
from sync_server.opened.app import Server


async def confirm(server: Server, params: Params, outgoing: Outgoing) -> JSON:
    """`confirm`, with the spaces in which the copy has a right of its own by now."""
    device, restore = device_id(given.text(params, "device")), params.get("restore") is True
    let_in = await confirm_clone(server, device, restore=restore)
    await outgoing.progress(f"it has a right of its own now in {await _places(server, let_in.spaces)}")
    if out := await _not_let_in(server, device):
        await outgoing.progress(
            f"it stays out of {await _places(server, out)}: the computer whose copy it is had let it in there, by a "
            "right that was ended, or counts no more. If it belongs there all the same: "
            f"`sync-server grant --device {device.hex()} --space …`"
        )
    await commands.tell_of_let_in(server, device, let_in, "sync-server", outgoing)
    return {"spaces": [space.hex() for space in let_in.spaces]}


async def _places(server: Server, spaces: Sequence[bytes]) -> str:
    more = len(spaces) - commands.MAX_TOLD_SPACES
    named = await shown_by_id(server, spaces[: commands.MAX_TOLD_SPACES])
    return ", ".join(named) + (f", and {more} more" if more > 0 else "")


async def _not_let_in(server: Server, device: bytes) -> list[bytes]:
    """Where a copy was let in by the keys that were copied, and reads nothing."""
    passed_on: Iterable[bytes] = (each.space for each in grants_of(server, device) if each.predecessor is not None)
    spaces = dict.fromkeys(passed_on)
    return [space for space in spaces if not (await server.replica.view(space)).roster.may_read(device)]
