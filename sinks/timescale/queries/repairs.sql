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

-- name: negative_counts
-- How many of some rows have a number below zero.
SELECT count(*) AS rows
FROM window_counts AS c
INNER JOIN unnest(%(window_ms)s::bigint[], %(series_id)s::integer[]) AS d (window_ms, series_id) ON
    c.window_start = to_timestamp(d.window_ms / 1000.0) AND c.series_id = d.series_id
WHERE least(
    c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures,
    c.sessions, c.session_successes, c.reached, c.completed,
    c.d0, c.d1, c.d2, c.d3, c.d4, c.d5, c.d6, c.d7, c.d8, c.d9, c.d10, c.d11, c.d12, c.d13, c.d14, c.d15, c.d16, c.d17, c.d18,
    c.d19, c.d20, c.d21, c.d22, c.d23, c.d24, c.d25, c.d26, c.d27, c.d28, c.d29, c.d30, c.d31, c.d32, c.d33, c.d34, c.d35,
    c.d36, c.d37, c.d38, c.d39, c.d40, c.d41, c.d42, c.d43, c.d44, c.d45, c.d46, c.d47, c.d48, c.d49, c.d50, c.d51, c.d52,
    c.d53, c.d54, c.d55, c.d56, c.d57, c.d58, c.d59, c.d60, c.d61, c.d62, c.d63, c.d64, c.d65, c.d66, c.d67, c.d68, c.d69,
    c.d70, c.d71, c.d72, c.d73, c.d74, c.d75, c.d76, c.d77, c.d78, c.d79, c.d80, c.d81, c.d82, c.d83, c.d84, c.d85, c.d86,
    c.d87, c.d88, c.d89, c.d90, c.d91, c.d92, c.d93, c.d94, c.d95, c.d96, c.d97, c.d98, c.d99, c.d100, c.d101, c.d102, c.d103,
    c.d104, c.d105, c.d106, c.d107, c.d108, c.d109, c.d110, c.d111, c.d112, c.d113, c.d114, c.d115, c.d116, c.d117, c.d118,
    c.d119
) < 0;

-- name: remove_empty
-- Remove those of some rows that count nothing any more.
DELETE FROM window_counts AS c
USING unnest(%(window_ms)s::bigint[], %(series_id)s::integer[]) AS d (window_ms, series_id)
WHERE
    c.window_start = to_timestamp(d.window_ms / 1000.0)
    AND c.series_id = d.series_id
    AND greatest(
        c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures,
        c.sessions, c.session_successes, c.reached, c.completed,
        c.d0, c.d1, c.d2, c.d3, c.d4, c.d5, c.d6, c.d7, c.d8, c.d9, c.d10, c.d11, c.d12, c.d13, c.d14, c.d15, c.d16, c.d17,
        c.d18, c.d19, c.d20, c.d21, c.d22, c.d23, c.d24, c.d25, c.d26, c.d27, c.d28, c.d29, c.d30, c.d31, c.d32, c.d33, c.d34,
        c.d35, c.d36, c.d37, c.d38, c.d39, c.d40, c.d41, c.d42, c.d43, c.d44, c.d45, c.d46, c.d47, c.d48, c.d49, c.d50, c.d51,
        c.d52, c.d53, c.d54, c.d55, c.d56, c.d57, c.d58, c.d59, c.d60, c.d61, c.d62, c.d63, c.d64, c.d65, c.d66, c.d67, c.d68,
        c.d69, c.d70, c.d71, c.d72, c.d73, c.d74, c.d75, c.d76, c.d77, c.d78, c.d79, c.d80, c.d81, c.d82, c.d83, c.d84, c.d85,
        c.d86, c.d87, c.d88, c.d89, c.d90, c.d91, c.d92, c.d93, c.d94, c.d95, c.d96, c.d97, c.d98, c.d99, c.d100, c.d101,
        c.d102, c.d103, c.d104, c.d105, c.d106, c.d107, c.d108, c.d109, c.d110, c.d111, c.d112, c.d113, c.d114, c.d115, c.d116,
        c.d117, c.d118, c.d119
    ) = 0;

-- name: every_progress
-- How far each partition of a topic is counted, and the largest Kafka timestamp of what is.
SELECT partition, next_offset, (extract(epoch FROM log_time) * 1000)::bigint AS log_time_ms
FROM stream_progress
WHERE topic = %(topic)s
ORDER BY partition;
