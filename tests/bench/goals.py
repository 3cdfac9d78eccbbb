"""What was aimed at, what has been measured, and, where it was missed, the figures that say why."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

from tests.bench.speed.__main__ import BARE, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LATENCY_RATE = 20_000
MOST_MB = 400

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
        for name, goal in (("Faust, table", 60.0), ("Faust, take", 60.0), ("Kafka Streams", 1.0)):
            if name in rates:
                yield f"times as fast as {name}", f"{goal:g}", own / rates[name], own / rates[name] >= goal
        peers = {name: rates[name] for name in ("Quix Streams", "Bytewax") if name in rates}
        if peers:
            fastest = max(peers, key=lambda name: peers[name])
            yield f"times as fast as {fastest}", "6", own / peers[fastest], own / peers[fastest] >= 6
        yield "share of the bare loop", "0.45", own / rates[BARE], own / rates[BARE] >= 0.45
    if "latency" in figures:
        yield from _delays(figures["latency"])
    if "growth" in figures:
        cases = {one["case"]: one for one in figures["growth"]["results"]}
        first = next(iter(figures["growth"]["results"]))
        if (many := cases.get("10,000 series")) and many["per_second"]:
            share = many["per_second"] / first["per_second"]
            yield "10,000 series, share of the events/s with 100", "0.8", share, share >= 0.8
        backlogs = [one for one in cases.values() if one["case"].startswith(("100 series", "10 times"))]
        most = max(one["memory_mb"] for one in backlogs)
        yield "memory at any backlog, MB", f"{MOST_MB}", most, most <= MOST_MB


def _delays(found: Figures) -> Iterator[Goal]:
    """Of few delays there is no p99; the longest is more than it would be."""
    for one in found["results"]:
        if one["asked"] == LATENCY_RATE and one["kept_up"]:
            for name, what, goal in (("redis", "event in Redis", 500), ("alert", "alert on its topic", 1_000)):
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
    if "take" in cpu:
        return f"""
- *The bare loop*: an event takes {ours:.2f} µs on Python's threads (next section): {us["take"]} to take it from
librdkafka's queue, decoded and checked, where `Consumer.consume` alone, which makes a Python object of each message,
takes {stages["consume_us"]:.2f}; new series and doubtful records {us["validate"]}, duplicates {us["duplicates"]},
adding up {us["aggregate"]}, the databases {cpu["flush"] + cpu["copy"]:.2f}. Nearly all of it is C without the
interpreter's lock, so that intake and counting run at once; librdkafka has {us["librdkafka"]} on threads of its own.
Where Kafka and the databases are on the same processors, these are what is shared."""
    left = cpu["consume"] / 0.45 - cpu["consume"]
    return f"""
- *The bare loop, and Faust's `take`*: of the {ours:.2f} µs that an event takes on Python's threads (next section) the
bare loop has the first, {us["consume"]} for `Consumer.consume`, which makes a Python object of each message. 0.45 of
its speed would leave {left:.2f} µs for all else, since only one thread has the interpreter at a time; to take the
messages apart, by six calls of a method for each, and to free them is {us["take apart"]}, to decode them
{us["decode"]}, duplicates {us["duplicates"]}, checks {us["check"]}, adding up {us["tally"]}, the databases
{cpu["flush"] + cpu["copy"]:.2f}. What is left to be gained is in the first two: a consumer that hands over columns
instead of objects, which confluent-kafka does not have. More workers are the way to more events a second: each has an
interpreter of its own."""


def _rows(few: Figures, many: Figures) -> str:
    before, after = _cpu_us(few), _cpu_us(many)
    rows = ("flush", "copy")
    others = [sum(us for name, us in cpu.items() if name not in (*rows, "librdkafka")) for cpu in (before, after)]
    return f"""
- *{many["series"]:,} series*: each event of a flush has nearly a row of its own, and a success one more for its
duration, so rows are the bound. By `make bench-stages` writing them takes {after["flush"]:.2f} µs of Python's an event
where it takes {before["flush"]:.2f} with {few["series"]}, and their copy in Redis {after["copy"]:.2f} where it takes
{before["copy"]:.2f}; all else is {others[1]:.2f} instead of {others[0]:.2f}. PostgreSQL's own work for the rows comes
on top."""


def _cpu_us(stages: Figures) -> dict[str, float]:
    return {one["stage"]: one["cpu_us"] for one in stages["results"]}


DELAYS = """
- *Delays at 20,000 events/s*: an event waits for up to 0.25 s (`FUNNELWATCH_FLUSH_INTERVAL_S`) until its fetch is over,
and then for the flush before its own. Load, broker and databases want the same two cores here, so that the longest
delays differ from run to run by more than the goal is missed by."""

MEMORY = """
- *Memory*: of a long backlog the ids are remembered, two generations of up to a million for each partition, at 32
bytes: 256 MB for four partitions. Without duplicate removal the memory is what the first table shows."""
