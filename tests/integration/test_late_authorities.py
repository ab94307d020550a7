"""A call that names no TLS context is held to the system's authorities, which are read when it is made."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from aiohttp import web

from protocol.replica.http.connections import listening
from tests.harness.certificates import Authority

ROOT = Path(__file__).parents[2]
CALL = """
import asyncio, sys
from protocol.replica.http.library import aiohttp

async def call():
    async with aiohttp.ClientSession() as session, session.get(sys.argv[1]) as answer:
        return answer.status

try:
    print(asyncio.run(call()))
except aiohttp.ClientConnectorCertificateError:
    print("refused")
"""


@pytest.mark.parametrize(("trusted", "comes"), [("Known", "404"), ("Unknown", "refused")])
async def test_who_names_no_context_trusts_whom_the_system_trusts(trusted: str, comes: str, tmp_path: Path) -> None:
    known = Authority("Known", tmp_path)
    believed = known if trusted == known.name else Authority(trusted, tmp_path)
    async with listening(web.Application(), "127.0.0.1", 0, grace_s=1.0, tls=known.context(["localhost"])) as url:
        called = url.replace("127.0.0.1", "localhost")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CALL, called),
            cwd=ROOT,
            env={**os.environ, "SSL_CERT_FILE": str(believed.file), "SSL_CERT_DIR": str(tmp_path / "none")},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
    assert said.decode().split() == [comes]
