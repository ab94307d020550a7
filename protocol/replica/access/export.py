"""`export-person`: a ZIP with a page, the files that can be opened, and all entries as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from protocol.clock import rfc3339
from protocol.replica.access.gathering import Gathering
from protocol.replica.access.known import Known
from protocol.replica.access.markup import Say, day_of
from protocol.replica.access.page import page_of
from protocol.replica.access.works import LiesAs, OpenKey, Works
from protocol.replica.access.written import GoneIn
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.content.holdings import Holdings
from protocol.replica.office.list_words import ListWords
from protocol.replica.office.several_classes import ask_about_classes
from protocol.replica.office.taken_names import ask_about_names
from protocol.replica.office.who_that_is import who_that_is

PAGE: Final = "index.html"
DATA: Final = "donnees.json"
_NOTHING_YET: Final = "nothing has been written yet"


async def export_person(
    replica: Replica,
    holdings: Holdings,
    person: bytes,
    open_key: OpenKey,
    outgoing: Outgoing,
    *,
    say: Say,
    territory_name: str,
    now_ms: int,
    ends: Mapping[bytes, int | None],
    gone_in: GoneIn,
    lies_as: LiesAs,
    known: Iterable[Known] = (),
    words: ListWords | None = None,
    renamed_too: bool = False,
) -> dict[str, JSON]:
    """Send the files of the archive, the page last, in the words of `say`; what it counted.

    `ends` says of each erasure until when it can be taken back here (`upkeep.orders.ends_of`), `gone_in` what was
    destroyed here, `lies_as` how far work has come that lies here, `known` how much is known here of their classes,
    `words` whose each word of a list is, where an office asks.
    Who that is is told first. Raises as `Gathering.gather`, and `BadInput(NOT_YET)`, unless `renamed_too`, for who has
    by now a name, or a number, that was another's, who may have been put in another's place, or whom several classes of
    one year have.
    """
    await outgoing.progress(f"what is about {await who_that_is(replica, person)}")
    await ask_about_classes(replica, person, outgoing, _NOTHING_YET, words=words, is_meant=renamed_too)
    await ask_about_names(replica, [person], [person], outgoing, _NOTHING_YET, words=words, is_meant=renamed_too)
    works = Works(replica, holdings, open_key, outgoing, lies_as)
    found = await Gathering(replica, works, gone_in, outgoing).gather(person, ends, known)
    made = rfc3339(now_ms) or ""
    data = json.dumps(
        {"territory": territory_name, "made": made, **_mapping(found.as_json())}, ensure_ascii=False, indent=1
    ).encode()
    for name, content in ((DATA, data), (PAGE, page_of(found, say, territory_name, day_of(made), DATA))):
        await outgoing.start(name, len(content))
        await outgoing.data(content)
        await outgoing.end()
    opened = sum(row["files"] is not None for row in found.works)
    counted: dict[str, JSON] = {
        "entries": len(found.entries),
        "hand_ins": len(found.works),
        "opened": opened,
        "hidden": found.hidden,
        "written": len(found.written.entries),
    }
    return counted if found.erasure is None else counted | {"erasure": found.erasure.as_json()}


def _mapping(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, Mapping) else {}
