"""What can stand between this machine and its server, each with a name, a sentence and a remedy (R15).

Rules: a name is stable (`status` shows it, the portal translates it); a sentence says what was seen, a remedy what a
person can do; nothing seen on the way is ever taken for the server's own word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from protocol.errors import Code, NoAnswer, PeerFault, Refused
from protocol.limits import MAX_SEEN_CHARS
from protocol.portable_names import displayable

_TITLE: Final = re.compile(rb"<title[^>]*>([^<]{1,400})", re.IGNORECASE)
_BEGINNING_BYTES: Final = 16 * 1024
_SERVERS_OWN: Final = frozenset({Code.DISK_FULL, Code.READ_ONLY, Code.STORAGE_FAILED, Code.INTERNAL, Code.DAMAGED})
_ALTERED: Final = frozenset({Code.BAD_SEAL, Code.MALFORMED, Code.NOT_CANONICAL})


class Trouble(StrEnum):
    """What was seen, by its stable name."""

    OFFLINE = "offline"
    NO_WAY_OUT = "no-way-out"
    NAME_UNKNOWN = "name-unknown"
    NO_SERVER = "no-server"
    GATEWAY = "gateway"
    SILENT = "silent"
    STALLED = "stalled"
    CUT = "cut"
    SIGN_IN = "sign-in-page"
    BLOCKED = "blocked"
    STRANGER = "another-program"
    FOREIGN = "another-territory"
    MOVED = "moved"
    SECURE = "secure-only"
    PLAIN = "plain-only"
    ALTERED = "altered"
    CERTIFICATE = "certificate"
    INSPECTED = "inspected"
    PROXY_GONE = "proxy-gone"
    PROXY_SIGN_IN = "proxy-sign-in"
    PROXY_PASSWORD = "proxy-password"  # noqa: S105  (a name)
    PROXY_METHOD = "proxy-method"
    PROXY_REFUSES = "proxy-refuses"
    PROXY_KIND = "proxy-kind"
    DRILL = "drill"
    SERVER = "server-trouble"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Words:
    """`seen` completes "URL cannot be reached: …"; `remedy` stands alone. Both may name `{about}` and `{host}`.

    `once_enrolled` follows the remedy on a device that keeps the address that it was enrolled with.
    """

    seen: str
    remedy: str
    once_enrolled: str = ""


_SIGN_IN_REMEDY: Final = "open a browser on this machine and sign in; everything goes on by itself then"
_WAIT: Final = "it goes on by itself when the line does; all work is kept meanwhile"

WORDS: Final[Mapping[Trouble, Words]] = {
    Trouble.OFFLINE: Words(
        "this machine is on no network", "look at the network cable or the Wi-Fi; all work is kept meanwhile"
    ),
    Trouble.NO_WAY_OUT: Words(
        "this network leads nowhere beyond itself: its line is cut, or its router is off",
        "look at the router and its line, not at this machine; it goes on by itself when the line does; all work is "
        "kept meanwhile",
    ),
    Trouble.NAME_UNKNOWN: Words(
        "its name is not known here: is the address right, is this machine online?",
        "look at the network cable or the Wi-Fi; where browsers work, ask who looks after the network why “{host}” is "
        "not found",
    ),
    Trouble.NO_SERVER: Words(
        "the machine is there, but no server answers on it", "wait a little; if it lasts, tell who runs the server"
    ),
    Trouble.GATEWAY: Words(
        "another program in front of the server answers that it cannot reach it ({about})",
        "wait a little; if it lasts, tell who runs the server",
    ),
    Trouble.SILENT: Words(
        "nothing answers", "where browsers work, ask who looks after the network to open the way to “{host}”"
    ),
    Trouble.STALLED: Words("it stopped answering: the line stands still", _WAIT),
    Trouble.CUT: Words("the connection was cut", _WAIT),
    Trouble.SIGN_IN: Words(
        "the Internet answers with a sign-in page of “{about}”, as a public Wi-Fi does: open a browser", _SIGN_IN_REMEDY
    ),
    Trouble.BLOCKED: Words(
        "a filter answers in its place: “{about}”", "ask who looks after the network to allow “{host}”"
    ),
    Trouble.STRANGER: Words(
        "what answers there is another program ({about})",
        "compare the address with the one that you were given; if it is right, tell who looks after the network",
    ),
    Trouble.FOREIGN: Words(
        "a server of another territory answers there; it was given nothing",
        "compare the fingerprint that this machine shows with the kit's paper: if it is that one, something else has "
        "the server's address, so tell who looks after the network; if it is another one, the code of this machine led "
        "to somebody else: let nobody work on it, and enrol it anew with a code that was compared",
    ),
    Trouble.MOVED: Words(
        "it says that it has moved to {about}",
        "ask who runs the server for its address, and give it if that is the new one",
        "; a device that is enrolled already enrols in another folder, with a new code",
    ),
    Trouble.SECURE: Words(
        "what answers there takes secure connections only: try https:// ({about})",
        "give the address with https:// ({about})",
        "; a device that is enrolled already enrols in another folder, with a new code",
    ),
    Trouble.PLAIN: Words(
        "no secure connection could be made: what answers there speaks plain HTTP ({about})",
        "on the server's own machine give the address with http:// ({about}); elsewhere compare it, and the port, with "
        "the one that you were given: a server that others reach takes secure connections",
    ),
    Trouble.ALTERED: Words(
        "what it answers was changed on the way, by a filter, an antivirus or a cache",
        "ask who looks after the network that “{host}” passes unchanged; nothing changed is ever taken for true",
    ),
    Trouble.CERTIFICATE: Words(
        "no secure connection could be made: the certificate that is shown is not the server's ({about})",
        "compare the address with the one that you were given; where a Wi-Fi asks for a sign-in, open a browser first",
    ),
    Trouble.INSPECTED: Words(
        "a machine in between opens secure connections, in the name of “{about}”, whom this machine does not trust; "
        "or the server's own certificate is of an authority that it does not know",
        "ask whether that is the network's inspecting proxy, or the authority of the server itself; then give the "
        "certificate of “{about}” with --ca FILE, or have it put into this system's store; what Relais sends stays "
        "sealed either way",
    ),
    Trouble.PROXY_GONE: Words(
        "the proxy {about} that this machine is set to use does not answer",
        "correct the proxy in the system's settings, or give another one with --proxy; `--proxy direct` uses none",
    ),
    Trouble.PROXY_SIGN_IN: Words(
        "the proxy {about} asks for a name and a password", "give them with --proxy http://NAME:PASSWORD@{about}"
    ),
    Trouble.PROXY_PASSWORD: Words(
        "the proxy {about} does not accept this name and password",
        "ask who looks after the network for the right ones, and give them with --proxy http://NAME:PASSWORD@{about}",
    ),
    Trouble.PROXY_METHOD: Words(
        "the proxy {about} wants a sign-in that Relais does not speak, such as Windows' own (NTLM, Kerberos) or Digest",
        "ask who looks after the network to let this machine pass to “{host}” without sign-in or with a plain password "
        "(Basic); or run a local helper that signs in, such as Cntlm or Px, and give its address with --proxy",
    ),
    Trouble.PROXY_REFUSES: Words(
        "the proxy {about} does not let this machine through", "ask who looks after the network to allow “{host}”"
    ),
    Trouble.PROXY_KIND: Words(
        "the system's settings name a proxy of a kind that Relais does not speak ({about})",
        "give an HTTP proxy with --proxy http://HOST:PORT, or --proxy direct",
    ),
    Trouble.DRILL: Words(
        "the school rehearses an outage until {about}",
        "there is nothing to mend: it ends by itself, and everything is sent then",
    ),
    Trouble.SERVER: Words(
        "it answers, and can take nothing now ({about})",
        "tell who runs the server; all work is kept here, and goes by itself once that is mended",
    ),
    Trouble.OTHER: Words("the network gives an error", _WAIT),
}

AT_A_DEVICE: Final[Mapping[Trouble, Words]] = {
    Trouble.NO_SERVER: Words(
        "the machine is there, but no Relais answers at this port",
        "look on that computer whether Relais runs, with --lan: `sync-agent peer address` says there how it is reached",
    ),
}
"""What has other words where a device of the school was to answer, and no server."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A trouble with its particulars: `about` whom or what (a page's title, an issuer, a proxy's address)."""

    trouble: Trouble
    about: str = ""

    def sentence(self) -> str:
        """What was seen."""
        return _filled(WORDS[self.trouble].seen, self.about, "")

    def remedy(self, url: str, *, is_enrolled: bool = True) -> str:
        """What a person can do about it."""
        words = WORDS[self.trouble]
        said = f"{words.remedy}{words.once_enrolled}" if is_enrolled else words.remedy
        return _filled(said, self.about, urlsplit(url).hostname or url)


def no_answer(url: str, seen: Seen, **facts: object) -> NoAnswer:
    """The error for a server at `url` that could not be spoken to. Its facts hold `seen`."""
    message = f"{url} cannot be reached: {seen.sentence()}; the work is kept"
    return NoAnswer(Code.UNREACHABLE, message, seen=seen, **facts)


def seen_in(error: BaseException | None) -> Seen | None:
    """The trouble that an error carries, if it does. What cannot be opened was changed on the way."""
    if isinstance(error, PeerFault) and error.code in _ALTERED:
        return Seen(Trouble.ALTERED)
    if isinstance(error, Refused) and error.code is Code.WRONG_TERRITORY:
        return Seen(Trouble.FOREIGN)
    if isinstance(error, NoAnswer) and error.code in _SERVERS_OWN:
        return Seen(Trouble.SERVER, error.code)
    found = error.facts.get("seen") if isinstance(error, NoAnswer) else None
    return found if isinstance(found, Seen) else None


def in_touch(seen: Seen, neighbours: int) -> Seen:
    """What was seen, for who exchanges with others at the same time: that machine is on a network."""
    return Seen(Trouble.NO_WAY_OUT) if neighbours and seen.trouble is Trouble.OFFLINE else seen


def seen_as(name: str, about: str) -> Seen:
    """What was seen, as it was noted; a name that only another version knows is `OTHER`."""
    return Seen(Trouble(name) if name in list(Trouble) else Trouble.OTHER, about)


def title_of(page: bytes) -> str:
    """The title of a web page, fit to be shown; empty if it has none."""
    found = _TITLE.search(page[:_BEGINNING_BYTES])
    if found is None:
        return ""
    from html import unescape  # noqa: PLC0415 — two thousand names of signs, for the day of a captive portal

    return fit(unescape(found[1].decode(errors="replace")))


def fit(text: str) -> str:
    """Foreign text in one line, without control characters, not too long."""
    line = displayable(" ".join(text.split()))
    return line if len(line) <= MAX_SEEN_CHARS else f"{line[: MAX_SEEN_CHARS - 1]}…"


def _filled(text: str, about: str, host: str) -> str:
    if not about:
        text = text.replace(" of “{about}”", "").replace(" ({about})", "").replace(": “{about}”", "")
        text = text.replace(", in the name of “{about}”,", "").replace("“{about}”", "the school").replace("{about}", "")
    return " ".join(text.replace("{about}", about).replace("{host}", host).split())
