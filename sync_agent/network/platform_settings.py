"""What the system says about proxies: Windows, macOS, GNOME and KDE. Reading is thin; what is read is parsed purely.

Everything here blocks (programs and the registry are asked): callers use a thread. What cannot be read says nothing.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sync_agent.network.proxies import Proxy, Settings, from_environment, from_windows, proxy_of, split_list

Ask = Callable[[list[str]], str]
"""The output of a program; empty if it is not there or fails."""

_PATIENCE_S: Final = 5.0
_LINE: Final = re.compile(r"^\s*(\w+)\s*:\s*(.*?)\s*$")
_GNOME: Final = "org.gnome.system.proxy"
_AUTO_DETECT_DHCP_DNS: Final = 3
_NO_PROXY: Final = 1


def read_settings(environment: Mapping[str, str], home: Path) -> Settings:
    """The first source that says something: environment, then the system. For Windows also what services use."""
    found = from_environment(environment)
    if found.says_something:
        return found
    if sys.platform == "win32":
        return _windows()
    if sys.platform == "darwin":
        return macos_settings(ask(["scutil", "--proxy"]))
    desktop = environment.get("XDG_CURRENT_DESKTOP", "")
    if "KDE" in desktop:
        with contextlib.suppress(OSError):
            return kde_settings((home / ".config" / "kioslaverc").read_text(encoding="utf-8", errors="replace"))
    if desktop:
        return gnome_settings(ask)
    return found


def ask(argv: list[str]) -> str:
    """See `Ask`."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return ""
    return done.stdout if done.returncode == 0 else ""


# --- macOS ------------------------------------------------------------------------------------------------------------


def macos_settings(text: str) -> Settings:
    """What `scutil --proxy` prints."""
    values: dict[str, str] = {}
    exceptions: list[str] = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        key, value = found.groups()
        if key.isdecimal():
            exceptions.append(value)
        else:
            values[key] = value
    proxies: dict[str, Proxy] = {}
    for scheme, prefix, kind in (("http", "HTTP", "http"), ("https", "HTTPS", "http"), ("all", "SOCKS", "socks")):
        proxy = proxy_of(f"{values.get(prefix + 'Proxy', '')}:{values.get(prefix + 'Port', '')}".rstrip(":"), kind)
        if values.get(prefix + "Enable") == "1" and proxy is not None:
            proxies[scheme] = proxy
    if values.get("ExcludeSimpleHostnames") == "1":
        exceptions.append("<local>")
    script = values.get("ProxyAutoConfigURLString") if values.get("ProxyAutoConfigEnable") == "1" else None
    return Settings(proxies, script, values.get("ProxyAutoDiscoveryEnable") == "1", tuple(exceptions), "macOS")


# --- Linux desktops ---------------------------------------------------------------------------------------------------


def gnome_settings(ask_program: Ask) -> Settings:
    """What `gsettings` says; Cinnamon, Budgie and Unity keep theirs in the same place."""
    lines = ask_program(["gsettings", "list-recursively", _GNOME]).splitlines()
    values = {tuple(line.split(" ", 2)[:2]): line.split(" ", 2)[2] for line in lines if line.count(" ") >= 2}  # noqa: PLR2004

    def value(key: str, part: str = "") -> Any:
        text = values.get((_GNOME + part, key), "''").removeprefix("@as ").removeprefix("uint32 ")
        try:
            return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (ValueError, SyntaxError):
            return ""

    if value("mode") == "auto":
        script = str(value("autoconfig-url"))
        return Settings(script=script or None, discovers=not script, source="GNOME")
    if value("mode") != "manual":
        return Settings(source="GNOME")
    proxies: dict[str, Proxy] = {}
    for scheme, part, kind in (("http", ".http", "http"), ("https", ".https", "http"), ("all", ".socks", "socks")):
        host, port = value("host", part), value("port", part)
        proxy = proxy_of(f"{host}:{port}", kind) if host and port else None
        if proxy is not None:
            proxies[scheme] = proxy
    ignored = value("ignore-hosts")
    return Settings(proxies, exceptions=tuple(map(str, ignored or ())), source="GNOME")


def kde_settings(text: str) -> Settings:
    """What `kioslaverc` says: type 1 by hand, 2 a script, 3 a script to be looked for; 4 is the environment."""
    import configparser  # noqa: PLC0415 — one desktop of many needs it

    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        return Settings(source="KDE")
    section = dict(parser.items("Proxy Settings")) if parser.has_section("Proxy Settings") else {}
    kind = section.get("proxytype", "0")
    if kind == "1":
        proxies: dict[str, Proxy] = {}
        for scheme, key in (("http", "httpproxy"), ("https", "httpsproxy"), ("all", "socksproxy")):
            proxy = proxy_of(section.get(key, "").strip().replace(" ", ":"), "socks" if scheme == "all" else "http")
            if proxy is not None:
                proxies[scheme] = proxy
        return Settings(proxies, exceptions=tuple(split_list(section.get("noproxyfor", ""))), source="KDE")
    script = section.get("proxy config script") if kind == "2" else None
    return Settings(script=script or None, discovers=kind == "3", source="KDE")


# --- Windows ----------------------------------------------------------------------------------------------------------


def _windows() -> Settings:
    """What the person set; where that says nothing, as for a service, what `netsh winhttp` or a policy set."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        mine = _windows_of_person()
        return mine if mine.says_something else _windows_of_machine()
    return Settings(source="Windows")


class _PersonConfig(ctypes.Structure):
    """WINHTTP_CURRENT_USER_IE_PROXY_CONFIG."""

    _fields_ = (
        ("detects", ctypes.c_int),
        ("script", ctypes.c_void_p),
        ("server", ctypes.c_void_p),
        ("override", ctypes.c_void_p),
    )


class _MachineConfig(ctypes.Structure):
    """WINHTTP_PROXY_INFO."""

    _fields_ = (("access", ctypes.c_uint32), ("server", ctypes.c_void_p), ("override", ctypes.c_void_p))


def _library(name: str) -> Any:
    return getattr(ctypes, "WinDLL")(name)  # noqa: B009  (exists on Windows only)


def _windows_of_person() -> Settings:
    winhttp = _library("winhttp")
    config = _PersonConfig()
    if not winhttp.WinHttpGetIEProxyConfigForCurrentUser(ctypes.byref(config)):
        return Settings(source="Windows")
    script, server, override = (_taken(place) for place in (config.script, config.server, config.override))
    if not script and config.detects:
        found = ctypes.c_void_p()
        if winhttp.WinHttpDetectAutoProxyConfigUrl(ctypes.c_uint32(_AUTO_DETECT_DHCP_DNS), ctypes.byref(found)):
            script = _taken(found.value)
    return from_windows(server, override, script)


def _windows_of_machine() -> Settings:
    config = _MachineConfig()
    if not _library("winhttp").WinHttpGetDefaultProxyConfiguration(ctypes.byref(config)):
        return Settings(source="Windows")
    server, override = _taken(config.server), _taken(config.override)
    return from_windows("" if config.access == _NO_PROXY else server, override, None)


def _taken(place: int | None) -> str:
    """The text at `place`, which Windows has allocated for us to free."""
    if not place:
        return ""
    text = ctypes.wstring_at(place)
    free = _library("kernel32").GlobalFree
    free.argtypes = (ctypes.c_void_p,)
    free(place)
    return text
