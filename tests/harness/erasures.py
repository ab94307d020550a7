"""Erasures as they were before what an office orders went with its space or person alone."""

from __future__ import annotations

from protocol.model.entry import Entry


def every_name(entry: Entry) -> tuple[bytes, ...]:
    """All names of an entry, whatever it is: an erasure of any of them covers it."""
    header = entry.header
    return tuple(name for name in (header.subject, header.target, entry.id, header.space) if name is not None)
