"""Where a form leads to."""

from __future__ import annotations

from typing import Final

from aiohttp import web

DRILL: Final = "/drill"


def see(place: str) -> web.Response:
    """Go there, by GET."""
    return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})


def inside(place: str | None) -> str:
    """A page of ours to go back to; anything else is the home page."""
    if not place or not place.startswith("/") or place.startswith(("//", "/\\")):
        return "/"
    return place if place.isprintable() else "/"
