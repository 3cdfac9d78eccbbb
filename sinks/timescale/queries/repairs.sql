-- name: one_snapshot
-- All that this transaction reads is as of one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: counted_elsewhere
-- Until when counts may have come from elsewhere than the log as it is: another topic, or before the progress was set by hand.
SELECT (extract(epoch FROM max(until)) * 1000)::bigint AS until_ms
FROM (
    SELECT updated_at AS until FROM stream_progress WHERE topic <> %(topic)s AND accepted > 0 AND holds = 'events'
    UNION ALL
    SELECT reset_at FROM progress_resets WHERE topic = %(topic)s
) AS elsewhere (until);

-- name: last_repair
-- The number of the newest repair; 0 where there was none.
SELECT coalesce(max(repair), 0)::bigint AS repair FROM window_repairs;

-- name: one_repair_at_a_time
-- Wait for another repair that is being written.
LOCK TABLE window_repairs IN EXCLUSIVE MODE;

-- name: note_repair
-- Remember a repair.
INSERT INTO window_repairs (topic, range_start, range_end, changed_series)
VALUES (
    %(topic)s,
    to_timestamp(%(from_ms)s / 1000.0),
    to_timestamp(%(to_ms)s / 1000.0),
    %(changed_series)s
);

-- name: remove_empty
-- Remove those of some rows that count nothing any more.
DELETE FROM window_counts AS c
USING unnest(
    %(window_ms)s::bigint[], %(funnel)s::text[], %(step)s::text[], %(os)s::text[],
    %(browser)s::text[], %(app_version)s::text[]
) AS d (window_ms, funnel, step, os, browser, app_version)
WHERE
    c.funnel = d.funnel
    AND c.window_start = to_timestamp(d.window_ms / 1000.0)
    AND c.step = d.step
    AND c.os = d.os
    AND c.browser = d.browser
    AND c.app_version = d.app_version
    AND c.impressions = 0
    AND c.successes = 0
    AND c.failures = 0
    AND c.cohort_successes = 0
    AND c.cohort_failures = 0;

-- name: every_progress
-- How far each partition of a topic is counted, and the largest Kafka timestamp of what is.
SELECT partition, next_offset, (extract(epoch FROM log_time) * 1000)::bigint AS log_time_ms
FROM stream_progress
WHERE topic = %(topic)s
ORDER BY partition;
