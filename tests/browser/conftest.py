"""The browser of a test module: started once, in the module's own event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from tests.harness.browser import chromium


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Each visitor has a context of their own in it. A module that asks for it runs in one loop (`pytestmark`)."""
    async with chromium() as started:
        yield started
