"""Which keys this very server has replaced itself, by its own notes (§5)."""

from __future__ import annotations

from typing import Final

from protocol.replica.interfaces import EntryStore

OWN_KEYS_MARKS: Final = "server-keys/"
"""+ hex of a key that this server had and has replaced itself."""


async def note_as_own(store: EntryStore, key: bytes) -> None:
    """Note that the key which is about to be replaced was this server's own."""
    await store.set_marks({OWN_KEYS_MARKS + key.hex(): b""})


async def replaced_own_keys(store: EntryStore) -> set[bytes]:
    """The keys that this very server has replaced."""
    return {bytes.fromhex(mark.removeprefix(OWN_KEYS_MARKS)) for mark in await store.marks(OWN_KEYS_MARKS)}
