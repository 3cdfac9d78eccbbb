"""The demo in a terminal: the funnel's rates by os now and as expected, the pipeline, the alerts, the current step."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from funnelwatch.demo.watch import OSES, steps

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from funnelwatch.demo.watch import Received, Seen

BAR = 10
SHOWN_ALERTS = 6
NOTICEABLE = 0.85
"""A rate below this share of the expected one is red."""


def render(title: str, happening: str, seen: Seen, produced: int, per_second: float) -> RenderableType:
    """The whole screen."""
    return Panel(
        Group(Text(happening, style="bold"), _rates(seen), _pipeline(seen, produced, per_second), _alerts(seen.alerts)),
        title=title,
        subtitle="Ctrl-C ends the demo and removes its data",
    )


def shows_drop(seen: Seen) -> bool:
    """Whether a rate is red."""
    return any(_is_bad(*_rate_and_usual(seen, step, os)) for step in steps() for os in OSES)


def _rates(seen: Seen) -> Table:
    table = Table(expand=True, box=None, pad_edge=False)
    table.add_column("1 to 2 min ago", ratio=2, no_wrap=True)
    for os in OSES:
        table.add_column(os, ratio=3)
    for step in steps():
        table.add_row(step, *(_cell(*_rate_and_usual(seen, step, os)) for os in OSES))
    return table


def _rate_and_usual(seen: Seen, step: str, os: str) -> tuple[float | None, float | None]:
    shown, won = seen.rates.get((step, os), (0, 0))
    base_shown, base_won = seen.expected.get((step, os), (0, 0))
    return won / shown if shown else None, base_won / base_shown if base_shown else None


def _is_bad(rate: float | None, usual: float | None) -> bool:
    return rate is not None and usual is not None and rate < NOTICEABLE * usual


def _cell(rate: float | None, usual: float | None) -> Text:
    if rate is None:
        return Text("·" * BAR + "   no data", style="dim")
    bad = _is_bad(rate, usual)
    filled = min(BAR, round(rate * BAR))
    text = Text("█" * filled + "░" * (BAR - filled) + f" {rate:4.0%}", style="red" if bad else "green")
    if usual is not None:
        text.append(f" (usual {usual:.0%})" + (" ▼" if bad else ""), style="bold red" if bad else "dim")
    return text


def _pipeline(seen: Seen, produced: int, per_second: float) -> Text:
    counted = seen.counted
    watermark = ""
    if seen.closed_through is not None:
        watermark = f" · windows closed until {datetime.fromtimestamp(seen.closed_through / 1000, UTC):%H:%M:%S}Z"
    return Text(
        f"\n{produced:,} produced · {counted.accepted:,} counted · {counted.rejected} dead letters · "
        f"{per_second:,.0f} events/s · lag {max(0, produced - counted.done):,}{watermark}\n"
    )


def _alerts(alerts: list[Received]) -> RenderableType:
    if not alerts:
        return Text("no alerts", style="dim")
    return Group(*(Text(alert_line(one), style=_style(one)) for one in alerts[-SHOWN_ALERTS:]))


def _style(received: Received) -> str:
    return "green" if received.alert["state"] == "resolved" else "bold red"


def alert_line(received: Received) -> str:
    """An alert in one line: when, what, where, how bad."""
    alert = received.alert
    scope = ", ".join(alert["dimensions"].values()) or "all"
    line = (
        f"{time.strftime('%H:%M:%S', time.gmtime(received.at))}Z {alert['state'].upper()} {alert['rule']}: "
        f"{alert['step']} {scope} at {alert['rate']:.0%}, expected {alert['expected_rate']:.0%}"
    )
    if alert["state"] == "resolved":
        return f"{line} ({alert['reason']})"
    where = ""
    if alert["where_value"]:
        where = f", {alert['where_share']:.0%} of it by {alert['where_dimension']} {alert['where_value']}"
    return f"{line}, {alert['lost_conversions']:.0f} conversions lost{where} ({alert['reason']})"


def hints(data_dir: Path, timescale_url: str) -> str:
    """Commands to explore the running demo."""
    return f"""
To explore it while it runs, in another terminal:
  export FUNNELWATCH_DATA_DIR={data_dir}
  funnelwatch status                                        # the servers and their addresses
  funnelwatch rate --step VERIFY_SMS_CODE --by os --since 15m
  funnelwatch alerts --follow                               # subscribe to funnel.alerts
  funnelwatch dead-letters list                             # rejected records with the reason
  PGPASSFILE={data_dir}/passwords/pgpass psql '{timescale_url}' \
    -c 'SELECT * FROM conversion ORDER BY window_start DESC LIMIT 10'
"""  # noqa: S608 - text for a person
