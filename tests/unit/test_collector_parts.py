"""The parts of the collector that need no server: keys, limits, User-Agents, and what makes an event whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from funnelwatch.cli.commands import cli
from funnelwatch.producers.collector.access import BURST_S, RateLimit
from funnelwatch.producers.collector.app import create_app
from funnelwatch.producers.collector.intake import Checks, Invalid
from funnelwatch.producers.collector.keys import KeysError, hash_of, load_keys, new_key
from funnelwatch.producers.collector.user_agent import platform_and_browser
from funnelwatch.schemas.funnels import BUILT_IN
from funnelwatch.schemas.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_767_571_200_000
GOOD = {"sign_up_session_id": "s-1", "step": "INPUT_NAME", "phase": "IMPRESSION"}
HASH = hash_of("secret")


def test_a_key_is_found_by_its_secret_only() -> None:
    """Of several; without any, everybody may send."""
    secret = new_key()
    keys = load_keys(Settings(collector_keys=f"web:{HASH}, app:{hash_of(secret)}"))
    found = keys.find(secret)
    assert found is not None
    assert found.name == "app"
    assert [keys.find(given) for given in ("", "secre", hash_of(secret), "\ud800")] == [None] * 4
    assert keys.required
    assert not load_keys(Settings()).required


def test_keys_of_a_file_say_what_they_are_for(tmp_path: Path) -> None:
    """They stand beside those of the environment."""
    file = tmp_path / "keys.yml"
    file.write_text(
        f"keys:\n- {{name: page, sha256: {HASH.upper()}, use: [events], origins: ['https://a.example/']}}\n"
    )
    keys = load_keys(Settings(collector_keys=f"web:{hash_of('other')}", collector_keys_path=file))
    page = keys.find("secret")
    assert page is not None
    assert (page.name, page.use, page.origins) == ("page", ("events",), ("https://a.example",))
    assert keys.find("other") is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys: []", "keys.yml:1: keys: is empty; right would be a list such as [{name: web, sha256"),
        ("keys: [", "keys.yml:1: YAML: "),
        ("- a", "keys.yml:1: file: is a list, not a map; right would be a map with keys"),
        ("keys: [a]", "keys.yml:1: keys[0]: is a text, not a map; right would be a list such as"),
        (
            "keys: [{name: a, secret: x}]",
            "keys.yml:1: keys[0].secret: is not a known field; right would be one of name",
        ),
        ("keys: [{sha256: x}]", "keys.yml:1: keys[0].name: is missing; right would be a name of its own"),
        (
            "keys: [{name: a, sha256: fw_secret}]",
            "keys.yml:1: keys[0].sha256: is not 64 hex digits; right would be what 'funnelwatch collector-key' prints",
        ),
        (
            f"keys: [{{name: a, sha256: {HASH}, use: [all]}}]",
            "keys[0].use[0]: must be 'events' or 'lines'; right would be events, lines, or both",
        ),
        (
            f"keys: [{{name: a, sha256: {HASH}, origins: x}}]",
            "keys[0].origins: is a text, not a list; right would be a list such as ['https://app.example']",
        ),
        (f"keys: [{{name: a, sha256: {HASH}}}, {{name: a, sha256: {HASH}}}]", "the API key a appears twice"),
    ],
)
def test_a_key_that_cannot_be_is_named(tmp_path: Path, text: str, said: str) -> None:
    """With what would be right; what might be the secret itself is not shown."""
    file = tmp_path / "keys.yml"
    file.write_text(text)
    with pytest.raises(KeysError) as rejected:
        load_keys(Settings(collector_keys_path=file))
    assert said in str(rejected.value)
    assert "fw_secret" not in str(rejected.value)


def test_a_made_key_is_good_for_the_collector() -> None:
    """The command prints the key and what the collector keeps of it."""
    said = CliRunner().invoke(cli, ["collector-key", "web"]).output
    secret = next(line.split()[-1] for line in said.splitlines() if line.startswith("key"))
    pair = next(line.split()[-1] for line in said.splitlines() if line.startswith("FUNNELWATCH_COLLECTOR_KEYS"))
    assert load_keys(Settings(collector_keys=pair)).find(secret) is not None
    assert CliRunner().invoke(cli, ["collector-key", "a:b"]).exit_code == 2


def test_without_keys_it_starts_only_when_told_to() -> None:
    """Nobody opens a collector to the world by forgetting something."""
    said = CliRunner().invoke(cli, ["collector"], env={"FUNNELWATCH_COLLECTOR_KEYS": ""})
    assert said.exit_code == 1
    assert "funnelwatch collector-key NAME" in said.output


def test_a_sender_may_send_a_burst_and_then_its_rate() -> None:
    """Each sender for itself; the wait that is told is enough, and no longer than needed."""
    limit = RateLimit(10)
    burst = int(10 * BURST_S)
    assert [limit.wait_s("a", 1, 0.0) for _ in range(burst)] == [0.0] * burst
    wait_s = limit.wait_s("a", 1, 0.0)
    assert 0 < wait_s <= 0.1
    assert limit.wait_s("b", 1, 0.0) == 0
    assert limit.wait_s("a", 1, wait_s / 2) > 0
    assert limit.wait_s("a", 1, wait_s + 1e-9) == 0


def test_a_batch_beyond_the_burst_is_taken_and_owed() -> None:
    """It could never be sent otherwise."""
    limit = RateLimit(10)
    assert limit.wait_s("a", 100, 0.0) == 0
    assert limit.wait_s("a", 1, 0.0) == pytest.approx(6.1)
    assert limit.wait_s("a", 1, 6.2) == 0


def test_what_is_owed_is_taken_also_from_an_empty_bucket() -> None:
    """A body that was charged for its bytes is charged for its events too, however little is left."""
    limit = RateLimit(10)
    assert limit.ask_s("a", 0.0) == 0
    assert limit.wait_s("a", 50, 0.0) == 0
    limit.owe("a", 100, 0.0)
    assert limit.ask_s("a", 0.0) == limit.wait_s("a", 1, 0.0) == pytest.approx(11.1)
    assert limit.ask_s("a", 11.2) == 0
    unlimited = RateLimit(0)
    unlimited.owe("a", 100, 0.0)
    assert unlimited.ask_s("a", 0.0) == 0


@pytest.mark.parametrize(
    ("user_agent", "os", "browser"),
    [
        (
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
                "Safari/537.36"
            ),
            "Desktop",
            "Chrome",
        ),
        (
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
                "CriOS/130.0.0.0 Mobile/15E148 Safari/604.1"
            ),
            "iOS",
            "Chrome",
        ),
        (
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
                "Mobile Safari/537.36"
            ),
            "Android",
            "Chrome",
        ),
        (
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
                "Safari/605.1.15"
            ),
            "Desktop",
            "Safari",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Desktop", "Firefox"),
        ("", "", ""),
        ("x" * 100_000, "", ""),
    ],
)
def test_platform_and_browser_are_those_of_events(user_agent: str, os: str, browser: str) -> None:
    """In the words of the schema: iOS, Android, Desktop; Chrome, Safari."""
    assert platform_and_browser(user_agent) == (os, browser)


def completed(event: dict[str, Any], user_agent: str = "", skew_ms: int = 0) -> dict[str, Any] | Invalid:
    """The event as the collector makes it whole."""
    return Checks(Settings(), BUILT_IN).complete(event, user_agent, skew_ms, NOW)


def test_what_the_event_says_wins_over_the_user_agent() -> None:
    """A native app has no browser, whatever its HTTP library calls itself."""
    phone = (
        "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36"
    )
    event = completed({**GOOD, "os": "iOS"}, phone)
    assert isinstance(event, dict)
    assert (event["os"], event["browser"]) == ("iOS", "")
    event = completed({**GOOD, "os": None}, phone)
    assert isinstance(event, dict)
    assert (event["os"], event["browser"]) == ("Android", "Chrome")
    event = completed(GOOD, "my-app/7")
    assert isinstance(event, dict)
    assert event["os"] == "unknown"


def test_times_may_be_iso_and_null_means_absent() -> None:
    """JavaScript's two ways of writing a time."""
    for ts in (NOW - 1000, "2026-01-04T23:59:59Z", "2026-01-05T00:59:59.000+01:00"):
        event = completed({**GOOD, "ts": ts, "status": None, "duration_ms": None})
        assert isinstance(event, dict), event
        assert event["ts"] == NOW - 1000
    naive = completed({**GOOD, "ts": "2026-01-04T23:59:59"})
    assert isinstance(naive, Invalid)
    assert naive.field == "ts"
    assert naive.message.startswith("'2026-01-04T23:59:59' is not a time: it names no time zone")


def test_the_description_names_every_way_in() -> None:
    """OpenAPI is made from the application itself."""
    paths = create_app(Settings()).openapi()["paths"]
    assert {"/v1/events", "/healthz", "/readyz", "/metrics"} <= set(paths)
