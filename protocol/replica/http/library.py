"""aiohttp, loaded without what it reads of the system at once, and what no call of ours has asked for.

As it is imported it makes two TLS contexts, for calls that name none, and both read the system's authorities: 2.4 MB
that a daemon keeps, and 40 ms of each command that speaks HTTP. Here they read them when a connection first needs them.
It reads the system's list of media types as well (0.3 MB); ours are a table of our own, or said by whoever asks.

Whoever may be the first of a process to import aiohttp takes it from here.
"""

from __future__ import annotations

import mimetypes
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class LateAuthorities(ssl.SSLContext):
    """A context that reads the system's authorities when the first connection is about to ask for them."""

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """As any context, from then on."""
        self.__class__ = ssl.SSLContext  # type: ignore[assignment]
        self.load_default_certs()
        return self.wrap_bio(*arguments, **named)


@contextmanager
def _reading_nothing_yet() -> Iterator[None]:
    """Let contexts that this thread makes meanwhile read authorities late, and no list of media types be known."""
    loading, known = threading.get_ident(), mimetypes.knownfiles[:]

    def late(at_once: Callable[..., None]) -> Callable[..., None]:
        def load(context: ssl.SSLContext, *purpose: Any) -> None:
            if threading.get_ident() == loading:
                context.__class__ = LateAuthorities
            else:
                at_once(context, *purpose)

        return load

    with _replaced("load_default_certs", late), _replaced("set_default_verify_paths", late):
        mimetypes.knownfiles.clear()
        try:
            yield
        finally:
            mimetypes.knownfiles[:] = known


@contextmanager
def _replaced(name: str, by: Callable[[Callable[..., None]], Callable[..., None]]) -> Iterator[None]:
    """Let a method of contexts be what `by` makes of it."""
    before = getattr(ssl.SSLContext, name)
    setattr(ssl.SSLContext, name, by(before))
    try:
        yield
    finally:
        setattr(ssl.SSLContext, name, before)


with _reading_nothing_yet():
    import aiohttp
    from aiohttp import web

__all__ = ["aiohttp", "web"]
