"""Which keys are this very server's, by its own notes: the one in use, and those that it has replaced itself (§5)."""

from __future__ import annotations

from typing import Final

from sync_server.opened.app import Server

OWN_KEYS_MARKS: Final = "server-keys/"
"""+ hex of a key that this server had and has replaced itself."""


async def note_as_own(server: Server) -> None:
    """Note that the key which is about to be replaced was this server's own."""
    await server.store.set_marks({OWN_KEYS_MARKS + server.keys.signing.public.hex(): b""})


async def own_keys(server: Server) -> set[bytes]:
    """The keys that are this very server's, and those that were before it replaced them."""
    return {server.keys.signing.public, *map(_noted, await server.store.marks(OWN_KEYS_MARKS))}


def _noted(mark: str) -> bytes:
    return bytes.fromhex(mark.removeprefix(OWN_KEYS_MARKS))
