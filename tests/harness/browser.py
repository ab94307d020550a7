"""A headless Chromium for tests: Debian's own, driven by Playwright, kept off the network but for loopback.

The one that has no windows, where it is there: drawing those that nobody sees takes a third of a test's time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.harness.patience import PATIENCE_S

_CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), "/usr/bin/chromium"
)
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--in-process-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost",
)
_PATIENCE_MS = PATIENCE_S * 1000

# what is expected of a page may take as long as on a busy machine: five seconds, which is usual, are too few there
expect.set_options(timeout=_PATIENCE_MS)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser for as long as the context lasts."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS, timeout=_PATIENCE_MS)
        try:
            yield browser
        finally:
            await browser.close()


class Visitor:
    """Somebody at a browser: one context, what went wrong in it, and where it asked."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        context.set_default_timeout(_PATIENCE_MS)
        context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    async def page(self) -> Page:
        """A new page."""
        return await self.context.new_page()


@asynccontextmanager
async def visitor(
    browser: Browser, *, locale: str = "fr-FR", scripts: bool = True, width: int = 1360
) -> AsyncIterator[Visitor]:
    """A visitor with nothing stored, who speaks `locale`."""
    context = await browser.new_context(
        locale=locale, java_script_enabled=scripts, viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    try:
        yield Visitor(context)
    finally:
        await context.close()


async def accessibility_faults(page: Page) -> list[str]:
    """What axe-core finds wrong in the page, once it is there as a whole: the rule, and where."""
    await page.wait_for_load_state()
    results = await Axe().run(page, options={"resultTypes": ["violations"]})
    return [
        f"{violation['id']}: {node['target']} {node['html'][:200]}"
        for violation in results.response["violations"]
        for node in violation["nodes"]
    ]


async def looks_often(page: Page) -> None:
    """Have a page that is loaded next ask how things stand again and again, not only every few seconds."""
    await page.add_init_script("setInterval(() => document.dispatchEvent(new Event('visibilitychange')), 20)")


async def hears(page: Page) -> None:
    """Return when such a page has heard how things stand now, and heeded it: it asks again only then."""
    for _ in range(3):
        async with page.expect_response("**/live"):
            pass
