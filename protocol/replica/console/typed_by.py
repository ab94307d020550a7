"""Who gives a command: the account of the operating system, and who had signed in before it became that one.

It is said by the process that somebody has typed into, and goes with the command to whoever has the store open. Nobody
proves it: whoever may give commands on DIR could write there what they like.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from protocol.portable_names import displayable
from protocol.replica.console.operation import Params

TYPED_BY: Final = "typed_by"
"""The parameter that says it."""
BY_COMMAND: Final = "command line: "
"""Before the account of the operating system, as a line of the trail says it."""
_LOGIN: Final = Path("/proc/self/loginuid")
_NOBODY: Final = 0xFFFF_FFFF
_MAX_CHARS: Final = 200


def typed_here(params: Params) -> Params:
    """The parameters of a command, with who has typed it into this process."""
    return {**params, TYPED_BY: account_here()}


def account_here() -> str:
    """The account under which this process runs, in brackets the one that became it."""
    return account_told(_own_name(), _signed_in(), os.environ.get("SUDO_USER", ""))


def account_told(own: str, signed_in: str, by_sudo: str) -> str:
    """An account with who became it: who signed in, as far as the system has kept that, else whom `sudo` names."""
    before = signed_in or by_sudo
    return f"{own} ({before})" if before not in ("", own) else own


def by_of(params: Params) -> str:
    """Who has given a command, as a line of the trail says it."""
    said = params.get(TYPED_BY)
    return BY_COMMAND + (displayable(said)[:_MAX_CHARS] if isinstance(said, str) and said else "?")


def by_here() -> str:
    """The same, of a command that this process runs itself."""
    return by_of(typed_here({}))


def _own_name() -> str:
    if sys.platform == "win32":
        try:
            return os.getlogin()  # asks the system itself there, and no variable
        except OSError:
            return ""
    return name_of_user(os.geteuid())


def _signed_in() -> str:
    """Who signed in, whatever they became since (`su`, `sudo`): Linux keeps it, where whoever let them in said it."""
    try:
        number = int(_LOGIN.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ""
    return "" if number == _NOBODY else name_of_user(number)


def name_of_user(user: int) -> str:
    """What an account of the operating system is called, by its number."""
    if sys.platform == "win32":
        return f"#{user}"
    import pwd  # noqa: PLC0415 — where there is none, nobody asks

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"#{user}"
