-- name: timers
-- Quantiles of the time to convert, of a level, in [from, to), by the chosen dimensions (the others are empty) and spans of every_ms.
SELECT
    start_ms,
    step,
    os,
    browser,
    app_version,
    sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7)::bigint AS conversions,
    duration_quantile(0.5, array_agg(octave ORDER BY octave), array_agg(slots ORDER BY octave)) AS p50_ms,
    duration_quantile(0.9, array_agg(octave ORDER BY octave), array_agg(slots ORDER BY octave)) AS p90_ms,
    duration_quantile(0.99, array_agg(octave ORDER BY octave), array_agg(slots ORDER BY octave)) AS p99_ms
FROM (
    SELECT
        *,
        ARRAY[n0, n1, n2, n3, n4, n5, n6, n7] AS slots
    FROM (
        SELECT
            (((extract(epoch FROM window_start) * 1000)::bigint - %(origin_ms)s::bigint) / %(every_ms)s::bigint * %(every_ms)s::bigint
                + %(origin_ms)s::bigint)
                AS start_ms,
            step,
            CASE WHEN %(by_os)s THEN os ELSE '' END AS os,
            CASE WHEN %(by_browser)s THEN browser ELSE '' END AS browser,
            CASE WHEN %(by_app_version)s THEN app_version ELSE '' END AS app_version,
            octave,
            sum(n0)::bigint AS n0,
            sum(n1)::bigint AS n1,
            sum(n2)::bigint AS n2,
            sum(n3)::bigint AS n3,
            sum(n4)::bigint AS n4,
            sum(n5)::bigint AS n5,
            sum(n6)::bigint AS n6,
            sum(n7)::bigint AS n7
        FROM (
            SELECT * FROM window_durations WHERE %(level)s::text = 'windows'
            UNION ALL
            SELECT * FROM durations_5m WHERE %(level)s::text = '5m'
            UNION ALL
            SELECT * FROM durations_1h WHERE %(level)s::text = '1h'
            UNION ALL
            SELECT * FROM durations_1d WHERE %(level)s::text = '1d'
        ) AS counted
        WHERE
            funnel = %(funnel)s
            AND window_start >= to_timestamp(%(from_ms)s / 1000.0)
            AND window_start < to_timestamp(%(to_ms)s / 1000.0)
            AND (%(step)s::text IS NULL OR step = %(step)s)
            AND (%(os)s::text IS NULL OR os = %(os)s)
            AND (%(browser)s::text IS NULL OR browser = %(browser)s)
            AND (%(app_version)s::text IS NULL OR app_version = %(app_version)s)
        GROUP BY 1, 2, 3, 4, 5, 6
    ) AS merged
) AS octaves
GROUP BY 1, 2, 3, 4, 5
HAVING sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7) > 0
ORDER BY 1, 2, 3, 4, 5
LIMIT %(limit)s;
