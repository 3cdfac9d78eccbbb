-- With the extension: tables of counts in chunks, compressed by series once hardly any late event comes for them.
SELECT create_hypertable('window_counts', 'window_start', chunk_time_interval => INTERVAL '1 day');
SELECT create_hypertable('rollup_5m', 'window_start', chunk_time_interval => INTERVAL '7 days');
SELECT create_hypertable('rollup_1h', 'window_start', chunk_time_interval => INTERVAL '28 days');
SELECT create_hypertable('rollup_1d', 'window_start', chunk_time_interval => INTERVAL '364 days');
SELECT create_hypertable('metric_counts', 'window_start', chunk_time_interval => INTERVAL '1 day');
ALTER TABLE window_counts SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'window_start'
);
SELECT add_compression_policy('window_counts', compress_after => INTERVAL '7 days', if_not_exists => true);
ALTER TABLE rollup_5m SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'window_start'
);
SELECT add_compression_policy('rollup_5m', compress_after => INTERVAL '30 days', if_not_exists => true);
ALTER TABLE rollup_1h SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'window_start'
);
SELECT add_compression_policy('rollup_1h', compress_after => INTERVAL '90 days', if_not_exists => true);
ALTER TABLE metric_counts SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series', timescaledb.compress_orderby = 'window_start'
);
SELECT add_compression_policy('metric_counts', compress_after => INTERVAL '7 days', if_not_exists => true);
