"""The board in a browser: a real server on real counts, and a real Chromium that looks at it."""

from __future__ import annotations

import os
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from funnelwatch.schemas.counts import CountRow, Series
from tests.board_scenario import MINUTE_MS, RATES, Scenario, Trouble
from tests.board_server import BoardServer
from tests.chromium import MISSING, NAMED, chromium, find_chromium
from tests.own import own_database, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.stack import Servers

PHONE, SMS = "INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE"
TROUBLE = Trouble(SMS, "iOS", 0.42, 20, 12)
HOSTILE = "<img src=x onerror=alert(1)>"
BEHIND_MS = 12 * MINUTE_MS
"""The pipeline of these tests is so far behind, and catches up as they want it to."""
TIMEOUT_MS = 60_000

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for this file; without one its tests are skipped, and say so."""
    program = find_chromium()
    if program is None:
        assert os.environ.get(NAMED) != "required", MISSING
        pytest.skip(MISSING)
    with chromium(program) as running:
        yield running


@pytest.fixture(scope="module")
def scenario(browser: Browser, stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """An hour of a funnel, with last week to compare it with."""
    with own_database(stack) as url:
        settings = settings_of(stack, url, tmp_path_factory.mktemp("board"))
        made = Scenario(settings, time.time_ns() // 1_000_000 - BEHIND_MS)
        made.fill((TROUBLE,), weeks=1)
        yield made
        made.close()


@pytest.fixture(scope="module")
def server(scenario: Scenario) -> Iterator[BoardServer]:
    """The board, started once."""
    running = BoardServer(scenario.settings)
    running.start()
    yield running
    assert running.stop() == 0


class Watched:
    """A page, and whatever it complained of or asked of others."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda said: said.type in {"error", "warning"} and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda asked: asked.url.startswith(url) or self.complaints.append(f"asked {asked.url}"))


@pytest.fixture
def watched(browser: Browser, server: BoardServer) -> Iterator[Watched]:
    """The board as it opens; at the end it must not have complained, nor asked anybody else for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, base_url=server.url, color_scheme="light")
    seen = Watched(context.new_page(), server.url)
    seen.page.goto("/")
    ready(seen.page)
    yield seen
    context.close()
    assert seen.complaints == []


@pytest.fixture
def page(watched: Watched) -> Page:
    """The page itself."""
    return watched.page


def ready(page: Page) -> None:
    """Wait until the funnel and the time line are drawn."""
    expect(page.locator(".step")).not_to_have_count(0)
    expect(page.locator("#chart canvas")).to_have_count(1)
    expect(page.locator("#steps")).not_to_have_attribute("aria-busy", "true")


def step(page: Page, name: str) -> Any:
    """A step's place on the page."""
    return page.locator(".step").filter(has=page.locator(".name", has_text=name))


def shows(page: Page, counts: dict[str, tuple[int, int]]) -> None:
    """The large numbers are the rates of these counts, and the counts stand below."""
    for name, (impressions, successes) in counts.items():
        expect(step(page, name).locator(".big")).to_have_text(f"{successes / impressions * 100:.1f} %")
        expect(step(page, name).locator(".shown")).to_contain_text(f"{successes:,} of {impressions:,} [")


def test_the_funnel_stands_there_with_its_rates_expected_ones_and_states(page: Page, scenario: Scenario) -> None:
    """Every step in order, each with the database's own rate, what is expected, a word, and a line for each os."""
    shows(page, scenario.rates())
    assert page.locator(".step .name").all_inner_texts() == list(RATES)
    for name, rate in RATES.items():
        against = step(page, name).locator(".against strong").inner_text()
        assert float(against.removesuffix(" %")) == pytest.approx(rate * 100, abs=1.5)
        expect(step(page, name).locator(".card .chip")).to_have_text(re.compile("[●◣▼] (As expected|Low|Alert)"))
        assert step(page, name).locator(".os-name").all_inner_texts() == ["Android", "Desktop", "iOS"]
        expect(step(page, name).locator("svg.spark .rate")).to_have_count(3)
    expect(page.locator("#link")).to_contain_text("Connected; figures are old")


def test_numbers_move_without_a_reload_when_a_window_closes(page: Page, scenario: Scenario) -> None:
    """The next window closes with an incident in it, and the page shows what the database has."""
    before = scenario.rates()
    shows(page, before)
    scenario.go_on()
    scenario.go_on()
    assert scenario.rates() != before
    shows(page, scenario.rates())


def test_an_alert_appears_with_its_where_and_leaves_when_it_is_over(page: Page, scenario: Scenario) -> None:
    """In the list, in the sentence above, in the step, in the title; and resolved without a reload."""
    name = uuid.uuid4().hex
    shaded = step(page, SMS).locator(".os", has_text="iOS").locator("rect.incident")
    expect(shaded).to_have_count(len(scenario.alerts))
    scenario.alert(name)
    entry = page.locator(f'.alert[data-key="{name}"]')
    expect(entry).to_contain_text("Firing")
    expect(entry).to_contain_text(f"{SMS} on iOS")
    expect(entry).to_contain_text("47.0 % where 81.0 % was expected")
    expect(entry).to_contain_text("Where: 77 % of the loss is on app version 5.2.0")
    expect(page.locator("#verdict-title")).to_have_text(f"{SMS} on iOS is below what is expected")
    expect(step(page, SMS)).to_have_attribute("data-state", "alert")
    expect(step(page, SMS).locator('.os[data-state="alert"] .os-name')).to_have_text("iOS")
    expect(page).to_have_title(re.compile("^▼ 1 ⚠ old figures · "))
    expect(shaded).to_have_count(len(scenario.alerts))
    scenario.alert(name, 1, state="resolved", reason="RECOVERED", window_end=scenario.now)
    expect(entry).to_contain_text("Resolved")
    expect(step(page, SMS)).not_to_have_attribute("data-state", "alert")


def test_figures_that_are_old_have_a_banner_and_are_not_called_as_expected(page: Page) -> None:
    """These are 12 minutes old: banner and title say so with the time, the sentence says that nothing is known."""
    banner = page.locator("#freshness")
    expect(banner).to_have_attribute("data-state", "stale")
    expect(banner).to_contain_text(
        re.compile(
            r"(Windows are complete only up to|No window has closed since) \d\d:\d\d:\d\d .*: these figures are old"
        )
    )
    expect(page.locator("#verdict-title")).to_have_text("Not known: these figures are old")
    expect(page.locator("#verdict")).to_have_attribute("data-state", "stale")
    expect(page).to_have_title(re.compile("^⚠ old figures · "))


def test_filters_choose_what_is_counted_and_stand_in_the_address(
    page: Page, scenario: Scenario, server: BoardServer
) -> None:
    """A choice changes numbers and address, the back button takes it back, and the address opens the same view."""
    page.get_by_label("OS", exact=True).select_option("Android")
    shows(page, scenario.rates(os="Android"))
    assert page.url == f"{server.url}?os=Android"
    assert step(page, PHONE).locator(".os-name").all_inner_texts() == ["Android"]
    page.get_by_label("App version", exact=True).select_option("5.1.3")
    shows(page, scenario.rates(os="Android", app_version="5.1.3"))
    page.go_back()
    shows(page, scenario.rates(os="Android"))
    page.goto("/?app_version=&since=6h")
    ready(page)
    shows(page, scenario.rates(app_version=""))
    expect(page.get_by_label("App version", exact=True)).to_have_value("=")
    expect(page.get_by_label("Last", exact=True)).to_have_value("6h")
    page.get_by_label("App version", exact=True).select_option("All")
    shows(page, scenario.rates())


def test_a_text_from_an_event_is_shown_and_not_obeyed(watched: Watched, scenario: Scenario) -> None:
    """Funnel, step and os that are markup stand on the page as text, everywhere that they are shown."""
    page, through = watched.page, scenario.closed_through()
    funnel = "</title><script>alert(3)</script>"
    shown = Series.of(funnel, HOSTILE, os="<script>alert(2)</script>", browser=HOSTILE, app_version="<b>1</b>")
    scenario.count({through - at * MINUTE_MS: {shown: CountRow(100, 80)} for at in (1, 2, 3)})
    scenario.close_windows(through, funnel)
    expect(page.get_by_label("Funnel", exact=True).locator("option", has_text=funnel)).to_have_count(1)
    page.get_by_label("Funnel", exact=True).select_option(f"={funnel}")
    expect(page.locator(".step .name")).to_have_text([HOSTILE])
    expect(page.locator(".os-name")).to_have_text(["<script>alert(2)</script>"])
    ready(page)
    step(page, HOSTILE).locator(".card").click()
    expect(page.locator("#time-table caption")).to_have_count(1)
    expect(page.locator("#focus option", has_text=HOSTILE)).to_have_count(1)
    assert page.locator("main img, main script, main b").count() == 0
    expect(page).to_have_title(f"⚠ old figures · {funnel} \u2013 funnelwatch")


def test_it_says_that_it_has_lost_the_server_and_goes_on_when_that_is_back(
    watched: Watched, scenario: Scenario, server: BoardServer
) -> None:
    """Reconnecting, with the age of what is shown; after the restart live again, with what has come meanwhile."""
    page = watched.page
    assert server.stop() == 0
    expect(page.locator("#link")).to_have_text(re.compile(r"Reconnecting… numbers are \d+ s old"))
    expect(page.locator("body")).to_have_class(re.compile(r"\bstale\b"))
    expect(page.locator("#freshness")).to_contain_text("The board's server has not answered for")
    scenario.go_on()
    scenario.go_on()
    server.start()
    expect(page.locator("#link")).to_contain_text("Connected")
    expect(page.locator("body")).not_to_have_class(re.compile(r"\bstale\b"))
    shows(page, scenario.rates())
    assert all("net::ERR_" in one for one in watched.complaints)
    watched.complaints.clear()


def test_without_redis_the_numbers_come_from_the_database_and_it_says_so(page: Page, scenario: Scenario) -> None:
    """Redis has lost its data: the same rates, another source, and a warning; then Redis again."""
    source = page.locator(".stat").filter(has_text="Numbers from")
    expect(source).to_contain_text("Redis")
    scenario.forget_redis()
    expect(source).to_contain_text("TimescaleDB")
    expect(page.locator("#warnings")).to_contain_text("Redis is not complete")
    shows(page, scenario.rates())
    scenario.fill_redis()
    expect(source).to_contain_text("the cache")
    expect(page.locator("#warnings li")).to_have_count(0)


def test_a_keyboard_reaches_everything(page: Page) -> None:
    """Skip link, a step opened with Enter, the time line read with arrow keys; what has the focus shows it."""
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_be_focused()
    page.keyboard.press("Tab")
    expect(step(page, PHONE).locator(".card")).to_be_focused()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    expect(step(page, PHONE).locator(".card")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#focus")).to_have_value(f"={PHONE}")
    expect(page.locator("#legend")).to_contain_text("a All")
    page.locator("#chart").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#reading")).to_contain_text(
        re.compile(r"\d\d:\d\d \u2013 \d\d:\d\d.*a All (\u2013|\d+\.\d %) of \d+ %")
    )
    first = page.locator("#reading").inner_text()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#reading")).not_to_have_text(first)


def test_the_charts_have_tables(page: Page, scenario: Scenario) -> None:
    """Every number of the pictures, in rows with headings: the steps now, and the time line."""
    page.get_by_text("These numbers as a table").click()
    rows = page.locator("#steps-table tbody tr")
    expect(rows).to_have_count(4 * 4)
    impressions, successes = scenario.rates()[PHONE]
    expect(rows.first).to_contain_text(f"{impressions:,}")
    expect(rows.first).to_contain_text(f"{successes:,}")
    page.get_by_text("The time line as a table").click()
    expect(page.locator("#time-table tbody tr")).to_have_count(60)
    expect(page.locator("#time-table tbody tr").first).to_contain_text("still counting")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_it(page: Page, scenario: Scenario, theme: str) -> None:
    """axe-core finds nothing in either set of colours, with an alert firing and a table open."""
    name = uuid.uuid4().hex
    scenario.alert(name)
    expect(step(page, SMS)).to_have_attribute("data-state", "alert")
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.get_by_text("These numbers as a table").click()
    found = Axe().run(page)
    scenario.alert(name, 1, state="resolved", reason="RECOVERED", window_end=scenario.now)
    assert found.violations_count == 0, found.generate_report()


def test_colours_follow_the_system_until_somebody_chooses(page: Page) -> None:
    """The button goes round: as the system, light, dark; a choice outlives a reload."""
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.locator("#theme").click()
    assert page.evaluate(ground) == light
    page.reload()
    ready(page)
    assert page.evaluate(ground) == light
    page.locator("#theme").click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == dark


def test_nothing_is_cut_off_on_a_phone(page: Page) -> None:
    """At 360 pixels nothing has to be scrolled sideways, tables apart, and what is pressed is large enough."""
    page.set_viewport_size({"width": 360, "height": 740})
    expect(page.locator("#chart canvas")).to_have_count(1)
    page.wait_for_function("document.querySelector('#chart canvas').getBoundingClientRect().width < 360")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    sizes = page.locator("button, select").evaluate_all(
        "nodes => nodes.map(node => node.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 24
