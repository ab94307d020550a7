"""What somebody has written, on the page of their archive: only where there is any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from protocol.replica.access.markup import Say, day_of, escaped, links_to, mark_of, rows_in, table
from protocol.replica.access.written import Written
from protocol.replica.console.operation import JSON

ACTS: Final = (
    "withdraw",
    "restore",
    "space",
    "space-change",
    "person",
    "invite",
    "grant",
    "revoke",
    "erase",
    "ruling",
    "drill",
    "quarantine",
    "vouch",
    "sign-in",
)
"""The kinds that have a word of their own on the page; all others are keys, and copies of keys."""
_TOLD_ABOVE: Final = frozenset({"revision", "feedback", "receipt-teacher"})
_OTHER: Final = "other"

_Row = Mapping[str, JSON]


def what_they_wrote(written: Written, say: Say) -> str:
    """The sections of the page."""
    acts = [row for row in written.entries if row["kind"] not in _TOLD_ABOVE]
    sections = (
        ("lessons", "".join(_lesson(row, say) for row in written.lessons)),
        ("remarks", "".join(_remark(row, say) for row in written.remarks)),
        ("opened", _table([_opened(row, say) for row in written.opened], ("work", "pupil", "class", "on"), say)),
        ("devices", _table([_device(row, say) for row in written.devices], ("device", "class", "on", "state"), say)),
        ("access", _counted(written.rights, say)),
        ("acts", _counted(acts, say)),
    )
    found = [f"<h2>{escaped(say(f'family.{name}'))}</h2>\n{body}" for name, body in sections if body]
    if written.withheld:
        found.append(f"<p>{escaped(say('family.withheld', n=written.withheld))}</p>")
    if written.unconfirmed:
        found.append(f"<p>{escaped(say('family.unconfirmed', n=written.unconfirmed))}</p>")
    return "\n".join(found)


def _lesson(row: _Row, say: Say) -> str:
    versions = rows_in(row["versions"])
    parts = [f"<h3>{escaped(versions[0]['title'])}</h3>"]
    told = [say(f"family.lesson_{key}") for key in ("hidden", "withdrawn") if row[key]]
    parts += [f"<p><strong>{escaped(each)}</strong></p>" for each in told]
    for each in versions:
        kind = say(f"family.item_{each['kind']}")
        facts = {"space": row["space_name"] or "?", "day": day_of(each["at"]), "kind": kind, "title": each["title"]}
        parts.append(f"<p>{escaped(say('family.published', **facts))}</p>{links_to(each['files'])}")
        if each["missing"] is not None:
            parts.append(f"<p>{escaped(say('family.not_here_bytes', n=each['bytes']))}</p>")
    return "".join(parts)


def _remark(row: _Row, say: Say) -> str:
    facts = {"space": row["space_name"] or "?", "pupil": _pupil(row, say), "day": day_of(row["at"])}
    files = rows_in(row["files"])
    names = ", ".join(str(each["name"] or "?") for each in files)
    standing = "" if row["stands"] else f" {escaped(say('family.stands_no_more'))}"
    given_back = f"<p>{escaped(say('family.remark_files', names=names))}</p>" if files else ""
    return (
        f"<h3>{escaped(row['title'])}</h3>"
        f"<p>{escaped(say('family.remark', **facts))}{mark_of(row, say)}{standing}</p>"
        f"<blockquote>{escaped(row['text'])}</blockquote>{given_back}"
    )


def _opened(row: _Row, say: Say) -> Sequence[JSON]:
    return row["title"], _pupil(row, say), row["space_name"] or "?", day_of(row["at"])


def _device(row: _Row, say: Say) -> Sequence[JSON]:
    places = [str(each["space_name"] or "?") for each in rows_in(row["let_in"])]
    state = "cut_off" if row["cut_off"] else "confirmed" if row["confirmed"] else "not_confirmed"
    name = row["name"] or str(row["device"])[:12]
    return (
        name,
        ", ".join(dict.fromkeys(places)),
        _from_to(row["since"], row["last"] or row["since"]),
        say(f"family.device_{state}"),
    )


def _counted(rows: Iterable[_Row], say: Say) -> str:
    """How many of each kind in each space, from when to when."""
    days = defaultdict[tuple[str, str], list[str]](list)
    for row in rows:
        kind = str(row["kind"])
        days[kind if kind in ACTS else _OTHER, str(row["space_name"] or "?")].append(str(row["at"]))
    lines = []
    for (kind, space), said in days.items():
        lines.append((say(f"family.act_{kind}"), space, len(said), _from_to(min(said), max(said))))
    return _table(lines, ("act", "class", "many", "on"), say)


def _from_to(since: JSON, until: JSON) -> str:
    first, last = day_of(since), day_of(until)
    return first if first == last else f"{first} – {last}"


def _table(rows: Sequence[Sequence[JSON]], columns: Sequence[str], say: Say) -> str:
    if not rows:
        return ""
    return table([say(f"family.column_{column}") for column in columns], rows)


def _pupil(row: _Row, say: Say) -> str:
    return str(row["pupil"] or say("family.somebody"))
