"""docs/examples/funnel.js in a real Chromium, from another origin, into a real Kafka."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.chromium import MISSING, NAMED, chromium, find_chromium
from tests.collector import KEY, Collector, collector, own_settings
from tests.integration.topic import events_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
INSTRUMENT = EXAMPLES.parent / "instrument.md"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and an empty page, and keeps no log."""

    def do_GET(self) -> None:
        """An empty page where no file is asked for."""
        if self.path.endswith(".js"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Sign up</title>")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        """Nothing."""


@pytest.fixture(scope="module")
def own(stack: Servers) -> Settings:
    """The topics that the tests of this file share."""
    return own_settings(stack)


@pytest.fixture(scope="module")
def running(own: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector that the tests of this file share."""
    with collector(own, tmp_path_factory.mktemp("collector") / "log") as one:
        yield one


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A web site, whose origin is not the collector's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=EXAMPLES)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of this file."""
    program = find_chromium()
    if program is None:
        if os.environ.get(NAMED) == "required":
            pytest.fail(MISSING)
        pytest.skip(f"NOT TESTED: {MISSING.replace('the board', 'the example for browsers and its beacon')}")
    with chromium(program) as one:
        yield one


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A page of the web site."""
    context = browser.new_context()
    one = context.new_page()
    one.goto(f"{site}/sign-up")
    yield one
    context.close()


def example(running: Collector, then: str) -> str:
    """The block of docs/instrument.md, and what comes after it, as a function for the page."""
    (block,) = re.findall(r"^```js\n(.*?)^```", INSTRUMENT.read_text(), re.MULTILINE | re.DOTALL)
    code = block.replace('import { funnel } from "./funnel.js"', 'const { funnel } = await import("/funnel.js")')
    code = code.replace("COLLECTOR", json.dumps(running.url)).replace("KEY", json.dumps(KEY))
    return f"async () => {{ {code}; {then} }}"


def test_the_example_sends_a_batch_from_a_page_of_another_origin(page: Page, running: Collector, own: Settings) -> None:
    """After the browser's own preflight; platform and browser are those of its User-Agent."""
    with page.expect_response(lambda response: response.request.method == "POST") as sent:
        session = page.evaluate(example(running, "return signUp.session"))
    assert sent.value.status == 200, sent.value.text()
    shown, verified = events_of(own, session, 2)
    assert (shown["phase"], verified["phase"], verified["status"]) == ("IMPRESSION", "POST_VERIFICATION", "SUCCESS")
    assert shown["os"] == "Desktop"
    assert "Chrome" in shown["browser"]
    assert verified["duration_ms"] is not None
    assert shown["app_version"] == "5.2.0"


def test_a_page_that_goes_away_sends_its_last_events_by_beacon(
    page: Page, running: Collector, own: Settings, site: str
) -> None:
    """The events were put a moment before; the timer of the batch never fires."""
    session = page.evaluate(example(running, "location.href = '/next'; return signUp.session"))
    page.wait_for_url(f"{site}/next")
    assert [event["phase"] for event in events_of(own, session, 2)] == ["IMPRESSION", "POST_VERIFICATION"]


def test_a_beacon_of_type_json_passes_the_preflight(page: Page, running: Collector, own: Settings) -> None:
    """Which browsers send with credentials."""
    session = uuid.uuid4().hex
    event = {"sign_up_session_id": session, "step": "INPUT_NAME", "phase": "IMPRESSION"}
    script = "([url, body]) => navigator.sendBeacon(url, new Blob([body], {type: 'application/json'}))"
    assert page.evaluate(script, [f"{running.url}/v1/events?key={KEY}", json.dumps(event)])
    assert len(events_of(own, session, 1)) == 1


def test_a_page_reads_why_it_was_rejected(page: Page, running: Collector) -> None:
    """The answer to a wrong key is not hidden by the browser."""
    script = "async (url) => (await fetch(url, {method: 'POST', body: '{}'})).json()"
    assert "the API key is not known" in page.evaluate(script, f"{running.url}/v1/events?key=fw_wrong")["detail"]
