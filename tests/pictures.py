"""Take the pictures of the board for the docs: ``python -m tests.pictures``.

A real board, on servers of its own, looked at by a real Chromium; the funnel in it is simulated.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from funnelwatch.deploy.embedded.stack import Stack
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.settings import PREFIX, Settings
from tests.board_scenario import MINUTE_MS, Scenario
from tests.board_server import BoardServer
from tests.chromium import MISSING, chromium, find_chromium

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser, Page

DOCS = Path(__file__).parent.parent / "docs"
MOST_BYTES = 200_000
SECONDS = 14
"""The board is looked at after this long, when it has seen events flow."""


def main() -> None:
    """Start everything, take the pictures, end everything."""
    program = find_chromium()
    if program is None:
        sys.exit(MISSING)
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        stack = Stack(folder / "data", "tansu")
        cleanup.callback(stack.down, purge=True)
        state = stack.up(print)
        environment = {name.removeprefix(PREFIX).lower(): value for name, value in state.env.items()}
        settings = Settings(data_dir=folder / "data", topic_partitions=1, **environment)  # type: ignore[arg-type]
        ensure_topics(settings)
        scenario = cleanup.enter_context(closing(Scenario(settings, at_the_middle_of_a_window())))
        scenario.fill()
        tell_alerts(scenario)
        server = BoardServer(settings)
        server.start()
        cleanup.callback(server.stop)
        browser = cleanup.enter_context(chromium(program))
        take(browser, server.url, scenario)


def at_the_middle_of_a_window() -> int:
    """The time, ms, when about half a minute of this minute has gone."""
    while not 25 <= time.time() % 60 <= 35:
        time.sleep(0.5)
    return time.time_ns() // 1_000_000


def tell_alerts(scenario: Scenario) -> None:
    """One alert that fires and one that is over, about the troubles of the scenario."""
    minute = scenario.now - scenario.now % MINUTE_MS
    scenario.alert(
        "firing",
        started_at=minute - 10 * MINUTE_MS,
        window_start=minute - 9 * MINUTE_MS,
        window_end=minute - 8 * MINUTE_MS,
        lost_conversions=1043.0,
    )
    over = {
        "step": "INPUT_NAME",
        "dimensions": {"os": "Android"},
        "started_at": minute - 43 * MINUTE_MS,
        "rate": 0.752,
        "expected_rate": 0.962,
        "where_dimension": "",
        "where_value": "",
        "where_share": 0.0,
        "severity": "warning",
    }
    scenario.alert("over", window_end=minute - 42 * MINUTE_MS, lost_conversions=128.0, **over)
    scenario.alert(
        "over",
        1,
        state="resolved",
        reason="RECOVERED",
        window_end=minute - 34 * MINUTE_MS,
        lost_conversions=571.0,
        **over,
    )


def take(browser: Browser, url: str, scenario: Scenario) -> None:
    """Each picture: the whole board in light and dark, people, one step of it, and a phone's."""
    save(browser, f"{url}", "board", scenario, size=(1440, 900))
    save(browser, f"{url}", "board-dark", scenario, size=(1440, 900), colours="dark")
    save(browser, f"{url}", "board-people", scenario, size=(1440, 900), element=".panel.people")
    save(browser, f"{url}?step=VERIFY_SMS_CODE", "board-phone", scenario, size=(390, 1560), whole=False)
    save(browser, f"{url}?step=VERIFY_SMS_CODE", "board-step", scenario, size=(1440, 900), element=".panel.time")


def save(
    browser: Browser,
    url: str,
    name: str,
    scenario: Scenario,
    *,
    size: tuple[int, int],
    colours: Literal["light", "dark"] = "light",
    whole: bool = True,
    element: str | None = None,
) -> None:
    """Open the board, let some events flow, and keep what it looks like."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=colours)
    page = context.new_page()
    page.goto(url)
    page.locator("#chart canvas").wait_for()
    page.locator(".person-end").wait_for()
    flow(scenario, page)
    shot: Callable[[], bytes] = (
        page.locator(element).screenshot if element else lambda: page.screenshot(full_page=whole)
    )
    path = DOCS / f"{name}.png"
    path.write_bytes(small(shot()))
    context.close()
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def flow(scenario: Scenario, page: Page) -> None:
    """Events come for some seconds."""
    for _ in range(SECONDS):
        scenario.trickle()
        page.wait_for_timeout(1000)


def small(png: bytes) -> bytes:
    """The picture with 256 colours, which is enough for flat ones.

    Raises:
        AssertionError: it is too large for the docs all the same.
    """
    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    assert len(out.getvalue()) < MOST_BYTES, f"{len(out.getvalue()):,} bytes"
    return out.getvalue()


if __name__ == "__main__":
    main()
