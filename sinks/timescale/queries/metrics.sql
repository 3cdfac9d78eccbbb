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
-- Add samples of counters and timers; sorted by key, so that workers cannot deadlock.
INSERT INTO metric_counts AS m (window_start, series, samples, total)
SELECT to_timestamp(d.window_ms / 1000.0), d.series, d.samples, d.total
FROM unnest(%(window_ms)s::bigint[], %(series)s::integer[], %(samples)s::bigint[], %(total)s::bigint[])
AS d (window_ms, series, samples, total)
ORDER BY d.series, d.window_ms
ON CONFLICT (series, window_start) DO UPDATE SET
    samples = m.samples + excluded.samples,
    total = m.total + excluded.total;

-- name: upsert_metric_durations
-- Add histograms of timers, sorted likewise.
INSERT INTO metric_durations AS h (window_start, series, octave, n0, n1, n2, n3, n4, n5, n6, n7)
SELECT
    to_timestamp(d.window_ms / 1000.0), d.series, d.octave,
    d.n0, d.n1, d.n2, d.n3, d.n4, d.n5, d.n6, d.n7
FROM unnest(
    %(window_ms)s::bigint[], %(series)s::integer[], %(octave)s::smallint[],
    %(n0)s::bigint[], %(n1)s::bigint[], %(n2)s::bigint[], %(n3)s::bigint[],
    %(n4)s::bigint[], %(n5)s::bigint[], %(n6)s::bigint[], %(n7)s::bigint[]
) AS d (window_ms, series, octave, n0, n1, n2, n3, n4, n5, n6, n7)
ORDER BY d.series, d.window_ms, d.octave
ON CONFLICT (series, window_start, octave) DO UPDATE SET
    n0 = h.n0 + excluded.n0,
    n1 = h.n1 + excluded.n1,
    n2 = h.n2 + excluded.n2,
    n3 = h.n3 + excluded.n3,
    n4 = h.n4 + excluded.n4,
    n5 = h.n5 + excluded.n5,
    n6 = h.n6 + excluded.n6,
    n7 = h.n7 + excluded.n7;

-- name: forget_metrics
-- Delete counters and timers of windows that start before a time.
WITH durations AS (
    DELETE FROM metric_durations WHERE window_start < %(before)s
)
DELETE FROM metric_counts WHERE window_start < %(before)s;

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
        sum(c.total)::bigint AS total
    FROM wanted AS w INNER JOIN metric_counts AS c ON c.series = w.series
    WHERE
        c.window_start >= to_timestamp(%(from_ms)s / 1000.0)
        AND c.window_start < to_timestamp(%(to_ms)s / 1000.0)
    GROUP BY 1, 2, 3
),

octaves AS (
    SELECT
        w.name,
        w.dimensions,
        ((extract(epoch FROM d.window_start) * 1000)::bigint - %(origin_ms)s::bigint) / %(every_ms)s::bigint * %(every_ms)s::bigint
            + %(origin_ms)s::bigint AS start_ms,
        d.octave,
        ARRAY[sum(d.n0), sum(d.n1), sum(d.n2), sum(d.n3), sum(d.n4), sum(d.n5), sum(d.n6), sum(d.n7)]::bigint[] AS slots
    FROM wanted AS w INNER JOIN metric_durations AS d ON d.series = w.series
    WHERE
        d.window_start >= to_timestamp(%(from_ms)s / 1000.0)
        AND d.window_start < to_timestamp(%(to_ms)s / 1000.0)
    GROUP BY 1, 2, 3, 4
),

histograms AS (
    SELECT
        name,
        dimensions,
        start_ms,
        array_agg(octave ORDER BY octave) AS octaves,
        array_agg(slots ORDER BY octave) AS slots
    FROM octaves
    GROUP BY 1, 2, 3
)

SELECT
    w.name, w.kind, w.dimensions, (extract(epoch FROM w.first_seen) * 1000)::bigint AS first_seen_ms,
    c.start_ms,
    coalesce(c.samples, 0) AS samples,
    coalesce(c.total, 0) AS total,
    duration_quantile(0.5, h.octaves, h.slots) AS p50,
    duration_quantile(0.9, h.octaves, h.slots) AS p90,
    duration_quantile(0.99, h.octaves, h.slots) AS p99
FROM (SELECT name, kind, dimensions, min(first_seen) AS first_seen FROM wanted GROUP BY 1, 2, 3) AS w
LEFT JOIN counted AS c ON c.name = w.name AND c.dimensions = w.dimensions
LEFT JOIN histograms AS h ON h.name = w.name AND h.dimensions = w.dimensions AND h.start_ms = c.start_ms
WHERE %(zeros)s::boolean OR c.samples IS NOT NULL
ORDER BY w.name, w.dimensions, c.start_ms
LIMIT %(limit)s;
