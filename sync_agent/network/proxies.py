"""Which proxy leads to the server: what a person, the environment and the system say, as data and pure functions (R15).

Rules:
- what was given with `--proxy` holds, whatever the system says; "direct" uses no proxy, "system" is the default;
- of the system's settings a proxy script (PAC) comes first, then the proxy for the server's scheme, then the one for
  all; exceptions are honoured as the system writes them;
- this machine itself is reached without a proxy, unless one was given by hand;
- HTTP proxies are spoken to, in clear or over TLS, with a name and a password (Basic). SOCKS is named, not spoken.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from protocol.errors import BadInput, Code

DIRECT: Final = "direct"
SYSTEM: Final = "system"
MAX_TRIED: Final = 8
"""Of what a script names: each that does not answer costs a call ten seconds, and the network may be another since."""
_SCRIPT: Final = "pac+"
_LOCAL: Final = "<local>"
_SPOKEN: Final = ("http", "https")
_DEFAULT_PORT: Final = {"http": 80, "https": 443}
_PROXY_PORT: Final = {"http": 3128, "https": 443, "socks": 1080}
_MAX_PORT: Final = 65_535
_SCRIPT_SCHEMES: Final = ("http", "https", "file")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: `scheme` is how it is spoken to. Other schemes (`socks`) can be named but not used."""

    scheme: str
    host: str
    port: int
    name: str | None = None
    password: str = field(default="", repr=False)

    @property
    def authority(self) -> str:
        """Host and port, without name and password: what may be shown and logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Its address, without name and password."""
        return f"{self.scheme}://{self.authority}"

    @property
    def secret_url(self) -> str:
        """Its address with name and password, as `--proxy` takes it."""
        login = "" if self.name is None else f"{quote(self.name, safe='')}:{quote(self.password, safe='')}@"
        return f"{self.scheme}://{login}{self.authority}"

    @property
    def is_spoken(self) -> bool:
        """Whether Relais speaks to proxies of this kind."""
        return self.scheme in _SPOKEN


@dataclass(frozen=True, slots=True)
class Wish:
    """What `--proxy` says: nothing (the system decides), no proxy, one proxy, or a script's address."""

    direct: bool = False
    proxy: Proxy | None = None
    script: str | None = None

    @property
    def is_system(self) -> bool:
        """Whether the system's settings decide."""
        return not self.direct and self.proxy is None and self.script is None

    @property
    def text(self) -> str:
        """As `--proxy` takes it, with its password."""
        if self.proxy is not None:
            return self.proxy.secret_url
        if self.script is not None:
            return _SCRIPT + self.script
        return DIRECT if self.direct else SYSTEM


@dataclass(frozen=True, slots=True)
class Settings:
    """What a system says. `proxies`: by the scheme of what is asked for, "all" for every one.

    `script`: a PAC file's address; `discovers`: the script is to be looked for at the customary place; `exceptions`:
    hosts that are reached without a proxy, as the system writes them; `source` names the system in one word.
    """

    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    script: str | None = None
    discovers: bool = False
    exceptions: tuple[str, ...] = ()
    source: str = ""

    @property
    def says_something(self) -> bool:
        """Whether there is more than "no proxy"."""
        return bool(self.proxies or self.script or self.discovers)


def wish_of(text: str | None) -> Wish:
    """What was given as `--proxy`. Raises `BadInput(USAGE)`; the sentence repeats no password."""
    given = (text or SYSTEM).strip()
    if given.lower() == SYSTEM:
        return Wish()
    if given.lower() == DIRECT:
        return Wish(direct=True)
    if given.lower().startswith(_SCRIPT):
        script = given[len(_SCRIPT) :]
        return Wish(script=_script_address(script))
    if urlsplit(given).path.lower().endswith((".pac", ".dat")) and "://" in given:
        return Wish(script=_script_address(given))
    proxy = proxy_of(given)
    if proxy is None or not proxy.is_spoken:
        raise BadInput(
            Code.USAGE,
            "--proxy: what was given is no HTTP proxy; expected is http://HOST:PORT (with NAME:PASSWORD@ before HOST "
            "if it asks for them), pac+http://…/proxy.pac for a script, “direct” or “system”",
        )
    return Wish(proxy=proxy)


def _script_address(text: str) -> str:
    if "://" not in text and text:
        text = f"file://{text}" if text.startswith("/") else f"file:///{text}"
    if urlsplit(text).scheme not in _SCRIPT_SCHEMES:
        raise BadInput(Code.USAGE, f"--proxy: a proxy script is fetched by http, https or from a file, not from {text}")
    return text


def proxy_of(text: str, scheme: str = "http") -> Proxy | None:
    """The proxy of `[scheme://][name:password@]host[:port][/]`, or None for what is none."""
    text = text.strip()
    if not text:
        return None
    try:
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    kind = "socks" if parts.scheme.startswith("socks") else parts.scheme
    if not host or kind not in _PROXY_PORT or any(c.isspace() for c in text):
        return None
    name = None if parts.username is None else unquote(parts.username)
    return Proxy(kind, host, port or _PROXY_PORT[kind], name, unquote(parts.password or ""))


def from_environment(environment: Mapping[str, str]) -> Settings:
    """`https_proxy`, `http_proxy`, `all_proxy`, `no_proxy`, in small letters first, then in capitals."""
    found: dict[str, Proxy] = {}
    for scheme in ("http", "https", "all"):
        name = f"{scheme}_proxy"
        if scheme == "http" and "REQUEST_METHOD" in environment:
            continue
        proxy = proxy_of(environment.get(name) or environment.get(name.upper(), ""))
        if proxy is not None:
            found[scheme] = proxy
    exceptions = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    return Settings(found, exceptions=tuple(split_list(exceptions)), source="environment")


def from_windows(server: str, override: str, script: str | None, *, discovers: bool = False) -> Settings:
    """Windows' strings: "host:port" or "http=a:1;https=b:2;socks=c:3", and exceptions with `*` and `<local>`."""
    found: dict[str, Proxy] = {}
    for part in split_list(server):
        scheme, equals, place = part.rpartition("=")
        kind = "socks" if scheme == "socks" else "http"
        proxy = proxy_of(place, kind)
        if proxy is not None:
            found[scheme.lower() if equals and scheme != "socks" else "all"] = proxy
    return Settings(found, script or None, discovers, tuple(split_list(override)), "Windows")


def split_list(text: str) -> Iterable[str]:
    """The parts of a list as systems write it: with commas, semicolons or spaces."""
    return (part for part in text.replace(";", " ").replace(",", " ").split() if part)


def fixed_choices(settings: Settings, url: str) -> tuple[Proxy | None, ...]:
    """The proxies to try, in order, by settings without their script; None is the direct way."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if excepted(host, parts.port or _DEFAULT_PORT.get(parts.scheme, 0), settings.exceptions):
        return (None,)
    proxy = settings.proxies.get(parts.scheme) or settings.proxies.get("all")
    return (None,) if proxy is None else (proxy,)


def script_choices(answer: str) -> tuple[Proxy | None, ...]:
    """What a script returned: `PROXY a:1; HTTPS b:2; SOCKS c; DIRECT`, as proxies to try in order.

    What cannot be understood is left out, and what comes after `MAX_TRIED`; an empty answer is the direct way.
    """
    found: list[Proxy | None] = []
    for part in answer.split(";"):
        kind, _, place = part.strip().partition(" ")
        match kind.upper():
            case "DIRECT":
                found.append(None)
            case "PROXY" | "HTTP":
                found.append(proxy_of(place, "http"))
            case "HTTPS":
                found.append(proxy_of(place, "https"))
            case "SOCKS" | "SOCKS4" | "SOCKS5":
                found.append(proxy_of(place, "socks"))
            case _:
                continue
    return tuple(dict.fromkeys(found))[:MAX_TRIED] or (None,)


def excepted(host: str, port: int, patterns: Iterable[str]) -> bool:
    """Whether `host` is an exception: a name with all below it, `*`, an address, a network, `<local>`."""
    host = host.lower().rstrip(".")
    return any(_matches(host, port, pattern.strip().lower()) for pattern in patterns)


def _matches(host: str, port: int, pattern: str) -> bool:
    if pattern == _LOCAL:
        return "." not in host and ":" not in host
    pattern = pattern.partition("://")[2] or pattern
    if pattern == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(pattern.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, wanted = pattern.rpartition(":")
    if colon and wanted.isdecimal() and int(wanted) <= _MAX_PORT:
        if int(wanted) != port:
            return False
        pattern = name
    if "*" in pattern:
        return fnmatchcase(host, pattern) or (pattern.startswith("*.") and host == pattern[2:])
    pattern = pattern.lstrip(".")
    return bool(pattern) and (host == pattern or host.endswith(f".{pattern}"))
