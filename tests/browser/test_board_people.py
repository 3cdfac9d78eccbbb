"""The funnel of people in a browser: the figures of the query API, what is open in words, and nothing above 100 %."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from funnelwatch.schemas.counts import CountRow, Series
from tests.board_scenario import MINUTE_MS, RATES, Scenario
from tests.board_server import BoardServer
from tests.chromium import MISSING, NAMED, chromium, find_chromium
from tests.own import own_database, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.stack import Servers

TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def scenario(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """An hour of a funnel; its session window is 20 minutes."""
    with own_database(stack) as url:
        made = Scenario(settings_of(stack, url, tmp_path_factory.mktemp("people")), time.time_ns() // 1_000_000)
        made.fill(weeks=0)
        yield made
        made.close()


@pytest.fixture(scope="module")
def server(scenario: Scenario) -> Iterator[BoardServer]:
    """The board."""
    running = BoardServer(scenario.settings)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def page(server: BoardServer) -> Iterator[Page]:
    """A page of a Chromium; without one the test is skipped, and says so."""
    program = find_chromium()
    if program is None:
        assert os.environ.get(NAMED) != "required", MISSING
        pytest.skip(MISSING)
    with chromium(program) as running:
        opened = running.new_page(base_url=server.url, viewport={"width": 1440, "height": 900})
        opened.set_default_timeout(TIMEOUT_MS)
        yield opened


def show(page: Page, address: str, steps: int) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Open the board; the range that it names, and the texts of each row."""
    page.goto(address)
    expect(page.locator(".person")).to_have_count(steps, timeout=TIMEOUT_MS)
    # A window may close meanwhile, so all texts are taken at once.
    words, rows = page.evaluate(
        """() => {
            const text = (node, part) => [part, node.querySelector(`.${part}`).textContent];
            const parts = ["name", "person-reached", "person-drop", "person-rate"];
            const rows = [...document.querySelectorAll(".person")];
            return [
                document.getElementById("people-words").textContent,
                rows.map((row) => Object.fromEntries(parts.map((part) => text(row, part)))),
            ];
        }"""
    )
    found = re.search(r"(\d\d:\d\d) to (\d\d:\d\d) UTC", words)
    assert found, words
    return {"words": words, "since": found[1], "until": found[2]}, rows


def answer(server: BoardServer, path: str, span: dict[str, str], **asked: str) -> dict[str, Any]:
    """What the query API says about the range that the page names."""

    def moment(clock: str, before: int) -> int:
        hours, minutes = map(int, clock.split(":"))
        day = before - before % 86_400
        found = day + hours * 3600 + minutes * 60
        return found if found <= before else found - 86_400

    until = moment(span["until"], time.time_ns() // 1_000_000_000)
    parameters = {"since": str(moment(span["since"], until)), "until": str(until), **asked}
    with urllib.request.urlopen(f"{server.url}api/v1/{path}?{urlencode(parameters)}", timeout=30) as response:
        found: dict[str, Any] = json.loads(response.read())
    return found


@pytest.mark.parametrize("os", ["", "Android"])
def test_the_page_shows_the_funnel_that_the_api_answers(page: Page, server: BoardServer, os: str) -> None:
    """Steps in order with shares of the first, drop-off, completion, and the rates by sessions and by events."""
    chosen = {"os": os} if os else {}
    span, rows = show(page, f"/?{urlencode(chosen)}", len(RATES) + 1)
    funnel = answer(server, "funnel", span, **chosen)
    by_sessions = answer(server, "rates", span, basis="session", **chosen)["rows"]
    by_events = answer(server, "rates", span, **chosen)["rows"]
    [end] = funnel["conversions"]
    last = list(RATES)[-1]
    expected = [
        {
            "name": row["step"],
            "person-reached": f"{row['of_first'] * 100:.1f} % {row['reached']:,}",
            "person-drop": f"{row['dropped']:,} {'did not complete it' if row['step'] == last else 'dropped off'}"
            f", {row['dropped'] / row['reached'] * 100:.1f} %",
            "person-rate": f"{sessions['rate'] * 100:.1f} % by sessions · {events['rate'] * 100:.1f} % by events",
        }
        for row, sessions, events in zip(funnel["rows"], by_sessions, by_events, strict=True)
    ]
    assert rows == [
        *expected,
        {
            "name": "Completed",
            "person-reached": f"{end['rate'] * 100:.1f} % {end['completed']:,}",
            "person-drop": f"of {end['entered']:,} who entered",
            "person-rate": f"[{end['low'] * 100:.1f} % \u2013 {end['high'] * 100:.1f} %]",
        },
    ]
    assert [row["step"] for row in funnel["rows"]] == list(RATES)
    expect(page.locator(".step .reached")).to_have_text(
        [f"{row['of_first'] * 100:.0f} % of those who entered get here" for row in funnel["rows"]]
    )


def test_sessions_that_may_go_on_are_marked_in_words_and_hatched(page: Page, server: BoardServer) -> None:
    """Those of the last 20 minutes, of an hour; in the last 15 minutes all of them."""
    span, _ = show(page, "/", len(RATES) + 1)
    funnel = answer(server, "funnel", span)
    assert 0 < funnel["open"] < funnel["conversions"][0]["entered"]
    assert f"{funnel['open']:,} of them (hatched) entered less than 20 min ago: still open" in span["words"]
    expect(page.locator(".person-bar .open")).to_have_count(len(RATES))
    span, _ = show(page, "/?since=15m", len(RATES) + 1)
    assert "All of them entered less than 20 min ago: still open" in span["words"]
    page.get_by_text("The funnel of people as a table").click()
    expect(page.locator("#people-table tbody tr")).to_have_count(len(RATES))


def test_a_funnel_without_order_has_rates_by_sessions_and_none_above_100_percent(
    page: Page, scenario: Scenario
) -> None:
    """The words say why nobody reaches a step; more successes than impressions are no rate."""
    through = scenario.closed_through()
    late = {Series.of("loose", "A<b>"): CountRow(100, 150, 0, 150, 0, 80, 60)}
    scenario.count({through - 5 * MINUTE_MS: late})
    scenario.close_windows(through, "loose")
    span, rows = show(page, "/?funnel=loose", 1)
    assert "not declared, so they have no order" in span["words"]
    assert rows[0]["name"] == "A<b>"
    assert rows[0]["person-rate"] == "75.0 % by sessions · \u2013 by events"
    expect(page.locator(".person-bar")).to_be_hidden()
