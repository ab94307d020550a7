"""What the command lines say of a code, where one was made (`invite`) and where one was used (`enroll`).

Whoever made a code is not asked into which territory it leads: a server in wrong hands names the true one, beside a
code of a territory of its own. The code itself says it, and people compare (docs/adr/0367).
"""

from __future__ import annotations

from typing import Final, cast

from protocol.replica.console.frame import tell
from protocol.replica.console.operation import JSON

_MADE: Final = (
    "this code is of the territory {}: so must the kit's paper say, and the page “Échange” of each computer that "
    "is in; if they do not, it leads to somebody else: hand it to nobody"
)
_USED: Final = (
    "this computer is of the territory {}: so must the kit's paper say, and the page “Échange” of each computer that "
    "was in before; if they do not, somebody else has it: let nobody work on it"
)


def told_of_code(made: JSON) -> JSON:
    """What `invite` shows of the code that was made."""
    from protocol.trust.invitation import parse_code, territory_fingerprint  # noqa: PLC0415 — loaded only when needed

    shown = cast("dict[str, JSON]", made)
    fingerprint = territory_fingerprint(parse_code(str(shown["code"])).fingerprint)
    tell(_MADE.format(fingerprint))
    return {**shown, "fingerprint": fingerprint}


def told_of_use(enrolled: JSON) -> JSON:
    """What `enroll` shows of the territory into which a code has led."""
    tell(_USED.format(cast("dict[str, JSON]", enrolled)["fingerprint"]))
    return enrolled
