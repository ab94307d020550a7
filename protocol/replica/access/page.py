"""The page with which a family opens what is held about somebody: one file, no script, nothing from afar.

Its words are the programs' (`family.…` in their catalogues): here is only what stands where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from protocol.replica.access.gathering import Gathered
from protocol.replica.access.known import Known
from protocol.replica.access.markup import Say, day_of, escaped, links_to, mark_of, rows_in, table
from protocol.replica.access.page_of_words import what_they_wrote
from protocol.replica.access.under_way import UnderWay
from protocol.replica.console.operation import JSON

_STYLE: Final = (
    "body{font:1.05rem/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#17323a}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d5dedd}h2{margin-top:2rem}"
    "blockquote{margin:.4rem 0;padding:.4rem 1rem;border-left:4px solid #0b5f6b;white-space:pre-wrap}"
)
_COLUMNS: Final = ("name", "role", "class", "since")


def page_of(found: Gathered, say: Say, territory: str, made: str, data: str) -> bytes:
    """The page. `made` is when, `data` the name of the file with all of it."""
    title = str(found.names[-1]["name"]) if found.names else found.person.hex()
    names = table([say(f"family.{column}") for column in _COLUMNS], [_name(row, say) for row in found.names])
    works = "".join(_work(row, say) for row in found.works)
    entries = len(found.entries) + len(found.written.entries)
    text = f"""<!doctype html>
<html lang="{escaped(say.language)}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escaped(say("family.title", name=title))}</title><style>{_STYLE}</style></head><body>
<h1>{escaped(say("family.title", name=title))}</h1>
<p>{escaped(say("family.made", territory=territory, day=made))} <code>{found.person.hex()}</code></p>
{_erasure(found.erasure, say)}
{"".join(_known(known, name or "?", say) for known, name in found.known)}
<h2>{escaped(say("family.names"))}</h2>
{names}
{_works(works, say, is_asked_for=found.written.is_nothing)}
{what_they_wrote(found.written, say)}
<h2>{escaped(say("family.rest"))}</h2>
<p>{escaped(say("family.rest_means", n=entries))} <a href="{quote(data)}">{escaped(data)}</a></p>
<p>{escaped(say("family.rights"))}</p>
<p>{escaped(say("family.in_clear"))}</p>
</body></html>
"""
    return text.encode()


def _works(works: str, say: Say, *, is_asked_for: bool) -> str:
    if not works and not is_asked_for:
        return ""
    nothing = f"<p>{escaped(say('family.no_work'))}</p>"
    return f"<h2>{escaped(say('family.works'))}</h2>\n{works or nothing}"


def _erasure(erasure: UnderWay | None, say: Say) -> str:
    if erasure is None:
        return ""
    told = [_ends("family.erasure", erasure.final_ms, say)] if erasure.theirs else []
    for one, name in erasure.classes:
        # what the kit has not closed is not destroyed
        told.append(_ends("family.erasure_class", one.final_ms if one.by_kit else None, say, space=name))
    return "".join(f"<p><strong>{escaped(each)}</strong></p>" for each in told)


def _ends(key: str, final_ms: int | None, say: Say, **facts: object) -> str:
    if final_ms is None:
        return say(f"{key}_waits", **facts)
    return say(key, day=f"{say.moment(final_ms):%d/%m/%Y}", clock=say.clock(final_ms), **facts)


def _known(known: Known, name: str, say: Say) -> str:
    said = []
    if known.silent is None and known.as_of_ms is None:
        said.append(say("family.never_proven", space=name))
    elif known.silent is None and known.as_of_ms is not None:
        day = f"{say.moment(known.as_of_ms):%d/%m/%Y}"
        said.append(say("family.known", space=name, day=day, clock=say.clock(known.as_of_ms)))
    elif known.silent:
        said.append(say.count("family.not_told", len(known.silent), space=name))
    if known.are_others_unknown:
        said.append(say("family.others_unknown", space=name))
    return "".join(f"<p>{escaped(each)}</p>" for each in said)


def _name(row: Mapping[str, JSON], say: Say) -> Sequence[JSON]:
    role = say(f"family.role_{row['role']}")
    since = say("family.left", day=day_of(row["at"])) if row["left"] else day_of(row["at"])
    return row["name"], role, row["space_name"] or "?", since


def _work(row: Mapping[str, JSON], say: Say) -> str:
    parts = [f"<h3>{escaped(row['title'])}</h3>"]
    place: dict[str, object] = {"space": row["space_name"] or "?", "day": day_of(row["at"])}
    if row["state"] is None:
        return f"{parts[0]}<p>{escaped(say('family.bare', **place))}</p>"
    state = say(f"family.state_{row['state']}", teacher=row["by"] or say("family.somebody"))
    parts.append(f"<p>{escaped(say('family.handed_in', **place, state=state))}</p>")
    if row["hidden"]:
        parts.append(f"<p><strong>{escaped(say('family.hidden'))}</strong></p>")
    if row["missing"] is not None:
        parts.append(f"<p>{escaped(say('family.not_here'))}</p>")
    elif row["files"] is None:
        parts.append(f"<p>{escaped(say('family.sealed', n=row['sealed_bytes']))}</p>")
    else:
        parts.append(links_to(row["files"]))
    if isinstance(note := row["feedback"], Mapping):
        parts.append(_remark(note, say))
    for note in rows_in(row["said_besides"]):
        parts.append(f"<p>{escaped(say('family.besides_hidden' if note['hidden'] else 'family.besides'))}</p>")
        parts.append(_remark(note, say))
    return "".join(parts)


def _remark(note: Mapping[str, JSON], say: Say) -> str:
    lacks = f"<p>{escaped(say('family.not_here'))}</p>" if note.get("missing") else ""
    return (
        f"<p>{escaped(say('family.feedback', teacher=note['by'] or say('family.somebody')))}{mark_of(note, say)}</p>"
        f"<blockquote>{escaped(note['text'])}</blockquote>{links_to(note['files'])}{lacks}"
    )
