"""Names and titles as everybody is shown them, from what whoever wrote them has sent (docs/protocol.md, "Payloads").

Rules (docs/adr/0370):
- a name is read as it is shown: without what has no shape, on one line, with one space wherever a blank or a break
  stands. So no two names that look the same differ by what no screen shows, nor is one shown from behind;
- what is read stays a name, whatever it holds: a list keeps its people;
- what people type is refused where it holds a control, or turns a line around: only what comes from elsewhere is read
  without (`obeyed_in`);
- which characters these are stands here, and depends on nobody's version of Unicode: replicas read the same.

Sources: the Unicode Standard, Default_Ignorable_Code_Point (DerivedCoreProperties), and of the others what fonts leave
blank: interlinear annotations, noncharacters, Braille's empty pattern, the null notehead, fillers and format controls.
"""

from __future__ import annotations

import re
from typing import Final

_DIRECTIONS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
_OBEYED: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_OBEYED_IN_LINES: Final = re.compile("(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_BREAK: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]*[\x00-\x1f\x7f-\x9f\u2028\u2029][\s\x00-\x1f\x7f-\x9f]*")
_BLANK: Final = re.compile("[\\s\x00-\x1f\x7f-\x9f\u2800\U0001d159]+")
_WITHOUT_SHAPE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufdd0-\ufdef"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\U00013430-\U0001343f\U00016fe4\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def one_line(text: str) -> str:
    """A title as it is shown: on one line and in its own direction. What holds no break nor another is as it was."""
    text = _DIRECTIONS.sub("", text)
    return text if _BREAK.search(text) is None else _BREAK.sub(" ", text).strip()


def name_shown(text: str) -> str:
    """A name as it is shown, and so compared."""
    return _BLANK.sub(" ", _WITHOUT_SHAPE.sub("", text)).strip(" ")


def obeyed_in(text: str, *, has_lines: bool = False) -> str | None:
    """The first character of a text that screens obey instead of showing it; None if there is none.

    Blanks around it are none of it. `has_lines` says that breaks of lines and tabs are a part of the text.
    """
    found = (_OBEYED_IN_LINES if has_lines else _OBEYED).search(text.strip())
    return None if found is None else found[0]
