"""A Chromium for the tests of the board and for its pictures: whichever this machine has."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

NAMED = "FUNNELWATCH_TEST_CHROMIUM"
"""Path of the program; or "required", so that a missing one is a failure and not a skipped test."""
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
START_MS = 300_000.0
MISSING = (
    "no Chromium here, so the board was NOT tested in a browser: apt install chromium-headless-shell, or name one in "
    f"{NAMED}"
)


def find_chromium() -> str | None:
    """The program: the one that is named, one on PATH, or one that playwright has fetched."""
    named = os.environ.get(NAMED, "")
    if named and named != "required":
        return named
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found:
        return found
    with sync_playwright() as playwright:
        fetched = playwright.chromium.executable_path
    return fetched if Path(fetched).exists() else None


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """A running browser, without a screen."""
    with sync_playwright() as playwright:
        # Chromium does not sandbox what root runs; it opens only our own pages here.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        arguments.append("--disable-dev-shm-usage")
        browser = playwright.chromium.launch(executable_path=program, args=arguments, timeout=START_MS)
        try:
            yield browser
        finally:
            browser.close()
