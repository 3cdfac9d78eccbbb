"""The answer of ``funnelwatch rate``: as a table, as JSON, as CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from funnelwatch.cli.showing import bar, clock, console, lasting, percent, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sinks.timescale.rates import Basis, Dimension, Rate, Scope

HEADINGS = {"os": "OS", "browser": "Browser", "app_version": "App version"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Rates, and what they were asked for; times in ms.

    Attributes:
        closed_through: windows that start before this are complete; None while none is.
    """

    scope: Scope
    basis: Basis
    by: Sequence[Dimension]
    from_ms: int
    to_ms: int
    window_ms: int
    closed_through: int | None
    every_ms: int | None
    rates: Sequence[Rate]

    @property
    def open_ms(self) -> int:
        """How much of the range is in windows that still grow."""
        through = self.from_ms if self.closed_through is None else self.closed_through
        return min(self.to_ms - self.from_ms, max(0, self.to_ms - through))

    @property
    def filters(self) -> dict[str, str]:
        """What was chosen beside the funnel."""
        chosen = {name: getattr(self.scope, name) for name in ("step", "os", "browser", "app_version")}
        return {name: value for name, value in chosen.items() if value is not None}


def as_json(answer: Answer) -> str:
    """One JSON object; times ISO 8601 UTC, rates 0 to 1 or null."""
    content = {
        "funnel": answer.scope.funnel,
        "filters": answer.filters,
        "basis": answer.basis,
        "from": clock(answer.from_ms),
        "to": clock(answer.to_ms),
        "window_s": answer.window_ms / 1000,
        "complete_through": None if answer.closed_through is None else clock(answer.closed_through),
        "includes_open_windows": answer.open_ms > 0,
        "rows": [_row(answer, rate) for rate in answer.rates],
    }
    return json.dumps(content, indent=2)


def as_csv(answer: Answer) -> str:
    """Rows with a header; empty where there is no rate."""
    out = io.StringIO()
    rows = [_row(answer, rate) for rate in answer.rates]
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _row(answer: Answer, rate: Rate) -> dict[str, Any]:
    low, high = rate.interval or (None, None)
    return {
        **({} if rate.start_ms is None else {"start": clock(rate.start_ms)}),
        "step": rate.step,
        **{dimension: getattr(rate, dimension) for dimension in answer.by},
        "impressions": rate.impressions,
        "successes": rate.successes,
        "failures": rate.failures,
        "rate": rate.rate,
        "low": low,
        "high": high,
    }


def draw(answer: Answer) -> None:
    """A table on stdout, with the range above and what to know about it below."""
    out = console()
    chosen = [f"{name.replace('_', ' ')} {printable(value)}" for name, value in answer.filters.items()]
    title = ", ".join([printable(answer.scope.funnel), *chosen, f"by {answer.basis}"])
    out.print(Text(f"{title}: {clock(answer.from_ms)} to {clock(answer.to_ms)}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    if answer.every_ms:
        table.add_column("From", no_wrap=True)
    table.add_column("Step", no_wrap=True)
    for dimension in answer.by:
        table.add_column(HEADINGS[dimension], no_wrap=True)
    for heading in ("Impressions", "Successes", "Failures", "Rate", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for rate in answer.rates:
        cells = [] if rate.start_ms is None else [clock(rate.start_ms)]
        cells += [printable(rate.step), *(printable(getattr(rate, dimension)) for dimension in answer.by)]
        cells += [f"{count:,}" for count in (rate.impressions, rate.successes, rate.failures)]
        interval = "-" if rate.interval is None else f"{percent(rate.interval[0])} to {percent(rate.interval[1])}"
        cells += [percent(rate.rate), interval]
        table.add_row(*(Text(cell) for cell in cells), Text(bar(rate.rate), style="green"))
    out.print(table)
    for line in remarks(answer):
        out.print(Text(line, style="dim"))


def remarks(answer: Answer) -> list[str]:
    """What to know about the numbers."""
    lines = []
    if answer.closed_through is None:
        lines.append("No window of this funnel is complete yet: these counts still grow.")
    elif answer.open_ms:
        lines.append(
            f"Windows of {lasting(answer.window_ms)} are complete up to {clock(answer.closed_through)}; the last "
            f"{lasting(answer.open_ms)} of this range still grow (--closed leaves them out)."
        )
    else:
        lines.append(f"All windows of {lasting(answer.window_ms)} in this range are complete.")
    if answer.basis == "cohort":
        lines.append("By cohorts: the newest people shown a step may not have finished it yet.")
    elif any(rate.successes > rate.impressions for rate in answer.rates):
        lines.append("More successes than impressions: some answer impressions before the range; see --basis cohort.")
    return lines
