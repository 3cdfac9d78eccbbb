-- name: add_totals
-- Add rows to the totals since the beginning; sorted by key, so that workers cannot deadlock.
INSERT INTO series_totals AS t SELECT * FROM unnest(%(rows)b::series_totals[])
ON CONFLICT (series_id) DO UPDATE SET
    impressions = t.impressions + excluded.impressions,
    successes = t.successes + excluded.successes,
    failures = t.failures + excluded.failures,
    sessions = t.sessions + excluded.sessions,
    session_successes = t.session_successes + excluded.session_successes,
    duration_ms = t.duration_ms + excluded.duration_ms,
    b0 = coalesce(t.b0 + excluded.b0, t.b0, excluded.b0), b1 = coalesce(t.b1 + excluded.b1, t.b1, excluded.b1),
    b2 = coalesce(t.b2 + excluded.b2, t.b2, excluded.b2), b3 = coalesce(t.b3 + excluded.b3, t.b3, excluded.b3),
    b4 = coalesce(t.b4 + excluded.b4, t.b4, excluded.b4), b5 = coalesce(t.b5 + excluded.b5, t.b5, excluded.b5),
    b6 = coalesce(t.b6 + excluded.b6, t.b6, excluded.b6), b7 = coalesce(t.b7 + excluded.b7, t.b7, excluded.b7),
    b8 = coalesce(t.b8 + excluded.b8, t.b8, excluded.b8), b9 = coalesce(t.b9 + excluded.b9, t.b9, excluded.b9),
    b10 = coalesce(t.b10 + excluded.b10, t.b10, excluded.b10), b11 = coalesce(t.b11 + excluded.b11, t.b11, excluded.b11),
    b12 = coalesce(t.b12 + excluded.b12, t.b12, excluded.b12), b13 = coalesce(t.b13 + excluded.b13, t.b13, excluded.b13),
    b14 = coalesce(t.b14 + excluded.b14, t.b14, excluded.b14), b15 = coalesce(t.b15 + excluded.b15, t.b15, excluded.b15);

-- name: read_totals
-- Totals of events and sessions by some dimensions, in the order in which the series came.
SELECT
    s.funnel, s.step,
    ARRAY(
        SELECT coalesce(s.dimensions ->> d.name, '')
        FROM unnest(%(by)s::text[]) WITH ORDINALITY AS d (name, place)
        ORDER BY d.place
    ) AS labels,
    sum(t.impressions)::bigint AS impressions,
    sum(t.successes)::bigint AS successes,
    sum(t.failures)::bigint AS failures,
    sum(t.sessions)::bigint AS sessions,
    sum(t.session_successes)::bigint AS session_successes
FROM series_totals AS t INNER JOIN series AS s ON s.series_id = t.series_id
GROUP BY 1, 2, 3
ORDER BY min(s.series_id);

-- name: read_duration_totals
-- Totals of durations by funnel, step and some dimensions, bucket by bucket.
SELECT
    s.funnel, s.step,
    ARRAY(
        SELECT coalesce(s.dimensions ->> d.name, '')
        FROM unnest(%(by)s::text[]) WITH ORDINALITY AS d (name, place)
        ORDER BY d.place
    ) AS labels,
    sum(t.duration_ms)::bigint AS total_ms,
    ARRAY[
        sum(coalesce(t.b0, 0)), sum(coalesce(t.b1, 0)), sum(coalesce(t.b2, 0)), sum(coalesce(t.b3, 0)), sum(coalesce(t.b4, 0)),
        sum(coalesce(t.b5, 0)), sum(coalesce(t.b6, 0)), sum(coalesce(t.b7, 0)), sum(coalesce(t.b8, 0)), sum(coalesce(t.b9, 0)),
        sum(coalesce(t.b10, 0)), sum(coalesce(t.b11, 0)), sum(coalesce(t.b12, 0)), sum(coalesce(t.b13, 0)),
        sum(coalesce(t.b14, 0)), sum(coalesce(t.b15, 0))
    ]::bigint[] AS buckets
FROM series_totals AS t INNER JOIN series AS s ON s.series_id = t.series_id
GROUP BY 1, 2, 3
HAVING sum(t.duration_ms) > 0 OR sum(coalesce(t.b0, 0)) > 0
ORDER BY 1, 2, 3;

-- name: latest_counts
-- The counts of the newest closed windows of each funnel, and where they end.
SELECT
    p.funnel, c.step,
    ARRAY(
        SELECT coalesce(c.dimensions ->> d.name, '')
        FROM unnest(%(by)s::text[]) WITH ORDINALITY AS d (name, place)
        ORDER BY d.place
    ) AS labels,
    (extract(epoch FROM p.closed_through) * 1000)::bigint AS closed_through_ms,
    sum(c.impressions)::bigint AS impressions,
    sum(c.successes)::bigint AS successes
FROM funnel_progress AS p
LEFT JOIN conversion AS c ON
    c.funnel = p.funnel
    AND c.window_start >= p.closed_through - %(over_s)s * interval '1 second'
    AND c.window_start < p.closed_through
WHERE p.closed_through IS NOT NULL
GROUP BY p.funnel, p.closed_through, c.step, labels
ORDER BY p.funnel, c.step, labels;

-- name: add_metric_totals
-- Add rows to the totals of counters and timers since the beginning; sorted likewise.
INSERT INTO metric_totals AS t SELECT * FROM unnest(%(rows)b::metric_totals[])
ON CONFLICT (series) DO UPDATE SET
    samples = t.samples + excluded.samples,
    total = t.total + excluded.total,
    b0 = coalesce(t.b0 + excluded.b0, t.b0, excluded.b0), b1 = coalesce(t.b1 + excluded.b1, t.b1, excluded.b1),
    b2 = coalesce(t.b2 + excluded.b2, t.b2, excluded.b2), b3 = coalesce(t.b3 + excluded.b3, t.b3, excluded.b3),
    b4 = coalesce(t.b4 + excluded.b4, t.b4, excluded.b4), b5 = coalesce(t.b5 + excluded.b5, t.b5, excluded.b5),
    b6 = coalesce(t.b6 + excluded.b6, t.b6, excluded.b6), b7 = coalesce(t.b7 + excluded.b7, t.b7, excluded.b7),
    b8 = coalesce(t.b8 + excluded.b8, t.b8, excluded.b8), b9 = coalesce(t.b9 + excluded.b9, t.b9, excluded.b9),
    b10 = coalesce(t.b10 + excluded.b10, t.b10, excluded.b10), b11 = coalesce(t.b11 + excluded.b11, t.b11, excluded.b11),
    b12 = coalesce(t.b12 + excluded.b12, t.b12, excluded.b12), b13 = coalesce(t.b13 + excluded.b13, t.b13, excluded.b13),
    b14 = coalesce(t.b14 + excluded.b14, t.b14, excluded.b14), b15 = coalesce(t.b15 + excluded.b15, t.b15, excluded.b15);

-- name: read_metric_totals
-- All totals of counters and timers, in the order in which the series came; of timers with the samples by bucket.
SELECT
    t.series, s.name, s.kind, s.dimensions, t.samples, t.total,
    ARRAY[
        coalesce(t.b0, 0), coalesce(t.b1, 0), coalesce(t.b2, 0), coalesce(t.b3, 0), coalesce(t.b4, 0), coalesce(t.b5, 0),
        coalesce(t.b6, 0), coalesce(t.b7, 0), coalesce(t.b8, 0), coalesce(t.b9, 0), coalesce(t.b10, 0), coalesce(t.b11, 0),
        coalesce(t.b12, 0), coalesce(t.b13, 0), coalesce(t.b14, 0), coalesce(t.b15, 0)
    ]::bigint[] AS buckets
FROM metric_totals AS t INNER JOIN metric_series AS s ON s.series = t.series
ORDER BY t.series;

-- name: rates_by_step
-- The conversion rate of each step over all windows; reads the whole table.
SELECT s.step, sum(c.successes)::double precision / nullif(sum(c.impressions), 0) AS rate
FROM window_counts AS c INNER JOIN series AS s ON s.series_id = c.series_id
GROUP BY s.step
ORDER BY s.step;
