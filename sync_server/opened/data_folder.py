"""Where things lie in a server's data folder, and whether a folder is one. Loads nothing: every command asks first."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from protocol.errors import BadInput, Code

KEYS_FOLDER: Final = "keys"
KEYS_FILE: Final = "keys/server"
NEXT_KEYS_FILE: Final = "keys/server-next"
"""Keys that a rotation has made and that take the place of the others once an entry names them."""
INTRODUCTION_FILE: Final = "keys/introduction"
"""A second copy of the server's certificate: with it and the keys a server is one, whatever became of its database."""
TERRITORY_FILE: Final = "territory.json"
UNFINISHED_FILE: Final = "init-unfinished"
COPY_FILE: Final = "backup-passing.db"
"""The copy of the database that a backup is made of, while it is made."""
DEFAULT_KIT: Final = "recovery-kit"


def is_initialised(folder: Path) -> bool:
    """Whether DIR is a server's: `init` writes `territory.json` last of all."""
    return (folder / TERRITORY_FILE).exists()


def check_initialised(folder: Path) -> None:
    """Raise `BadInput(NOT_INITIALISED)` unless DIR is a server's."""
    if not is_initialised(folder):
        raise not_initialised(folder)


def not_initialised(folder: Path) -> BadInput:
    """What to say of a folder that is none."""
    if (folder / UNFINISHED_FILE).exists():
        text = f"{folder} is no server's data folder yet: `restore` or `init` was ended here; give that command again"
        return BadInput(Code.NOT_INITIALISED, text)
    if (folder / KEYS_FOLDER).exists():
        text = f"{folder} is no server's data folder, and keys of something else lie in it: name the server's (--data)"
        return BadInput(Code.NOT_INITIALISED, text)
    return BadInput(Code.NOT_INITIALISED, f"{folder} is no server's data folder yet; use `sync-server init`")


def already_initialised(folder: Path) -> BadInput:
    """What to say of a folder that is one already."""
    return BadInput(Code.ALREADY_INITIALISED, f"{folder} is a server's data folder already; nothing has changed")
