"""What was aimed at, what has been measured, and, where it was missed, the figures that say why."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

from tests.bench.speed.__main__ import BARE, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LATENCY_RATE = 20_000
MOST_MB = 400
PEERS = {
    "Faust, table": 150.0,
    "Faust, take": 150.0,
    "Kafka Streams": 4.0,
    "Flink SQL": 4.0,
    "Pathway": 4.0,
    "Bytewax": 20.0,
    "Quix Streams": 20.0,
}
"""Times as fast as each."""
SHARES = (("10,000 series", "100", 0.8), ("100,000 series", "100", 0.4), ("1,000 windows", "5", 0.7))
"""A case of the growth, what the first case has instead, and the share of its speed that is aimed at."""

Figures = dict[str, Any]
Goal = tuple[str, str, float, bool]
"""What, how the goal is written, what was measured, whether that is enough."""


def table(figures: Mapping[str, Figures]) -> str:
    """The goals of which there are figures, by what has been measured: speed, latency, growth."""
    lines = ["| | goal | measured | |", "|---|---:|---:|---|"]
    lines += [
        f"| {what} | {goal} | {_figure(found)} | {'met' if met else '**missed**'} |"
        for what, goal, found, met in _goals(figures)
    ]
    return "\n".join(lines)


def _figure(found: float) -> str:
    return f"{found:,.0f}" if found >= 10 else f"{found:.2f}"


def _goals(figures: Mapping[str, Figures]) -> Iterator[Goal]:
    if "speed" in figures:
        rates = {one["contender"]: one["per_second"] for one in figures["speed"]["results"]}
        own = rates[OURS]
        for name, goal in PEERS.items():
            if name in rates:
                times = own / rates[name]
                yield f"times as fast as {name}", f"{goal:g}", times, times >= goal
        share = own / rates[BARE]
        yield "share of the bare loop", "1", share, share >= 1
        if without := rates.get("funnelwatch, sessions not counted"):
            yield "share of the speed without sessions", "0.85", own / without, own / without >= 0.85
    if "latency" in figures:
        yield from _delays(figures["latency"])
    if "growth" in figures:
        cases = {one["case"]: one for one in figures["growth"]["results"]}
        first = next(iter(figures["growth"]["results"]))
        for case, what, goal in SHARES:
            if (many := cases.get(case)) and many["per_second"]:
                share = many["per_second"] / first["per_second"]
                yield f"{case}, share of the events/s with {what}", f"{goal:g}", share, share >= goal
        if (many := cases.get("10,000 series")) and many.get("database_us"):
            yield "10,000 series, database CPU, µs an event", "1", many["database_us"], many["database_us"] <= 1
        backlogs = [
            one
            for one in cases.values()
            if one["case"].startswith(("100 series", "1,000 series", "10,000 series", "10 times"))
        ]
        most = max(one["memory_mb"] for one in backlogs)
        yield "memory at any backlog, MB", f"{MOST_MB}", most, most <= MOST_MB


def _delays(found: Figures) -> Iterator[Goal]:
    """Of few delays there is no p99; the longest is more than it would be."""
    for one in found["results"]:
        if one["asked"] == LATENCY_RATE and one["kept_up"]:
            for name, what, goal in (("redis", "event in Redis", 250), ("alert", "alert on its topic", 700)):
                seen = one["seen"][name]
                which = "max" if seen["p99"] is None else "p99"
                yield f"{LATENCY_RATE:,} events/s, {what}, {which}, ms", f"{goal:,}", seen[which], seen[which] <= goal


def why(figures: Mapping[str, Figures]) -> str:
    """Why goals are missed, by the figures of the stages and what is known beside them."""
    reasons = [DELAYS, MEMORY]
    if "stages" in figures:
        reasons.insert(0, _bare(figures["stages"]))
        if "stages_10000" in figures:
            reasons.append(_rows(figures["stages"], figures["stages_10000"]))
    return "\n".join(fill(one.strip(), 118, subsequent_indent="  ") for one in reasons)


def _bare(stages: Figures) -> str:
    cpu = _cpu_us(stages)
    ours = sum(one["cpu_us"] for one in stages["results"] if one["thread"] != "librdkafka")
    us = {name: f"{spent:.2f}" for name, spent in cpu.items()}
    return f"""
- *The bare loop*: an event takes {ours:.2f} µs on Python's threads (next section): {us["take"]} to take it from
librdkafka's queue, decoded and checked, where `Consumer.consume` alone, which makes a Python object of each message,
takes {stages["consume_us"]:.2f}; new series and doubtful records {us["validate"]}, duplicates {us["duplicates"]},
sessions {us.get("sessions", "not measured")}, adding up {us["aggregate"]}, the databases
{cpu["flush"] + cpu["copy"]:.2f}. Nearly all of it is C without the interpreter's lock, so that intake and counting run
at once; librdkafka has {us["librdkafka"]} on threads of its own. Where Kafka and the databases are on the same
processors, these are what is shared."""


def _rows(few: Figures, many: Figures) -> str:
    before, after = _cpu_us(few), _cpu_us(many)
    rows = ("flush", "copy")
    others = [sum(us for name, us in cpu.items() if name not in (*rows, "librdkafka")) for cpu in (before, after)]
    return f"""
- *{many["series"]:,} series*: the worker writes, closes and evaluates rows of a series and window, not events; the
benchmark has {EVENTS_A_ROW:.0f} events for each, where an hour's backlog of 5,000 events/s has 30. By `make
bench-stages` writing rows takes {after["flush"]:.2f} µs of Python's an event where it takes {before["flush"]:.2f} with
{few["series"]}, their copy in Redis {after["copy"]:.2f} where it takes {before["copy"]:.2f}; all else is
{others[1]:.2f} instead of {others[0]:.2f}. Admitting a series that is new costs some 60 µs once, and publishing and
evaluating it in a closed window some 50."""


def _cpu_us(stages: Figures) -> dict[str, float]:
    return {one["stage"]: one["cpu_us"] for one in stages["results"]}


DELAYS = """
- *Delays at 20,000 events/s*: events are collected twice as long as the flush before took, and at most 0.25 s. What is
above the median comes of a window's closing and evaluation, and of load, broker and databases, which want the same two
cores."""

MEMORY = """
- *Memory*: Python and its packages have 130 MB, librdkafka's queue up to 64, the ids of a long backlog 24 to 48 bytes
each, in two generations of up to a million a partition, events between intake and flush 64 bytes each. With 10,000
series closed windows and the detector's weeks come on top."""

EVENTS_A_ROW = 20
"""Events of the benchmark with 10,000 series for each row: a million in 5 windows."""
