-- Rollups of window_counts as views, with the names that continuous aggregates have where the extension is.

-- A range of a rollup's window_start is found by the block ranges that hold it, whichever rollup it is.
DROP INDEX window_counts_time;
CREATE INDEX window_counts_time ON window_counts USING brin (
    window_start,
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);

-- What is deleted from a level is added here first, in the same transaction: rollups outlive what they are made of.
CREATE TABLE archived_5m (LIKE window_counts INCLUDING ALL);
CREATE TABLE archived_1h (LIKE window_counts INCLUDING ALL);
CREATE TABLE archived_1d (LIKE window_counts INCLUDING ALL);
COMMENT ON TABLE archived_5m IS 'Counts by 5 minutes of windows that are not kept any more.';
COMMENT ON TABLE archived_1h IS 'Counts by the hour of what archived_5m does not keep any more.';
COMMENT ON TABLE archived_1d IS 'Counts by the day of what archived_1h does not keep any more.';

CREATE VIEW counts_5m AS
SELECT
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
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
FROM (
    SELECT * FROM window_counts
    UNION ALL
    SELECT * FROM archived_5m
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW counts_5m IS 'window_counts added up by 5 minutes of window_start.';

CREATE VIEW counts_1h AS
SELECT
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
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
FROM (
    SELECT * FROM window_counts
    UNION ALL
    SELECT * FROM archived_5m
    UNION ALL
    SELECT * FROM archived_1h
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW counts_1h IS 'window_counts added up by hours.';

CREATE VIEW counts_1d AS
SELECT
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
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
FROM (
    SELECT * FROM window_counts
    UNION ALL
    SELECT * FROM archived_5m
    UNION ALL
    SELECT * FROM archived_1h
    UNION ALL
    SELECT * FROM archived_1d
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW counts_1d IS 'window_counts added up by days, UTC.';
