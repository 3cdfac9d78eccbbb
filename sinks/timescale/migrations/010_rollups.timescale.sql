-- Rollups of window_counts as continuous aggregates, each made of the finer one; compression; what keeps both up to date.

-- Every level adds what is not materialized yet from the one below (materialized_only is false), so that the newest
-- counts are in all of them at once.
CREATE MATERIALIZED VIEW counts_5m
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    time_bucket(INTERVAL '5 minutes', window_start) AS window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures
FROM window_counts
GROUP BY 1, 2, 3, 4, 5, 6
WITH NO DATA;
CREATE INDEX ON counts_5m (funnel, step, window_start);
COMMENT ON VIEW counts_5m IS 'window_counts added up by 5 minutes of window_start.';

CREATE MATERIALIZED VIEW counts_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    time_bucket(INTERVAL '1 hour', window_start) AS window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures
FROM counts_5m
GROUP BY 1, 2, 3, 4, 5, 6
WITH NO DATA;
CREATE INDEX ON counts_1h (funnel, step, window_start);
COMMENT ON VIEW counts_1h IS 'window_counts added up by hours.';

CREATE MATERIALIZED VIEW counts_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
SELECT
    time_bucket(INTERVAL '1 day', window_start) AS window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures
FROM counts_1h
GROUP BY 1, 2, 3, 4, 5, 6
WITH NO DATA;
CREATE INDEX ON counts_1d (funnel, step, window_start);
COMMENT ON VIEW counts_1d IS 'window_counts added up by days, UTC.';

-- From the beginning on: a policy refreshes only what the extension has noted as changed, and late events and backfills
-- may change any time. Up to an end that lies behind what is still being counted: once a bucket is materialized, what
-- comes for it is not seen until the next refresh.
SELECT add_continuous_aggregate_policy(
    'counts_5m',
    start_offset => NULL, end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '5 minutes',
    if_not_exists => true
);
SELECT add_continuous_aggregate_policy(
    'counts_1h',
    start_offset => NULL, end_offset => INTERVAL '3 hours', schedule_interval => INTERVAL '15 minutes',
    if_not_exists => true
);
SELECT add_continuous_aggregate_policy(
    'counts_1d',
    start_offset => NULL, end_offset => INTERVAL '2 days', schedule_interval => INTERVAL '1 hour',
    if_not_exists => true
);

-- By series, so that a late event unpacks its own series of its day and nothing else. After a week hardly any comes.
ALTER TABLE window_counts SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'funnel, step, os, browser, app_version',
    timescaledb.compress_orderby = 'window_start'
);
SELECT add_compression_policy('window_counts', compress_after => INTERVAL '7 days', if_not_exists => true);
