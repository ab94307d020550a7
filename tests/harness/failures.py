"""How something fails: the code that a caller, or a person, is told."""

from __future__ import annotations

from collections.abc import Awaitable

from protocol.errors import Code, RelaisError


async def code_of(attempt: Awaitable[object]) -> Code | None:
    """With which code an attempt fails; None if it does not."""
    try:
        await attempt
    except RelaisError as error:
        return error.code
    return None
