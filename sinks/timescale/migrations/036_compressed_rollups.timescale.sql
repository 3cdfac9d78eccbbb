-- Rollups of 5 minutes and hours are compressed after a month, by series, as windows are after a week.

-- A late event may still come for them: a refresh then unpacks the rows of its buckets, and the job packs them again. Days are
-- few rows, and a chunk of theirs has ten of a series, so they stay as they are.
ALTER MATERIALIZED VIEW counts_5m SET (
    timescaledb.compress = true,
    timescaledb.compress_segmentby = 'funnel, step, os, browser, app_version',
    timescaledb.compress_orderby = 'window_start'
);
ALTER MATERIALIZED VIEW counts_1h SET (
    timescaledb.compress = true,
    timescaledb.compress_segmentby = 'funnel, step, os, browser, app_version',
    timescaledb.compress_orderby = 'window_start'
);
ALTER MATERIALIZED VIEW durations_5m SET (
    timescaledb.compress = true,
    timescaledb.compress_segmentby = 'funnel, step, os, browser, app_version',
    timescaledb.compress_orderby = 'window_start, octave'
);
ALTER MATERIALIZED VIEW durations_1h SET (
    timescaledb.compress = true,
    timescaledb.compress_segmentby = 'funnel, step, os, browser, app_version',
    timescaledb.compress_orderby = 'window_start, octave'
);
SELECT add_compression_policy('counts_5m', compress_after => INTERVAL '30 days', if_not_exists => true);
SELECT add_compression_policy('counts_1h', compress_after => INTERVAL '30 days', if_not_exists => true);
SELECT add_compression_policy('durations_5m', compress_after => INTERVAL '30 days', if_not_exists => true);
SELECT add_compression_policy('durations_1h', compress_after => INTERVAL '30 days', if_not_exists => true);
