"""Declared funnels as the file has them, and the command that checks and lists them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import Funnel, context_keys, load_funnels, series_of
from funnelwatch.schemas.settings import Settings
from tests.command import run, succeed, succeed_json

if TYPE_CHECKING:
    from pathlib import Path

RICH = """
funnels:
  short: [A, B]
  long:
    steps: [C]
    dimensions: [os, country]
    values: 30
    max_series: 7
    session_window: 90m
    timezone: Europe/Berlin
  one_limit:
    steps: [D]
    values: {os: 5}
undeclared: accept
undeclared_funnels: 3
"""


def written(folder: Path, text: str = RICH) -> Path:
    """A funnels file."""
    path = folder / "funnels.yml"
    path.write_text(text)
    return path


def test_a_funnel_is_a_list_of_steps_or_a_map_with_limits(tmp_path: Path) -> None:
    """A single number is the limit of every dimension; what is left out has its default."""
    found = load_funnels(written(tmp_path))
    assert dict(found) == {
        "short": Funnel(("A", "B"), ("os", "browser", "app_version"), {}, None, 3_600_000, "UTC"),
        "long": Funnel(("C",), ("os", "country"), {"os": 30, "country": 30}, 7, 5_400_000, "Europe/Berlin"),
        "one_limit": Funnel(("D",), values={"os": 5}),
    }
    assert (found.undeclared, found.undeclared_funnels) == ("accept", 3)


def test_an_event_counts_by_the_fields_and_contexts_that_its_funnel_declares() -> None:
    """A dimension without a value is absent; what the funnel does not declare is left out, also of another funnel."""
    funnels = {"a": Funnel(("A",), ("os", "country", "plan")), "none": Funnel(("A",), ())}
    sent = {"step": "A", "os": "iOS", "browser": "b", "app_version": "1", "contexts": {"country": "DE", "ip": "::1"}}
    assert series_of({**sent, "funnel": "a"}, funnels) == Series.of("a", "A", os="iOS", country="DE")
    assert series_of({**sent, "funnel": "none"}, funnels) == Series("none", "A")
    assert series_of({**sent, "funnel": "b"}, funnels) == Series.of("b", "A", os="iOS", browser="b", app_version="1")
    assert context_keys(funnels) == ("country", "plan")


def test_check_names_errors_and_ends_with_1_if_there_are_any(tmp_path: Path) -> None:
    """A file that is missing is one too."""
    good = run(Settings(), "funnels", "check", str(written(tmp_path)))
    assert (good.exit_code, good.stdout) == (0, "3 funnels, no errors\n")
    bad = run(Settings(), "funnels", "check", str(written(tmp_path, "funnels: {a: [A, A]}")))
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert "funnels.yml:1: funnels.a: A is repeated" in bad.stderr
    missing = run(Settings(), "funnels", "check", str(tmp_path / "none.yml"), "--json")
    assert (missing.exit_code, json.loads(missing.stdout)["ok"]) == (1, False)


def test_list_shows_every_funnel_with_its_limits_filled_in(tmp_path: Path) -> None:
    """Limits that the file leaves out are those of the settings."""
    settings = Settings(funnels_path=written(tmp_path), funnel_max_values=11, funnel_max_series=12)
    found = succeed_json(settings, "funnels", "list")
    assert (found["undeclared"], found["undeclared_funnels"]) == ("accept", 3)
    assert [(one["funnel"], one["values"], one["max_series"]) for one in found["funnels"]] == [
        ("short", {"os": 11, "browser": 11, "app_version": 11}, 12),
        ("long", {"os": 30, "country": 30}, 7),
        ("one_limit", {"os": 5, "browser": 11, "app_version": 11}, 12),
    ]
    table = succeed(settings, "funnels", "list")
    assert "os (30), country (30)" in table
    assert "undeclared funnels: accepted, at most 3" in table


def test_show_without_a_database_shows_the_declaration_and_that_the_rest_is_unknown() -> None:
    """Unknown is not zero; a funnel that is not declared is an error."""
    settings = Settings(timescale_url="postgresql://nobody@127.0.0.1:1/none")
    result = run(settings, "funnels", "show", "sign_up")
    assert result.exit_code == 0
    assert "   1. INPUT_PHONE_NUMBER" in result.stdout
    assert "series: unknown of 10,000" in result.stdout
    assert "is not known: the database" in result.stderr
    assert succeed_json(settings, "funnels", "show", "sign_up")["used"] is None
    other = run(settings, "funnels", "show", "shop")
    assert (other.exit_code, "shop is not declared; declared are sign_up" in other.stderr) == (1, True)
