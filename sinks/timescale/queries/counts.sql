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
    undeclared = undeclared + %(undeclared)s,
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

-- name: note_newest
-- Remember the newest window of funnels that has counts; sorted, so that workers cannot deadlock.
WITH newer AS (
    SELECT p.funnel, to_timestamp(d.window_ms / 1000.0) AS window_start
    FROM funnel_progress AS p
    INNER JOIN unnest(%(funnel)s::text[], %(window_ms)s::bigint[]) AS d (funnel, window_ms) ON d.funnel = p.funnel
    WHERE (p.newest_window >= to_timestamp(d.window_ms / 1000.0)) IS NOT TRUE
    ORDER BY p.funnel
    FOR NO KEY UPDATE OF p
)
UPDATE funnel_progress AS p
SET newest_window = greatest(p.newest_window, n.window_start)
FROM newer AS n
WHERE p.funnel = n.funnel;

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
-- Add rows to the counts, sorted by key, so that workers cannot deadlock. The new totals, packed (composites.py).
WITH added AS (
    INSERT INTO window_counts AS c SELECT * FROM unnest(%(rows)b::window_counts[])
    ON CONFLICT (window_start, series_id) DO UPDATE SET
        impressions = c.impressions + excluded.impressions,
        successes = c.successes + excluded.successes,
        failures = c.failures + excluded.failures,
        cohort_successes = c.cohort_successes + excluded.cohort_successes,
        cohort_failures = c.cohort_failures + excluded.cohort_failures,
        sessions = c.sessions + excluded.sessions,
        session_successes = c.session_successes + excluded.session_successes,
        reached = c.reached + excluded.reached,
        completed = c.completed + excluded.completed,
        d0 = coalesce(c.d0 + excluded.d0, c.d0, excluded.d0), d1 = coalesce(c.d1 + excluded.d1, c.d1, excluded.d1),
        d2 = coalesce(c.d2 + excluded.d2, c.d2, excluded.d2), d3 = coalesce(c.d3 + excluded.d3, c.d3, excluded.d3),
        d4 = coalesce(c.d4 + excluded.d4, c.d4, excluded.d4), d5 = coalesce(c.d5 + excluded.d5, c.d5, excluded.d5),
        d6 = coalesce(c.d6 + excluded.d6, c.d6, excluded.d6), d7 = coalesce(c.d7 + excluded.d7, c.d7, excluded.d7),
        d8 = coalesce(c.d8 + excluded.d8, c.d8, excluded.d8), d9 = coalesce(c.d9 + excluded.d9, c.d9, excluded.d9),
        d10 = coalesce(c.d10 + excluded.d10, c.d10, excluded.d10), d11 = coalesce(c.d11 + excluded.d11, c.d11, excluded.d11),
        d12 = coalesce(c.d12 + excluded.d12, c.d12, excluded.d12), d13 = coalesce(c.d13 + excluded.d13, c.d13, excluded.d13),
        d14 = coalesce(c.d14 + excluded.d14, c.d14, excluded.d14), d15 = coalesce(c.d15 + excluded.d15, c.d15, excluded.d15),
        d16 = coalesce(c.d16 + excluded.d16, c.d16, excluded.d16), d17 = coalesce(c.d17 + excluded.d17, c.d17, excluded.d17),
        d18 = coalesce(c.d18 + excluded.d18, c.d18, excluded.d18), d19 = coalesce(c.d19 + excluded.d19, c.d19, excluded.d19),
        d20 = coalesce(c.d20 + excluded.d20, c.d20, excluded.d20), d21 = coalesce(c.d21 + excluded.d21, c.d21, excluded.d21),
        d22 = coalesce(c.d22 + excluded.d22, c.d22, excluded.d22), d23 = coalesce(c.d23 + excluded.d23, c.d23, excluded.d23),
        d24 = coalesce(c.d24 + excluded.d24, c.d24, excluded.d24), d25 = coalesce(c.d25 + excluded.d25, c.d25, excluded.d25),
        d26 = coalesce(c.d26 + excluded.d26, c.d26, excluded.d26), d27 = coalesce(c.d27 + excluded.d27, c.d27, excluded.d27),
        d28 = coalesce(c.d28 + excluded.d28, c.d28, excluded.d28), d29 = coalesce(c.d29 + excluded.d29, c.d29, excluded.d29),
        d30 = coalesce(c.d30 + excluded.d30, c.d30, excluded.d30), d31 = coalesce(c.d31 + excluded.d31, c.d31, excluded.d31),
        d32 = coalesce(c.d32 + excluded.d32, c.d32, excluded.d32), d33 = coalesce(c.d33 + excluded.d33, c.d33, excluded.d33),
        d34 = coalesce(c.d34 + excluded.d34, c.d34, excluded.d34), d35 = coalesce(c.d35 + excluded.d35, c.d35, excluded.d35),
        d36 = coalesce(c.d36 + excluded.d36, c.d36, excluded.d36), d37 = coalesce(c.d37 + excluded.d37, c.d37, excluded.d37),
        d38 = coalesce(c.d38 + excluded.d38, c.d38, excluded.d38), d39 = coalesce(c.d39 + excluded.d39, c.d39, excluded.d39),
        d40 = coalesce(c.d40 + excluded.d40, c.d40, excluded.d40), d41 = coalesce(c.d41 + excluded.d41, c.d41, excluded.d41),
        d42 = coalesce(c.d42 + excluded.d42, c.d42, excluded.d42), d43 = coalesce(c.d43 + excluded.d43, c.d43, excluded.d43),
        d44 = coalesce(c.d44 + excluded.d44, c.d44, excluded.d44), d45 = coalesce(c.d45 + excluded.d45, c.d45, excluded.d45),
        d46 = coalesce(c.d46 + excluded.d46, c.d46, excluded.d46), d47 = coalesce(c.d47 + excluded.d47, c.d47, excluded.d47),
        d48 = coalesce(c.d48 + excluded.d48, c.d48, excluded.d48), d49 = coalesce(c.d49 + excluded.d49, c.d49, excluded.d49),
        d50 = coalesce(c.d50 + excluded.d50, c.d50, excluded.d50), d51 = coalesce(c.d51 + excluded.d51, c.d51, excluded.d51),
        d52 = coalesce(c.d52 + excluded.d52, c.d52, excluded.d52), d53 = coalesce(c.d53 + excluded.d53, c.d53, excluded.d53),
        d54 = coalesce(c.d54 + excluded.d54, c.d54, excluded.d54), d55 = coalesce(c.d55 + excluded.d55, c.d55, excluded.d55),
        d56 = coalesce(c.d56 + excluded.d56, c.d56, excluded.d56), d57 = coalesce(c.d57 + excluded.d57, c.d57, excluded.d57),
        d58 = coalesce(c.d58 + excluded.d58, c.d58, excluded.d58), d59 = coalesce(c.d59 + excluded.d59, c.d59, excluded.d59),
        d60 = coalesce(c.d60 + excluded.d60, c.d60, excluded.d60), d61 = coalesce(c.d61 + excluded.d61, c.d61, excluded.d61),
        d62 = coalesce(c.d62 + excluded.d62, c.d62, excluded.d62), d63 = coalesce(c.d63 + excluded.d63, c.d63, excluded.d63),
        d64 = coalesce(c.d64 + excluded.d64, c.d64, excluded.d64), d65 = coalesce(c.d65 + excluded.d65, c.d65, excluded.d65),
        d66 = coalesce(c.d66 + excluded.d66, c.d66, excluded.d66), d67 = coalesce(c.d67 + excluded.d67, c.d67, excluded.d67),
        d68 = coalesce(c.d68 + excluded.d68, c.d68, excluded.d68), d69 = coalesce(c.d69 + excluded.d69, c.d69, excluded.d69),
        d70 = coalesce(c.d70 + excluded.d70, c.d70, excluded.d70), d71 = coalesce(c.d71 + excluded.d71, c.d71, excluded.d71),
        d72 = coalesce(c.d72 + excluded.d72, c.d72, excluded.d72), d73 = coalesce(c.d73 + excluded.d73, c.d73, excluded.d73),
        d74 = coalesce(c.d74 + excluded.d74, c.d74, excluded.d74), d75 = coalesce(c.d75 + excluded.d75, c.d75, excluded.d75),
        d76 = coalesce(c.d76 + excluded.d76, c.d76, excluded.d76), d77 = coalesce(c.d77 + excluded.d77, c.d77, excluded.d77),
        d78 = coalesce(c.d78 + excluded.d78, c.d78, excluded.d78), d79 = coalesce(c.d79 + excluded.d79, c.d79, excluded.d79),
        d80 = coalesce(c.d80 + excluded.d80, c.d80, excluded.d80), d81 = coalesce(c.d81 + excluded.d81, c.d81, excluded.d81),
        d82 = coalesce(c.d82 + excluded.d82, c.d82, excluded.d82), d83 = coalesce(c.d83 + excluded.d83, c.d83, excluded.d83),
        d84 = coalesce(c.d84 + excluded.d84, c.d84, excluded.d84), d85 = coalesce(c.d85 + excluded.d85, c.d85, excluded.d85),
        d86 = coalesce(c.d86 + excluded.d86, c.d86, excluded.d86), d87 = coalesce(c.d87 + excluded.d87, c.d87, excluded.d87),
        d88 = coalesce(c.d88 + excluded.d88, c.d88, excluded.d88), d89 = coalesce(c.d89 + excluded.d89, c.d89, excluded.d89),
        d90 = coalesce(c.d90 + excluded.d90, c.d90, excluded.d90), d91 = coalesce(c.d91 + excluded.d91, c.d91, excluded.d91),
        d92 = coalesce(c.d92 + excluded.d92, c.d92, excluded.d92), d93 = coalesce(c.d93 + excluded.d93, c.d93, excluded.d93),
        d94 = coalesce(c.d94 + excluded.d94, c.d94, excluded.d94), d95 = coalesce(c.d95 + excluded.d95, c.d95, excluded.d95),
        d96 = coalesce(c.d96 + excluded.d96, c.d96, excluded.d96), d97 = coalesce(c.d97 + excluded.d97, c.d97, excluded.d97),
        d98 = coalesce(c.d98 + excluded.d98, c.d98, excluded.d98), d99 = coalesce(c.d99 + excluded.d99, c.d99, excluded.d99),
        d100 = coalesce(c.d100 + excluded.d100, c.d100, excluded.d100),
        d101 = coalesce(c.d101 + excluded.d101, c.d101, excluded.d101),
        d102 = coalesce(c.d102 + excluded.d102, c.d102, excluded.d102),
        d103 = coalesce(c.d103 + excluded.d103, c.d103, excluded.d103),
        d104 = coalesce(c.d104 + excluded.d104, c.d104, excluded.d104),
        d105 = coalesce(c.d105 + excluded.d105, c.d105, excluded.d105),
        d106 = coalesce(c.d106 + excluded.d106, c.d106, excluded.d106),
        d107 = coalesce(c.d107 + excluded.d107, c.d107, excluded.d107),
        d108 = coalesce(c.d108 + excluded.d108, c.d108, excluded.d108),
        d109 = coalesce(c.d109 + excluded.d109, c.d109, excluded.d109),
        d110 = coalesce(c.d110 + excluded.d110, c.d110, excluded.d110),
        d111 = coalesce(c.d111 + excluded.d111, c.d111, excluded.d111),
        d112 = coalesce(c.d112 + excluded.d112, c.d112, excluded.d112),
        d113 = coalesce(c.d113 + excluded.d113, c.d113, excluded.d113),
        d114 = coalesce(c.d114 + excluded.d114, c.d114, excluded.d114),
        d115 = coalesce(c.d115 + excluded.d115, c.d115, excluded.d115),
        d116 = coalesce(c.d116 + excluded.d116, c.d116, excluded.d116),
        d117 = coalesce(c.d117 + excluded.d117, c.d117, excluded.d117),
        d118 = coalesce(c.d118 + excluded.d118, c.d118, excluded.d118),
        d119 = coalesce(c.d119 + excluded.d119, c.d119, excluded.d119)
    RETURNING
        c.window_start, c.series_id,
        c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures,
        c.sessions, c.session_successes, c.reached, c.completed
)
SELECT string_agg(record_send(added), ''::bytea) AS rows FROM added;

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
-- Counts of windows in [from, to), oldest first; of one funnel, or of all.
SELECT
    (extract(epoch FROM c.window_start) * 1000)::bigint AS window_ms,
    s.funnel, s.step, s.dimensions,
    c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures,
    c.sessions, c.session_successes, c.reached, c.completed
FROM windows_of(%(funnel)s, to_timestamp(%(from_ms)s / 1000.0), to_timestamp(%(to_ms)s / 1000.0)) AS c
INNER JOIN series AS s ON s.series_id = c.series_id
ORDER BY s.funnel, c.window_start, s.step, s.dimensions;

-- name: counts_by_window
-- Counts of windows in [from, to), of one funnel, or of all: a row for each window, an array for each column.
SELECT
    (extract(epoch FROM window_start) * 1000)::bigint AS window_ms,
    array_agg(series_id) AS series,
    array_agg(impressions) AS impressions,
    array_agg(successes) AS successes,
    array_agg(failures) AS failures,
    array_agg(cohort_successes) AS cohort_successes,
    array_agg(cohort_failures) AS cohort_failures,
    array_agg(sessions) AS sessions,
    array_agg(session_successes) AS session_successes,
    array_agg(reached) AS reached,
    array_agg(completed) AS completed
FROM windows_of(%(funnel)s, to_timestamp(%(from_ms)s / 1000.0), to_timestamp(%(to_ms)s / 1000.0))
GROUP BY window_start
ORDER BY window_start;

-- name: read_durations
-- Slots of durations of windows in [from, to) that count something; of one funnel, or of all.
SELECT
    (extract(epoch FROM c.window_start) * 1000)::bigint AS window_ms,
    s.funnel, s.step, s.dimensions, (d.place - 1)::integer AS slot, d.n
FROM window_counts AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
CROSS JOIN LATERAL unnest(ARRAY[
    c.d0, c.d1, c.d2, c.d3, c.d4, c.d5, c.d6, c.d7, c.d8, c.d9, c.d10, c.d11, c.d12, c.d13, c.d14, c.d15, c.d16, c.d17, c.d18,
    c.d19, c.d20, c.d21, c.d22, c.d23, c.d24, c.d25, c.d26, c.d27, c.d28, c.d29, c.d30, c.d31, c.d32, c.d33, c.d34, c.d35,
    c.d36, c.d37, c.d38, c.d39, c.d40, c.d41, c.d42, c.d43, c.d44, c.d45, c.d46, c.d47, c.d48, c.d49, c.d50, c.d51, c.d52,
    c.d53, c.d54, c.d55, c.d56, c.d57, c.d58, c.d59, c.d60, c.d61, c.d62, c.d63, c.d64, c.d65, c.d66, c.d67, c.d68, c.d69,
    c.d70, c.d71, c.d72, c.d73, c.d74, c.d75, c.d76, c.d77, c.d78, c.d79, c.d80, c.d81, c.d82, c.d83, c.d84, c.d85, c.d86,
    c.d87, c.d88, c.d89, c.d90, c.d91, c.d92, c.d93, c.d94, c.d95, c.d96, c.d97, c.d98, c.d99, c.d100, c.d101, c.d102, c.d103,
    c.d104, c.d105, c.d106, c.d107, c.d108, c.d109, c.d110, c.d111, c.d112, c.d113, c.d114, c.d115, c.d116, c.d117, c.d118,
    c.d119
]) WITH ORDINALITY AS d (n, place)
WHERE
    d.n <> 0
    AND (%(funnel)s::text IS NULL OR coalesce(s.funnel, '') = %(funnel)s)
    AND c.window_start >= to_timestamp(%(from_ms)s / 1000.0)
    AND c.window_start < to_timestamp(%(to_ms)s / 1000.0)
ORDER BY s.funnel, c.window_start, s.step, s.dimensions, d.place;

-- name: packed_counts
-- Counts of some series in [from, to), packed: bytes, the most significant first, 8 to a start and 4 to any other number.
-- Window starts are microseconds since 2000-01-01; element i of each pack is of the same window and series, in no order.
-- Session counts are null where they are not wanted.
SELECT
    string_agg(timestamptz_send(c.window_start), ''::bytea) AS window_start,
    string_agg(int4send(c.series_id), ''::bytea) AS series_id,
    string_agg(int4send(c.impressions), ''::bytea) AS impressions,
    string_agg(int4send(c.successes), ''::bytea) AS successes,
    string_agg(int4send(c.cohort_successes), ''::bytea) AS cohort_successes,
    CASE WHEN %(with_sessions)s THEN string_agg(int4send(c.sessions), ''::bytea) END AS sessions,
    CASE WHEN %(with_sessions)s THEN string_agg(int4send(c.session_successes), ''::bytea) END AS session_successes
FROM window_counts AS c
WHERE
    c.window_start >= to_timestamp(%(from_ms)s / 1000.0) AND c.window_start < to_timestamp(%(to_ms)s / 1000.0)
    AND c.series_id = ANY(%(numbers)s::integer[]);

-- name: first_day_counted
-- The start of the first day in which some series count anything at from or later, as far as days are materialized; else where they end.
SELECT
    (extract(epoch FROM least(
        (
            SELECT min(d.window_start)
            FROM rollup_1d AS d
            WHERE
                d.series_id = ANY(%(numbers)s::integer[])
                AND d.window_start >= date_bin('1 day', to_timestamp(%(from_ms)s / 1000.0), '2000-01-01 00:00:00Z')
        ),
        (SELECT greatest(t.through, timestamptz '1970-01-01 00:00:00Z') FROM rollup_trust AS t WHERE t.level = '1d'),
        (SELECT min(c.window_start) FROM rollup_changes AS c WHERE c.level = '1d')
    )) * 1000)::bigint AS first_ms;

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
FROM funnel_progress AS p
INNER JOIN series AS s ON s.funnel = p.funnel
INNER JOIN window_counts AS c ON c.series_id = s.series_id
WHERE p.closed_through IS NOT NULL AND (%(funnel)s::text IS NULL OR p.funnel = %(funnel)s)
GROUP BY p.funnel, p.closed_through
ORDER BY p.funnel;
