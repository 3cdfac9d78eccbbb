-- name: set_retention
-- How long a level is to be kept, 0 days: for ever; a row if that is new. What the old value has let the extension's jobs drop is
-- noted by a trigger (migration 037).
UPDATE retention
SET
    keep = make_interval(days => nullif(%(days)s::integer, 0)),
    set_at = now()
WHERE level = %(level)s AND keep IS DISTINCT FROM make_interval(days => nullif(%(days)s::integer, 0))
RETURNING level;

-- name: kept
-- How long each level is kept, days; null: for ever. And before when counts are gone, whatever is kept now.
SELECT
    level,
    extract(day FROM keep)::integer AS days,
    (extract(epoch FROM dropped_before) * 1000)::bigint AS dropped_ms
FROM retention;

-- name: note_dropped
-- Counts of a level that start before a time are gone; what was noted earlier stands.
UPDATE retention
SET dropped_before = %(before)s
WHERE level = %(level)s AND (dropped_before >= %(before)s) IS NOT TRUE;

-- name: drop_nothing
-- Let the extension drop nothing of a relation any more.
SELECT remove_retention_policy(%(relation)s::regclass, if_exists => true);

-- name: drop_after
-- Drop the chunks of a relation that are older than this, once a day; first in an hour, when no refresh is under way that began
-- while they were to be kept.
SELECT add_retention_policy(
    %(relation)s::regclass,
    drop_after => make_interval(days => %(days)s::integer),
    initial_start => now() + INTERVAL '1 hour'
);

-- name: refresh_jobs
-- The job that refreshes each rollup, and how many days back it begins; null: at the beginning.
SELECT
    c.view_name AS relation,
    j.job_id,
    extract(day FROM (j.config ->> 'start_offset')::interval)::integer AS from_days
FROM timescaledb_information.continuous_aggregates AS c
INNER JOIN timescaledb_information.jobs AS j ON (j.hypertable_schema, j.hypertable_name) IN (
    (c.view_schema, c.view_name), (c.materialization_hypertable_schema, c.materialization_hypertable_name)
)
WHERE j.proc_name = 'policy_refresh_continuous_aggregate' AND c.view_schema = current_schema();

-- name: unschedule_refresh
-- A rollup's refresh, to be scheduled anew; one that is under way is ended.
SELECT remove_continuous_aggregate_policy(%(relation)s::regclass, if_exists => true);

-- name: schedule_refresh
-- Refresh a rollup from where the level that it is made of is still whole; null: from its beginning.
SELECT add_continuous_aggregate_policy(
    %(relation)s::regclass,
    start_offset => make_interval(days => %(from_days)s::integer),
    end_offset => %(end_offset)s::interval,
    schedule_interval => %(every)s::interval
);

-- name: move_refresh
-- Let the refresh of a rollup begin so many days back from now on.
SELECT alter_job(
    job_id,
    config => config || jsonb_build_object('start_offset', make_interval(days => %(from_days)s::integer))
)
FROM timescaledb_information.jobs
WHERE job_id = %(job_id)s;

-- name: refresh_runs
-- A row while a job is refreshing a rollup.
SELECT s.job_id
FROM timescaledb_information.job_stats AS s
INNER JOIN timescaledb_information.jobs AS j ON j.job_id = s.job_id
INNER JOIN timescaledb_information.continuous_aggregates AS c ON (j.hypertable_schema, j.hypertable_name) IN (
    (c.view_schema, c.view_name), (c.materialization_hypertable_schema, c.materialization_hypertable_name)
)
WHERE
    s.job_status = 'Running'
    AND j.proc_name = 'policy_refresh_continuous_aggregate'
    AND c.view_schema = current_schema()
    AND c.view_name = %(relation)s::text;

-- name: refresh_days
-- By level, how many whole days back nothing of it is dropped: what is made of it is refreshed from there; null: from the beginning.
SELECT
    level,
    least(
        floor(extract(epoch FROM now() - dropped_before) / 86400)::integer,
        extract(day FROM keep)::integer - 1
    ) AS from_days
FROM retention;

-- name: refresh_range
-- The range of a rollup that a refresh may touch, ms: from where the level that it is made of is whole; null: from its beginning.
SELECT
    (extract(epoch FROM greatest(dropped_before, now() - keep + INTERVAL '1 day')) * 1000)::bigint AS start_ms,
    (extract(epoch FROM now() - %(end_offset)s::interval) * 1000)::bigint AS end_ms
FROM retention
WHERE level = %(source)s;

-- name: first_chunk
-- Where the first chunk of a hypertable or rollup begins, ms; null: there is none.
SELECT (extract(epoch FROM min(k.range_start)) * 1000)::bigint AS first_ms
FROM timescaledb_information.chunks AS k
LEFT JOIN timescaledb_information.continuous_aggregates AS c ON
    (c.materialization_hypertable_schema, c.materialization_hypertable_name) = (k.hypertable_schema, k.hypertable_name)
WHERE
    coalesce(c.view_name, k.hypertable_name) = %(relation)s::text
    AND coalesce(c.view_schema, k.hypertable_schema) = current_schema();

-- name: refresh
-- Materialize what has changed in a range of a rollup, in its whole buckets; a null start: from its beginning.
CALL refresh_continuous_aggregate(
    %(relation)s::regclass, to_timestamp(%(start_ms)s / 1000.0), to_timestamp(%(end_ms)s / 1000.0)
);

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
