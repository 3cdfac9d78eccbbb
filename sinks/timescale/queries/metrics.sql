-- name: holds_metrics
-- The records of this topic are samples of counters and timers.
UPDATE stream_progress SET holds = 'metrics' WHERE topic = %(topic)s AND holds <> 'metrics';

-- name: lock_metric_series
-- One worker admits new series at a time.
SELECT pg_advisory_xact_lock(hashtextextended('funnelwatch metric series', to_regclass('deployment')::oid::bigint));

-- name: metric_series_of
-- The series that these names have.
SELECT series, name, kind, dimensions FROM metric_series WHERE name = ANY(%(names)s) ORDER BY series;

-- name: metric_names
-- How many names there are.
SELECT count(DISTINCT name)::integer AS names FROM metric_series;

-- name: new_metric_series
-- Make a series.
INSERT INTO metric_series (name, kind, dimensions)
VALUES (%(name)s, %(kind)s, %(dimensions)s::jsonb)
RETURNING series;

-- name: upsert_metrics
-- Add rows of counters and timers; sorted by key, so that workers cannot deadlock.
INSERT INTO metric_counts AS m SELECT * FROM unnest(%(rows)b::metric_counts[])
ON CONFLICT (series, window_start) DO UPDATE SET
    samples = m.samples + excluded.samples,
    total = m.total + excluded.total,
    d0 = coalesce(m.d0 + excluded.d0, m.d0, excluded.d0), d1 = coalesce(m.d1 + excluded.d1, m.d1, excluded.d1),
    d2 = coalesce(m.d2 + excluded.d2, m.d2, excluded.d2), d3 = coalesce(m.d3 + excluded.d3, m.d3, excluded.d3),
    d4 = coalesce(m.d4 + excluded.d4, m.d4, excluded.d4), d5 = coalesce(m.d5 + excluded.d5, m.d5, excluded.d5),
    d6 = coalesce(m.d6 + excluded.d6, m.d6, excluded.d6), d7 = coalesce(m.d7 + excluded.d7, m.d7, excluded.d7),
    d8 = coalesce(m.d8 + excluded.d8, m.d8, excluded.d8), d9 = coalesce(m.d9 + excluded.d9, m.d9, excluded.d9),
    d10 = coalesce(m.d10 + excluded.d10, m.d10, excluded.d10), d11 = coalesce(m.d11 + excluded.d11, m.d11, excluded.d11),
    d12 = coalesce(m.d12 + excluded.d12, m.d12, excluded.d12), d13 = coalesce(m.d13 + excluded.d13, m.d13, excluded.d13),
    d14 = coalesce(m.d14 + excluded.d14, m.d14, excluded.d14), d15 = coalesce(m.d15 + excluded.d15, m.d15, excluded.d15),
    d16 = coalesce(m.d16 + excluded.d16, m.d16, excluded.d16), d17 = coalesce(m.d17 + excluded.d17, m.d17, excluded.d17),
    d18 = coalesce(m.d18 + excluded.d18, m.d18, excluded.d18), d19 = coalesce(m.d19 + excluded.d19, m.d19, excluded.d19),
    d20 = coalesce(m.d20 + excluded.d20, m.d20, excluded.d20), d21 = coalesce(m.d21 + excluded.d21, m.d21, excluded.d21),
    d22 = coalesce(m.d22 + excluded.d22, m.d22, excluded.d22), d23 = coalesce(m.d23 + excluded.d23, m.d23, excluded.d23),
    d24 = coalesce(m.d24 + excluded.d24, m.d24, excluded.d24), d25 = coalesce(m.d25 + excluded.d25, m.d25, excluded.d25),
    d26 = coalesce(m.d26 + excluded.d26, m.d26, excluded.d26), d27 = coalesce(m.d27 + excluded.d27, m.d27, excluded.d27),
    d28 = coalesce(m.d28 + excluded.d28, m.d28, excluded.d28), d29 = coalesce(m.d29 + excluded.d29, m.d29, excluded.d29),
    d30 = coalesce(m.d30 + excluded.d30, m.d30, excluded.d30), d31 = coalesce(m.d31 + excluded.d31, m.d31, excluded.d31),
    d32 = coalesce(m.d32 + excluded.d32, m.d32, excluded.d32), d33 = coalesce(m.d33 + excluded.d33, m.d33, excluded.d33),
    d34 = coalesce(m.d34 + excluded.d34, m.d34, excluded.d34), d35 = coalesce(m.d35 + excluded.d35, m.d35, excluded.d35),
    d36 = coalesce(m.d36 + excluded.d36, m.d36, excluded.d36), d37 = coalesce(m.d37 + excluded.d37, m.d37, excluded.d37),
    d38 = coalesce(m.d38 + excluded.d38, m.d38, excluded.d38), d39 = coalesce(m.d39 + excluded.d39, m.d39, excluded.d39),
    d40 = coalesce(m.d40 + excluded.d40, m.d40, excluded.d40), d41 = coalesce(m.d41 + excluded.d41, m.d41, excluded.d41),
    d42 = coalesce(m.d42 + excluded.d42, m.d42, excluded.d42), d43 = coalesce(m.d43 + excluded.d43, m.d43, excluded.d43),
    d44 = coalesce(m.d44 + excluded.d44, m.d44, excluded.d44), d45 = coalesce(m.d45 + excluded.d45, m.d45, excluded.d45),
    d46 = coalesce(m.d46 + excluded.d46, m.d46, excluded.d46), d47 = coalesce(m.d47 + excluded.d47, m.d47, excluded.d47),
    d48 = coalesce(m.d48 + excluded.d48, m.d48, excluded.d48), d49 = coalesce(m.d49 + excluded.d49, m.d49, excluded.d49),
    d50 = coalesce(m.d50 + excluded.d50, m.d50, excluded.d50), d51 = coalesce(m.d51 + excluded.d51, m.d51, excluded.d51),
    d52 = coalesce(m.d52 + excluded.d52, m.d52, excluded.d52), d53 = coalesce(m.d53 + excluded.d53, m.d53, excluded.d53),
    d54 = coalesce(m.d54 + excluded.d54, m.d54, excluded.d54), d55 = coalesce(m.d55 + excluded.d55, m.d55, excluded.d55),
    d56 = coalesce(m.d56 + excluded.d56, m.d56, excluded.d56), d57 = coalesce(m.d57 + excluded.d57, m.d57, excluded.d57),
    d58 = coalesce(m.d58 + excluded.d58, m.d58, excluded.d58), d59 = coalesce(m.d59 + excluded.d59, m.d59, excluded.d59),
    d60 = coalesce(m.d60 + excluded.d60, m.d60, excluded.d60), d61 = coalesce(m.d61 + excluded.d61, m.d61, excluded.d61),
    d62 = coalesce(m.d62 + excluded.d62, m.d62, excluded.d62), d63 = coalesce(m.d63 + excluded.d63, m.d63, excluded.d63),
    d64 = coalesce(m.d64 + excluded.d64, m.d64, excluded.d64), d65 = coalesce(m.d65 + excluded.d65, m.d65, excluded.d65),
    d66 = coalesce(m.d66 + excluded.d66, m.d66, excluded.d66), d67 = coalesce(m.d67 + excluded.d67, m.d67, excluded.d67),
    d68 = coalesce(m.d68 + excluded.d68, m.d68, excluded.d68), d69 = coalesce(m.d69 + excluded.d69, m.d69, excluded.d69),
    d70 = coalesce(m.d70 + excluded.d70, m.d70, excluded.d70), d71 = coalesce(m.d71 + excluded.d71, m.d71, excluded.d71),
    d72 = coalesce(m.d72 + excluded.d72, m.d72, excluded.d72), d73 = coalesce(m.d73 + excluded.d73, m.d73, excluded.d73),
    d74 = coalesce(m.d74 + excluded.d74, m.d74, excluded.d74), d75 = coalesce(m.d75 + excluded.d75, m.d75, excluded.d75),
    d76 = coalesce(m.d76 + excluded.d76, m.d76, excluded.d76), d77 = coalesce(m.d77 + excluded.d77, m.d77, excluded.d77),
    d78 = coalesce(m.d78 + excluded.d78, m.d78, excluded.d78), d79 = coalesce(m.d79 + excluded.d79, m.d79, excluded.d79),
    d80 = coalesce(m.d80 + excluded.d80, m.d80, excluded.d80), d81 = coalesce(m.d81 + excluded.d81, m.d81, excluded.d81),
    d82 = coalesce(m.d82 + excluded.d82, m.d82, excluded.d82), d83 = coalesce(m.d83 + excluded.d83, m.d83, excluded.d83),
    d84 = coalesce(m.d84 + excluded.d84, m.d84, excluded.d84), d85 = coalesce(m.d85 + excluded.d85, m.d85, excluded.d85),
    d86 = coalesce(m.d86 + excluded.d86, m.d86, excluded.d86), d87 = coalesce(m.d87 + excluded.d87, m.d87, excluded.d87),
    d88 = coalesce(m.d88 + excluded.d88, m.d88, excluded.d88), d89 = coalesce(m.d89 + excluded.d89, m.d89, excluded.d89),
    d90 = coalesce(m.d90 + excluded.d90, m.d90, excluded.d90), d91 = coalesce(m.d91 + excluded.d91, m.d91, excluded.d91),
    d92 = coalesce(m.d92 + excluded.d92, m.d92, excluded.d92), d93 = coalesce(m.d93 + excluded.d93, m.d93, excluded.d93),
    d94 = coalesce(m.d94 + excluded.d94, m.d94, excluded.d94), d95 = coalesce(m.d95 + excluded.d95, m.d95, excluded.d95),
    d96 = coalesce(m.d96 + excluded.d96, m.d96, excluded.d96), d97 = coalesce(m.d97 + excluded.d97, m.d97, excluded.d97),
    d98 = coalesce(m.d98 + excluded.d98, m.d98, excluded.d98), d99 = coalesce(m.d99 + excluded.d99, m.d99, excluded.d99),
    d100 = coalesce(m.d100 + excluded.d100, m.d100, excluded.d100),
    d101 = coalesce(m.d101 + excluded.d101, m.d101, excluded.d101),
    d102 = coalesce(m.d102 + excluded.d102, m.d102, excluded.d102),
    d103 = coalesce(m.d103 + excluded.d103, m.d103, excluded.d103),
    d104 = coalesce(m.d104 + excluded.d104, m.d104, excluded.d104),
    d105 = coalesce(m.d105 + excluded.d105, m.d105, excluded.d105),
    d106 = coalesce(m.d106 + excluded.d106, m.d106, excluded.d106),
    d107 = coalesce(m.d107 + excluded.d107, m.d107, excluded.d107),
    d108 = coalesce(m.d108 + excluded.d108, m.d108, excluded.d108),
    d109 = coalesce(m.d109 + excluded.d109, m.d109, excluded.d109),
    d110 = coalesce(m.d110 + excluded.d110, m.d110, excluded.d110),
    d111 = coalesce(m.d111 + excluded.d111, m.d111, excluded.d111),
    d112 = coalesce(m.d112 + excluded.d112, m.d112, excluded.d112),
    d113 = coalesce(m.d113 + excluded.d113, m.d113, excluded.d113),
    d114 = coalesce(m.d114 + excluded.d114, m.d114, excluded.d114),
    d115 = coalesce(m.d115 + excluded.d115, m.d115, excluded.d115),
    d116 = coalesce(m.d116 + excluded.d116, m.d116, excluded.d116),
    d117 = coalesce(m.d117 + excluded.d117, m.d117, excluded.d117),
    d118 = coalesce(m.d118 + excluded.d118, m.d118, excluded.d118),
    d119 = coalesce(m.d119 + excluded.d119, m.d119, excluded.d119);

-- name: known_metrics
-- Each counter and timer, or the one of a name: its kind, how many series it has, and the values of its dimensions.
SELECT
    s.name,
    min(s.kind) AS kind,
    count(*)::integer AS series,
    (extract(epoch FROM min(s.first_seen)) * 1000)::bigint AS first_seen_ms,
    coalesce(
        (
            SELECT jsonb_object_agg(v.dimension, v.found)
            FROM (
                SELECT d.key AS dimension, jsonb_agg(DISTINCT d.value) AS found
                FROM metric_series AS o CROSS JOIN LATERAL jsonb_each_text(o.dimensions) AS d (key, value)
                WHERE o.name = s.name
                GROUP BY d.key
            ) AS v
        ),
        '{}'::jsonb
    ) AS dimensions
FROM metric_series AS s
WHERE %(name)s::text IS NULL OR s.name = %(name)s
GROUP BY s.name
ORDER BY s.name;

-- name: read_metrics
-- Counters and timers over [from, to), by name, kind, the dimensions that are asked for and spans of every_ms.
WITH wanted AS (
    SELECT
        s.series,
        s.name,
        s.kind,
        s.first_seen,
        coalesce(
            (SELECT jsonb_object_agg(by.dimension, coalesce(s.dimensions ->> by.dimension, ''))
             FROM unnest(%(by)s::text[]) AS by (dimension)),
            '{}'::jsonb
        ) AS dimensions
    FROM metric_series AS s
    WHERE
        (%(name)s::text IS NULL OR s.name = %(name)s)
        AND s.dimensions @> %(only)s::jsonb
        AND NOT s.dimensions ?| %(without)s::text[]
),

counted AS (
    SELECT
        w.name,
        w.dimensions,
        ((extract(epoch FROM c.window_start) * 1000)::bigint - %(origin_ms)s::bigint) / %(every_ms)s::bigint * %(every_ms)s::bigint
            + %(origin_ms)s::bigint AS start_ms,
        sum(c.samples)::bigint AS samples,
        sum(c.total)::bigint AS total,
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
    FROM wanted AS w INNER JOIN metric_counts AS c ON c.series = w.series
    WHERE
        c.window_start >= to_timestamp(%(from_ms)s / 1000.0)
        AND c.window_start < to_timestamp(%(to_ms)s / 1000.0)
    GROUP BY 1, 2, 3
)

SELECT
    w.name, w.kind, w.dimensions, (extract(epoch FROM w.first_seen) * 1000)::bigint AS first_seen_ms,
    c.start_ms,
    coalesce(c.samples, 0) AS samples,
    coalesce(c.total, 0) AS total,
    CASE WHEN w.kind = 'TIMER' THEN duration_quantile(0.5, c.slots) END AS p50,
    CASE WHEN w.kind = 'TIMER' THEN duration_quantile(0.9, c.slots) END AS p90,
    CASE WHEN w.kind = 'TIMER' THEN duration_quantile(0.99, c.slots) END AS p99
FROM (SELECT name, kind, dimensions, min(first_seen) AS first_seen FROM wanted GROUP BY 1, 2, 3) AS w
LEFT JOIN counted AS c ON c.name = w.name AND c.dimensions = w.dimensions
WHERE %(zeros)s::boolean OR c.samples IS NOT NULL
ORDER BY w.name, w.dimensions, c.start_ms
LIMIT %(limit)s;
