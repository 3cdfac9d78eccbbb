"""``funnelwatch rules backtest``: the alerts that rules would have raised over a history, beside known incidents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from funnelwatch.alert_rules.loader import RuleFileError, load_rules
from funnelwatch.alert_rules.model import DropRule, Rule
from funnelwatch.cli.backtest_view import Progress, draw
from funnelwatch.cli.errors import Span, moment_ms, opened
from funnelwatch.format import clock, lasting
from funnelwatch.schemas.admission import SeriesLimits
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.count_history import WindowStartsError, window_length
from funnelwatch.schemas.funnels import FunnelsFileError, load_funnels
from funnelwatch.schemas.settings import load_settings
from funnelwatch.sinks.timescale.rates import RateStore
from funnelwatch.sinks.timescale.series_counts import SeriesCounts
from funnelwatch.stream.backtest.csv_counts import SESSIONS, read_counts
from funnelwatch.stream.backtest.incidents import GRACE_WINDOWS, read_incidents
from funnelwatch.stream.backtest.replay import SCORES, evaluated_series, replay
from funnelwatch.stream.backtest.report import Evaluated, report
from funnelwatch.stream.backtest.table import TableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.alert_rules.model import Rules
    from funnelwatch.schemas.count_history import History
    from funnelwatch.stream.backtest.incidents import Incident

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--counts", type=FILE, help="A CSV file (.gz too) with the counts.  [default: TimescaleDB]")
@click.option("--incidents", type=FILE, help="A CSV file (.gz too) with the incidents that are known.")
@click.option(
    "--rules", "path", type=click.Path(path_type=Path), help="A rule file or folder.  [default: those in use]"
)
@click.option("--funnel", help="Only this funnel.  [default: every one]")
@click.option("--since", "--from", "since", metavar="TIME", help="Leave out counts before: 90d ago, or ISO 8601.")
@click.option("--until", "--to", "until", metavar="TIME", help="Leave out counts from then on; as --since.")
@click.option(
    "--warmup", type=Span(), default="21d", show_default=True, help="History before the first evaluated window."
)
@click.option("--window", type=Span(), help="Length of the windows.  [default: derived from their starts]")
@click.option(
    "--grace",
    type=click.IntRange(0),
    default=GRACE_WINDOWS,
    show_default=True,
    help="Windows after an incident's end in which an alert still counts as its detection.",
)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
def backtest(
    *,
    counts: Path | None,
    incidents: Path | None,
    path: Path | None,
    funnel: str | None,
    since: str | None,
    until: str | None,
    warmup: int,
    window: int | None,
    grace: int,
    to_json: bool,
) -> None:
    r"""Show which alerts rules would have raised over a history, and compare them with known incidents.

    The evaluator is the one that runs live. Windows of the first --warmup are history, not evaluated. Progress goes to
    stderr.

    \b
    Counts   window_start, funnel, step, os, impressions, successes; optional browser, app_version and further
             dimensions of declared funnels; others are ignored. Rules with "basis: session" need sessions and
             session_successes.
             A time without a zone is UTC. Rows in any order; several rows of a window and series add up; a missing
             row is a window without impressions.
    Incidents   start, end; optional funnel, step and dimensions. What is empty or missing means all.

    \b
    An alert belongs to an incident when
      - funnel, step and dimensions differ nowhere where both name one (so an alert on a whole step
        belongs to an incident on one os of it, and the other way round), and
      - the window in which it was raised ends after the incident's start and starts before its end + --grace.
    It is an echo, neither true nor false, in the 60 windows after that; else it is a false alarm. An incident is
    detected when an alert belongs to it, or was raised before and still fires when it starts (delay 0). Its delay is
    the number of windows that had ended since its start when the alert was raised. Incidents that begin before
    the first evaluated window, or outside the counts, are left out and listed, with the alerts on them.

    \b
    "Per series" divides by the combinations of funnel, step and the values of all dimensions that the rules of the
    funnel name in 'by', each for the time from the first window in which it is counted (or the end of the warm-up).
    The curve has the same figures with the score of every drop rule set to each value.

    \b
    Examples:
      funnelwatch rules backtest --counts counts.csv --incidents incidents.csv
      funnelwatch rules backtest --since 90d --rules my_rules/ --json
    """
    settings = load_settings()
    try:
        rules = load_rules(path or settings.rules_path)
        declared = load_funnels(settings.funnels_path)
        known = read_incidents(incidents, declared) if incidents else []
    except (RuleFileError, FunnelsFileError, TableError) as error:
        raise click.ClickException(str(error)) from error
    now = wall_clock_ms()
    begin = -(2**53) if since is None else moment_ms(since, now)
    end = 2**53 if until is None else moment_ms(until, now)
    with Progress() as progress:
        if counts is None:
            with opened(settings) as database:
                window = window or RateStore(database).window_ms() or settings.window_ms
                histories = SeriesCounts(database).read(
                    begin, end, funnel, progress.read, with_sessions=of_sessions(rules) is not None
                )
        else:
            try:
                histories = read_counts(counts, declared, SeriesLimits.of(settings, declared), progress.read)
            except TableError as error:
                raise click.ClickException(str(error)) from error
            histories = [one.between(begin, end) for one in histories if funnel in {None, one.funnel}]
        source = str(counts) if counts else "the database"
        check_sessions(histories, rules, source)
        evaluated = plan(histories, rules, known, source=source, warmup=warmup, window=window, grace=grace)
        span = span_of(histories, evaluated.window_ms)
        scores = {*SCORES, *(rule.score for rule in rules.rules if isinstance(rule, DropRule))}
        progress.start((span[1] - span[0]) // evaluated.window_ms * len(histories))
        run = replay(
            histories,
            rules,
            evaluated.window_ms,
            span,
            declared=declared,
            begin=evaluated.begin,
            scores=scores,
            told=progress.advance,
        )
    answer = report(evaluated, run.alerts, run.tried)
    if to_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        draw(answer)


def of_sessions(rules: Rules, funnel: str | None = None) -> str | None:
    """The name of a rule on the session basis, of this funnel or of any; None: there is none."""
    own = rules.rules if funnel is None else rules.of_funnel(funnel)
    return next((rule.alert for rule in own if isinstance(rule, Rule) and rule.basis == "session"), None)


def check_sessions(histories: Sequence[History], rules: Rules, source: str) -> None:
    """Reject counts that have no sessions where a rule divides by them.

    Raises:
        click.ClickException: they have none; what to do.
    """
    for history in histories:
        name = of_sessions(rules, history.funnel)
        if name is not None and history.starts.size and not history.counts_sessions:
            raise click.ClickException(
                f"{source} has no session counts of funnel {history.funnel}, which rule {name} needs (basis: session); "
                f"right would be the columns {' and '.join(SESSIONS)}, or another basis"
            )


def plan(
    histories: Sequence[History],
    rules: Rules,
    incidents: Sequence[Incident],
    *,
    source: str,
    warmup: int,
    window: int | None,
    grace: int,
) -> Evaluated:
    """The windows and incidents to evaluate.

    Raises:
        click.ClickException: nothing is; why, and what to do.
    """
    if not any(one.starts.size for one in histories):
        raise click.ClickException(f"{source} has no matching counts; there is nothing to evaluate")
    try:
        window_ms = window_length(np.unique(np.concatenate([one.starts for one in histories])), window)
    except WindowStartsError as error:
        raise click.ClickException(f"{source}: window_start: {error}") from error
    first, end = span_of(histories, window_ms)
    begin = first - (-warmup // window_ms) * window_ms
    if begin >= end:
        raise click.ClickException(
            f"{source} spans {lasting(end - first)}, {clock(first)} to {clock(end)}, which the warm-up of "
            f"{lasting(warmup)} uses up; take a shorter --warmup, or more counts"
        )
    series = evaluated_series(histories, rules)
    if not series:
        raise click.ClickException(f"no rule speaks about any funnel and step of {source}")
    everything = [one for history in histories for one in history.series]
    counted, left_out = [], []
    for incident in incidents:
        if incident.start < begin:
            left_out.append((incident, f"it begins before {clock(begin)}, the end of the warm-up"))
        elif incident.start >= end:
            left_out.append((incident, f"it begins after the counts, which end {clock(end)}"))
        elif not any(incident.has(one) for one in everything):
            left_out.append((incident, "the counts have no such funnel, step and dimensions"))
        else:
            counted.append(incident)
    return Evaluated(window_ms, begin, end, series, counted, left_out, grace)


def span_of(histories: Sequence[History], window_ms: int) -> tuple[int, int]:
    """Start of the first window and end of the last, ms."""
    starts = [one.starts for one in histories if one.starts.size]
    return min(int(one[0]) for one in starts), max(int(one[-1]) for one in starts) + window_ms
