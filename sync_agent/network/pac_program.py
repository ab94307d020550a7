"""The process in which a proxy script runs: JSON on stdin, JSON on stdout, gone after one answer.

A script comes from whoever answers on the network. It may loop or eat memory: here it costs a process that its parent
ends, and an agent at rest keeps no JavaScript engine in memory. It may look for what it can read: the engine (QuickJS,
by dukpy) has of itself functions that read files and the environment; they are taken away before the script is seen,
and the process knows nothing that would be worth reading (`pac`). What is left are the functions of `pac_functions`, of
which two ask the system for addresses.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import sys
from typing import Any, Final

from sync_agent.network.pac_functions import functions

_MEMORY_BYTES: Final = 512 * 1024 * 1024
_SECONDS: Final = 10
_MAX_SAID_CHARS: Final = 4_096
_CALL: Final = "function {0}() {{ return call_python.apply(null, ['{0}'].concat([].slice.call(arguments))); }}"
_TAKE_AWAY: Final = """
    for (const name of ["process", "require", "_dukpy_cjs_source_compiles", "_dukpy_eval_cjs_source"])
        delete globalThis[name];
"""
_ASK: Final = "(typeof FindProxyForURLEx === 'function' ? FindProxyForURLEx : FindProxyForURL)(dukpy.url, dukpy.host)"


def main() -> None:
    """Answer one question: {"script", "url", "host"} → {"answer"} or {"error"}."""
    _confine()
    asked = json.load(sys.stdin)
    try:
        found: dict[str, str] = {"answer": answer(asked["script"], asked["url"], asked["host"])}
    except Exception as reason:  # noqa: BLE001  (whatever a foreign script brings about)
        said = str(reason)[:_MAX_SAID_CHARS].strip()
        found = {"error": said.splitlines()[0] if said else type(reason).__name__}
    json.dump(found, sys.stdout)


def answer(script: str, url: str, host: str) -> str:
    """What the script's `FindProxyForURL` returns. Raises whatever the engine raises, `ValueError` at too much."""
    import dukpy  # noqa: PLC0415 — the one place that needs it

    engine = dukpy.JSInterpreter()
    _strip(engine)
    offered = functions(_resolve, _own_address(), dt.datetime.now().astimezone())
    for name, function in offered.items():
        engine.export_function(name, function)
    engine.evaljs("\n".join(_CALL.format(name) for name in offered))
    engine.evaljs(script)
    found = engine.evaljs(_ASK, url=url, host=host)
    if isinstance(found, str) and len(found) > _MAX_SAID_CHARS:
        raise ValueError("its answer is longer than allowed")
    return found if isinstance(found, str) else ""


class _NoModules:
    """Stands where the engine asks for files of code: there are none."""

    def load(self, _name: str) -> tuple[None, None, None]:
        """What `JSModuleLoader.load` says of a module that there is not."""
        return None, None, None

    def lookup(self, _name: str) -> tuple[None, None]:
        """What `JSModuleLoader.lookup` says of it."""
        return None, None


def _strip(engine: Any) -> None:
    """Take away all that the engine offers by itself: modules (any file), the environment, the program's log."""
    engine._funcs.clear()  # noqa: SLF001  (there is no other way to take one back)
    modules = _NoModules()
    engine._loader = modules  # noqa: SLF001
    if engine.loader is not modules:
        raise RuntimeError("this engine finds files in a way that is not known here")
    for level in ("info", "warn", "error"):
        engine.export_function(f"dukpy.log.{level}", _unheard)
    engine.evaljs(_TAKE_AWAY)


def _unheard(*_words: object) -> None:
    """Where what a script tells its author goes."""


def _confine() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 — where the system has it

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))


def _resolve(host: str) -> str | None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    addresses = [str(place[0]) for *_, place in sorted(found, key=lambda row: row[0] != socket.AF_INET)]
    return addresses[0] if addresses else None


def _own_address() -> str:
    """The address from which this machine would speak to others; no packet is sent."""
    for family, there in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 9))
            return str(probe.getsockname()[0])
    return "127.0.0.1"


if __name__ == "__main__":
    main()
