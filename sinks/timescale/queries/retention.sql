-- name: set_retention
-- How long a level is to be kept, 0 days: for ever; a row if that is new.
UPDATE retention
SET
    keep = make_interval(days => nullif(%(days)s::integer, 0)),
    set_at = now()
WHERE level = %(level)s AND keep IS DISTINCT FROM make_interval(days => nullif(%(days)s::integer, 0))
RETURNING level;

-- name: kept
-- How long each level is kept, days; null: for ever. Since when, and before when counts are gone, whatever is kept now.
SELECT
    level,
    extract(day FROM keep)::integer AS days,
    (extract(epoch FROM set_at) * 1000)::bigint AS set_ms,
    (extract(epoch FROM dropped_before) * 1000)::bigint AS dropped_ms
FROM retention;

-- name: note_dropped
-- Counts of a level that start before a time are gone; what was noted earlier stands.
UPDATE retention
SET dropped_before = %(before)s
WHERE level = %(level)s AND (dropped_before >= %(before)s) IS NOT TRUE;

-- name: lock_dropping
-- One worker drops counts at a time; the others do not wait for it.
SELECT pg_try_advisory_xact_lock(hashtextextended('funnelwatch dropping', to_regclass('deployment')::oid::bigint)) AS locked;

-- name: rolled_up_through
-- Up to where the rollup that is made of a level stands in its table without a change that is not in it; no row: there is none.
SELECT (extract(epoch FROM nullif(least(
    p.materialized_through,
    (SELECT min(i.window_start) FROM rollup_invalidations AS i WHERE i.level = p.level)
), '-infinity')) * 1000)::bigint AS through_ms
FROM rollup_progress AS p
WHERE p.source = %(level)s
FOR UPDATE OF p;

-- name: days_of_chunks
-- With TimescaleDB: how many days the chunks of some tables span that end before a time; a day of several tables is one.
SELECT count(DISTINCT day) AS days
FROM timescaledb_information.chunks AS c
CROSS JOIN LATERAL generate_series(c.range_start, c.range_end - INTERVAL '1 day', INTERVAL '1 day') AS day
WHERE
    c.hypertable_schema = current_schema()
    AND c.hypertable_name = ANY(%(relations)s)
    AND c.range_end <= %(before)s::timestamptz;

-- name: drop_chunks
-- With TimescaleDB: drop the chunks of a table that end before a time.
SELECT drop_chunks(%(relation)s::regclass, older_than => %(before)s::timestamptz);

-- name: drop_windows
-- Delete windows that start before a time.
DELETE FROM window_counts WHERE window_start < %(before)s;

-- name: drop_5m
-- Delete counts by 5 minutes that start before a time.
DELETE FROM rollup_5m WHERE window_start < %(before)s;

-- name: drop_1h
-- Delete counts by hours that start before a time.
DELETE FROM rollup_1h WHERE window_start < %(before)s;

-- name: drop_1d
-- Delete counts by days that start before a time.
DELETE FROM rollup_1d WHERE window_start < %(before)s;

-- name: drop_metrics
-- Delete counters and timers that start before a time.
DELETE FROM metric_counts WHERE window_start < %(before)s;

-- name: oldest_counts
-- When the oldest counts of each level before a time begin, days of UTC; null: there are none.
SELECT
    date_trunc('day', (SELECT min(window_start) FROM window_counts WHERE window_start < %(before)s), 'UTC') AS windows,
    date_trunc('day', (SELECT min(window_start) FROM metric_counts WHERE window_start < %(before)s), 'UTC') AS metrics,
    date_trunc('day', (SELECT min(window_start) FROM rollup_5m WHERE window_start < %(before)s), 'UTC') AS "5m",
    date_trunc('day', (SELECT min(window_start) FROM rollup_1h WHERE window_start < %(before)s), 'UTC') AS "1h",
    date_trunc('day', (SELECT min(window_start) FROM rollup_1d WHERE window_start < %(before)s), 'UTC') AS "1d";
