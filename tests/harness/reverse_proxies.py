"""Debian's nginx and Caddy before a server, with the very configurations of deploy/proxy; only places are replaced."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.harness.patience import until
from tests.harness.ports import free_port

PROXY_FOLDER = Path(__file__).parents[2] / "deploy" / "proxy"


def nginx(folder: Path, port: int, server: str, certificate: str, key: str) -> list[str]:
    """The command that runs nginx in the foreground."""
    text = replaced(
        "nginx.conf",
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "listen [::]:443 ssl;": "",
            "server_name relais.example.org;": "server_name localhost;",
            "/etc/letsencrypt/live/relais.example.org/fullchain.pem": certificate,
            "/etc/letsencrypt/live/relais.example.org/privkey.pem": key,
            "server 127.0.0.1:8080;": f"server {server};",
        },
    )
    for kept in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = f"{kept}_temp_path {folder}/{kept};\n{text}"
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid;\nerror_log stderr;\nworker_processes 1;\nevents {{ worker_connections 256; }}\n"
        f"http {{\naccess_log off;\n{text}\n}}\n"
    )
    return ["/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off; user root;"]


def caddy(folder: Path, port: int, server: str, certificate: str, key: str) -> list[str]:
    """The command that runs Caddy in the foreground."""
    text = replaced(
        "Caddyfile",
        {
            "relais.example.org {": f"https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {key}",
            "127.0.0.1:8080 {": f"{server} {{",
        },
    )
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{text}")
    return [shutil.which("caddy") or "caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


PROXIES: Mapping[str, Callable[[Path, int, str, str, str], list[str]]] = {"nginx": nginx, "caddy": caddy}


def replaced(name: str, places: Mapping[str, str]) -> str:
    """A configuration of deploy/proxy with other places; each that is replaced must be there."""
    text = (PROXY_FOLDER / name).read_text()
    for old, new in places.items():
        assert old in text, (name, old)
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def running(kind: str, folder: Path, url: str, certificate: str, key: str) -> AsyncIterator[str]:
    """A proxy before the server at `url`, for as long as the context lasts; its own URL."""
    folder.mkdir()  # noqa: ASYNC240  (once, before anything serves)
    port = free_port()
    command = PROXIES[kind](folder, port, urlsplit(url).netloc, certificate, key)
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    log = open(folder / "log", "wb")  # noqa: ASYNC230, PTH123, SIM115  (the process writes into it until the end)
    process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment)
    try:

        async def is_up() -> bool:
            assert process.returncode is None, (folder / "log").read_text()[-2000:]
            return await _accepts(port)

        await until(is_up)
        yield f"https://localhost:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        log.close()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
