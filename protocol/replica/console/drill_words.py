"""What a drill has shown, and how it and a quarantine end, in sentences for whoever sits at a console.

Pure: the results of `drill stop`, `drill report` and `quarantine stop` come in as they are printed for scripts.
Times are this machine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from protocol.replica.console.operation import JSON

_ID_CHARS: Final = 12
_PARTS: Final = (("published", "published"), ("handed_in", "handed in"), ("kept_for_others", "kept for others"))


def stop_in_words(stopped: JSON) -> list[str]:
    """What `drill stop` did, and until when machines stay in the drill that cannot hear of it."""
    if not isinstance(stopped, Mapping) or stopped.get("until") is None:
        return ["no drill was running"]
    return [
        "the drill is over within five minutes on devices that run and reach the server: each asks now and then",
        "it is over at once on those in touch with one that has heard of this",
        f"who hears nothing ends it alone, at {_time(stopped['until'])} at the latest; nothing need be done there",
    ]


def lift_in_words(lifted: JSON) -> list[str]:
    """What `quarantine stop` did: whoever has heard of none has lifted none."""
    if not isinstance(lifted, Mapping) or not lifted.get("lifted"):
        return [
            "no quarantine of this school is known here, and none was lifted",
            "one that was imposed where this is out of reach is heard of with the next exchange: look again then",
        ]
    return ["lifted; each machine hears of it from the server, or by a stick that was written since"]


def report_in_words(report: JSON) -> list[str]:
    """What the last drill has shown."""
    return list(_report(report)) if isinstance(report, Mapping) else []


def _report(report: Mapping[str, JSON]) -> Iterator[str]:
    yield f"outage drill of {report['school']}, {report['minutes']} minutes from {_time(report['started'])}"
    if report["running"]:
        yield f"it is running, until {_time(report['ends'])}; what follows is what has arrived here so far"
    elif report["stopped"]:
        yield (
            f"it was stopped at {_time(report['ends'])}; machines that could not hear of that stayed in it until "
            f"{_time(report['planned_end'])} at the latest"
        )
    else:
        yield f"it ended by itself at {_time(report['ends'])}"
    yield f"published meanwhile: {report['published']}; handed in: {report['handed_in']}"
    yield from _safety(report)
    devices = report["devices"]
    rows = [row for row in devices if isinstance(row, Mapping)] if isinstance(devices, list) else []
    for row in rows:
        did = ", ".join(f"{words} {row[key]}" for key, words in _PARTS if row[key])
        yield f"- {row['name'] or str(row['device'])[:_ID_CHARS]}: {did}"
    if not rows and not report["running"]:
        yield "no device has done anything in it that is known here: agents bring it once they reach the server"


def _safety(report: Mapping[str, JSON]) -> Iterator[str]:
    if not report["handed_in"]:
        return
    yield (
        f"of these, before the end: in the hands of another device or of the server {report['safe']}, "
        f"on one machine alone {report['waiting']}"
    )
    took = report["seconds_to_safe"]
    if isinstance(took, Mapping) and took["median"] is not None:
        yield f"that took {took['median']} s as a rule, {took['longest']} s at most"


def _time(told: JSON) -> str:
    try:
        return datetime.fromisoformat(str(told)).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):  # who ordered the drill said when: the last day of all years, say
        return str(told)
