"""Sections of docs/benchmarks.md about what many names cost: floods of them, a detector's start, queries."""

from __future__ import annotations

from typing import Any

FLOOD = """\
`make bench-flood`: a worker counts a steady load of a declared funnel with 100 series in windows of 5 s. One request
after the other to the HTTP collector has thousands of invented names in it. Delay is from a window's end and the
allowed disorder until the database has that the declared funnel's window is evaluated. The worker's memory grows with
the names that the limits admit: 20 funnels, 50 steps of one, 500 values of a dimension. A worker that starts anew
reads the ids of recent events again, which takes memory by their number."""

START = """\
`make bench-detector-start`: three weeks of windows of a minute, of series with four dimensions of which few have most
events. From a process that has just begun until its detector has read that history and evaluated its first window,
with a record of each series, by the shipped rules."""

QUERIES = """\
`make bench-queries`: thirty days of counts; what the command line, the API and the board ask, and what Grafana's
panels ask. A range is read by days, and its edges by hours, 5 minutes and windows; spans of hours are read by hours.
Medians."""


def flood(found: dict[str, Any]) -> str:
    """Before, during and after floods."""
    lines = [
        "| | delay s, median | longest | memory, MB | exporter: its series | all series | rejected |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one['phase']} | {one['delay_s']} | {one['delay_max_s']} | {one['memory_mb']} | {one['exporter_series']} | "
        f"{one['exporter_all']} | {one['rejected']:,} |"
        for one in found["results"]
    ]
    return "\n".join(lines)


def start(found: dict[str, Any]) -> str:
    """A detector's start."""
    lines = [
        "| series | rows of history | first window, s | CPU, s | of the database, s | next window, s | memory, MB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one['series']:,} | {one['rows']:,} | {one['first_window_s']} | {one['cpu_s']} | {one['database_cpu_s']} | "
        f"{one['next_window_s']} | {one['peak_mb']} |"
        for one in found["results"]
    ]
    return "\n".join(lines)


def queries(found: dict[str, Any]) -> str:
    """Queries, one after the other."""
    lines = ["| | ms | rows | CPU of the database, ms |", "|---|---:|---:|---:|"]
    for one in found["results"]:
        cpu = "" if one["cpu_ms"] is None else f"{one['cpu_ms']:,}"
        lines.append(f"| {one['question']} | {one['ms']:,} | {one['rows']:,} | {cpu} |")
    return "\n".join(lines)
