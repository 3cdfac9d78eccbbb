"""Platform and browser from a User-Agent header, in the words of events."""

from __future__ import annotations

from functools import lru_cache

from ua_parser import parse

LONGEST = 400
"""Characters that are read: the patterns are slow on long headers, and no browser sends more."""

DESKTOP = {"Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD", "OpenBSD"}
"""Families that events call Desktop; others, like iOS and Android, keep their name."""


@lru_cache(maxsize=10_000)
def platform_and_browser(user_agent: str) -> tuple[str, str]:
    """The os, like iOS, Android, Desktop, and the browser, like Chrome; each empty where it is unknown.

    The browsers of a vendor are one: Chrome Mobile and Chrome Mobile iOS are Chrome, Mobile Safari is Safari.
    """
    seen = parse(user_agent[:LONGEST])
    os = seen.os.family if seen.os else ""
    browser = seen.user_agent.family if seen.user_agent else ""
    for part in ("Mobile", "WebView", "iOS"):
        browser = " ".join(word for word in browser.split() if word != part) or browser
    return ("Desktop" if os in DESKTOP else os), browser
