"""A listener that ends: whoever was let in this very moment is sent away, and nothing stays open."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from urllib.parse import urlsplit

from aiohttp import web

from protocol.replica.http.connections import listening


async def test_a_listener_that_ends_in_the_moment_in_which_somebody_calls_leaves_nothing_open() -> None:
    loop = asyncio.get_running_loop()
    first, then = socket.socketpair()
    first.setblocking(False)
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        async with listening(web.Application(), "127.0.0.1", 0, grace_s=1) as url:
            await asyncio.sleep(0)
            asked = loop.create_future()
            loop.add_reader(first, asked.set_result, None)
            # both are heard in one turn of the loop, in this order
            then.send(b".")
            call = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0))
            await asked
            loop.remove_reader(first)
        await asyncio.sleep(0)
        gc.collect()
    for one in (first, then, call):
        one.close()
    assert not [str(each.message) for each in left_open]
