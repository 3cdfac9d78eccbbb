"""Alerts and what was sent of them: found by indexes however many there are, and deleted once they are old."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from psycopg.types.json import Jsonb

from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.keeping import forget_alerts
from funnelwatch.sinks.timescale.notifications import NotificationQueue, Queued
from funnelwatch.sinks.timescale.queries import QUERIES
from funnelwatch.sinks.timescale.silences import SilenceStore
from tests.alerts import alert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.sinks.timescale.database import Database

DAY_MS = 86_400_000
NOW = 1_790_000_000_000
LATER = NOW + 1_000 * DAY_MS
"""Where the many alerts are: other tests delete what is older than now."""

ALERTS = 12_000
FEW = 1_000
"""Rows that a query may read: of 36,000 messages."""

FILL = """
INSERT INTO alerts (alert_id, sequence, alert, published_at)
SELECT
    'many-' || n, s,
    %(alert)s::jsonb || jsonb_build_object(
        'alert_id', 'many-' || n, 'sequence', s, 'funnel', 'many',
        'silenced_by', CASE WHEN n %% 2 = 0 THEN '1' ELSE '' END,
        'state', CASE WHEN s = 2 AND n > 10 THEN 'resolved' ELSE 'firing' END,
        'started_at', %(now)s - n::bigint * 600000, 'window_start', %(now)s - n::bigint * 600000 + s * 60000,
        'window_end', %(now)s - n::bigint * 600000 + (s + 1) * 60000
    ),
    now()
FROM generate_series(1, %(alerts)s) AS n, generate_series(0, 2) AS s
ORDER BY n DESC, s
"""
FILL_LOG = """
INSERT INTO notifications (route, alert_id, sequence, alert, outcome, queued_at, decided_at)
SELECT 'many', alert_id, sequence, alert, 'sent', to_timestamp((alert ->> 'window_end')::bigint / 1000.0),
    to_timestamp((alert ->> 'window_end')::bigint / 1000.0)
FROM alerts WHERE alert ->> 'funnel' = 'many'
"""


@pytest.fixture(scope="module")
def many(plain: Database) -> Iterator[Database]:
    """36,000 messages of 12,000 alerts, of which ten fire; all were sent on one route."""
    with plain.transaction() as cursor:
        cursor.execute("TRUNCATE alerts, alert_summaries, notifications, notified_alerts")  # what other tests left
        cursor.execute(cast("Any", FILL), {"alert": json.dumps(alert()), "now": LATER, "alerts": ALERTS})
        cursor.execute(cast("Any", FILL_LOG))
    with plain.outside_transaction() as cursor:
        for table in ("alerts", "alert_summaries", "notifications", "notified_alerts"):
            cursor.execute(cast("Any", f"VACUUM ANALYZE {table}"))
    yield plain
    with plain.transaction() as cursor:
        cursor.execute("TRUNCATE alerts, alert_summaries, notifications, notified_alerts")


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read a table, or sort."""
    if "Relation Name" in node or node["Node Type"] == "Sort":
        yield node
    for child in node.get("Plans", []):
        yield from scans(child)


def rows_read(node: dict[str, Any]) -> int:
    """How many rows a node has read in all."""
    removed = sum(node.get(name, 0) for name in ("Rows Removed by Filter", "Rows Removed by Index Recheck"))
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


ANY = {**dict.fromkeys(("funnel", "step", "rule", "severity", "state")), "dimensions": Jsonb({})}


@pytest.mark.parametrize(
    ("query", "parameters", "found"),
    [
        ("muted_alerts", {"funnel": "many"}, 5),
        ("muted_alerts", {"funnel": "none"}, 0),
        ("board_alerts", {"funnel": "many", "from_ms": LATER - DAY_MS, "limit": 50}, 50),
        ("board_alerts", {"funnel": "none", "from_ms": LATER - DAY_MS, "limit": 50}, 0),
        ("board_messages", {}, 1),
        ("outbox", {"funnel": "many"}, 0),
        ("last_message", {"alert_id": "many-77"}, 1),
        ("recent_alerts", {"limit": 20, "state": None, "current": False}, 20),
        ("recent_alerts", {"limit": 20, "state": "resolved", "current": True}, 20),
        (
            "asked_alerts",
            {
                **ANY,
                "dimensions": Jsonb({}),
                "funnel": "many",
                "limit": 20,
                "current": True,
                "since_ms": None,
                "until_ms": None,
            },
            20,
        ),
        ("notified_firing", {"route": "many"}, 10),
        ("supersede", {"route": "many"}, 0),
        ("next_notification", {"route": "many"}, 0),
        ("waiting_notifications", {}, 0),
        ("recent_notifications", {"limit": 20, "route": None}, 20),
        ("recent_notifications", {"limit": 20, "route": "many"}, 20),
    ],
)
def test_what_is_asked_all_the_time_reads_few_rows(
    many: Database, query: str, parameters: dict[str, Any], found: int
) -> None:
    """By an index, and no more than the answer needs; nothing large is sorted."""
    with many.transaction() as cursor:
        cursor.execute("DELETE FROM notifications WHERE outcome IS NULL")  # what other tests of this file left
        cursor.execute(cast("Any", f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING off) {QUERIES[query]}"), parameters)
        row = cursor.fetchone()
        assert row is not None
        [explained] = row["QUERY PLAN"]
        top = explained["Plan"]
        for node in scans(top):
            assert node["Node Type"] != "Seq Scan", explained
            assert rows_read(node) <= FEW, explained
            assert "external" not in node.get("Sort Method", ""), explained
        assert top["Actual Rows"] == found


def test_summaries_say_what_the_messages_say(many: Database) -> None:
    """Of every alert the last message, and when it fired and ended; likewise what routes were told."""
    with many.transaction() as cursor:
        cursor.execute(
            "SELECT count(*)::int AS wrong "
            "FROM alert_summaries AS s FULL JOIN alert_history AS h ON h.alert_id = s.alert_id WHERE "
            "(s.funnel, s.fired_at, s.ended_at, s.last_sequence, s.silenced) IS DISTINCT FROM "
            "(h.funnel, h.fired_at, coalesce(h.resolved_at, 'infinity'), h.messages::int - 1, h.silenced_by <> '') "
            "AND coalesce(s.funnel, h.funnel) = 'many'"
        )
        assert cursor.fetchall() == [{"wrong": 0}]
        cursor.execute(
            "SELECT count(*)::int AS told, count(*) FILTER (WHERE firing)::int AS firing, min(sequence) AS sequence "
            "FROM notified_alerts WHERE route = 'many'"
        )
        assert cursor.fetchall() == [{"told": ALERTS, "firing": 10, "sequence": 2}]


def said(alert_id: str, sequence: int, days_ago: float, state: str = "firing", **changes: Any) -> dict[str, Any]:
    """A message whose window ended some days ago."""
    end = NOW - int(days_ago * DAY_MS)
    times = {"started_at": end - 60_000, "window_start": end - 60_000, "window_end": end}
    return alert(state, **{"alert_id": alert_id, "sequence": sequence, **times, **changes})


def queue(database: Database, *messages: dict[str, Any], days_ago: float, outcome: str | None = "sent") -> None:
    """Queue messages on one route, and note what came of them."""
    for one in messages:
        NotificationQueue(database).queue(one, [Queued("hook")])
        with database.transaction() as cursor:
            cursor.execute(
                "UPDATE notifications SET outcome = %s, queued_at = d.at, decided_at = d.at "
                "FROM (SELECT to_timestamp(%s / 1000.0) AS at) AS d WHERE alert_id = %s AND sequence = %s",
                [outcome, NOW - int(days_ago * DAY_MS), one["alert_id"], one["sequence"]],
            )


def left(database: Database, table: str, prefix: str) -> list[tuple[str, int]]:
    """Alerts and sequences that are left in a table."""
    with database.transaction() as cursor:
        statement = f"SELECT alert_id, sequence FROM {table} WHERE alert_id LIKE %s ORDER BY 1, 2"
        cursor.execute(cast("Any", statement), [f"{prefix}%"])
        return [(row["alert_id"].removeprefix(prefix), row["sequence"]) for row in cursor.fetchall()]


def test_what_ended_long_ago_is_deleted_and_what_fires_is_kept(either: Database, funnel: str) -> None:
    """Whole alerts go, with what was sent of them; one that fires, or is still to be published or sent, stays."""
    store = AlertStore(either)
    over = [said(f"{funnel}over", 0, 42, funnel=funnel), said(f"{funnel}over", 1, 41, "resolved", funnel=funnel)]
    late = [said(f"{funnel}late", 0, 60, funnel=funnel), said(f"{funnel}late", 1, 39, "resolved", funnel=funnel)]
    fires = [said(f"{funnel}fires", 0, 99, funnel=funnel)]
    unsaid = [said(f"{funnel}unsaid", 0, 99, "resolved", funnel=funnel)]
    store.save(funnel, NOW, {"a state": '{"n": 1}'}, [*over, *late, *fires, *unsaid])
    store.published([*over, *late, *fires])
    queue(either, *over, days_ago=41)
    queue(either, late[0], days_ago=60)
    queue(either, *fires, days_ago=99)
    queue(either, said(f"{funnel}waits", 0, 99), days_ago=99, outcome=None)
    forget_alerts(either, NOW, 0, 7)
    assert len(left(either, "alerts", funnel)) == 6
    forget_alerts(either, NOW, 40, 7)
    assert left(either, "alerts", funnel) == [("fires", 0), ("late", 0), ("late", 1), ("unsaid", 0)]
    assert left(either, "notifications", funnel) == [("fires", 0), ("late", 0), ("waits", 0)]
    assert left(either, "notified_alerts", funnel) == [("fires", 0), ("late", 0)]
    assert store.states(funnel) == ['{"n": 1}']
    forget_alerts(either, NOW, 40, 7)
    assert left(either, "alerts", funnel) == [("fires", 0), ("late", 0), ("late", 1), ("unsaid", 0)]


def test_more_than_one_transaction_deletes_is_deleted_all_the_same(either: Database, funnel: str) -> None:
    """Transactions are bounded, the work is not."""
    many = [said(f"{funnel}{n}", 0, 100, "resolved", funnel=funnel) for n in range(1_100)]
    store = AlertStore(either)
    store.save(funnel, NOW, {}, many)
    with either.transaction() as cursor:
        cursor.execute("UPDATE alerts SET published_at = now() WHERE alert_id LIKE %s", [f"{funnel}%"])
    assert forget_alerts(either, NOW, 40, 7) >= 1_100
    assert left(either, "alerts", funnel) == []
    with either.transaction() as cursor:
        cursor.execute("SELECT count(*)::int AS number FROM alert_summaries WHERE funnel = %s", [funnel])
        assert cursor.fetchall() == [{"number": 0}]


def test_what_a_replay_must_know_is_kept_as_long_as_an_event_may_come(either: Database, funnel: str) -> None:
    """Places of replays and revisions of late windows outlive the alerts where events may be older."""
    with either.transaction() as cursor:
        for days in (30, 60):
            at = (NOW - days * DAY_MS) / 1000
            cursor.execute("INSERT INTO replayed_letters VALUES (%s, 0, %s, to_timestamp(%s), to_timestamp(%s))",
                           [funnel, days, at, at])  # fmt: skip
            cursor.execute(
                "INSERT INTO late_windows (funnel, window_start, revision, changed_at, published) "
                "VALUES (%s, to_timestamp(%s), 3, to_timestamp(%s), true)",
                [funnel, at, at],
            )

    def kept() -> tuple[int, int]:
        with either.transaction() as cursor:
            cursor.execute(
                "SELECT (SELECT count(*) FROM replayed_letters WHERE topic = %s)::int AS replays, "
                "(SELECT count(*) FROM late_windows WHERE funnel = %s)::int AS windows",
                [funnel, funnel],
            )
            [row] = cursor.fetchall()
            return row["replays"], row["windows"]

    forget_alerts(either, NOW, 20, 90)
    assert kept() == (2, 2)
    forget_alerts(either, NOW, 20, 40)
    assert kept() == (1, 1)


def test_a_silence_that_ended_long_ago_is_deleted(either: Database, funnel: str) -> None:
    """The others stay, those that have not begun too."""
    store = SilenceStore(either)
    names = ("rule", "step")
    for begin, end in ((-90, -80), (-90, -10), (-1, 1), (10, 20)):
        values = dict.fromkeys(names) | {"funnel": funnel, "dimensions": Jsonb({}), "comment": "", "created_by": ""}
        times = {"starts_at": NOW + begin * DAY_MS, "ends_at": NOW + end * DAY_MS}
        with either.transaction() as cursor:
            run(cursor, "add_silence", {**values, **times})
    forget_alerts(either, NOW, 40, 7)
    assert sum(one.funnel == funnel for one in store.after(0)) == 3
