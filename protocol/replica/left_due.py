"""What a program writes of its own beside hearing and answering: on a full disk it is left due (docs/adr/0587).

Rules:
- hearing comes first. A note, a receipt, a report, a key that is due: what finds no room keeps nothing else from being
  done, and nobody's question from being answered;
- it is done the next time that it is looked for. Whoever has it in hand says at the end what found no room, for whose
  it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from protocol.errors import Code, LocalFailure


class LeftDue:
    """Works that stand beside each other: none that finds no room keeps the others from being done."""

    def __init__(self) -> None:
        """Nothing has been left yet."""
        self.failure: LocalFailure | None = None

    @contextlib.contextmanager
    def where_there_is_room(self) -> Iterator[None]:
        """One of them. What else fails is raised as ever."""
        try:
            yield
        except LocalFailure as failure:
            if failure.code is not Code.DISK_FULL:
                raise
            self.failure = self.failure or failure

    def tell(self) -> None:
        """Raise the first `LocalFailure(DISK_FULL)`, if something found no room."""
        if self.failure is not None:
            raise self.failure
