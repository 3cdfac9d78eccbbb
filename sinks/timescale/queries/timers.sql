-- name: timers
-- Quantiles of the time to convert, of a level, in [from, to), by the chosen dimensions (the others are empty) and spans of every_ms.
SELECT
    start_ms,
    step,
    os,
    browser,
    app_version,
    conversions,
    duration_quantile(0.5, slots) AS p50_ms,
    duration_quantile(0.9, slots) AS p90_ms,
    duration_quantile(0.99, slots) AS p99_ms
FROM (
    SELECT
        *,
        (SELECT sum(n)::bigint FROM unnest(slots) AS slot (n)) AS conversions
    FROM (
        SELECT
            (((extract(epoch FROM c.window_start) * 1000)::bigint - %(origin_ms)s::bigint) / %(every_ms)s::bigint * %(every_ms)s::bigint
                + %(origin_ms)s::bigint)
                AS start_ms,
            s.step,
            CASE WHEN %(by_os)s THEN coalesce(s.dimensions ->> 'os', '') ELSE '' END AS os,
            CASE WHEN %(by_browser)s THEN coalesce(s.dimensions ->> 'browser', '') ELSE '' END AS browser,
            CASE WHEN %(by_app_version)s THEN coalesce(s.dimensions ->> 'app_version', '') ELSE '' END AS app_version,
            ARRAY[
                sum(c.d0), sum(c.d1), sum(c.d2), sum(c.d3), sum(c.d4), sum(c.d5), sum(c.d6), sum(c.d7), sum(c.d8), sum(c.d9),
                sum(c.d10), sum(c.d11), sum(c.d12), sum(c.d13), sum(c.d14), sum(c.d15), sum(c.d16), sum(c.d17), sum(c.d18),
                sum(c.d19), sum(c.d20), sum(c.d21), sum(c.d22), sum(c.d23), sum(c.d24), sum(c.d25), sum(c.d26), sum(c.d27),
                sum(c.d28), sum(c.d29), sum(c.d30), sum(c.d31), sum(c.d32), sum(c.d33), sum(c.d34), sum(c.d35), sum(c.d36),
                sum(c.d37), sum(c.d38), sum(c.d39), sum(c.d40), sum(c.d41), sum(c.d42), sum(c.d43), sum(c.d44), sum(c.d45),
                sum(c.d46), sum(c.d47), sum(c.d48), sum(c.d49), sum(c.d50), sum(c.d51), sum(c.d52), sum(c.d53), sum(c.d54),
                sum(c.d55), sum(c.d56), sum(c.d57), sum(c.d58), sum(c.d59), sum(c.d60), sum(c.d61), sum(c.d62), sum(c.d63),
                sum(c.d64), sum(c.d65), sum(c.d66), sum(c.d67), sum(c.d68), sum(c.d69), sum(c.d70), sum(c.d71), sum(c.d72),
                sum(c.d73), sum(c.d74), sum(c.d75), sum(c.d76), sum(c.d77), sum(c.d78), sum(c.d79), sum(c.d80), sum(c.d81),
                sum(c.d82), sum(c.d83), sum(c.d84), sum(c.d85), sum(c.d86), sum(c.d87), sum(c.d88), sum(c.d89), sum(c.d90),
                sum(c.d91), sum(c.d92), sum(c.d93), sum(c.d94), sum(c.d95), sum(c.d96), sum(c.d97), sum(c.d98), sum(c.d99),
                sum(c.d100), sum(c.d101), sum(c.d102), sum(c.d103), sum(c.d104), sum(c.d105), sum(c.d106), sum(c.d107),
                sum(c.d108), sum(c.d109), sum(c.d110), sum(c.d111), sum(c.d112), sum(c.d113), sum(c.d114), sum(c.d115),
                sum(c.d116), sum(c.d117), sum(c.d118), sum(c.d119)
            ]::bigint[] AS slots
        FROM (
            SELECT * FROM window_counts WHERE %(level)s::text = 'windows'
            UNION ALL
            SELECT * FROM counts_5m WHERE %(level)s::text = '5m'
            UNION ALL
            SELECT * FROM counts_1h WHERE %(level)s::text = '1h'
            UNION ALL
            SELECT * FROM counts_1d WHERE %(level)s::text = '1d'
        ) AS c
        INNER JOIN series AS s ON s.series_id = c.series_id
        WHERE
            s.funnel = %(funnel)s
            AND c.window_start >= to_timestamp(%(from_ms)s / 1000.0)
            AND c.window_start < to_timestamp(%(to_ms)s / 1000.0)
            AND (%(step)s::text IS NULL OR s.step = %(step)s)
            AND (%(os)s::text IS NULL OR coalesce(s.dimensions ->> 'os', '') = %(os)s)
            AND (%(browser)s::text IS NULL OR coalesce(s.dimensions ->> 'browser', '') = %(browser)s)
            AND (%(app_version)s::text IS NULL OR coalesce(s.dimensions ->> 'app_version', '') = %(app_version)s)
        GROUP BY 1, 2, 3, 4, 5
    ) AS merged
) AS histograms
WHERE conversions > 0
ORDER BY 1, 2, 3, 4, 5
LIMIT %(limit)s;
