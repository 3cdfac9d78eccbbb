"""The answer of ``funnelwatch rate`` as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from funnelwatch.format import bar, clock, console, lasting, percent, printable

if TYPE_CHECKING:
    from funnelwatch.query.answers import RateResult

HEADINGS = {"os": "OS", "browser": "Browser", "app_version": "App version"}


def draw(answer: RateResult) -> None:
    """A table on stdout, with the range above and what to know about it below."""
    out, asked = console(), answer.question
    chosen = [f"{name.replace('_', ' ')} {printable(value)}" for name, value in answer.filters.items()]
    title = ", ".join([printable(asked.scope.funnel), *chosen, f"by {asked.basis}"])
    out.print(Text(f"{title}: {clock(answer.from_ms)} to {clock(answer.to_ms)}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    if asked.every_ms:
        table.add_column("From", no_wrap=True)
    table.add_column("Step", no_wrap=True)
    for dimension in asked.by:
        table.add_column(HEADINGS[dimension], no_wrap=True)
    for heading in ("Impressions", "Successes", "Failures", "Rate", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for rate in answer.rates:
        cells = [] if rate.start_ms is None else [clock(rate.start_ms)]
        cells += [printable(rate.step), *(printable(getattr(rate, dimension)) for dimension in asked.by)]
        cells += [f"{count:,}" for count in (rate.impressions, rate.successes, rate.failures)]
        interval = "-" if rate.interval is None else f"{percent(rate.interval[0])} to {percent(rate.interval[1])}"
        cells += [percent(rate.rate), interval]
        table.add_row(*(Text(cell) for cell in cells), Text(bar(rate.rate), style="green"))
    out.print(table)
    for line in remarks(answer):
        out.print(Text(line, style="bold yellow" if line.startswith("!") else "dim"))


def remarks(answer: RateResult) -> list[str]:
    """What to know about the numbers."""
    lines = [f"! {answer.old}."] if answer.old else []
    if answer.closed_through is None:
        lines.append("No window of this funnel is complete yet: these counts still grow.")
    elif answer.open_ms:
        lines.append(
            f"Windows of {lasting(answer.window_ms)} are complete up to {clock(answer.closed_through)}; the last "
            f"{lasting(answer.open_ms)} of this range still grow (--closed leaves them out)."
        )
    else:
        lines.append(f"All windows of {lasting(answer.window_ms)} in this range are complete.")
    if answer.question.basis == "cohort":
        lines.append("By cohorts: the newest people shown a step may not have finished it yet.")
    elif any(rate.successes > rate.impressions for rate in answer.rates):
        lines.append("More successes than impressions: some answer impressions before the range; see --basis cohort.")
    return lines
