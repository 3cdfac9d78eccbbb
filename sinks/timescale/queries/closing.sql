-- name: watermarks
-- The watermark of each partition of the events topic, and whether its worker has reported it idle lately.
SELECT
    partition,
    (extract(epoch FROM watermark) * 1000)::bigint AS watermark_ms,
    idle AND updated_at > clock_timestamp() - %(idle_valid_s)s * interval '1 second' AS idle
FROM stream_progress
WHERE topic = %(topic)s;

-- name: try_closer_lock
-- Become the only closer, until the session ends or releases the lock. As every lock here, it belongs to these tables:
-- another schema of the database may count a topic of the same name.
SELECT pg_try_advisory_lock(hashtextextended('funnelwatch closer ' || %(topic)s, to_regclass('deployment')::oid::bigint)) AS locked;

-- name: release_closer_lock
-- Let another worker close.
SELECT pg_advisory_unlock(hashtextextended('funnelwatch closer ' || %(topic)s, to_regclass('deployment')::oid::bigint)) AS released;

-- name: funnels
-- Every funnel, how far it is closed, and whether late events have changed windows since their publication.
SELECT
    funnel,
    (extract(epoch FROM closing_through) * 1000)::bigint AS closing_through_ms,
    (extract(epoch FROM closed_through) * 1000)::bigint AS closed_through_ms,
    EXISTS (SELECT 1 FROM late_windows AS l WHERE l.funnel = p.funnel AND NOT l.published) AS has_late
FROM funnel_progress AS p
ORDER BY funnel;

-- name: wait_for_flushes
-- Wait for the flushes under way, and block others until this transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('funnelwatch closing', to_regclass('deployment')::oid::bigint));

-- name: start_closing
-- Events for windows before this are late from now on.
UPDATE funnel_progress
SET closing_through = greatest(closing_through, to_timestamp(%(through_ms)s / 1000.0))
WHERE funnel = %(funnel)s;

-- name: finish_closing
-- The windows before this are published; the newest of them that was not empty, if there is one.
UPDATE funnel_progress AS p
SET
    closed_through = greatest(p.closed_through, to_timestamp(%(through_ms)s / 1000.0)),
    closed_at = clock_timestamp(),
    published_window = greatest(p.published_window, to_timestamp(%(published_ms)s / 1000.0)),
    unevaluated_since = CASE
        WHEN %(published_ms)s::bigint IS NULL THEN p.unevaluated_since
        WHEN (SELECT d.last_window FROM detector_progress AS d WHERE d.funnel = p.funnel) >= p.published_window
            THEN clock_timestamp()
        ELSE coalesce(p.unevaluated_since, clock_timestamp())
    END
WHERE p.funnel = %(funnel)s;

-- name: next_window
-- The first window at or after a time that has counts; without a look at the counts of other funnels where there is none.
SELECT (extract(epoch FROM min(c.window_start)) * 1000)::bigint AS window_ms
FROM funnel_progress AS p
CROSS JOIN LATERAL (
    SELECT w.window_start
    FROM window_counts AS w INNER JOIN series AS s ON s.series_id = w.series_id
    WHERE
        s.funnel = p.funnel
        AND w.window_start >= to_timestamp(%(from_ms)s / 1000.0)
        AND w.window_start <= p.newest_window
    ORDER BY w.window_start
    LIMIT 1
) AS c
WHERE p.funnel = %(funnel)s AND p.newest_window >= to_timestamp(%(from_ms)s / 1000.0);

-- name: active_series
-- The numbers of the series that had events in [from, to), each with its newest such window.
SELECT
    coalesce(array_agg(series_id), '{}') AS series,
    coalesce(array_agg((extract(epoch FROM newest) * 1000)::bigint), '{}') AS windows
FROM (
    SELECT series_id, max(window_start) AS newest
    FROM windows_of(%(funnel)s, to_timestamp(%(from_ms)s / 1000.0), to_timestamp(%(to_ms)s / 1000.0))
    GROUP BY series_id
) AS c;

-- name: claim_late_windows
-- Give the next revision to closed windows that late events have changed and that have settled, oldest first.
UPDATE late_windows AS l
SET revision = l.revision + 1
FROM (
    SELECT funnel, window_start
    FROM late_windows
    WHERE
        funnel = %(funnel)s
        AND NOT published
        AND changed_at <= clock_timestamp() - %(settle_s)s * interval '1 second'
        AND window_start < to_timestamp(%(closed_through_ms)s / 1000.0)
    ORDER BY window_start
    LIMIT %(limit)s
) AS quiet
WHERE l.funnel = quiet.funnel AND l.window_start = quiet.window_start
RETURNING (extract(epoch FROM l.window_start) * 1000)::bigint AS window_ms, l.revision, l.events;

-- name: late_published
-- Record that a revision is published; if more events came meanwhile, the window waits for its next revision.
UPDATE late_windows
SET published = true
WHERE
    funnel = %(funnel)s
    AND window_start = to_timestamp(%(window_ms)s / 1000.0)
    AND revision = %(revision)s
    AND events = %(events)s;
