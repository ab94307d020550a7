"""A proxy script (PAC): fetched directly, run in a process of its own, its answer turned into proxies to try (R15).

Every step is bounded: size, time, memory, what is said; and the process knows nothing that is ours (`pac_program`). A
script that cannot be had or does not run is told to the caller, who goes the direct way, as browsers do.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import aiohttp

from protocol.limits import MAX_PROXY_SCRIPT_BYTES
from protocol.replica.process.child import STANDS_IN, bare_environment, starting
from sync_agent.network.proxies import Proxy, script_choices
from sync_agent.network.trouble import fit

FETCH_S: Final = 10.0
RUN_S: Final = 8.0
_OK: Final = 200
_PROGRAM: Final = "sync_agent.network.pac_program"


class ScriptFailed(Exception):
    """The script cannot be had, or does not answer; `str` says why in a few words."""


async def choices(script_url: str, url: str) -> tuple[Proxy | None, ...]:
    """The proxies that the script at `script_url` names for `url`, in order. Raises `ScriptFailed`."""
    script = await _fetched(script_url)
    return script_choices(await asyncio.to_thread(_run, script, url))


async def _fetched(address: str) -> str:
    parts = urlsplit(address)
    try:
        if parts.scheme == "file":
            data = await asyncio.to_thread(_read, url2pathname(unquote(parts.path)))
        else:
            data = await _download(address)
    except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as reason:
        raise ScriptFailed(f"{address} cannot be read: {fit(str(reason)) or type(reason).__name__}") from reason
    if len(data) > MAX_PROXY_SCRIPT_BYTES:
        raise ScriptFailed(f"{address} is larger than allowed")
    text = data.decode("utf-8-sig", errors="replace")
    if "FindProxyForURL" not in text:
        raise ScriptFailed(f"{address} is no proxy script")
    return text


def _read(path: str) -> bytes:
    if path.startswith(("//", "\\\\")):
        # Windows would tell whoever has that machine who we are
        raise ValueError("it lies on another machine")
    with Path(path).open("rb") as file:
        return file.read(MAX_PROXY_SCRIPT_BYTES + 1)


async def _download(address: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=FETCH_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(address, max_redirects=3) as answer:
        if answer.status != _OK:
            raise ScriptFailed(f"{address} cannot be read: status {answer.status}")
        data = bytearray()
        while len(data) <= MAX_PROXY_SCRIPT_BYTES and (piece := await answer.content.readany()):
            data += piece
        return bytes(data)


def _run(script: str, url: str) -> str:
    asked = json.dumps({"script": script, "url": _shortened(url), "host": urlsplit(url).hostname or ""})
    try:
        done = subprocess.run(  # noqa: S603  (ourselves)
            starting(_PROGRAM),
            input=asked.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=RUN_S,
            cwd=STANDS_IN,
            env=bare_environment(os.environ),
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise ScriptFailed("the proxy script does not come to an end") from None
    except (OSError, ValueError) as reason:
        raise ScriptFailed("the proxy script cannot be run") from reason
    if "answer" not in found:
        raise ScriptFailed(f"the proxy script fails: {fit(str(found.get('error')))}")
    return str(found["answer"])


def _shortened(url: str) -> str:
    """The server's address without its path, which is no business of a script's."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"
