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
-- Each funnel's steps and dimensions in the day up to its newest window, when that was, and how far it is complete.
SELECT
    s.funnel,
    array_agg(DISTINCT s.step ORDER BY s.step) AS steps,
    array_agg(DISTINCT coalesce(s.dimensions ->> 'os', '')) AS os,
    array_agg(DISTINCT coalesce(s.dimensions ->> 'browser', '')) AS browsers,
    array_agg(DISTINCT coalesce(s.dimensions ->> 'app_version', '')) AS app_versions,
    (extract(epoch FROM p.closed_through) * 1000)::bigint AS closed_through_ms,
    (extract(epoch FROM p.newest_window) * 1000)::bigint AS newest_ms
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
GROUP BY s.funnel, p.closed_through, p.newest_window
ORDER BY s.funnel;

-- name: closed_through
-- How far the windows of one funnel are published; no row or null where none is.
SELECT (extract(epoch FROM closed_through) * 1000)::bigint AS closed_through_ms
FROM funnel_progress
WHERE funnel = %(funnel)s;
