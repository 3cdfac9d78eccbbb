-- Counters and timers, for people.

CREATE VIEW metrics AS
SELECT c.window_start, s.name, s.kind, s.dimensions, c.samples, c.total, c.series
FROM metric_counts AS c INNER JOIN metric_series AS s ON s.series = c.series;
COMMENT ON VIEW metrics IS 'Counters and timers by window: samples, and the total of their increments or milliseconds.';

CREATE VIEW timers AS
SELECT
    h.window_start,
    s.name,
    s.dimensions,
    h.samples,
    duration_quantile(0.5, h.octaves, h.slots) AS p50_ms,
    duration_quantile(0.9, h.octaves, h.slots) AS p90_ms,
    duration_quantile(0.99, h.octaves, h.slots) AS p99_ms,
    h.series
FROM (
    SELECT
        window_start,
        series,
        sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7)::bigint AS samples,
        array_agg(octave ORDER BY octave) AS octaves,
        array_agg(ARRAY[n0, n1, n2, n3, n4, n5, n6, n7] ORDER BY octave) AS slots
    FROM metric_durations
    GROUP BY 1, 2
) AS h
INNER JOIN metric_series AS s ON s.series = h.series;
COMMENT ON VIEW timers IS 'Quantiles of timers by window, ms; less than 12.5 % off. To add series up, add up metric_durations by octave and use duration_quantile.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        GRANT SELECT ON metric_series, metric_counts, metric_durations, metrics, timers TO funnelwatch_reader;
    END IF;
END
$$;
