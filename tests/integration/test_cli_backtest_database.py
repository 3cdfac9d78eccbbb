"""``funnelwatch rules backtest`` over the counts of record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from funnelwatch.format import clock
from tests.command import run, succeed_json
from tests.filling import MINUTE_MS, count

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

T = 1_767_571_200_000
"""2026-01-05T00:00:00Z."""
RULE = "groups: [{name: g, rules: [{alert: Low, kind: threshold, below: 0.6, over: 2m, by: [[], [os]], basis: %s}]}]"


@pytest.mark.parametrize(("basis", "loads"), [("window", 100), ("session", 300)])
def test_the_database_and_a_file_of_the_same_counts_say_the_same(
    settings: Settings, tmp_path: Path, basis: str, loads: int
) -> None:
    """Two hours of two os of which one falls; open windows are not evaluated; another funnel can be left out.

    A hundred people load the page once, or three times: by sessions that is the same.
    """
    rows = {}
    lines = ["window_start,funnel,step,os,impressions,successes,sessions,session_successes"]
    for minute in range(120):
        for os in ("iOS", "Android"):
            made = 30 if os == "iOS" and 100 <= minute < 110 else 80
            rows[T + minute * MINUTE_MS, "SMS", os, "", "1.0"] = (loads, made, 100 - made, made, 100 - made, 100, made)
            lines.append(f"{clock(T + minute * MINUTE_MS)},sign_up,SMS,{os},{loads},{made},100,{made}")
    open_window = {(T + 120 * MINUTE_MS, "SMS", "iOS", "", "1.0"): (100, 0, 100)}
    count(settings, rows | open_window, closed_through=T + 120 * MINUTE_MS)
    count(settings, {(T, "OTHER", "iOS", "", "1.0"): (1, 1, 0)}, funnel="other", closed_through=T + MINUTE_MS)
    (tmp_path / "counts.csv").write_text("\n".join(lines))
    (tmp_path / "rules.yml").write_text(RULE % basis)
    (tmp_path / "incidents.csv").write_text(
        f"start,end,step\n{clock(T + 100 * MINUTE_MS)},{clock(T + 110 * MINUTE_MS)},SMS\n"
    )
    common = (
        "rules", "backtest", "--rules", str(tmp_path / "rules.yml"), "--incidents", str(tmp_path / "incidents.csv"),
        "--warmup", "1h",
    )  # fmt: skip

    stored = succeed_json(settings, *common, "--funnel", "sign_up")
    filed = succeed_json(settings, *common, "--counts", str(tmp_path / "counts.csv"))

    assert stored == filed
    assert stored["evaluated_to"] == clock(T + 120 * MINUTE_MS)
    assert [(one["dimensions"], one["start"]) for one in stored["alerts"]] == [
        ({"os": "iOS"}, clock(T + 100 * MINUTE_MS))
    ]
    assert [one["delay_windows"] for one in stored["incidents"]] == [1]
    nothing = run(settings, *common, "--since", clock(T + 200 * MINUTE_MS))
    assert nothing.exit_code == 1
    assert "the database has no matching counts" in nothing.stderr


def test_counts_without_sessions_are_rejected_where_a_rule_counts_sessions(settings: Settings, tmp_path: Path) -> None:
    """A rule that divides by nothing would never fire, and its backtest look perfect."""
    rows = {(T + minute * MINUTE_MS, "SMS", "iOS", "", "1.0"): (100, 80, 20) for minute in range(120)}
    count(settings, rows, closed_through=T + 120 * MINUTE_MS)
    lines = [f"{clock(start)},sign_up,SMS,iOS,100,80" for start, *_ in rows]
    (tmp_path / "counts.csv").write_text("\n".join(["window_start,funnel,step,os,impressions,successes", *lines]))
    (tmp_path / "rules.yml").write_text(RULE % "session")
    common = ("rules", "backtest", "--rules", str(tmp_path / "rules.yml"), "--warmup", "1h")

    for source in ((), ("--counts", str(tmp_path / "counts.csv"))):
        found = run(settings, *common, *source)
        assert found.exit_code == 1
        assert "has no session counts of funnel sign_up, which rule Low needs (basis: session); right would be" in (
            found.stderr
        )
