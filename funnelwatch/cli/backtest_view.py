"""How a backtest is shown: figures, alerts, incidents and the curve; and its progress."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

import click
from rich.table import Table
from rich.text import Text

from funnelwatch.format import console, lasting, percent, printable
from funnelwatch.stream.backtest.report import series_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_ALERTS = 40
"""So many alerts are shown; ``--json`` has all."""
TELL_EVERY_S = 5.0
"""On stderr that is no terminal."""


class Progress:
    """One line on a terminal, or a line now and then in a file."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        self._began = self._told = time.monotonic()
        self._all = self._done = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a clean line."""
        if self._tty:
            click.echo("\r\033[K", nl=False, err=True)

    def read(self, rows: int) -> None:
        """So many rows were read."""
        self._tell(f"{rows:,} rows read")

    def start(self, windows: int) -> None:
        """The number of windows to evaluate."""
        self._all = max(windows, 1)

    def advance(self, windows: int) -> None:
        """So many more were."""
        self._done += windows
        self._tell(f"evaluated: {100 * self._done // self._all} %")

    def _tell(self, what: str) -> None:
        now = time.monotonic()
        if now - self._told >= (0.2 if self._tty else TELL_EVERY_S):
            self._told = now
            line = f"{what}, {now - self._began:.0f} s"
            click.echo(f"\r\033[K{line}" if self._tty else line, nl=not self._tty, err=True)


def draw(answer: Mapping[str, Any]) -> None:
    """Everything, as tables on stdout."""
    out = console()
    out.print(
        Text(
            f"{answer['series']} series in windows of {lasting(answer['window_s'] * 1000)}, evaluated from "
            f"{answer['evaluated_from']} to {answer['evaluated_to']}"
        )
    )
    raised = len(answer["alerts"])
    out.print(
        Text(
            f"{raised} alert{'' if raised == 1 else 's'}, {answer['false_alarms']} of them false: "
            f"{_number(answer['false_alarms_per_series_30d'])} a series in 30 days"
            + (f"; {answer['echoes']} echoes of incidents" if answer["echoes"] else "")
        )
    )
    if answer["incidents_evaluated"]:
        out.print(
            Text(
                f"{answer['incidents_detected']} of {answer['incidents_evaluated']} incidents detected (recall "
                f"{percent(answer['recall'])}, precision {percent(answer['precision'])}); delay in windows: median "
                f"{_number(answer['delay_p50_windows'])}, 90 % within {_number(answer['delay_p90_windows'])}"
            )
        )
    _alerts(answer["alerts"])
    _incidents(answer["incidents"], answer["incidents_left_out"])
    _curve(answer["curve"])


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: int) -> None:
    """A table whose columns from ``right`` on hold numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place >= right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out = console()
    out.print()
    out.print(table)


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> None:
    if not alerts:
        return
    rows = [
        (
            one["start"],
            one["end"] or "still firing",
            printable(one["series"]),
            one["verdict"],
            one["severity"],
            f"{one['score']:.1f}",
            percent(one["rate"]),
            percent(one["expected_rate"]),
        )
        for one in alerts[:MOST_ALERTS]
    ]
    _table(("Raised", "Resolved", "Series", "Verdict", "Severity", "Score", "Rate", "Expected"), rows, 5)
    if len(alerts) > MOST_ALERTS:
        console().print(Text(f"and {len(alerts) - MOST_ALERTS} more (--json has all)", style="dim"))


def _incidents(evaluated: Sequence[Mapping[str, Any]], left_out: Sequence[Mapping[str, Any]]) -> None:
    rows = [(*_scope(one), _number(one["delay_windows"]) if one["detected"] else "missed") for one in evaluated]
    rows += [(*_scope(one), f"left out: {one['why']}") for one in left_out]
    if rows:
        _table(("Incident from", "to", "Scope", "Delay in windows"), rows, 4)


NOT_SCOPE = frozenset({"start", "end", "funnel", "step", "detected", "delay_windows", "alert", "why"})
"""The keys of an incident that are no dimensions."""


def _scope(incident: Mapping[str, Any]) -> tuple[str, str, str]:
    named = {name: value for name, value in incident.items() if name not in NOT_SCOPE}
    scope = {"funnel": incident.get("funnel", "any funnel"), "step": incident.get("step", "every step"), **named}
    return incident["start"], incident["end"], printable(series_name(scope))


def _curve(curve: Sequence[Mapping[str, Any]]) -> None:
    if not curve:
        return
    rows = [
        (
            f"{one['score']:g}",
            str(one["alerts"]),
            str(one["false_alarms"]),
            _number(one["false_alarms_per_series_30d"]),
            percent(one["recall"]),
            percent(one["precision"]),
            _number(one["delay_p50_windows"]),
            _number(one["delay_p90_windows"]),
        )
        for one in curve
    ]
    headings = ("Score", "Alerts", "False", "A series in 30 d", "Recall", "Precision", "Delay p50", "p90")
    _table(headings, rows, 0)


def _number(value: float | None) -> str:
    """A figure, short; a dash where there is none."""
    return "-" if value is None else f"{value:.3g}"
