"""The comparison in the end: ledger and stores, key by key, place by place, window by window."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from funnelwatch.alert_rules.watchdog import is_heartbeat
from funnelwatch.schemas.codec import Decoder
from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.histogram import bounds
from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.redis.keys import counts_pattern
from tests.drills.ledger import DIMENSIONS
from tests.drills.topics import everything

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from funnelwatch.schemas.codec import Registry
    from funnelwatch.schemas.settings import Settings
    from tests.drills.ledger import Duration, Expectation, Key, Ledger

KEPT_NOTES = 20
NOTHING = list(CountRow())

COUNTS = """
SELECT (extract(epoch FROM window_start) * 1000)::bigint, funnel, step, os, browser, app_version,
    coalesce(dimensions ->> 'country', ''), coalesce(dimensions ->> 'plan', ''),
    c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures,
    w.sessions, w.session_successes, w.reached, w.completed
FROM conversion AS c INNER JOIN window_counts AS w USING (window_start, series_id)
"""
DURATIONS = """
SELECT (extract(epoch FROM window_start) * 1000)::bigint, funnel, step, os, browser, app_version,
    coalesce(dimensions ->> 'country', ''), coalesce(dimensions ->> 'plan', ''),
    slots
FROM time_to_convert
"""
TOTALS = (
    "SELECT sum(accepted)::bigint, sum(rejected)::bigint, sum(duplicates)::bigint FROM stream_progress WHERE topic = %s"
)
PROGRESS = "SELECT partition, next_offset FROM stream_progress WHERE topic = %s"
RUNNING = """
SELECT s.funnel, s.step, coalesce(s.dimensions ->> 'os', ''), coalesce(s.dimensions ->> 'browser', ''),
    sum(t.impressions)::bigint, sum(t.successes)::bigint, sum(t.failures)::bigint
FROM series_totals AS t INNER JOIN series AS s ON s.series_id = t.series_id
GROUP BY 1, 2, 3, 4
"""
ALERTS = "SELECT alert_id, sequence, alert, published_at IS NOT NULL FROM alerts ORDER BY place"
CLOSED = "SELECT funnel, (extract(epoch FROM closed_through) * 1000)::bigint FROM funnel_progress"

EVENT_COLUMNS = 3
"""The first columns of a tally count each event once; the others date verifications back, and so count some again."""
EXPECTED_COLUMNS = 5
"""The columns that the ledger expects; those of sessions are compared by ``compare_sessions``."""


@dataclass(slots=True)
class Verdict:
    """What the comparison found; all of the first four are 0 where everything is as promised.

    Attributes:
        lost: events that should be counted and are not, and rejected records without their dead letter.
        double: events that are counted and should not be.
        wrong: anything else that differs; ``notes`` says what.
        alerts_duplicated: messages of alerts with the same id and sequence and different content, and alerts about
            something that another alert was already firing about.
        notes: the first differences, in sentences.
        facts: what was compared.
    """

    lost: int = 0
    double: int = 0
    wrong: int = 0
    alerts_duplicated: int = 0
    notes: list[str] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.double or self.wrong or self.alerts_duplicated)

    def note(self, what: str) -> None:
        """Keep a sentence, unless there are many."""
        if len(self.notes) < KEPT_NOTES:
            self.notes.append(what)

    def wrongly(self, what: str) -> None:
        """One thing that is wrong."""
        self.wrong += 1
        self.note(what)


class Comparison:
    """Compares everything; servers must be up and the pipeline idle."""

    def __init__(self, settings: Settings, ledger: Ledger, registry: Registry | None) -> None:
        self._settings = settings
        self._ledger = ledger
        self._registry = registry
        self.expected: Expectation = ledger.expectation(settings.window_ms)
        self.verdict = Verdict()

    def run(self) -> Verdict:
        """The verdict."""
        with psycopg.connect(revealed(self._settings.timescale_url), autocommit=True) as session:
            counted: dict[Key, list[int]] = {tuple(row[:8]): list(row[8:]) for row in session.execute(COUNTS)}
            self._counts(counted)
            self._durations(session.execute(DURATIONS))
            self._totals(session)
            self._running(session.execute(RUNNING))
            self._redis(counted)
            self._dead_letters()
            closed = {row[0]: row[1] for row in session.execute(CLOSED)}
            self._windows(counted, closed)
            self._alerts(list(session.execute(ALERTS)))
        return self.verdict

    def _counts(self, counted: Mapping[Key, list[int]]) -> None:
        verdict, expected = self.verdict, self.expected.counts
        nothing = [0] * EXPECTED_COLUMNS
        for key in sorted(expected.keys() | counted.keys()):
            wanted, found = expected.get(key, nothing), counted.get(key, nothing)[:EXPECTED_COLUMNS]
            if wanted == found:
                continue
            verdict.note(f"counts of {key}: expected {wanted}, found {found}")
            for column, (should, does) in enumerate(zip(wanted, found, strict=True)):
                if column >= EVENT_COLUMNS:
                    verdict.wrong += should != does
                elif should > does:
                    verdict.lost += should - does
                else:
                    verdict.double += does - should
        verdict.facts["keys"] = len(expected)
        verdict.facts["events"] = self.expected.accepted

    def _durations(self, rows: Iterable[Any]) -> None:
        found: dict[Duration, int] = {}
        for *key, slots in rows:
            for slot, number in enumerate(slots):
                if number:
                    found[(*key, *bounds(slot))] = number
        expected = self.expected.durations
        for bucket in sorted(expected.keys() | found.keys()):
            if expected[bucket] != found.get(bucket, 0):
                self.verdict.wrongly(f"durations of {bucket}: expected {expected[bucket]}, found {found.get(bucket)}")
        self.verdict.facts["durations"] = expected.total()

    def _totals(self, session: psycopg.Connection[Any]) -> None:
        topic = self._settings.events_topic
        found = session.execute(TOTALS, [topic]).fetchone()
        wanted = self.expected.accepted, len(self.expected.rejected), self.expected.duplicates
        if found != wanted:
            self.verdict.wrongly(f"accepted, rejected, duplicates by the progress: expected {wanted}, found {found}")
        progress = {row[0]: row[1] for row in session.execute(PROGRESS, [topic])}
        for partition, end in self.expected.ends.items():
            if progress.get(partition) != end:
                self.verdict.wrongly(f"partition {partition} is counted up to {progress.get(partition)}, not {end}")
        self.verdict.facts["duplicates"] = self.expected.duplicates

    def _running(self, rows: Iterable[Any]) -> None:
        """The totals since the beginning, which Prometheus gets, are those of the ledger, too."""
        wanted: dict[tuple[str, ...], list[int]] = {}
        for (_, *names), tally in self.expected.counts.items():
            kept = wanted.setdefault(tuple(map(str, names[:4])), [0] * EVENT_COLUMNS)
            for column in range(EVENT_COLUMNS):
                kept[column] += tally[column]
        wanted = {series: tally for series, tally in wanted.items() if any(tally)}
        found = {tuple(row[:4]): list(row[4:]) for row in rows}
        for series in sorted(wanted.keys() | found.keys()):
            if wanted.get(series) != found.get(series):
                self.verdict.wrongly(f"totals of {series}: expected {wanted.get(series)}, found {found.get(series)}")
        self.verdict.facts["totals"] = len(found)

    def _redis(self, counted: Mapping[Key, list[int]]) -> None:
        found = in_redis(self._settings)
        for key in sorted(found.keys() | counted.keys()):
            if found.get(key) != counted.get(key):
                self.verdict.wrongly(f"Redis: {key} is {found.get(key)}, the database has {counted.get(key)}")

    def _dead_letters(self) -> None:
        verdict, rejected = self.verdict, self.expected.rejected
        found: dict[tuple[int, int], set[tuple[str, bytes | None]]] = defaultdict(set)
        letters = 0
        for message in everything(self._settings, self._settings.dead_letters_topic):
            letters += 1
            given: Any = message.headers() or []
            headers = {name: value.decode() for name, value in given}
            if headers["topic"] != self._settings.events_topic:
                verdict.wrongly(f"a dead letter of topic {headers['topic']}")
            found[int(headers["partition"]), int(headers["offset"])].add((headers["reason"], message.value()))
        for place, (reason, value) in rejected.items():
            if place not in found:
                verdict.lost += 1
                verdict.note(f"no dead letter of {place}, {reason}")
            elif found[place] != {(reason, value)}:
                verdict.wrongly(f"dead letter of {place}: expected {reason}, found {[r for r, _ in found[place]]}")
        for place in found.keys() - rejected.keys():
            verdict.wrongly(f"a dead letter of {place}, where nothing is to be rejected: {found[place]}")
        verdict.facts["dead_letters"] = len(rejected)
        verdict.facts["dead_letters_sent_again"] = letters - len(found)

    def _windows(self, counted: Mapping[Key, list[int]], closed_through: Mapping[str, int | None]) -> None:
        verdict = self.verdict
        last, published = last_revisions(self._settings, self._registry)
        database: dict[tuple[str, int], dict[tuple[str, ...], list[int]]] = defaultdict(dict)
        for key, tally in counted.items():
            database[key[1], key[0]][key[2:]] = tally
        for (funnel, window), series in database.items():
            if not any(sum(tally[:EVENT_COLUMNS]) for tally in series.values()):
                continue
            if window >= (closed_through.get(funnel) or 0):
                verdict.wrongly(f"window {window} of {funnel} is not closed")
            elif (funnel, window) not in last:
                verdict.wrongly(f"closed window {window} of {funnel} was never published")
        for (funnel, window), (revision, series) in last.items():
            stored = database.get((funnel, window), {})
            for name in series.keys() | stored.keys():
                shown, real = series.get(name, NOTHING), stored.get(name, NOTHING)
                if shown[:EVENT_COLUMNS] != real[:EVENT_COLUMNS]:
                    verdict.wrongly(
                        f"window {window} of {funnel}, {name}: revision {revision} says {shown}, the database {real}"
                    )
                elif any(a > b for a, b in zip(shown, real, strict=True)):
                    verdict.wrongly(
                        f"window {window} of {funnel}, {name}: {shown} is more than the database has: {real}"
                    )
        verdict.facts["windows"] = len(last)
        verdict.facts["windows_published"] = published
        verdict.facts["windows_revised"] = sum(revision > 0 for revision, _ in last.values())

    def _alerts(self, rows: Iterable[Any]) -> None:
        verdict = self.verdict
        decode = Decoder("Alert", self._registry)
        said: dict[tuple[str, int], set[str]] = defaultdict(set)
        messages = 0
        for message in everything(self._settings, self._settings.alerts_topic):
            alert = decode(message.value())
            if is_heartbeat(alert):
                continue
            messages += 1
            said[alert["alert_id"], alert["sequence"]].add(json.dumps(alert, sort_keys=True))
        for identity, contents in said.items():
            if len(contents) > 1:
                verdict.alerts_duplicated += 1
                verdict.note(f"alert {identity} was published with {len(contents)} contents")
        outbox = {(row[0], row[1]): row for row in rows}
        for identity, row in outbox.items():
            if not row[3]:
                verdict.wrongly(f"alert {identity} is still in the outbox")
            elif identity not in said:
                verdict.lost += 1
                verdict.note(f"alert {identity} was never published")
            elif json.dumps(row[2], sort_keys=True) not in said[identity]:
                verdict.wrongly(f"alert {identity} was published with another content than is kept")
        for identity in said.keys() - outbox.keys():
            verdict.wrongly(f"alert {identity} was published and is not kept")
        self._gaps_and_overlaps([row[2] for row in outbox.values()])
        verdict.facts["alerts"] = len(said)
        verdict.facts["alerts_sent_again"] = messages - len(said)

    def _gaps_and_overlaps(self, alerts: list[dict[str, Any]]) -> None:
        """Sequences are 0, 1, 2 …; and nothing that fires begins to fire once more under another id.

        ``alerts`` come in the order in which they were said.
        """
        verdict = self.verdict
        sequences: dict[str, list[int]] = defaultdict(list)
        about: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
        for alert in alerts:
            sequences[alert["alert_id"]].append(alert["sequence"])
            dimensions = tuple(sorted(alert["dimensions"].items()))
            about[alert["rule"], alert["funnel"], alert["step"], dimensions].append(alert)
        for alert_id, numbers in sequences.items():
            if sorted(numbers) != list(range(len(numbers))):
                verdict.wrongly(f"alert {alert_id} has the sequences {sorted(numbers)}")
        for subject, messages in about.items():
            firing = ""
            for alert in messages:
                if firing and alert["alert_id"] != firing:
                    verdict.alerts_duplicated += 1
                    verdict.note(f"{subject}: {alert['alert_id']} begins while {firing} fires")
                firing = "" if alert["state"] == "resolved" else alert["alert_id"]


def in_redis(settings: Settings) -> dict[Key, list[int]]:
    """Everything that the cache has."""
    cache = CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)
    try:
        found: dict[Key, list[int]] = {}
        for name in cache.client.scan_iter(counts_pattern(settings.redis_prefix), count=1000):
            _, _, funnel, window = name.decode().rsplit(":", 3)
            for series, tally in cache.read(funnel, int(window)).items():
                names = map(series.value, DIMENSIONS)
                found[int(window), funnel, series.step, *names] = list(tally)
        return found
    finally:
        cache.close()


def last_revisions(
    settings: Settings, registry: Registry | None
) -> tuple[dict[tuple[str, int], tuple[int, dict[tuple[str, ...], list[int]]]], int]:
    """By funnel and window the highest revision that was published, and its series; and how many were published."""
    decode = Decoder("ClosedWindow", registry)
    last: dict[tuple[str, int], tuple[int, dict[tuple[str, ...], list[int]]]] = {}
    published = 0
    for message in everything(settings, settings.windows_topic):
        window = decode(message.value())
        published += 1
        key = window["funnel"], window["window_start"]
        series: dict[tuple[str, ...], list[int]] = {
            (one["step"], *((one | one["dimensions"]).get(name, "") for name in DIMENSIONS)): [
                one[name] for name in CountRow._fields
            ]
            for one in window["series"]
        }
        revision = window["revision"]
        if key in last and last[key][0] > revision:
            continue
        if window["part"] and key in last and last[key][0] == revision:
            series = last[key][1] | series
        last[key] = revision, series
    return last, published
