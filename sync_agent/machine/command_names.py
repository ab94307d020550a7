"""Names of operations that several modules speak of; here, so that speaking of one loads nothing."""

from __future__ import annotations

from typing import Final

ARE_OF_VERSIONS: Final = "are-of-versions"
COURIER_EXPORT: Final = "courier-export"
COURIER_SURVEY: Final = "courier-survey"
COURIER_CHECK: Final = "courier-check"
COURIER_IMPORT: Final = "courier-import"
COURIER_LET_IN: Final = "courier-let-in"
SCHOOL: Final = (
    "space add", "space list", "space rename", "person add", "person list", "person rename", "person doubles",
    "person merge", "invite", "devices", "grant", "ungrant", "revoke", "lost", "stays", "erase",
)  # fmt: skip
"""What a head teacher's device does for its school (`school.commands`)."""
LOOK_AT: Final = "look_at"
"""Whether `grant` and `ungrant` answer with the devices at which people should look: pages ask, commands print them."""
LEFT_OFF: Final = "left_off"
"""How many more there are than these."""
CHOSEN: Final = "chosen"
"""As which X25519 key's, and as whose, `grant` lets a teacher's device in: what was shown to whoever said so."""
