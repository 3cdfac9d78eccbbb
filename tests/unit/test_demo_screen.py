"""The demo's screen: rates of impressions that have had the time to convert, never above 100%."""

from __future__ import annotations

import io

from rich.console import Console

from funnelwatch.demo.screen import render, shows_drop
from funnelwatch.demo.watch import Seen, mature_windows

W = 30_000


def drawn(seen: Seen) -> str:
    """The screen as text."""
    console = Console(file=io.StringIO(), width=120)
    console.print(render("demo", "now", seen, 10, 1.0))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_only_windows_whose_impressions_had_a_minute_to_convert_are_shown() -> None:
    """Nothing before a window has closed; then the two newest that ended a minute before the closed ones."""
    assert mature_windows(None, W) == []
    assert mature_windows(600_000, W) == [510_000, 480_000]
    assert mature_windows(615_000, W) == [510_000, 480_000]
    assert all(start + W + 60_000 <= 615_000 for start in mature_windows(615_000, W))


def test_a_rate_stands_beside_the_usual_one_and_is_no_share_of_it() -> None:
    """60% where 87% is usual is red; 86% is not."""
    key, other = ("VERIFY_SMS_CODE", "iOS"), ("INPUT_NAME", "iOS")
    seen = Seen(rates={key: (100, 60), other: (100, 86)}, expected={key: (1000, 870), other: (1000, 870)})

    text = drawn(seen)

    assert "60% (usual 87%) ▼" in text
    assert "86% (usual 87%)" in text
    assert "of 87%" not in text
    assert shows_drop(seen)
    assert not shows_drop(Seen(rates={other: (100, 86)}, expected={other: (1000, 870)}))
