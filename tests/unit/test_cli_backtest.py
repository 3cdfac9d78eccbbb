"""``funnelwatch rules backtest`` over files."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from funnelwatch.cli.rules import rules as command

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = 26
STEPS = {"VERIFY": 0.8, "NAME": 0.9}
INCIDENT = 23 * 24 + 14


def counts(path: Path, zone: timezone = UTC, skip: int = -1) -> None:
    """Hourly counts of two steps and two os; for four hours VERIFY loses half its iOS successes; without one window."""
    rng = np.random.default_rng(7)
    lines = ["funnel,window_start,step,os,successes,impressions,country"]
    for hour in range(DAYS * 24):
        start = (BEGIN + hour * HOUR).astimezone(zone).isoformat()
        for step, rate in STEPS.items():
            for os in ("iOS", "Android"):
                shown = int(rng.poisson(600))
                hit = INCIDENT <= hour < INCIDENT + 4 and (step, os) == ("VERIFY", "iOS")
                made = int(rng.binomial(shown, rate * (0.5 if hit else 1.0)))
                if hour != skip:
                    lines.append(f"sign_up,{start},{step},{os},{made},{shown},CH")
    order = rng.permutation(len(lines) - 1) + 1
    path.write_text("\n".join([lines[0], *(lines[place] for place in order)]))


def at(hour: int) -> str:
    """An hour of the counts, ISO 8601."""
    return (BEGIN + hour * HOUR).isoformat()


def incidents(path: Path, *rows: str) -> None:
    """A file of incidents."""
    path.write_text("\n".join(["start,end,funnel,step,os", *rows]))


def run(*arguments: object) -> Result:
    """The command."""
    return CliRunner().invoke(command, ["backtest", *map(str, arguments)])


def answer(*arguments: object) -> dict[str, Any]:
    """Its JSON."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_an_incident_is_found_in_its_first_window_and_nothing_else(tmp_path: Path, zone: timezone) -> None:
    """Shuffled hourly rows in two time zones, one of them half an hour off the hour of UTC, with a hole."""
    counts(tmp_path / "counts.csv", zone, skip=40)
    incidents(
        tmp_path / "incidents.csv",
        f"{at(INCIDENT)},{at(INCIDENT + 4)},sign_up,VERIFY,iOS",
        f"{at(30)},{at(33)},,,",
        f"{at(23 * 24)},{at(23 * 24 + 1)},sign_up,VERFIY,",
    )
    found = answer("--counts", tmp_path / "counts.csv", "--incidents", tmp_path / "incidents.csv")

    assert found["window_s"] == 3600
    assert (found["evaluated_from"], found["evaluated_to"]) == ("2026-01-26T00:00:00Z", "2026-01-31T00:00:00Z")
    assert (found["series"], found["false_alarms"], found["false_alarms_per_series_30d"]) == (4, 0, 0.0)
    assert [(one["step"], one["detected"], one["delay_windows"]) for one in found["incidents"]] == [("VERIFY", True, 1)]
    assert (found["precision"], found["recall"], found["delay_p50_windows"]) == (1.0, 1.0, 1.0)
    (alert,) = [one for one in found["alerts"] if one["verdict"] == "incident"]
    assert alert["start"] == "2026-01-28T14:00:00Z"
    assert alert["end"] > "2026-01-28T18:00:00Z"
    assert (alert["series"], alert["reason"], alert["severity"], alert["incident"]) == (
        "sign_up / VERIFY / os=iOS", "FIRST_DROP", "critical", 0,
    )  # fmt: skip
    assert alert["score"] > 4.5
    why = [one["why"] for one in found["incidents_left_out"]]
    assert "end of the warm-up" in why[0]
    assert "no such funnel, step" in why[1]
    scores = [one["score"] for one in found["curve"]]
    assert scores == sorted(scores)
    assert 4.5 in scores
    at_rule = next(one for one in found["curve"] if one["score"] == 4.5)
    assert {name: at_rule[name] for name in ("false_alarms", "recall")} == {"false_alarms": 0, "recall": 1.0}
    assert found["curve"][0]["alerts"] >= found["curve"][-1]["alerts"]


def test_the_table_tells_a_person_the_same(tmp_path: Path) -> None:
    """Without --json: figures, the alert, the incident, the curve."""
    counts(tmp_path / "counts.csv")
    incidents(tmp_path / "incidents.csv", f"{at(INCIDENT)},{at(INCIDENT + 4)},,VERIFY,")
    result = run("--counts", tmp_path / "counts.csv", "--incidents", tmp_path / "incidents.csv")

    assert result.exit_code == 0
    for text in (
        "4 series in windows of 1 h, evaluated from 2026-01-26T00:00:00Z",
        "1 of 1 incidents detected (recall 100.0 %",
        "sign_up / VERIFY / os=iOS",
        "A series in 30 d",
    ):
        assert text in result.stdout


def test_windows_may_begin_at_any_minute_and_have_any_length(tmp_path: Path) -> None:
    """A day that begins at 05:00 UTC is a window; a range and a funnel can be chosen."""
    rows = [
        f"{(BEGIN + timedelta(days=day, hours=5)).isoformat()},{funnel},A,,1000,{100 if day == 28 else 800}"
        for day in range(30)
        for funnel in ("f", "g")
    ]
    path = tmp_path / "counts.csv"
    path.write_text("\n".join(["window_start,funnel,step,os,impressions,successes", *rows]))
    found = answer("--counts", path, "--funnel", "f", "--from", at(0), "--to", at(29 * 24))

    assert (found["window_s"], found["series"], found["evaluated_from"]) == (86_400, 1, "2026-01-26T05:00:00Z")
    assert [(one["funnel"], one["start"], one["end"]) for one in found["alerts"]] == [
        ("f", "2026-02-02T05:00:00Z", None)
    ]


def test_a_rule_of_ones_own_is_tried(tmp_path: Path) -> None:
    """A threshold on everything together sums over os; a curve needs a drop rule."""
    counts(tmp_path / "counts.csv")
    rule = tmp_path / "own.yml"
    rule.write_text(
        "groups:\n- name: g\n  rules:\n  - {alert: Low, kind: threshold, below: 0.7, over: 1h, step: VERIFY}\n"
    )
    found = answer("--counts", tmp_path / "counts.csv", "--rules", rule, "--warmup", "1d")

    assert found["series"] == 1
    assert [(one["rule"], one["dimensions"], one["start"]) for one in found["alerts"]] == [
        ("Low", {}, "2026-01-28T14:00:00Z")
    ]
    assert found["alerts"][0]["impressions"] > 1000
    assert found["curve"] == []


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        ([], (), "has no matching counts"),
        ([0, 1, 2], (), "spans 3 h, 2026-01-05T00:00:00Z to 2026-01-05T03:00:00Z, which the warm-up of 21 d uses up"),
        ([0], (), "give --window"),
        ([0, 1, 2.5], (), "not by multiples of one length"),
        ([0, 1, 2], ("--funnel", "other"), "has no matching counts"),
        ([0, 1, 2], ("--rules", "nowhere"), "nowhere: is neither a file nor a folder"),
        ([0, 1, "x"], (), "counts.csv:4: window_start: 'x' is not a time"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(
    tmp_path: Path, rows: list[float | str], arguments: tuple[str, ...], message: str
) -> None:
    """Exit code 1, the reason, what to do; nothing on stdout."""
    path = tmp_path / "counts.csv"
    starts = [one if isinstance(one, str) else (BEGIN + one * HOUR).isoformat() for one in rows]
    path.write_text(
        "\n".join(["window_start,funnel,step,os,impressions,successes", *(f"{one},f,A,,10,8" for one in starts)])
    )
    result = run("--counts", path, *arguments, "--json")

    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
