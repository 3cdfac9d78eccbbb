-- window_counts by day, as a hypertable; the key holds window_start, as it must.
SELECT create_hypertable('window_counts', 'window_start', chunk_time_interval => INTERVAL '1 day');
