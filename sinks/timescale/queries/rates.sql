-- name: rates
-- Counts of a level in [from, to), added up by the chosen dimensions (the others are empty) and by spans of every_ms.
SELECT
    (((extract(epoch FROM c.window_start) * 1000)::bigint - %(origin_ms)s::bigint) / %(every_ms)s::bigint * %(every_ms)s::bigint
        + %(origin_ms)s::bigint) AS start_ms,
    s.step,
    CASE WHEN %(by_os)s THEN s.os ELSE '' END AS os,
    CASE WHEN %(by_browser)s THEN s.browser ELSE '' END AS browser,
    CASE WHEN %(by_app_version)s THEN s.app_version ELSE '' END AS app_version,
    sum(c.impressions)::bigint AS impressions,
    sum(CASE WHEN %(cohort)s THEN c.cohort_successes ELSE c.successes END)::bigint AS successes,
    sum(CASE WHEN %(cohort)s THEN c.cohort_failures ELSE c.failures END)::bigint AS failures
FROM (
    SELECT * FROM window_counts WHERE %(level)s::text = 'windows'
    UNION ALL
    SELECT * FROM counts_5m WHERE %(level)s::text = '5m'
    UNION ALL
    SELECT * FROM counts_1h WHERE %(level)s::text = '1h'
    UNION ALL
    SELECT * FROM counts_1d WHERE %(level)s::text = '1d'
) AS c
INNER JOIN (
    SELECT
        series_id, step,
        coalesce(dimensions ->> 'os', '') AS os,
        coalesce(dimensions ->> 'browser', '') AS browser,
        coalesce(dimensions ->> 'app_version', '') AS app_version
    FROM series
    WHERE funnel = %(funnel)s
) AS s ON s.series_id = c.series_id
WHERE
    c.window_start >= to_timestamp(%(from_ms)s / 1000.0)
    AND c.window_start < to_timestamp(%(to_ms)s / 1000.0)
    AND (%(step)s::text IS NULL OR s.step = %(step)s)
    AND (%(os)s::text IS NULL OR s.os = %(os)s)
    AND (%(browser)s::text IS NULL OR s.browser = %(browser)s)
    AND (%(app_version)s::text IS NULL OR s.app_version = %(app_version)s)
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4, 5
LIMIT %(limit)s;

-- name: known_series
-- Each funnel's steps and dimensions in the day up to its newest window, when that was, and how far it is complete.
SELECT
    c.funnel,
    array_agg(DISTINCT c.step ORDER BY c.step) AS steps,
    array_agg(DISTINCT c.os ORDER BY c.os) AS os,
    array_agg(DISTINCT c.browser ORDER BY c.browser) AS browsers,
    array_agg(DISTINCT c.app_version ORDER BY c.app_version) AS app_versions,
    (extract(epoch FROM p.closed_through) * 1000)::bigint AS closed_through_ms,
    (extract(epoch FROM p.newest_window) * 1000)::bigint AS newest_ms
FROM funnel_progress AS p
INNER JOIN conversion AS c ON
    c.funnel = p.funnel
    AND c.window_start > p.newest_window - interval '1 day'
    AND c.window_start <= p.newest_window
GROUP BY c.funnel, p.closed_through, p.newest_window
ORDER BY c.funnel;

-- name: closed_through
-- How far the windows of one funnel are published; no row or null where none is.
SELECT (extract(epoch FROM closed_through) * 1000)::bigint AS closed_through_ms
FROM funnel_progress
WHERE funnel = %(funnel)s;
