-- Time to convert, for people: quantiles of how long successes took.

CREATE VIEW time_to_convert AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    conversions,
    duration_quantile(0.5, octaves, slots) AS p50_ms,
    duration_quantile(0.9, octaves, slots) AS p90_ms,
    duration_quantile(0.99, octaves, slots) AS p99_ms
FROM (
    SELECT
        window_start,
        funnel,
        step,
        os,
        browser,
        app_version,
        sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7)::bigint AS conversions,
        array_agg(octave ORDER BY octave) AS octaves,
        array_agg(ARRAY[n0, n1, n2, n3, n4, n5, n6, n7] ORDER BY octave) AS slots
    FROM window_durations
    GROUP BY 1, 2, 3, 4, 5, 6
) AS histograms;
COMMENT ON VIEW time_to_convert IS 'Quantiles of the ms from impression to success, where known (conversions: of how many), by window and series; less than 12.5 % off. To add series up, add up window_durations by octave and use duration_quantile.';

CREATE VIEW time_to_convert_5m AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    conversions,
    duration_quantile(0.5, octaves, slots) AS p50_ms,
    duration_quantile(0.9, octaves, slots) AS p90_ms,
    duration_quantile(0.99, octaves, slots) AS p99_ms
FROM (
    SELECT
        window_start,
        funnel,
        step,
        os,
        browser,
        app_version,
        sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7)::bigint AS conversions,
        array_agg(octave ORDER BY octave) AS octaves,
        array_agg(ARRAY[n0, n1, n2, n3, n4, n5, n6, n7] ORDER BY octave) AS slots
    FROM durations_5m
    GROUP BY 1, 2, 3, 4, 5, 6
) AS histograms;
COMMENT ON VIEW time_to_convert_5m IS 'As time_to_convert, by 5 minutes.';

CREATE VIEW time_to_convert_1h AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    conversions,
    duration_quantile(0.5, octaves, slots) AS p50_ms,
    duration_quantile(0.9, octaves, slots) AS p90_ms,
    duration_quantile(0.99, octaves, slots) AS p99_ms
FROM (
    SELECT
        window_start,
        funnel,
        step,
        os,
        browser,
        app_version,
        sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7)::bigint AS conversions,
        array_agg(octave ORDER BY octave) AS octaves,
        array_agg(ARRAY[n0, n1, n2, n3, n4, n5, n6, n7] ORDER BY octave) AS slots
    FROM durations_1h
    GROUP BY 1, 2, 3, 4, 5, 6
) AS histograms;
COMMENT ON VIEW time_to_convert_1h IS 'As time_to_convert, by hour.';

CREATE VIEW time_to_convert_1d AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    conversions,
    duration_quantile(0.5, octaves, slots) AS p50_ms,
    duration_quantile(0.9, octaves, slots) AS p90_ms,
    duration_quantile(0.99, octaves, slots) AS p99_ms
FROM (
    SELECT
        window_start,
        funnel,
        step,
        os,
        browser,
        app_version,
        sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7)::bigint AS conversions,
        array_agg(octave ORDER BY octave) AS octaves,
        array_agg(ARRAY[n0, n1, n2, n3, n4, n5, n6, n7] ORDER BY octave) AS slots
    FROM durations_1d
    GROUP BY 1, 2, 3, 4, 5, 6
) AS histograms;
COMMENT ON VIEW time_to_convert_1d IS 'As time_to_convert, by day.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        GRANT SELECT ON
            window_durations, durations_5m, durations_1h, durations_1d,
            time_to_convert, time_to_convert_5m, time_to_convert_1h, time_to_convert_1d
        TO funnelwatch_reader;
    END IF;
END
$$;
