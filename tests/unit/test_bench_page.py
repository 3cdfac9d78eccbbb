"""The page of the benchmarks tells what was measured, and what was not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.bench import growth as growth_bench
from tests.bench import producer as producer_bench
from tests.bench.goals import table as goals_table
from tests.bench.goals import why
from tests.bench.latency import __main__ as latency_bench
from tests.bench.page import growth, latency, page, producer

if TYPE_CHECKING:
    from pathlib import Path

CIRCUMSTANCES = {
    "machine": "a machine, 2 cores",
    "command": "make it",
    "date": "2026-01-02",
    "kafka": "apache-kafka 4.1.0",
    "database": "postgresql 15",
    "versions": {"python": "3.11"},
}
TOLD = "Measured by `make it` on 2026-01-02: a machine, 2 cores; apache-kafka 4.1.0; postgresql 15; python 3.11."


def at_rate(asked: int, reached: int, *, kept_up: bool) -> dict[str, Any]:
    """The figures at one rate."""
    delays: dict[str, dict[str, Any]] = {
        name: {"n": 300, "p50": 10, "p99": 20, "max": 30} for name in latency_bench.SEEN_IN
    }
    delays["alert"] = {"n": 60, "p50": 400, "p99": None, "max": 1_800, "windows": 12, "missing": 0}
    rates = {"asked": asked, "reached": reached, "counted": 700, "lag_s": 0.25, "lag_grew_s": 4.5, "kept_up": kept_up}
    return {**rates, "seen": delays}


def test_delays_stand_beside_the_rate_reached_and_what_was_not_kept_up_with_is_told() -> None:
    """Too few alerts for a p99 leave its cell empty; the delays of a rate that was lost are not shown."""
    results = [at_rate(1_000, 800, kept_up=True), at_rate(5_000, 5_000, kept_up=False)]

    shown = latency({**CIRCUMSTANCES, "window_s": 1, "disorder_s": 2.0, "results": results})

    assert f"{TOLD} Windows of 1 s, allowed disorder 2 s." in shown
    assert "| 800 | event in Redis | 10 | 20 | 30 | 300 |" in shown
    assert "| 800 | alert on its topic | 400 |  | 1,800 | 60 of 12 windows |" in shown
    assert "1,000 events/s were asked for; the load reached 800." in shown
    assert "5,000 events/s were **not** kept up with: 700/s were counted of 5,000/s, and the lag grew by 4.5 s" in shown
    assert "| 5,000 |" not in shown
    printed = latency_bench.table(results)
    assert "NOT KEPT UP WITH: the lag grew by 4.5 s" in printed
    assert "(asked for 1,000: the load could not make more)" in printed


def test_goals_are_met_or_missed_by_what_was_measured() -> None:
    """Of too few delays the longest counts; what was not measured is not there."""
    rates = {"bare consume loop": 1_000, "funnelwatch": 500, "Faust, take": 10, "Bytewax": 100, "Quix Streams": 50}
    speed = {"results": [{"contender": name, "per_second": rate} for name, rate in rates.items()]}
    delays = {"results": [at_rate(1_000, 1_000, kept_up=True), at_rate(20_000, 20_000, kept_up=True)]}
    sizes = (("100 series, 5 windows", 100, 300), ("10,000 series", 80, 500), ("10 times the backlog", 100, 401))
    cases = [{"case": name, "per_second": rate, "memory_mb": size} for name, rate, size in sizes]
    assert goals_table({"speed": speed, "latency": delays, "growth": {"results": cases}}).splitlines()[2:] == [
        "| times as fast as Faust, take | 60 | 50 | **missed** |",
        "| times as fast as Bytewax | 6 | 5.00 | **missed** |",
        "| share of the bare loop | 0.45 | 0.50 | met |",
        "| 20,000 events/s, event in Redis, p99, ms | 500 | 20 | met |",
        "| 20,000 events/s, alert on its topic, max, ms | 1,000 | 1,800 | **missed** |",
        "| 10,000 series, share of the events/s with 100 | 0.8 | 0.80 | met |",
        "| memory at any backlog, MB | 400 | 401 | **missed** |",
    ]
    assert goals_table({"speed": speed}).count("\n") == 4


def test_why_a_goal_is_missed_is_told_by_what_the_stages_take() -> None:
    """What is left beside the bare loop's part; what rows cost with many series; nothing of what was not measured."""
    names = ("consume", "take apart", "decode", "check", "duplicates", "tally", "flush", "copy")
    few, many = (
        {
            "series": series,
            "results": [
                {"stage": name, "thread": "intake", "cpu_us": rows if name in ("flush", "copy") else 0.45}
                for name in names
            ]
            + [{"stage": "librdkafka", "thread": "librdkafka", "cpu_us": 9.0}],
        }
        for series, rows in ((100, 0.1), (10_000, 2.5))
    )
    told = " ".join(why({"stages": few, "stages_10000": many}).split())
    assert "of the 2.90 µs that an event takes" in told
    assert "would leave 0.55 µs for all else" in told
    assert "the databases 0.20" in told
    assert "10,000 series*" in told
    assert "takes 2.50 µs of Python's an event where it takes 0.10 with 100" in told
    assert "all else is 2.70 instead of 2.70" in told
    assert "10,000 series" not in why({"stages": few})
    assert "bare loop" not in why({})


def test_growth_is_told_as_a_share_of_the_first_row_with_the_rows_of_history() -> None:
    """A backlog too small for a second worker has no rate."""
    row = {"events": 1_000, "workers": 1, "history_rows": 0, "per_second": 2_000, "cpu_us": 3.5, "memory_mb": 200}
    results = [
        {"case": growth_bench.CASES[0].what, **row},
        {"case": "a year", **row, "per_second": 1_500, "history_rows": 10_512_000},
        {"case": "2 workers", **row, "per_second": None, "cpu_us": None},
    ]

    shown = growth({**CIRCUMSTANCES, "results": results})

    assert TOLD in shown
    assert f"| {growth_bench.CASES[0].what} | 1,000 | 2,000 | 1.00 | 3.5 | 200 |" in shown
    assert "| a year (10,512,000 rows) | 1,000 | 1,500 | 0.75 | 3.5 | 200 |" in shown
    assert "| 2 workers | 1,000 |  |  |  | 200 |" in shown
    assert "too few" in growth_bench.table(results)
    assert growth_bench.shares(results[1:]) == [None, None]


def test_a_producer_s_cost_is_told_with_what_became_of_events_while_kafka_was_away() -> None:
    """Kept, dropped and delivered, and the memory that it took."""
    call = {"what": "emit", "cpu_us": 9.0, "p50_us": 9.5, "p99_us": 21.0, "max_us": 1_500}
    away = {
        "buffer_events": 100, "kept": 100, "dropped": 50, "delivered_after": 100, "failed_after": 0,
        "delivered_within_s": 2.0, "memory_full_mb": 31.0, "memory_while_dropping_mb": 0.2,
    }  # fmt: skip
    report = {**CIRCUMSTANCES, "calls": [{**call, "per_second": 80_000}, call], "away": away}

    shown = producer(report)

    assert "| `emit` | 9.0 | 9.5 | 21.0 | 1,500 | 80,000 |" in shown
    assert "| `emit` | 9.0 | 9.5 | 21.0 | 1,500 |  |" in shown
    assert "100 events were kept, which took 31 MB; the next 50 were dropped and counted" in shown
    assert "80,000" in producer_bench.table(report)


def test_a_bench_that_was_not_run_is_said_to_be_so(tmp_path: Path) -> None:
    """The page has its section all the same."""
    report = {**CIRCUMSTANCES, "results": [], "window_s": 1, "disorder_s": 2.0}
    (tmp_path / "latency.json").write_text(json.dumps(report))

    shown = page(tmp_path)

    assert shown.count("Not measured yet.") == 4
    assert "## How soon an event can be seen" in shown
