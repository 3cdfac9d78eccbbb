"""Write docs/benchmarks.md, and the table of the README, from docs/benchmarks/: ``make bench-page``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import goals, limits
from tests.bench.growth import shares
from tests.bench.latency.__main__ import SEEN_IN
from tests.bench.latency.delays import KEPT
from tests.bench.producer import outage
from tests.bench.speed.__main__ import OURS, table
from tests.bench.stages import table as stages_table

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "benchmarks"
BEGIN, END = "<!-- speed: written by make bench-page -->\n", "<!-- end of speed -->"


def speed(found: dict[str, Any]) -> str:
    """Side by side with others."""
    runs = len(found["results"][0]["all_seconds"])
    measured = f"Measured by `{found['command']}` on {found['date']}. " if "date" in found else ""
    return f"{measured}{f'Medians of {runs} runs' if runs > 1 else 'One run'} of each.\n\n```text\n{table(found)}\n```"


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
    lines = ["| events/s | seen | p50 ms | p99 ms | max ms | measured |", "|---:|---|---:|---:|---:|---:|"]
    failed = []
    for one in found["results"]:
        if not one["kept_up"]:
            failed.append(
                f"{one['asked']:,} events/s were **not** kept up with: {one['counted']:,}/s were counted of "
                f"{one['reached']:,}/s, and the lag grew by {one['lag_grew_s']:.1f} s of events."
            )
            continue
        for name, title in SEEN_IN.items():
            told = one["seen"][name]
            figures = " | ".join("" if told[key] is None else f"{told[key]:,}" for key in ("p50", "p99", "max"))
            of = f"{told['n']} of {told['windows']} windows" if "windows" in told else f"{told['n']}"
            lines.append(f"| {one['reached']:,} | {title} | {figures} | {of} |")
        if one["reached"] < KEPT * one["asked"]:
            failed.append(f"{one['asked']:,} events/s were asked for; the load reached {one['reached']:,}.")
    settings = f"Windows of {found['window_s']} s, allowed disorder {found['disorder_s']:g} s."
    return "\n\n".join([f"{circumstances(found)} {settings}", "\n".join(lines), *failed])


def stages(found: dict[str, Any]) -> str:
    """Where an event's time goes."""
    return f"{circumstances(found)}\n\n{stages_table(found)}"


def growth(found: dict[str, Any]) -> str:
    """Throughput and memory."""
    lines = [
        "| backlog | events | events/s | of the first | CPU µs an event | database CPU µs | memory, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one, of_first in zip(found["results"], shares(found["results"]), strict=True):
        rate = one["per_second"]
        share = f"{of_first:.2f}" if of_first else ""
        cells = (f"{rate:,}", share, f"{one['cpu_us']}", f"{one.get('database_us') or ''}") if rate else ("",) * 4
        what = one["case"] + (f" ({one['history_rows']:,} rows)" if one["history_rows"] else "")
        lines.append(f"| {what} | {one['events']:,} | {' | '.join(cells)} | {one['memory_mb']} |")
    return f"{circumstances(found)}\n\n" + "\n".join(lines)


def producer(found: dict[str, Any]) -> str:
    """Cost for an app."""
    lines = [
        "| call | CPU µs | p50 µs | p99 µs | max µs | events/s, delivered |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in found["calls"]:
        rate = f"{one['per_second']:,}" if "per_second" in one else ""
        lines.append(
            f"| `{one['what']}` | {one['cpu_us']:.1f} | {one['p50_us']:.1f} | {one['p99_us']:.1f} | "
            f"{one['max_us']:,} | {rate} |"
        )
    return f"{circumstances(found)}\n\n" + "\n".join(lines) + f"\n\n{outage(found['away'])}"


def circumstances(found: dict[str, Any]) -> str:
    """On what, by which command, and when this was measured; of older figures what is known."""
    told = [found["machine"], *(found[name] for name in ("kafka", "database") if name in found)]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    measured = f"Measured by `{found['command']}` on {found['date']}: " if "date" in found else ""
    return f"{measured}{'; '.join(told)}; {versions}."


def with_circumstances(render: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    """A section whose figures stand below what they were measured on."""
    return lambda found: f"{circumstances(found)}\n\n{render(found)}"


SPEED = """\
`make bench`: one topic on Kafka, the same work for each, one after the other: counts a minute, step, os, browser, app
version, phase and status in PostgreSQL, compared with what must come of the events before a time counts. A tenth of the
events has single-object framing, the others Confluent's. Ours is the worker as it is run: duplicates removed, Redis,
durations, totals, watermarks, closing, detection. The others only count, those that are slow a part of the events. Each
is one process with its sink as its own guide recommends, and librdkafka tuned alike where there is one; the programs
are in `tests/bench/contenders/`. Kafka Streams has one thread and Flink one slot, with the helpers of their JVM beside
it; Flink takes a checkpoint every second. The sinks of Flink and Pathway report no commits: their time, as
ours, ends when the database shows all events. CPU is that of the process alone, from its first record on."""

STAGES = """\
`make bench-stages`: what a worker does, one thing after the other on one thread, by processor time of that thread. In a
worker two threads share it: the intake, which validates as well, and the counting. They are Python's, so that of what
they do only what numpy and librdkafka do, and waiting, goes on at the same time. Flushes are of one fetch each here; in
a backlog a worker joins them."""

LATENCY = """\
`make bench-latency`, while events come at an even rate, the last one a share of the most that `make bench` has counted.
Load, broker, worker, databases and the one who looks share the machine. A rate that is not kept up with is told, and a
lower one tried.

- *Event in Redis, event in the database*: from Kafka's acknowledgement until the store shows it.
- *Window on its topic*: from the window's end and the allowed disorder until a consumer has read it from
  `funnel.windows`.
- *Alert on its topic*: from the window's end and the allowed disorder until a consumer has read the alert from
  `funnel.alerts`. So the delay holds what the watermark needs (an event of each partition that is later than that), the
  counting, the closing, the evaluation and the publishing. Five series lose all their successes in one window and have
  them again in the next, each with an alert; the shipped rules are evaluated as well. Windows are short so that
  there are many; p99 is told of a hundred delays or more."""

GROWTH = """\
`make bench-growth`: a backlog is counted with everything on, and one thing is made larger at a time. Memory is the most
that was resident, of the larger process where there are two. Two workers share two cores with the broker and the
databases here: that they are not twice as fast says more about the machine than about them. History is a year of
minutes of each series in `window_counts`, closed and evaluated before the worker starts; its detector reads what it
remembers."""

PRODUCER = """\
`make bench-producer`: `emit` makes, checks and encodes an event; `produce` is given its bytes. CPU is the time of the
app's thread, the others are how long a call lasts. `emit` never waits for Kafka: while it is away events wait in the
buffer (100,000 by default, and for 120 s, after which they count as failed); once that is full they are dropped and
counted, and `on_error` is told of each."""

SECTIONS: tuple[tuple[str, str, Callable[[dict[str, Any]], str], str], ...] = (
    ("speed", "Events a second, side by side", speed, SPEED),
    ("stages", "Where an event's time goes", stages, STAGES),
    ("latency", "How soon an event can be seen", latency, LATENCY),
    ("growth", "What grows with what", growth, GROWTH),
    ("flood", "Floods of invented names", with_circumstances(limits.flood), limits.FLOOD),
    ("detector_start", "Until a detector evaluates", with_circumstances(limits.start), limits.START),
    ("queries", "Queries over thirty days", with_circumstances(limits.queries), limits.QUERIES),
    ("producer", "What emitting costs an app", producer, PRODUCER),
)


GOALS = """\
What was aimed at, against what has been measured, by the figures below. Speeds are ratios within one run of `make
bench`."""


def page(figures_in: Path) -> str:
    """The page, from the figures that there are."""
    text = ["# Benchmarks", "", "Written by `make bench-page` from the figures in `docs/benchmarks/`; do not edit."]
    found = {path.stem: json.loads(path.read_text()) for path in sorted(figures_in.glob("*.json"))}
    for name, title, render, words in SECTIONS:
        if name == "stages":
            text += ["", "## Against the goals", "", GOALS, "", goals.table(found)]
            text += ["", "Where a goal is missed:", "", goals.why(found)]
        text += ["", f"## {title}", "", words, "", render(found[name]) if name in found else "Not measured yet."]
    return "\n".join(text) + "\n"


def main() -> None:
    """Write it."""
    (DOCS / "benchmarks.md").write_text(page(FIGURES))
    if (measured := FIGURES / "speed.json").exists():
        readme = DOCS.parent / "README.md"
        before, begin, rest = readme.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        readme.write_text(f"{before}{begin}{short(json.loads(measured.read_text()))}\n{end}{after}")


if __name__ == "__main__":
    main()
