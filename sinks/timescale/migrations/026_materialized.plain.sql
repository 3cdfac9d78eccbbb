-- Rollups that are materialized up to a moment, in the manner of continuous aggregates: what is older stands in tables, the
-- rest and what has changed since is added up at each query. So a level always shows what its windows show.

INSERT INTO rollup_progress (level, width) VALUES ('5m', '5 minutes'), ('1h', '1 hour'), ('1d', '1 day');

CREATE VIEW rollup_trust AS
SELECT
    p.level,
    CASE WHEN n.number > 200 THEN least(n.oldest, p.materialized_through) ELSE p.materialized_through END AS through,
    CASE WHEN n.number > 200 THEN '{}'::timestamptz[] ELSE coalesce(n.buckets, '{}'::timestamptz[]) END AS changed
FROM rollup_progress AS p CROSS JOIN LATERAL (
    SELECT
        count(DISTINCT i.window_start) AS number,
        min(i.window_start) AS oldest,
        array_agg(DISTINCT i.window_start) AS buckets
    FROM rollup_invalidations AS i
    WHERE i.level = p.level
) AS n;
COMMENT ON VIEW rollup_trust IS 'The tables of a level are right before through, but for the buckets that have changed. A list is searched from its beginning for each row: with over 200 buckets of them nothing from the oldest on is taken from the tables.';

CREATE TABLE materialized_5m (LIKE window_counts);
CREATE INDEX ON materialized_5m (funnel, step, window_start);
CREATE INDEX ON materialized_5m USING brin (
    window_start,
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE materialized_5m IS 'live_5m where it begins before rollup_progress.materialized_through.';

CREATE TABLE materialized_1h (LIKE window_counts);
CREATE INDEX ON materialized_1h (funnel, step, window_start);
CREATE INDEX ON materialized_1h USING brin (
    window_start,
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE materialized_1h IS 'live_1h where it begins before rollup_progress.materialized_through.';

CREATE TABLE materialized_1d (LIKE window_counts);
CREATE INDEX ON materialized_1d (funnel, step, window_start);
CREATE INDEX ON materialized_1d USING brin (window_start) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE materialized_1d IS 'live_1d where it begins before rollup_progress.materialized_through.';

CREATE VIEW live_5m AS
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
COMMENT ON VIEW live_5m IS 'window_counts and what is archived, added up at each query.';

-- What is not known when a query is planned is taken for a two-hundredth of a table if it has two ends; and this is less than
-- that: so it is said by window and by bucket. Else it looks so much that the query is compiled and run in parallel.
CREATE OR REPLACE VIEW counts_5m AS
SELECT * FROM materialized_5m
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '5m')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_invalidations WHERE level = '5m')
UNION ALL
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
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '5m')
        AND window_start < (SELECT timestamptz 'infinity')
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') >= (
            SELECT through FROM rollup_trust WHERE level = '5m'
        )
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') < (SELECT timestamptz 'infinity')
    )
    OR (
        window_start >= (SELECT min(window_start) FROM rollup_invalidations WHERE level = '5m')
        AND window_start < (SELECT max(window_start) + INTERVAL '5 minutes' FROM rollup_invalidations WHERE level = '5m')
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') = ANY(
            ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '5m')
        )
    )
GROUP BY 1, 2, 3, 4, 5, 6;

CREATE VIEW live_1h AS
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
    SELECT * FROM counts_5m
    UNION ALL
    SELECT * FROM archived_1h
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW live_1h IS 'counts_5m and what is archived, added up at each query.';

CREATE OR REPLACE VIEW counts_1h AS
SELECT * FROM materialized_1h
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '1h')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_invalidations WHERE level = '1h')
UNION ALL
SELECT * FROM live_1h
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '1h')
        AND window_start < (SELECT timestamptz 'infinity')
    )
    OR window_start = ANY(ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '1h'));

CREATE VIEW live_1d AS
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
    SELECT * FROM counts_1h
    UNION ALL
    SELECT * FROM archived_1d
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW live_1d IS 'counts_1h and what is archived, added up at each query.';

CREATE OR REPLACE VIEW counts_1d AS
SELECT * FROM materialized_1d
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '1d')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_invalidations WHERE level = '1d')
UNION ALL
SELECT * FROM live_1d
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '1d')
        AND window_start < (SELECT timestamptz 'infinity')
    )
    OR window_start = ANY(ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '1d'));

CREATE TABLE materialized_durations_5m (LIKE window_durations);
CREATE INDEX ON materialized_durations_5m (funnel, step, window_start);
CREATE INDEX ON materialized_durations_5m USING brin (
    window_start,
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE materialized_durations_5m IS 'live_durations_5m where it begins before rollup_progress.materialized_through.';

CREATE TABLE materialized_durations_1h (LIKE window_durations);
CREATE INDEX ON materialized_durations_1h (funnel, step, window_start);
CREATE INDEX ON materialized_durations_1h USING brin (
    window_start,
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE materialized_durations_1h IS 'live_durations_1h where it begins before rollup_progress.materialized_through.';

CREATE TABLE materialized_durations_1d (LIKE window_durations);
CREATE INDEX ON materialized_durations_1d (funnel, step, window_start);
CREATE INDEX ON materialized_durations_1d USING brin (window_start) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE materialized_durations_1d IS 'live_durations_1d where it begins before rollup_progress.materialized_through.';

CREATE VIEW live_durations_5m AS
SELECT
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
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
FROM (
    SELECT * FROM window_durations
    UNION ALL
    SELECT * FROM archived_durations_5m
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6, 7;
COMMENT ON VIEW live_durations_5m IS 'window_durations and what is archived, added up at each query.';

-- What is not known when a query is planned is taken for a two-hundredth of a table if it has two ends; and this is less than
-- that: so it is said by window and by bucket. Else it looks so much that the query is compiled and run in parallel.
CREATE OR REPLACE VIEW durations_5m AS
SELECT * FROM materialized_durations_5m
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '5m')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_invalidations WHERE level = '5m')
UNION ALL
SELECT
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
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
FROM (
    SELECT * FROM window_durations
    UNION ALL
    SELECT * FROM archived_durations_5m
) AS counted
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '5m')
        AND window_start < (SELECT timestamptz 'infinity')
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') >= (
            SELECT through FROM rollup_trust WHERE level = '5m'
        )
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') < (SELECT timestamptz 'infinity')
    )
    OR (
        window_start >= (SELECT min(window_start) FROM rollup_invalidations WHERE level = '5m')
        AND window_start < (SELECT max(window_start) + INTERVAL '5 minutes' FROM rollup_invalidations WHERE level = '5m')
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') = ANY(
            ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '5m')
        )
    )
GROUP BY 1, 2, 3, 4, 5, 6, 7;

CREATE VIEW live_durations_1h AS
SELECT
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
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
FROM (
    SELECT * FROM durations_5m
    UNION ALL
    SELECT * FROM archived_durations_1h
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6, 7;
COMMENT ON VIEW live_durations_1h IS 'durations_5m and what is archived, added up at each query.';

CREATE OR REPLACE VIEW durations_1h AS
SELECT * FROM materialized_durations_1h
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '1h')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_invalidations WHERE level = '1h')
UNION ALL
SELECT * FROM live_durations_1h
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '1h')
        AND window_start < (SELECT timestamptz 'infinity')
    )
    OR window_start = ANY(ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '1h'));

CREATE VIEW live_durations_1d AS
SELECT
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
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
FROM (
    SELECT * FROM durations_1h
    UNION ALL
    SELECT * FROM archived_durations_1d
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6, 7;
COMMENT ON VIEW live_durations_1d IS 'durations_1h and what is archived, added up at each query.';

CREATE OR REPLACE VIEW durations_1d AS
SELECT * FROM materialized_durations_1d
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '1d')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_invalidations WHERE level = '1d')
UNION ALL
SELECT * FROM live_durations_1d
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '1d')
        AND window_start < (SELECT timestamptz 'infinity')
    )
    OR window_start = ANY(ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '1d'));

-- Who writes counts past funnelwatch notes nothing down: then nothing counts as materialized any more, and the workers begin
-- anew. Ours say so in each transaction (queries hold_closer_off, lock_rollups).
CREATE FUNCTION distrust_rollups() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM rollup_progress ORDER BY level FOR UPDATE;
    UPDATE rollup_progress SET materialized_through = '-infinity' WHERE materialized_through > '-infinity';
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION distrust_rollups IS 'Takes every rollup for not materialized.';

CREATE TRIGGER distrust_rollups BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON window_counts
FOR EACH STATEMENT WHEN (current_setting('funnelwatch.counting', true) IS DISTINCT FROM 'on')
EXECUTE FUNCTION distrust_rollups();
CREATE TRIGGER distrust_rollups BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON window_durations
FOR EACH STATEMENT WHEN (current_setting('funnelwatch.counting', true) IS DISTINCT FROM 'on')
EXECUTE FUNCTION distrust_rollups();
