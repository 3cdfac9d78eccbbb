-- Rollups of window_durations as views, in the manner of migration 010.

CREATE INDEX window_durations_time ON window_durations USING brin (
    window_start,
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE archived_durations_5m (LIKE window_durations INCLUDING ALL);
CREATE TABLE archived_durations_1h (LIKE window_durations INCLUDING ALL);
CREATE TABLE archived_durations_1d (LIKE window_durations INCLUDING ALL);
COMMENT ON TABLE archived_durations_5m IS 'Durations by 5 minutes of windows that are not kept any more.';
COMMENT ON TABLE archived_durations_1h IS 'Durations by the hour of what archived_durations_5m does not keep any more.';
COMMENT ON TABLE archived_durations_1d IS 'Durations by the day of what archived_durations_1h does not keep any more.';

CREATE VIEW durations_5m AS
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
COMMENT ON VIEW durations_5m IS 'window_durations added up by 5 minutes of window_start.';

CREATE VIEW durations_1h AS
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
    SELECT * FROM window_durations
    UNION ALL
    SELECT * FROM archived_durations_5m
    UNION ALL
    SELECT * FROM archived_durations_1h
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6, 7;
COMMENT ON VIEW durations_1h IS 'window_durations added up by hours.';

CREATE VIEW durations_1d AS
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
    SELECT * FROM window_durations
    UNION ALL
    SELECT * FROM archived_durations_5m
    UNION ALL
    SELECT * FROM archived_durations_1h
    UNION ALL
    SELECT * FROM archived_durations_1d
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6, 7;
COMMENT ON VIEW durations_1d IS 'window_durations added up by days, UTC.';
