-- name: set_retention
-- How long a level is to be kept, 0 days: for ever; a row if that is new.
UPDATE retention
SET keep = make_interval(days => nullif(%(days)s::integer, 0))
WHERE level = %(level)s AND keep IS DISTINCT FROM make_interval(days => nullif(%(days)s::integer, 0))
RETURNING level;

-- name: kept
-- How long each level is kept, days; null: for ever.
SELECT level, extract(day FROM keep)::integer AS days FROM retention;

-- name: drop_nothing
-- Let the extension drop nothing of a relation any more.
SELECT remove_retention_policy(%(relation)s::regclass, if_exists => true);

-- name: drop_after
-- Drop the chunks of a relation that are older than this, once a day.
SELECT add_retention_policy(%(relation)s::regclass, drop_after => make_interval(days => %(days)s::integer));

-- name: unschedule_refresh
-- A rollup's refresh, to be scheduled anew.
SELECT remove_continuous_aggregate_policy(%(relation)s::regclass, if_exists => true);

-- name: schedule_refresh
-- Refresh a rollup from where the level that it is made of is still whole; null: from its beginning.
SELECT add_continuous_aggregate_policy(
    %(relation)s::regclass,
    start_offset => make_interval(days => %(from_days)s::integer),
    end_offset => %(end_offset)s::interval,
    schedule_interval => %(every)s::interval
);

-- name: refresh_range
-- The range of a rollup that a refresh may touch; a null start: its beginning.
SELECT
    now() - make_interval(days => %(from_days)s::integer) AS range_start,
    now() - %(end_offset)s::interval AS range_end;

-- name: refresh
-- Materialize what has changed in a range of a rollup.
CALL refresh_continuous_aggregate(%(relation)s::regclass, %(range_start)s::timestamptz, %(range_end)s::timestamptz);

-- name: database_clock
-- The time of the database, ms.
SELECT (extract(epoch FROM now()) * 1000)::bigint AS now_ms;

-- name: lock_archive
-- One worker moves counts into archives at a time; the others do not wait for it.
SELECT pg_try_advisory_xact_lock(hashtextextended('funnelwatch archive', to_regclass('deployment')::oid::bigint)) AS locked;

-- name: oldest_day
-- The first day that has windows, by funnel, so that an index finds it.
SELECT date_trunc('day', min(oldest.window_start), 'UTC') AS day
FROM funnel_progress AS p
CROSS JOIN LATERAL (
    SELECT min(window_start) AS window_start FROM window_counts AS c WHERE c.funnel = p.funnel
) AS oldest;

-- name: archive_windows
-- Move windows that start before a time into the archive of 5 minutes; it must be a multiple of those.
WITH gone AS (
    DELETE FROM window_counts WHERE window_start < %(before)s RETURNING *
)
INSERT INTO archived_5m AS a
SELECT
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    funnel, step, os, browser, app_version,
    sum(impressions), sum(successes), sum(failures), sum(cohort_successes), sum(cohort_failures)
FROM gone
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (funnel, window_start, step, os, browser, app_version) DO UPDATE SET
    impressions = a.impressions + excluded.impressions,
    successes = a.successes + excluded.successes,
    failures = a.failures + excluded.failures,
    cohort_successes = a.cohort_successes + excluded.cohort_successes,
    cohort_failures = a.cohort_failures + excluded.cohort_failures;

-- name: archive_5m
-- Move what is archived by 5 minutes and starts before a time into the archive of hours.
WITH gone AS (
    DELETE FROM archived_5m WHERE window_start < %(before)s RETURNING *
), noted AS (
    INSERT INTO rollup_invalidations (level, window_start) SELECT DISTINCT '5m', window_start FROM gone
)
INSERT INTO archived_1h AS a
SELECT
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    funnel, step, os, browser, app_version,
    sum(impressions), sum(successes), sum(failures), sum(cohort_successes), sum(cohort_failures)
FROM gone
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (funnel, window_start, step, os, browser, app_version) DO UPDATE SET
    impressions = a.impressions + excluded.impressions,
    successes = a.successes + excluded.successes,
    failures = a.failures + excluded.failures,
    cohort_successes = a.cohort_successes + excluded.cohort_successes,
    cohort_failures = a.cohort_failures + excluded.cohort_failures;

-- name: archive_1h
-- Move what is archived by hours and starts before a time into the archive of days.
WITH gone AS (
    DELETE FROM archived_1h WHERE window_start < %(before)s RETURNING *
), noted AS (
    INSERT INTO rollup_invalidations (level, window_start) SELECT DISTINCT '1h', window_start FROM gone
)
INSERT INTO archived_1d AS a
SELECT
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    funnel, step, os, browser, app_version,
    sum(impressions), sum(successes), sum(failures), sum(cohort_successes), sum(cohort_failures)
FROM gone
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (funnel, window_start, step, os, browser, app_version) DO UPDATE SET
    impressions = a.impressions + excluded.impressions,
    successes = a.successes + excluded.successes,
    failures = a.failures + excluded.failures,
    cohort_successes = a.cohort_successes + excluded.cohort_successes,
    cohort_failures = a.cohort_failures + excluded.cohort_failures;

-- name: forget_1d
-- Delete what is archived by days and starts before a time.
WITH gone AS (
    DELETE FROM archived_1d WHERE window_start < %(before)s RETURNING window_start
)
INSERT INTO rollup_invalidations (level, window_start) SELECT DISTINCT '1d', window_start FROM gone;
