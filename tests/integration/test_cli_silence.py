"""``funnelwatch silence`` on a real database."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.silences import SilenceStore
from tests.command import run, succeed, succeed_json

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings


@pytest.fixture
def ready(settings: Settings) -> Settings:
    """A database with tables."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
    return settings


def test_a_silence_is_made_listed_and_ended(ready: Settings) -> None:
    """Its number ends it; it is listed after it has ended, and cannot end twice."""
    made = succeed_json(
        ready, "silence", "add", "--step", "A", "--where", "os=iOS", "--for", "2h", "--comment", "why", "--by", "me"
    )
    assert (made["state"], made["matchers"], made["comment"]) == ("active", {"step": "A", "os": "iOS"}, "why")
    later = succeed_json(ready, "silence", "add", "--rule", "ConversionDrop", "--from", "+1h", "--until", "+2h")
    assert later["state"] == "pending"
    listed = succeed(ready, "silence", "list")
    assert listed.startswith(f"silence {made['id']} active, ")
    assert " left: step=A os=iOS, 20" in listed
    assert listed.splitlines()[0].endswith(": why (me)")

    assert succeed(ready, "silence", "expire", str(made["id"])) == f"silence {made['id']} has ended\n"
    again = run(ready, "silence", "expire", str(made["id"]), "99")
    assert (again.exit_code, f"silence {made['id']}, 99" in again.stderr) == (1, True)
    states = {one["id"]: one["state"] for one in succeed_json(ready, "silence", "list")}
    assert states == {made["id"]: "expired", later["id"]: "pending"}
    assert succeed_json(ready, "silence", "list", "--active") == []
    with closing(Database(ready.timescale_url)) as database:
        assert [one.id for one in SilenceStore(database).after(0)] == [made["id"], later["id"]]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--for", "2h"], "name the alerts to mute: --rule, --funnel, --step or --where NAME=VALUE"),
        (["--where", "iOS", "--for", "2h"], "'iOS' is not NAME=VALUE, such as os=iOS"),
        (["--where", "step=A", "--for", "2h"], "step: is a field of an event, not a dimension"),
        (["--where", "os=iOS"], "name the duration with --for or --until"),
        (["--where", "os=iOS", "--for", "1h", "--until", "+1h"], "name the duration"),
        (["--where", "os=iOS", "--from", "+2h", "--until", "+1h"], "before it begins"),
        (["--where", "os=iOS", "--from", "-2h", "--until", "-1h"], "before now"),
        (["--where", "os=iOS", "--until", "soon"], "'soon' is no time such as"),
    ],
)
def test_a_silence_that_makes_no_sense_is_a_usage_error(ready: Settings, args: list[str], complaint: str) -> None:
    """It says what is missing, with exit code 2, and keeps nothing."""
    result = run(ready, "silence", "add", *args)

    assert (result.exit_code, complaint in result.stderr) == (2, True), result.stderr
    assert succeed_json(ready, "silence", "list") == []


def test_a_rule_that_nobody_knows_is_noted(ready: Settings) -> None:
    """A typo would mute nothing; the workers may have other rules, so it is no error."""
    result = run(ready, "silence", "add", "--rule", "ConversionDorp", "--for", "1h", "--json")

    assert "no rule in use here is called ConversionDorp; there are ConversionDrop" in result.stderr
    assert json.loads(result.stdout)["matchers"] == {"rule": "ConversionDorp"}
