-- name: rates
-- Counts of a level in [from, to), added up by spans of every_ms (null: one), steps and the dimensions of by.
SELECT
    (extract(epoch FROM start) * 1000)::bigint AS start_ms,
    step,
    dimensions,
    impressions,
    CASE WHEN %(cohort)s THEN cohort_successes ELSE successes END AS successes,
    CASE WHEN %(cohort)s THEN cohort_failures ELSE failures END AS failures
FROM counts_of(
    %(level)s, %(funnel)s, to_timestamp(%(from_ms)s / 1000.0), to_timestamp(%(to_ms)s / 1000.0),
    %(every_ms)s * interval '1 millisecond', %(chosen)s, %(by)s, to_timestamp(%(origin_ms)s / 1000.0)
)
LIMIT %(limit)s;

-- name: known_series
-- Each funnel's steps and values of dimensions in the day up to its newest window, when that was, and how far it is complete.
WITH day AS MATERIALIZED (
    SELECT DISTINCT p.funnel, p.closed_through, p.newest_window, s.step, s.dimensions
    FROM (
        SELECT DISTINCT series_id, window_start
        FROM counts_1h
        WHERE window_start = ANY(ARRAY(
            SELECT DISTINCT date_bin(interval '1 hour', f.newest_window, timestamptz '2000-01-01 00:00:00Z') - h.n * interval '1 hour'
            FROM funnel_progress AS f CROSS JOIN generate_series(0, 23) AS h (n)
        ))
    ) AS c
    INNER JOIN series AS s ON s.series_id = c.series_id
    INNER JOIN funnel_progress AS p ON
        p.funnel = s.funnel
        AND c.window_start > p.newest_window - interval '1 day'
        AND c.window_start <= p.newest_window
),

stored AS (
    SELECT DISTINCT s.funnel, d.name
    FROM series AS s CROSS JOIN LATERAL jsonb_object_keys(s.dimensions) AS d (name)
),

named AS (
    SELECT stored.funnel, stored.name, array_agg(DISTINCT coalesce(day.dimensions ->> stored.name, '')) AS found
    FROM stored INNER JOIN day ON day.funnel = stored.funnel
    GROUP BY stored.funnel, stored.name
)

SELECT
    day.funnel,
    array_agg(DISTINCT day.step ORDER BY day.step) AS steps,
    (
        SELECT coalesce(jsonb_object_agg(named.name, named.found), '{}')
        FROM named
        WHERE named.funnel = day.funnel
    ) AS dimensions,
    (extract(epoch FROM day.closed_through) * 1000)::bigint AS closed_through_ms,
    (extract(epoch FROM day.newest_window) * 1000)::bigint AS newest_ms
FROM day
GROUP BY day.funnel, day.closed_through, day.newest_window
ORDER BY day.funnel;

-- name: stored_dimensions
-- The dimensions that series of a funnel have.
SELECT DISTINCT d.name
FROM series AS s CROSS JOIN LATERAL jsonb_object_keys(s.dimensions) AS d (name)
WHERE s.funnel = %(funnel)s
ORDER BY d.name;

-- name: closed_through
-- How far the windows of one funnel are published; no row or null where none is.
SELECT (extract(epoch FROM closed_through) * 1000)::bigint AS closed_through_ms
FROM funnel_progress
WHERE funnel = %(funnel)s;
