-- window_durations as a hypertable with rollups, policies and compression, in the manner of migrations 002 and 010.

SELECT create_hypertable('window_durations', 'window_start', chunk_time_interval => INTERVAL '1 day');

CREATE MATERIALIZED VIEW durations_5m
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    time_bucket(INTERVAL '5 minutes', window_start) AS window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    octave,
    sum(n0)::bigint AS n0,
    sum(n1)::bigint AS n1,
    sum(n2)::bigint AS n2,
    sum(n3)::bigint AS n3,
    sum(n4)::bigint AS n4,
    sum(n5)::bigint AS n5,
    sum(n6)::bigint AS n6,
    sum(n7)::bigint AS n7
FROM window_durations
GROUP BY 1, 2, 3, 4, 5, 6, 7
WITH NO DATA;
CREATE INDEX ON durations_5m (funnel, step, window_start);
COMMENT ON VIEW durations_5m IS 'window_durations added up by 5 minutes of window_start.';

CREATE MATERIALIZED VIEW durations_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    time_bucket(INTERVAL '1 hour', window_start) AS window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    octave,
    sum(n0)::bigint AS n0,
    sum(n1)::bigint AS n1,
    sum(n2)::bigint AS n2,
    sum(n3)::bigint AS n3,
    sum(n4)::bigint AS n4,
    sum(n5)::bigint AS n5,
    sum(n6)::bigint AS n6,
    sum(n7)::bigint AS n7
FROM durations_5m
GROUP BY 1, 2, 3, 4, 5, 6, 7
WITH NO DATA;
CREATE INDEX ON durations_1h (funnel, step, window_start);
COMMENT ON VIEW durations_1h IS 'window_durations added up by hours.';

CREATE MATERIALIZED VIEW durations_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    time_bucket(INTERVAL '1 day', window_start) AS window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    octave,
    sum(n0)::bigint AS n0,
    sum(n1)::bigint AS n1,
    sum(n2)::bigint AS n2,
    sum(n3)::bigint AS n3,
    sum(n4)::bigint AS n4,
    sum(n5)::bigint AS n5,
    sum(n6)::bigint AS n6,
    sum(n7)::bigint AS n7
FROM durations_1h
GROUP BY 1, 2, 3, 4, 5, 6, 7
WITH NO DATA;
CREATE INDEX ON durations_1d (funnel, step, window_start);
COMMENT ON VIEW durations_1d IS 'window_durations added up by days, UTC.';

SELECT add_continuous_aggregate_policy(
    'durations_5m',
    start_offset => NULL, end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '5 minutes',
    if_not_exists => true
);
SELECT add_continuous_aggregate_policy(
    'durations_1h',
    start_offset => NULL, end_offset => INTERVAL '3 hours', schedule_interval => INTERVAL '15 minutes',
    if_not_exists => true
);
SELECT add_continuous_aggregate_policy(
    'durations_1d',
    start_offset => NULL, end_offset => INTERVAL '2 days', schedule_interval => INTERVAL '1 hour',
    if_not_exists => true
);

ALTER TABLE window_durations SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'funnel, step, os, browser, app_version',
    timescaledb.compress_orderby = 'window_start, octave'
);
SELECT add_compression_policy('window_durations', compress_after => INTERVAL '7 days', if_not_exists => true);
