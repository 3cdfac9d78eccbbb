-- name: lock_progress
-- Lock the rows of some partitions, in one order for all workers.
SELECT partition, topic_id, next_offset
FROM stream_progress
WHERE topic = %(topic)s AND partition = ANY(%(partitions)s)
ORDER BY partition
FOR UPDATE;

-- name: move_progress
-- Move one partition on; the watermark never goes back, and a partition that moves it is not idle.
UPDATE stream_progress
SET
    next_offset = %(next_offset)s,
    log_time = greatest(log_time, to_timestamp(%(log_time_ms)s / 1000.0)),
    watermark = greatest(watermark, to_timestamp(%(watermark_ms)s / 1000.0)),
    idle = idle AND coalesce(
        to_timestamp(%(watermark_ms)s / 1000.0) <= watermark,
        %(watermark_ms)s::bigint IS NULL
    ),
    accepted = accepted + %(accepted)s,
    rejected = rejected + %(rejected)s,
    duplicates = duplicates + %(duplicates)s,
    updated_at = clock_timestamp()
WHERE topic = %(topic)s AND partition = %(partition)s;

-- name: start_progress
-- Make the row of a partition that has none; that one is idle which somebody else had is not known any more.
INSERT INTO stream_progress (topic, topic_id, partition, next_offset)
VALUES (%(topic)s, %(topic_id)s, %(partition)s, %(next_offset)s)
ON CONFLICT (topic, partition) DO UPDATE SET idle = false;

-- name: read_progress
-- How far some partitions are counted.
SELECT partition, topic_id, next_offset, (extract(epoch FROM log_time) * 1000)::bigint AS log_time_ms
FROM stream_progress
WHERE topic = %(topic)s AND partition = ANY(%(partitions)s);

-- name: note_rejected
-- Remember which records of a flush were rejected.
INSERT INTO rejected_offsets (topic, partition, log_time, offsets)
VALUES (%(topic)s, %(partition)s, to_timestamp(%(log_time_ms)s / 1000.0), %(offsets)s);

-- name: forget_rejected
-- What is older than the duplicate horizon is not read again.
DELETE FROM rejected_offsets
WHERE
    topic = %(topic)s
    AND partition = %(partition)s
    AND log_time < to_timestamp(%(log_time_ms)s / 1000.0) - %(horizon_s)s * interval '1 second';

-- name: read_rejected
-- The rejected records of a partition, from an offset on.
SELECT o.value AS rejected_offset
FROM rejected_offsets AS r CROSS JOIN LATERAL unnest(r.offsets) AS o (value)
WHERE r.topic = %(topic)s AND r.partition = %(partition)s AND o.value >= %(from_offset)s;

-- name: mark_idle
-- A partition has nothing unread: it does not hold the watermark back, until this has not been said for a while.
UPDATE stream_progress
SET idle = true, updated_at = clock_timestamp()
WHERE topic = %(topic)s AND partition = ANY(%(partitions)s);

-- name: start_funnels
-- Make the rows of funnels that are seen for the first time.
INSERT INTO funnel_progress (funnel)
SELECT funnel FROM unnest(%(funnels)s::text[]) AS f (funnel)
ORDER BY funnel
ON CONFLICT DO NOTHING;

-- name: hold_closer_off
-- No funnel begins to close until this transaction ends. A queue, unlike FOR SHARE, in which the closer could wait for ever.
-- And as counting_ourselves.
SELECT
    pg_advisory_xact_lock_shared(hashtextextended('funnelwatch closing', to_regclass('deployment')::oid::bigint)),
    set_config('funnelwatch.counting', 'on', true);

-- name: closing_funnels
-- What is late for these funnels, and before when rollups are materialized: whatever changes there is to be noted.
SELECT
    funnel,
    (extract(epoch FROM closing_through) * 1000)::bigint AS closing_through_ms,
    (
        SELECT (extract(epoch FROM nullif(max(materializing_through), '-infinity')) * 1000)::bigint
        FROM rollup_progress
    ) AS materializing_through_ms
FROM funnel_progress
WHERE funnel = ANY(%(funnels)s);

-- name: upsert_counts
-- Add a batch of tallies and return the totals; sorted by key, so that workers cannot deadlock.
INSERT INTO window_counts AS c (
    window_start, funnel, step, os, browser, app_version,
    impressions, successes, failures, cohort_successes, cohort_failures
)
SELECT
    to_timestamp(d.window_ms / 1000.0), d.funnel, d.step, d.os, d.browser, d.app_version,
    d.impressions, d.successes, d.failures, d.cohort_successes, d.cohort_failures
FROM unnest(
    %(window_ms)s::bigint[], %(funnel)s::text[], %(step)s::text[], %(os)s::text[],
    %(browser)s::text[], %(app_version)s::text[],
    %(impressions)s::bigint[], %(successes)s::bigint[], %(failures)s::bigint[],
    %(cohort_successes)s::bigint[], %(cohort_failures)s::bigint[]
) AS d (
    window_ms, funnel, step, os, browser, app_version,
    impressions, successes, failures, cohort_successes, cohort_failures
)
ORDER BY d.funnel, d.window_ms, d.step, d.os, d.browser, d.app_version
ON CONFLICT (funnel, window_start, step, os, browser, app_version) DO UPDATE SET
    impressions = c.impressions + excluded.impressions,
    successes = c.successes + excluded.successes,
    failures = c.failures + excluded.failures,
    cohort_successes = c.cohort_successes + excluded.cohort_successes,
    cohort_failures = c.cohort_failures + excluded.cohort_failures
RETURNING
    (extract(epoch FROM c.window_start) * 1000)::bigint AS window_ms,
    c.funnel, c.step, c.os, c.browser, c.app_version,
    c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures;

-- name: mark_late
-- Note that late events have changed closed windows, which are to be published again.
INSERT INTO late_windows AS l (funnel, window_start, events)
SELECT d.funnel, to_timestamp(d.window_ms / 1000.0), d.events
FROM unnest(%(funnel)s::text[], %(window_ms)s::bigint[], %(events)s::bigint[]) AS d (funnel, window_ms, events)
ORDER BY d.funnel, d.window_ms
ON CONFLICT (funnel, window_start) DO UPDATE SET
    events = l.events + excluded.events,
    changed_at = clock_timestamp(),
    published = false;

-- name: read_counts
-- Tallies of windows in [from, to), oldest first; of one funnel, or of all.
SELECT
    (extract(epoch FROM window_start) * 1000)::bigint AS window_ms,
    funnel, step, os, browser, app_version,
    impressions, successes, failures, cohort_successes, cohort_failures
FROM window_counts
WHERE
    (%(funnel)s::text IS NULL OR funnel = %(funnel)s)
    AND window_start >= to_timestamp(%(from_ms)s / 1000.0)
    AND window_start < to_timestamp(%(to_ms)s / 1000.0)
ORDER BY funnel, window_start, step, os, browser, app_version;

-- name: packed_counts
-- Counts of each series of a funnel in [from, to), packed: bytes with 8 of them to a number, the most significant first.
-- Window starts are microseconds since 2000-01-01; element i of each pack is of the same window, in no order.
SELECT
    step, os, browser, app_version,
    string_agg(timestamptz_send(window_start), ''::bytea) AS window_start,
    string_agg(int8send(impressions), ''::bytea) AS impressions,
    string_agg(int8send(successes), ''::bytea) AS successes,
    string_agg(int8send(cohort_successes), ''::bytea) AS cohort_successes
FROM window_counts
WHERE
    funnel = %(funnel)s
    AND window_start >= to_timestamp(%(from_ms)s / 1000.0)
    AND window_start < to_timestamp(%(to_ms)s / 1000.0)
GROUP BY step, os, browser, app_version;

-- name: dealt_with
-- What has become of the records of a topic, by the progress of its partitions.
SELECT
    coalesce(sum(accepted), 0)::bigint AS accepted,
    coalesce(sum(rejected), 0)::bigint AS rejected,
    coalesce(sum(duplicates), 0)::bigint AS duplicates
FROM stream_progress
WHERE topic = %(topic)s;

-- name: counted
-- The events in all windows, each counted once; reads the whole table.
SELECT coalesce(sum(impressions + successes + failures), 0)::bigint AS counted FROM window_counts;

-- name: counted_spans
-- From the first window of a funnel to the end of what is complete; of one funnel, or of all.
SELECT
    p.funnel,
    (extract(epoch FROM min(c.window_start)) * 1000)::bigint AS first_ms,
    (extract(epoch FROM p.closed_through) * 1000)::bigint AS closed_through_ms
FROM funnel_progress AS p INNER JOIN window_counts AS c ON c.funnel = p.funnel
WHERE p.closed_through IS NOT NULL AND (%(funnel)s::text IS NULL OR p.funnel = %(funnel)s)
GROUP BY p.funnel, p.closed_through
ORDER BY p.funnel;
