-- name: rates
-- Counts of a level in [from, to), added up by spans of every_ms (null: one), steps and the dimensions of by.
SELECT
    (extract(epoch FROM start) * 1000)::bigint AS start_ms,
    step,
    dimensions,
    CASE %(basis)s WHEN 'session' THEN sessions ELSE impressions END AS impressions,
    CASE %(basis)s WHEN 'session' THEN session_successes WHEN 'cohort' THEN cohort_successes ELSE successes END AS successes,
    CASE %(basis)s WHEN 'session' THEN 0 WHEN 'cohort' THEN cohort_failures ELSE failures END AS failures
FROM counts_of(
    %(level)s, %(funnel)s, to_timestamp(%(from_ms)s / 1000.0), to_timestamp(%(to_ms)s / 1000.0),
    %(every_ms)s * interval '1 millisecond', %(chosen)s, %(by)s, to_timestamp(%(origin_ms)s / 1000.0)
)
LIMIT %(limit)s;

-- name: reached
-- How many sessions that entered a declared funnel in [from, to) reached each step, and completed it; by the dimensions of by.
SELECT step, dimensions, reached, completed
FROM counts_of(
    %(level)s, %(funnel)s, to_timestamp(%(from_ms)s / 1000.0), to_timestamp(%(to_ms)s / 1000.0),
    NULL, %(chosen)s, %(by)s
)
WHERE reached > 0
LIMIT %(limit)s;

-- name: declared_order
-- The steps of a declared funnel, in order, as the workers know them.
SELECT step FROM declared_steps WHERE funnel = %(funnel)s ORDER BY position;

-- name: session_maturity
-- The session window of a funnel, and up to where sessions have had all of it; null: nowhere yet.
SELECT
    (extract(epoch FROM coalesce(f.session_window, d.session_window)) * 1000)::bigint AS session_window_ms,
    (extract(epoch FROM m.mature_through) * 1000)::bigint AS mature_through_ms
FROM deployment AS d
LEFT JOIN declared_funnels AS f ON f.funnel = %(funnel)s
LEFT JOIN session_maturity AS m ON m.funnel = %(funnel)s;

-- name: known_series
-- Each funnel's steps and values of dimensions in the day up to its newest window, when that was, and how far it is complete.
WITH seen AS MATERIALIZED (
    SELECT series_id, max(window_start) AS newest
    FROM counts_1h
    WHERE window_start = ANY(ARRAY(
        SELECT DISTINCT date_bin(interval '1 hour', f.newest_window, timestamptz '2000-01-01 00:00:00Z') - h.n * interval '1 hour'
        FROM funnel_progress AS f CROSS JOIN generate_series(0, 23) AS h (n)
    ))
    GROUP BY series_id
),

stored AS MATERIALIZED (
    SELECT s.funnel, s.step, s.dimensions, coalesce(seen.newest > p.newest_window - interval '1 day', false) AS recent
    FROM series AS s
    INNER JOIN funnel_progress AS p ON p.funnel = s.funnel
    LEFT JOIN seen ON seen.series_id = s.series_id
),

recent AS (
    SELECT funnel, count(*) AS series, array_agg(DISTINCT step ORDER BY step) AS steps
    FROM stored
    WHERE recent
    GROUP BY funnel
),

valued AS (
    SELECT s.funnel, d.key AS name, d.value, count(*) FILTER (WHERE s.recent) AS series
    FROM stored AS s CROSS JOIN LATERAL jsonb_each_text(s.dimensions) AS d
    GROUP BY s.funnel, d.key, d.value
),

named AS (
    SELECT
        v.funnel,
        v.name,
        coalesce(array_agg(v.value) FILTER (WHERE v.series > 0), '{}')
        || CASE WHEN sum(v.series) < r.series THEN ARRAY[''] ELSE '{}' END AS found
    FROM valued AS v INNER JOIN recent AS r ON r.funnel = v.funnel
    GROUP BY v.funnel, v.name, r.series
)

SELECT
    r.funnel,
    r.steps,
    (SELECT coalesce(jsonb_object_agg(n.name, n.found), '{}') FROM named AS n WHERE n.funnel = r.funnel) AS dimensions,
    (extract(epoch FROM p.closed_through) * 1000)::bigint AS closed_through_ms,
    (extract(epoch FROM p.newest_window) * 1000)::bigint AS newest_ms
FROM recent AS r INNER JOIN funnel_progress AS p ON p.funnel = r.funnel
ORDER BY r.funnel;

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
