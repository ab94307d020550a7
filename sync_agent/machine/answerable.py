"""Who answers for what is kept about people here, as the operator of this machine names them: shown on its pages.

They are options of this machine, and no word of the set: whoever has the server, or a stolen right, would otherwise
tell families whom to write to (docs/adr/0428).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from protocol.replica.office.names import name_of


@dataclass(frozen=True, slots=True)
class Answerable:
    """Controller (GDPR, article 4.7) and data-protection officer, with how to reach them; None: ask at the school."""

    controller: str | None = None
    dpo: str | None = None

    @classmethod
    def typed(cls, controller: str | None, dpo: str | None) -> Self:
        """As somebody typed it. Raises `BadInput(BAD_NAME)`."""
        return cls(
            None if controller is None else name_of(controller, "--controller"),
            None if dpo is None else name_of(dpo, "--dpo"),
        )
