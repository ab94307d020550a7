"""Who gives a command: the account of the operating system, and whose it was before `sudo`.

It is said by the process that somebody has typed into, and goes with the command to whoever has the store open. Nobody
proves it: whoever may give commands on DIR could write there what they like.
"""

from __future__ import annotations

import getpass
import os
import sys
from typing import Final

from protocol.portable_names import displayable
from protocol.replica.console.operation import Params

TYPED_BY: Final = "typed_by"
"""The parameter that says it."""
BY_COMMAND: Final = "command line: "
"""Before the account of the operating system, as a line of the trail says it."""
_MAX_CHARS: Final = 200


def typed_here(params: Params) -> Params:
    """The parameters of a command, with who has typed it into this process."""
    return {**params, TYPED_BY: account_here()}


def account_here() -> str:
    """The account under which this process runs, in brackets the one that became it."""
    name, before = _own_name(), os.environ.get("SUDO_USER", "")
    return f"{name} ({before})" if before and before != name else name


def by_of(params: Params) -> str:
    """Who has given a command, as a line of the trail says it."""
    said = params.get(TYPED_BY)
    return BY_COMMAND + (displayable(said)[:_MAX_CHARS] if isinstance(said, str) and said else "?")


def by_here() -> str:
    """The same, of a command that this process runs itself."""
    return by_of(typed_here({}))


def _own_name() -> str:
    if sys.platform == "win32":
        return getpass.getuser()
    import pwd  # noqa: PLC0415 — where there is none, nobody asks

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"#{os.geteuid()}"
