"""A real worker is frozen under the board: page, API, doctor and command line say so, with the time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.board_server import BoardServer
from tests.chromium import MISSING, NAMED, chromium, find_chromium
from tests.command import PROGRAM, environment, run
from tests.repeating import repeating
from tests.stack import wait_until
from tests.traffic import STEPS, event, prepared, produce
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from funnelwatch.schemas.settings import Settings

QUICK = {"window_s": 1, "allowed_disorder_s": 0.2, "idle_timeout_s": 0.5, "late_settle_s": 0.5}
TIMEOUT_MS = 120_000


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a Chromium; without one the test is skipped, and says so."""
    program = find_chromium()
    if program is None:
        assert os.environ.get(NAMED) != "required", MISSING
        pytest.skip(MISSING)
    with chromium(program) as running:
        yield running.new_page()


def some(settings: Settings) -> None:
    """Some people who are shown a step, and most of whom make it."""
    shown = [event(step=STEPS[0]) for _ in range(30)]
    made = [event(step=STEPS[0], phase="POST_VERIFICATION", status="SUCCESS") for _ in range(27)]
    produce(settings, [*shown, *made])


def rates(server: BoardServer, form: str = "json") -> tuple[str, Any]:
    """The state by the header of the query API's answer, and its body."""
    with urllib.request.urlopen(f"{server.url}api/v1/rates?since=10m&format={form}", timeout=30) as answer:
        body = answer.read().decode()
        return str(answer.headers["Funnelwatch-Freshness"]), json.loads(body) if form == "json" else body


def findings(settings: Settings) -> tuple[int, dict[str, list[str]]]:
    """The doctor's exit code, and the messages of its findings by level."""
    # In a process of its own: it uses asyncio, and the browser's loop runs in this thread.
    env = {**os.environ, **environment(settings)}
    done = subprocess.run([*PROGRAM, "doctor", "--json"], env=env, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, list[str]] = {}
    for one in json.loads(done.stdout):
        found.setdefault(one["level"], []).append(one["message"])
    return done.returncode, found


def test_a_frozen_worker_is_seen_on_every_surface_and_its_return_as_well(settings: Settings, page: Page) -> None:
    """Live and as it is while it works; old, with the time, while it is frozen; live again afterwards."""
    fast = prepared(settings.model_copy(update=QUICK))
    server = BoardServer(fast)
    link, verdict, banner = page.locator("#link-word"), page.locator("#verdict-title"), page.locator("#freshness")
    with worker(fast) as one, repeating(lambda: some(fast), 0.5):
        one.wait_assigned()
        server.start()
        try:
            page.goto(server.url)
            expect(link).to_have_text("Live", timeout=TIMEOUT_MS)
            expect(verdict).to_have_text(re.compile("The funnel converts"), timeout=TIMEOUT_MS)
            expect(banner).to_be_hidden()
            wait_until(lambda: rates(server)[0] == "fresh", "the API says that it is fresh")
            wait_until(lambda: findings(fast)[0] == 0, "the doctor finds nothing", every_s=2)

            os.kill(one.pid, signal.SIGSTOP)
            try:
                expect(banner).to_have_text(
                    re.compile(r"No worker is alive: worker .* was last seen at \d\d:\d\d:\d\d \(\d+ s ago\)"),
                    timeout=TIMEOUT_MS,
                )
                expect(banner).to_have_attribute("data-state", "stale")
                expect(verdict).to_have_text("Not known: these figures are old")
                expect(link).to_have_text("Connected; figures are old")
                expect(page).to_have_title(re.compile("^⚠ old figures · "))
                expect(page.locator("body")).to_have_class(re.compile(r"\bold\b"))
                state, answer = rates(server)
                assert (state, answer["freshness"]["state"], answer["freshness"]["reason"]) == (
                    "stale",
                    "stale",
                    "no_worker",
                )
                assert rates(server, "csv")[0] == "stale"
                code, found = findings(fast)
                failed = "\n".join(found["FAILED"])
                assert code == 1
                assert re.search(r"no worker is alive: .* was last heard of \d+ (s|min)", failed), found
                # Until the oldest record has waited for half a minute, the doctor says that the lag grows.
                assert re.search(
                    r"-events is \d+ record\(s\) behind on .* (and reads nothing|the lag grows)", failed
                ), found
                done = run(fast, "rate", "--since", "10m")
                assert "! No worker is alive" in done.output, done.output
                assert "Alerts may be missing. No worker is alive" in run(fast, "alerts").output
            finally:
                os.kill(one.pid, signal.SIGCONT)
            expect(link).to_have_text("Live", timeout=TIMEOUT_MS)
            expect(banner).to_be_hidden()
            expect(verdict).to_have_text(re.compile("The funnel converts"), timeout=TIMEOUT_MS)
        finally:
            server.stop()
