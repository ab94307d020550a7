"""Where a form leads to."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit, urlunsplit

from aiohttp import web

DRILL: Final = "/drill"
MISSED: Final = "missed"
"""Tells the page to which a sign-in leads how many tries had failed before."""


def see(place: str) -> web.Response:
    """Go there, by GET."""
    return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})


def inside(place: str | None) -> str:
    """A page of ours to go back to; anything else is the home page."""
    if not place or not place.startswith("/") or place.startswith(("//", "/\\")):
        return "/"
    return place if place.isprintable() else "/"


def after_misses(place: str, missed: int) -> str:
    """The same page of ours, which says that so many tries to sign in had failed."""
    parts = urlsplit(place)
    query = f"{parts.query}&{MISSED}={missed}" if parts.query else f"{MISSED}={missed}"
    return urlunsplit(("", "", parts.path, query, parts.fragment))
