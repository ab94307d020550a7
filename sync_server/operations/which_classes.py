"""Before the kit opens work to a teacher's new device: in which classes it stands, for whoever says which of them."""

from __future__ import annotations

from collections.abc import Collection

from protocol.errors import BadInput, Code
from protocol.replica.console.operation import Outgoing
from protocol.replica.office.spaces import shown_by_id
from sync_server.handlers.by_kit.standing import MAX_CLASSES_TOLD, Standing, classes_of
from sync_server.opened.app import Server


async def check_chosen(
    server: Server, stood: Collection[Standing], chosen: Collection[bytes], outgoing: Outgoing
) -> None:
    """Tell which of the `chosen` classes a device does not stand in, or with a key that is spent.

    Raises `BadInput`: USAGE if none was chosen, which has as data too where it stands; NOT_YET if each key is spent.
    """
    if chosen:
        for space in await shown_by_id(server, set(chosen) - {each.space for each in stood}):
            await outgoing.progress(
                f"nothing is opened in {space}: there this device is not let in as this person's, or has said no "
                "reading key yet. `grant --device ID --space …`, let it sync, and call this again"
            )
        await _check_keys(server, stood, outgoing)
        return
    classes = await classes_of(server, stood)
    for each in classes[:MAX_CLASSES_TOLD]:
        await outgoing.progress(each.sentence(server.keys.signing.public, server.replica.territory))
    if (more := len(classes) - MAX_CLASSES_TOLD) > 0:
        await outgoing.progress(f"and {more} more, which came here later; `space list` has their ids")
    raise BadInput(
        Code.USAGE,
        "nothing was opened: say of which classes, with --space once for each. Above is where this device stands as "
        "this person's, and by whose word. Whoever has had the server's key may have put it into any class: ask the "
        "teacher, or the school, which are theirs, and name these alone",
        choices=[each.row for each in classes[:MAX_CLASSES_TOLD]],
    )


async def _check_keys(server: Server, stood: Collection[Standing], outgoing: Outgoing) -> None:
    """Tell where a device has no key that is its own alone. Raises `BadInput(NOT_YET)` if that is everywhere."""
    spent = {each.space for each in stood if each.is_spent}
    for space in await shown_by_id(server, spent):
        await outgoing.progress(
            f"nothing is opened in {space} yet: a computer that was reported, or cut off, since has the reading key of "
            "this device as well. It makes another one there once it calls"
        )
    if all(each.is_spent for each in stood):
        raise BadInput(
            Code.NOT_YET,
            "nothing was opened: whoever has the computer that was reported, or cut off, would read it too. Let this "
            "device call first (`sync-agent sync`), then give the same command again",
        )
