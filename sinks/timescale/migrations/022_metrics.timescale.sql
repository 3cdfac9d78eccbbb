-- By day, as hypertables, compressed after a week as window_counts is.
SELECT create_hypertable('metric_counts', 'window_start', chunk_time_interval => INTERVAL '1 day');
SELECT create_hypertable('metric_durations', 'window_start', chunk_time_interval => INTERVAL '1 day');
ALTER TABLE metric_counts SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series', timescaledb.compress_orderby = 'window_start'
);
ALTER TABLE metric_durations SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series', timescaledb.compress_orderby = 'window_start, octave'
);
SELECT add_compression_policy('metric_counts', compress_after => INTERVAL '7 days', if_not_exists => true);
SELECT add_compression_policy('metric_durations', compress_after => INTERVAL '7 days', if_not_exists => true);
