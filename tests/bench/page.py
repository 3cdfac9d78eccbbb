"""Write docs/benchmarks.md, and the table of the README, from docs/benchmarks/: ``make bench-page``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.speed.__main__ import OURS, table

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "benchmarks"
BEGIN, END = "<!-- speed: written by make bench-page -->\n", "<!-- end of speed -->"


def speed(found: dict[str, Any]) -> str:
    """Side by side with others."""
    runs = len(found["results"][0]["all_seconds"])
    return f"{f'Medians of {runs} runs' if runs > 1 else 'One run'} of each.\n\n```text\n{table(found)}\n```"


def short(found: dict[str, Any]) -> str:
    """For the README."""
    own = next(one["per_second"] for one in found["results"] if one["contender"] == OURS)
    lines = ["| one process, counts committed to PostgreSQL | events/s | funnelwatch is |", "|---|---:|---:|"]
    for one in found["results"]:
        rate = one["per_second"]
        ratio = own / rate
        times = (
            ""
            if one["contender"] == OURS
            else f"{ratio:.{0 if ratio >= 10 else 1 if ratio >= 1 else 2}f} times as fast"
        )
        lines.append(f"| {one['contender']} | {rate:,.0f} | {times} |")
    count = max(one["events"] for one in found["results"])
    said = (
        f"`make bench` counts {count:,} events by each in turn, and compares the counts before a time counts. On "
        f"{found['machine']}, with {found['servers']['kafka']} and the databases on it as well "
        "([docs/benchmarks.md](docs/benchmarks.md)):"
    )
    return f"{said}\n\n" + "\n".join(lines)


def latency(found: dict[str, Any]) -> str:
    """Delays."""
    lines = ["| events/s | seen in | p50 ms | p99 ms | max ms |", "|---:|---|---:|---:|---:|"]
    for one in found["results"]:
        lines += [
            f"| {one['rate']:,} | {name} | {told['p50']} | {told['p99']} | {told['max']} |"
            for name in ("redis", "timescaledb", "closed window")
            if (told := one[name])
        ]
    return f"{found['machine']}; {found['kafka']}, {found['database']}\n\n" + "\n".join(lines)


def growth(found: dict[str, Any]) -> str:
    """Throughput and memory."""
    lines = ["| backlog | events | events/s | CPU µs an event | memory, MB |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {one['case']} | {one['events']:,} | {one['per_second']:,} | {one['cpu_us']} | {one['memory_mb']} |"
        for one in found["results"]
    ]
    return f"{found['machine']}\n\n" + "\n".join(lines)


def producer(found: dict[str, Any]) -> str:
    """Cost for an app."""
    lines = ["| call | µs | a second |", "|---|---:|---:|"]
    lines += [f"| `{name}` | {us:.1f} | {1e6 / us:,.0f} |" for name, us in found["us_per_call"].items()]
    return f"{found['machine']}\n\n" + "\n".join(lines)


SPEED = """\
`make bench`: one topic on Kafka, the same work for each, one after the other: counts a minute, step, os, browser, app
version, phase and status in PostgreSQL, compared with what must come of the events before a time counts. A tenth of the
events has single-object framing, the others Confluent's. Ours is the worker as it is run: duplicates removed, Redis,
durations, totals, watermarks, closing, detection. The others only count, those that are slow a part of the events. Each
is one process with its sink as its own guide recommends, and librdkafka tuned alike where there is one; the programs
are in `tests/bench/contenders/`. Kafka Streams has one thread, and its JVM's helpers beside it. CPU is that of the
process alone, from its first record on."""

LATENCY = """\
`make bench-latency`: from Kafka's acknowledgement to being seen in the store, while other events come at that rate; for
a closed window from its end and the allowed disorder. Producer, broker, worker, databases and the probe share the
machine."""

GROWTH = "`make bench-growth`: one worker counts a backlog, and one thing is made larger at a time."

PRODUCER = """\
`make bench-producer`: CPU time of the app's thread. While Kafka is away events wait in the buffer; once that is full
they are dropped and counted, and a call costs what it did before."""

SECTIONS: tuple[tuple[str, str, Callable[[dict[str, Any]], str], str], ...] = (
    ("speed", "Events a second, side by side", speed, SPEED),
    ("latency", "How soon an event can be seen", latency, LATENCY),
    ("growth", "What grows with what", growth, GROWTH),
    ("producer", "What emitting costs an app", producer, PRODUCER),
)


def main() -> None:
    """Write it."""
    text = ["# Benchmarks", "", "Written by `make bench-page` from the figures in `docs/benchmarks/`; do not edit."]
    for name, title, render, words in SECTIONS:
        path = FIGURES / f"{name}.json"
        figures = render(json.loads(path.read_text())) if path.exists() else "Not measured yet."
        text += ["", f"## {title}", "", words, "", figures]
    (DOCS / "benchmarks.md").write_text("\n".join(text) + "\n")
    if (measured := FIGURES / "speed.json").exists():
        readme = DOCS.parent / "README.md"
        before, begin, rest = readme.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        readme.write_text(f"{before}{begin}{short(json.loads(measured.read_text()))}\n{end}{after}")


if __name__ == "__main__":
    main()
