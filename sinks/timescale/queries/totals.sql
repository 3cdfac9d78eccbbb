-- name: add_totals
-- Add to the totals since the beginning; sorted by key, so that workers cannot deadlock.
INSERT INTO running_totals AS t (funnel, step, os, browser, impressions, successes, failures)
SELECT d.funnel, d.step, d.os, d.browser, d.impressions, d.successes, d.failures
FROM unnest(
    %(funnel)s::text[], %(step)s::text[], %(os)s::text[], %(browser)s::text[],
    %(impressions)s::bigint[], %(successes)s::bigint[], %(failures)s::bigint[]
) AS d (funnel, step, os, browser, impressions, successes, failures)
ORDER BY d.funnel, d.step, d.os, d.browser
ON CONFLICT (funnel, step, os, browser) DO UPDATE SET
    impressions = t.impressions + excluded.impressions,
    successes = t.successes + excluded.successes,
    failures = t.failures + excluded.failures;

-- name: add_duration_totals
-- Add to the totals of durations since the beginning; sorted likewise.
INSERT INTO running_durations AS t (funnel, step, os, octave, successes, total_ms)
SELECT d.funnel, d.step, d.os, d.octave, d.successes, d.total_ms
FROM unnest(
    %(funnel)s::text[], %(step)s::text[], %(os)s::text[], %(octave)s::smallint[],
    %(successes)s::bigint[], %(total_ms)s::bigint[]
) AS d (funnel, step, os, octave, successes, total_ms)
ORDER BY d.funnel, d.step, d.os, d.octave
ON CONFLICT (funnel, step, os, octave) DO UPDATE SET
    successes = t.successes + excluded.successes,
    total_ms = t.total_ms + excluded.total_ms;

-- name: read_totals
-- All totals, in the order in which the series came.
SELECT funnel, step, os, browser, impressions, successes, failures FROM running_totals ORDER BY place;

-- name: read_duration_totals
-- All totals of durations.
SELECT funnel, step, os, octave, successes, total_ms FROM running_durations ORDER BY funnel, step, os, octave;

-- name: latest_counts
-- The counts of the newest closed windows of each funnel, and where they end.
SELECT
    p.funnel, c.step, c.os, c.browser,
    (extract(epoch FROM p.closed_through) * 1000)::bigint AS closed_through_ms,
    sum(c.impressions)::bigint AS impressions,
    sum(c.successes)::bigint AS successes
FROM funnel_progress AS p
LEFT JOIN window_counts AS c ON
    c.funnel = p.funnel
    AND c.window_start >= p.closed_through - %(over_s)s * interval '1 second'
    AND c.window_start < p.closed_through
WHERE p.closed_through IS NOT NULL
GROUP BY p.funnel, p.closed_through, c.step, c.os, c.browser
ORDER BY p.funnel, c.step, c.os, c.browser;

-- name: add_metric_totals
-- Add to the totals of counters and timers since the beginning; sorted likewise.
INSERT INTO running_metrics AS t (series, samples, total)
SELECT d.series, d.samples, d.total
FROM unnest(%(series)s::integer[], %(samples)s::bigint[], %(total)s::bigint[]) AS d (series, samples, total)
ORDER BY d.series
ON CONFLICT (series) DO UPDATE SET samples = t.samples + excluded.samples, total = t.total + excluded.total;

-- name: add_metric_duration_totals
-- Add to the totals of timers since the beginning, by octave; sorted likewise.
INSERT INTO running_metric_durations AS t (series, octave, samples)
SELECT d.series, d.octave, d.samples
FROM unnest(%(series)s::integer[], %(octave)s::smallint[], %(samples)s::bigint[]) AS d (series, octave, samples)
ORDER BY d.series, d.octave
ON CONFLICT (series, octave) DO UPDATE SET samples = t.samples + excluded.samples;

-- name: read_metric_totals
-- All totals of counters and timers, in the order in which the series came; of timers with the samples by octave.
SELECT
    t.series, s.name, s.kind, s.dimensions, t.samples, t.total,
    coalesce(
        (SELECT jsonb_object_agg(d.octave, d.samples) FROM running_metric_durations AS d WHERE d.series = t.series),
        '{}'::jsonb
    ) AS octaves
FROM running_metrics AS t INNER JOIN metric_series AS s ON s.series = t.series
ORDER BY t.series;

-- name: rates_by_step
-- The conversion rate of each step over all windows; reads the whole table.
SELECT step, sum(successes)::double precision / nullif(sum(impressions), 0) AS rate
FROM window_counts
GROUP BY step
ORDER BY step;
