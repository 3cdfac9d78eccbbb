"""Every panel of every dashboard, asked of plain PostgreSQL and of TimescaleDB as Grafana would ask it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.funnels import Funnel
from funnelwatch.schemas.metric_counts import MetricSeries
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.wilson import wilson_interval
from tests.filling import MINUTE_MS, count_in, count_metrics
from tests.grafana import NAMES, View, answers, ask, dashboard, queries
from tests.integration.test_views import DAY_MS, T, message

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.sinks.timescale.database import Database, Row

FUNNEL = "checkout"
STEPS = ("cart", "pay", "done")
ODD = "it's; DROP VIEW conversion --"
LONG_AGO = T - 150 * DAY_MS
"""Before every range that is shown."""

WEEK_MS = 7 * DAY_MS
HOUR_MS = 60 * MINUTE_MS
CLOSED = T + 90 * MINUTE_MS

RANGES = {
    "windows": (T - HOUR_MS, T + 3 * HOUR_MS, MINUTE_MS),
    "5m": (T - DAY_MS, T + DAY_MS, 5 * MINUTE_MS),
    "1h": (T - 20 * DAY_MS, T + 3 * DAY_MS, HOUR_MS),
    "1d": (T - 100 * DAY_MS, T + 3 * DAY_MS, DAY_MS),
}
"""Level to a range for which it is chosen, and the length of its buckets, ms."""

Key = tuple[int, str, str, str, str]


def tallies() -> dict[Key, tuple[int, ...]]:
    """Counts of this day and of the same hours one, two and five weeks before; some say no browser."""
    made = {}
    windows = [T + minute * MINUTE_MS for minute in (0, 1, 5, 61, 100)]
    for weeks in (0, 1, 2, 5):
        for at, window in enumerate(windows):
            for place, step in enumerate(STEPS):
                for os, browser, version in (
                    ("iOS", "Safari", "1.0"),
                    ("iOS", "Safari", "2.0"),
                    ("Android", "", "2.0"),
                ):
                    shown = 100 - 20 * place + at + len(os)
                    made[window - weeks * WEEK_MS, step, os, browser, version] = (
                        shown,
                        shown - 30 + weeks,
                        10 - at,
                        shown - 40,
                        12,
                        shown - 5,
                        shown - 32 + weeks,
                        shown - 8,
                        shown - 35,
                    )
    return made


def durations() -> dict[Key, list[int]]:
    """How long some of these successes took, ms."""
    return {key: [1_000 * (place % 7 + 1), 20_000 + place, 300] for place, key in enumerate(tallies())}


def alerts() -> list[dict[str, Any]]:
    """One that is over and one that fires."""
    over = {"step": "pay", "started_at": T + MINUTE_MS}
    return [
        message(FUNNEL, "one", 0, **over),
        message(FUNNEL, "one", 1, **over, state="resolved", rate=0.79, lost_conversions=55.0),
        message(FUNNEL, "two", 0, step="done", dimensions={}, started_at=T + 2 * MINUTE_MS),
    ]


def fill(database: Database) -> None:
    """The same counts, alerts and progress in each database."""
    declare(database, {FUNNEL: Funnel(STEPS)})
    count_in(database, tallies(), funnel=FUNNEL, closed_through=CLOSED, durations=durations())
    count_in(database, {(T, "cart", "iOS", "Safari", "1.0"): (0, 0, 1, 0, 0)}, funnel=FUNNEL)
    count_in(database, {(T, "cart", ODD, ODD, ODD): (5, 4, 1)}, funnel=ODD)
    AlertStore(database).save(FUNNEL, T, {}, alerts())
    for place, alert in enumerate(
        (
            message(FUNNEL, "wide", 0, step="done", steps=["done", "cart"]),
            message("*", "everywhere", 0, step="*", dimensions={}),
        )
    ):
        told = alert | {"state": "resolved", "started_at": LONG_AGO + place, "window_end": LONG_AGO + MINUTE_MS}
        AlertStore(database).save(alert["funnel"], T, {}, [told])
    with database.transaction() as cursor:
        run(cursor, "mark_late", {"funnel": [FUNNEL], "window_ms": [T], "events": [1]})
    counter, timer = (MetricSeries.of(f"sms_{kind.lower()}", kind, {}) for kind in ("COUNTER", "TIMER"))
    for window, increments in ((T, (3, 10, 17)), (T + MINUTE_MS, (5, 7))):
        count_metrics(database, [(window, counter, value) for value in increments])
        count_metrics(database, [(window, timer, value) for value in (1, 2, 7, 7, 7)])
    materialize(database, T + DAY_MS)


@pytest.fixture(scope="module")
def filled_plain(plain: Database) -> Database:
    """Plain PostgreSQL, filled."""
    fill(plain)
    return plain


@pytest.fixture(scope="module")
def filled_extended(extended: Database) -> Database:
    """TimescaleDB, filled."""
    fill(extended)
    return extended


@pytest.fixture(params=["filled_plain", "filled_extended"])
def filled(request: pytest.FixtureRequest) -> Database:
    """One after the other."""
    database: Database = request.getfixturevalue(request.param)
    return database


def rows_of(database: Database, name: str, level: str, **wanted: list[str]) -> dict[str, list[Row]]:
    """What each query of a dashboard answers, by where it stands."""
    document = dashboard(name)
    view = View(*RANGES[level][:2])
    view.choose(database, document, {"funnel": [FUNNEL], **wanted} if name != "pipeline" else wanted)
    assert view.chosen["level"] == [level]
    return answers(database, view, document)


NOW_IN_THEM = {"updated_at", "changed_at", "closed, s ago"}


@pytest.mark.parametrize("level", RANGES)
@pytest.mark.parametrize("name", NAMES)
def test_both_databases_answer_every_panel_with_the_same_numbers(
    filled_plain: Database, filled_extended: Database, name: str, level: str
) -> None:
    """Row by row and column by column, except for what tells of the moment of asking; and no panel is empty."""
    wanted = {"step": ["pay"]} if name == "step" else {}
    answers = [rows_of(database, name, level, **wanted) for database in (filled_plain, filled_extended)]
    one, other = (
        {
            place: [{column: value for column, value in row.items() if column not in NOW_IN_THEM} for row in rows]
            for place, rows in answer.items()
        }
        for answer in answers
    )
    assert one == other
    assert [place for place, rows in one.items() if not rows] == []


class ByHand:
    """The counts of a range, added up here."""

    def __init__(self, level: str, steps: tuple[str, ...] = STEPS, shift_ms: int = 0) -> None:
        self.from_ms, self.to_ms, self.width = RANGES[level]
        self.counts = {
            key: tally
            for key, tally in everything().items()
            if self.from_ms - shift_ms <= self.bucket(key) <= self.to_ms - shift_ms and key[1] in steps
        }

    def bucket(self, key: Key) -> int:
        """The start of the level's bucket of a key."""
        return key[0] - key[0] % self.width

    def sums(self, group: Callable[[Key], Any]) -> dict[Any, list[int]]:
        """The counts of a row, by group."""
        total: dict[Any, list[int]] = {}
        for key, tally in self.counts.items():
            kept = total.setdefault(group(key), [0] * len(tally))
            kept[:] = [a + b for a, b in zip(kept, tally, strict=True)]
        return total


def everything() -> dict[Key, tuple[int, ...]]:
    """All that is counted."""
    counts = tallies()
    late = (T, "cart", "iOS", "Safari", "1.0")
    return counts | {late: (*counts[late][:2], counts[late][2] + 1, *counts[late][3:])}


def at(ms: int) -> datetime:
    """Milliseconds as the database shows them."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def rate(tally: list[int]) -> float:
    """Successes an impression."""
    return tally[1] / tally[0]


def counted(rows: list[Row]) -> list[Row]:
    """Without the rows that only break or drop a line where windows are missing."""
    keys = {"time", "metric"}
    return [row for row in rows if any(value for name, value in row.items() if name not in keys)]


@pytest.mark.parametrize("level", ["windows", "5m"])
def test_no_line_is_drawn_across_missing_windows(filled: Database, level: str) -> None:
    """In the first and in the last window of a gap a rate is unknown and a count is 0."""
    found = rows_of(filled, "funnel", level)
    width = RANGES[level][2]
    windows = sorted({ByHand(level).bucket(key) for key in ByHand(level).counts})
    for title, column, missing, there in (
        ("Rate by step A", "rate", None, [window for window in windows if window < CLOSED]),
        ("Shown A", "impressions", 0, windows),
    ):
        ends = {end for one, other in pairwise(there) if other > one + width for end in (one + width, other - width)}
        assert ends
        line = rows_in_order([row for row in found[title] if row["metric"] == "pay"])
        assert [row["time"] for row in line] == [at(one) for one in sorted({*there, *ends})]
        assert [row["time"] for row in line if row[column] == missing] == [at(one) for one in sorted(ends)]


def rows_in_order(rows: list[Row]) -> list[Row]:
    """The rows, which the query must have in the order of time."""
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    return rows


@pytest.mark.parametrize("level", RANGES)
def test_the_funnel_shows_what_adding_up_by_hand_gives(filled: Database, level: str) -> None:
    """Totals of steps with survival, rates over time, what is expected, and each dimension."""
    found = rows_of(filled, "funnel", level)
    hand = ByHand(level)
    totals = hand.sums(lambda key: key[1])
    before = [None, totals["cart"], totals["pay"]]
    assert [
        (
            row["step"],
            row["impressions"],
            row["successes"],
            row["failures"],
            row["rate"],
            row["survival"],
            row["reached"],
        )
        for row in found["Steps A"]
    ] == [
        (
            step,
            *totals[step][:3],
            rate(totals[step]),
            last and totals[step][0] / last[0],
            totals[step][0] / totals["cart"][0],
        )
        for step, last in zip(STEPS, before, strict=True)
    ]
    over_time = hand.sums(lambda key: (at(hand.bucket(key)), key[1]))
    assert {(row["time"], row["metric"]): row["rate"] for row in counted(found["Rate by step A"])} == {
        place: rate(tally) for place, tally in over_time.items() if place[0] < at(CLOSED)
    }
    assert {(row["time"], row["metric"]): row["impressions"] for row in counted(found["Shown A"])} == {
        place: tally[0] for place, tally in over_time.items()
    }
    for title, *places in (
        ("By os A", 2),
        ("By browser A", 3),
        ("By app_version A", 4),
        ("By os + browser together A", 2, 3),
    ):
        by = hand.sums(lambda key, places=places: (key[1], " · ".join(key[place] or "(none)" for place in places)))
        assert {(row["step"], row["value"]): (row["impressions"], row["rate"]) for row in found[title]} == {
            group: (tally[0], rate(tally)) for group, tally in by.items()
        }
        for row in found[title]:
            interval = wilson_interval(row["successes"], row["impressions"])
            assert (row["rate_low"], row["rate_high"]) == pytest.approx(interval)


@pytest.mark.parametrize("level", ["windows", "5m", "1h"])
def test_expected_is_the_rate_at_the_same_time_of_the_four_weeks_before(filled: Database, level: str) -> None:
    """The counts of those weeks together, each moved to where it is compared; the fifth week does not count."""
    expected: dict[tuple[datetime, str], list[int]] = {}
    for weeks in range(1, 5):
        past = ByHand(level, shift_ms=weeks * WEEK_MS)
        for (bucket, step), tally in past.sums(lambda key, past=past: (past.bucket(key), key[1])).items():
            kept = expected.setdefault((at(bucket + weeks * WEEK_MS), f"{step} (expected)"), [0] * len(tally))
            kept[:] = [a + b for a, b in zip(kept, tally, strict=True)]
    found = rows_of(filled, "funnel", level)["Rate by step B"]
    found = counted(found)
    assert {(row["time"], row["metric"]): row["expected"] for row in found} == {
        place: rate(tally) for place, tally in expected.items()
    }


@pytest.mark.parametrize("level", RANGES)
def test_a_step_is_taken_apart_as_by_hand(filled: Database, level: str) -> None:
    """Rate with interval, verdicts, mature cohorts, and lines by os, browser and app version."""
    found = rows_of(filled, "step", level, step=["pay"])
    hand = ByHand(level, ("pay",))
    over_time = hand.sums(lambda key: at(hand.bucket(key)))
    closed = {time: tally for time, tally in over_time.items() if time < at(CLOSED)}
    assert {row["time"]: row["rate"] for row in counted(found["Rate A"])} == {
        time: rate(tally) for time, tally in closed.items()
    }
    for row in counted(found["Rate A"]):
        interval = wilson_interval(over_time[row["time"]][1], over_time[row["time"]][0])
        assert (row["low"], row["high"]) == pytest.approx(interval)
    assert {
        row["time"]: (row["successes"], row["failures"], row["no verdict"]) for row in counted(found["Verdicts A"])
    } == {time: (*tally[1:3], max(tally[0] - tally[1] - tally[2], 0)) for time, tally in over_time.items()}
    mature = at(CLOSED - 3 * MINUTE_MS)
    assert {row["time"]: row["cohort rate"] for row in counted(found["Cohort rate A"])} == {
        time: tally[3] / tally[0] for time, tally in over_time.items() if time <= mature
    }
    for title, *places in (("os", 2), ("browser", 3), ("app_version", 4), ("os + browser together", 2, 3)):
        by = hand.sums(
            lambda key, places=places: (at(hand.bucket(key)), " · ".join(key[place] or "(none)" for place in places))
        )
        assert {(row["time"], row["metric"]): row["rate"] for row in counted(found[f"Rate by {title} A"])} == {
            group: rate(tally) for group, tally in by.items() if group[0] < at(CLOSED)
        }


@pytest.mark.parametrize("level", RANGES)
def test_time_to_convert_is_that_of_all_successes_of_a_time_together(filled: Database, level: str) -> None:
    """Quantiles of the values of all series, not means of quantiles; within an eighth."""
    found = rows_of(filled, "step", level, step=["pay"], os=["iOS"])["Time to convert A"]
    found = counted(found)
    hand = ByHand(level, ("pay",))
    values: dict[datetime, list[int]] = {}
    for key in hand.counts:
        if key[2] == "iOS":
            values.setdefault(at(hand.bucket(key)), []).extend(durations()[key])
    assert [row["time"] for row in found] == sorted(values)
    for row in found:
        took = sorted(values[row["time"]])
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            assert row[name] == pytest.approx(took[ceil(q * len(took)) - 1], rel=1 / 8)


def test_filters_leave_only_what_is_chosen(filled: Database) -> None:
    """Of several values those, of a dimension that nobody said too, and of all together only what fits all."""
    chosen = {"step": ["cart", "pay"], "os": ["Android", "iOS"], "browser": ["(none)"], "app_version": ["2.0"]}
    found = rows_of(filled, "funnel", "windows", **chosen)
    hand = ByHand("windows", ("cart", "pay"))
    by = hand.sums(lambda key: (key[1], key[2], key[3], key[4]))
    assert [(row["step"], row["impressions"]) for row in found["Steps A"]] == [
        (step, by[step, "Android", "", "2.0"][0]) for step in ("cart", "pay")
    ]
    assert {row["value"] for row in found["By os A"]} == {"Android"}


def test_alerts_about_several_steps_or_all_are_shown_with_each(filled: Database) -> None:
    """By the steps that an incident has reached, and what is about every step or every funnel."""
    view = View(LONG_AGO - HOUR_MS, LONG_AGO + HOUR_MS)
    view.choose(filled, dashboard("alerts"), {"funnel": [FUNNEL]})
    view.chosen["step"] = ["cart"]
    shown = ask(filled, view.expand(dict(queries(dashboard("alerts")))["Alerts A"]))
    assert [(row["funnel"], row["step"]) for row in shown] == [("*", "*"), (FUNNEL, "done")]
    view.chosen["step"] = ["pay"]
    shown = ask(filled, view.expand(dict(queries(dashboard("alerts")))["Alerts A"]))
    assert [row["step"] for row in shown] == ["*"]


def test_a_name_with_a_quote_is_a_name(filled: Database) -> None:
    """What an app calls itself reaches the database as data."""
    document = dashboard("funnel")
    view = View(*RANGES["windows"][:2])
    view.choose(filled, document, {"funnel": [ODD]})
    found = answers(filled, view, document)
    assert [(row["value"], row["impressions"]) for row in found["By os A"]] == [(ODD, 5)]


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_is_counted_panels_are_empty_and_not_wrong(filled: Database, name: str) -> None:
    """A first look before the first window: nothing can be chosen, and each query is SQL all the same."""
    document = dashboard(name)
    view = View(T - 2000 * DAY_MS, T - 2000 * DAY_MS + HOUR_MS)
    view.choose(filled, {**document, "templating": {"list": nobody(document)}}, {})
    assert [name for name, values in view.options.items() if values and name not in {"level", "funnel"}] == []
    for place, found in answers(filled, view, document).items():
        assert not found or place in ALWAYS, place


def nobody(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The variables of a dashboard, where there is no funnel yet."""
    none = {"query": "SELECT '' AS funnel"}
    return [one | none if one["name"] == "funnel" else one for one in document["templating"]["list"]]


ALWAYS = {"Newest closed window A", "Records A", "Partitions A", "Firing now A"}
"""Panels that tell of now, whatever the range."""


def test_alerts_are_listed_with_where_their_link_leads(filled: Database) -> None:
    """Newest first, from an hour before the drop to an hour after the end, or to the end of the range."""
    found = rows_of(filled, "alerts", "windows")
    assert [(row["step"], row["dimensions"], row["state"], row["resolved_at"]) for row in found["Alerts A"]] == [
        ("done", "all", "firing", None),
        ("pay", "os = iOS", "resolved", at(T + 2 * MINUTE_MS)),
    ]
    firing, over = found["Alerts A"]
    assert [(row["of_os"], row["of_browser"], row["of_app_version"]) for row in (firing, over)] == [
        ("All", "All", "All"),
        ("iOS", "All", "All"),
    ]
    assert over["summary"] == "message 0", "the recovery hides the drop"
    assert (over["from_ms"], over["to_ms"]) == (T + MINUTE_MS - HOUR_MS, T + 2 * MINUTE_MS + HOUR_MS)
    assert (firing["from_ms"], firing["to_ms"]) == (T + 2 * MINUTE_MS - HOUR_MS, RANGES["windows"][1])
    assert [row["firing"] for row in found["Firing now A"]] == [1]
    assert [tuple(row.values()) for row in found["Lost A"]] == [("pay", 1, 55.0), ("done", 1, 40.0)]
    assert [(row["alert_id"], row["state"]) for row in found["Messages A"]] == [
        ("one", "resolved"),
        ("one", "firing"),
        ("two", "firing"),
    ]


@pytest.mark.parametrize("name", ["funnel", "step"])
def test_alerts_shade_the_time_of_their_drop(filled: Database, name: str) -> None:
    """A region an alert, of the steps that are shown; one that fires goes on to the end of the range."""
    shown = rows_of(filled, name, "windows", step=["pay"])["Alerts (annotation)"]
    assert [(row["time"], row["timeend"]) for row in shown] == [(at(T + MINUTE_MS), at(T + 2 * MINUTE_MS))]
    assert shown[0]["text"] == "warning: pay, os = iOS. message 0"
    firing = rows_of(filled, name, "windows", step=["done"])["Alerts (annotation)"]
    assert [row["timeend"] for row in firing] == [at(RANGES["windows"][1])]


@pytest.mark.parametrize("level", RANGES)
def test_the_pipeline_shows_what_was_counted(filled: Database, level: str) -> None:
    """Events a second are the events of a bucket by its length; partitions and late windows are listed."""
    found = rows_of(filled, "pipeline", level)
    hand = ByHand(level)
    events = {bucket: sum(tally[:3]) for bucket, tally in hand.sums(lambda key: at(hand.bucket(key))).items()}
    assert {
        row["time"]: row["events/s"] for row in counted(found["Events A"]) if row["metric"] == FUNNEL
    } == pytest.approx({bucket: number / (hand.width / 1000) for bucket, number in events.items()})
    sums: dict[int, int] = {}
    for window, total in ((T, 30), (T + MINUTE_MS, 12)):
        bucket = window - window % hand.width
        sums[bucket] = sums.get(bucket, 0) + total
    counters = {row["time"]: row["a second"] for row in found["Counters A"] if row["metric"] == "sms_counter"}
    assert counters == pytest.approx({at(bucket): total / (hand.width / 1000) for bucket, total in sums.items()})
    assert {row["time"]: row["p90"] for row in found["Timers A"]} == {at(bucket): 7.0 for bucket in sums}
    assert [(row["topic"], row["partition"]) for row in found["Partitions A"]] == [
        ("filled", 0),
        ("filled-metrics", 0),
    ]
    assert FUNNEL in {row["funnel"] for row in found["Newest closed window A"]}
    assert (at(T), FUNNEL) in {(row["window_start"], row["funnel"]) for row in found["Revised windows A"]}


def test_where_a_level_is_no_longer_kept_the_next_is_shown(filled: Database) -> None:
    """An hour of last year is shown by the hour if nothing finer is there, whatever is kept by now."""
    document = dashboard("pipeline")
    view = View(T - 365 * DAY_MS, T - 365 * DAY_MS + HOUR_MS)
    with filled.transaction() as cursor:
        cursor.execute("UPDATE retention SET keep = '90 days' WHERE level IN ('windows', '5m')")
    view.choose(filled, document, {})
    with filled.transaction() as cursor:
        cursor.execute("UPDATE retention SET keep = NULL")
        cursor.execute(
            "UPDATE retention SET dropped_before = now() - INTERVAL '90 days' WHERE level IN ('windows', '5m')"
        )
    assert view.chosen["level"] == ["1h"]
    view.choose(filled, document, {})
    with filled.transaction() as cursor:
        cursor.execute("UPDATE retention SET dropped_before = NULL")
    assert view.chosen["level"] == ["1h"]
