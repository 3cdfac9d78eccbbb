-- The series that events count for. Names come from outside, so how many there may be is bounded.

CREATE TABLE funnel_series (
    funnel text NOT NULL,
    step text NOT NULL,
    os text NOT NULL,
    browser text NOT NULL,
    app_version text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (funnel, step, os, browser, app_version)
);
COMMENT ON TABLE funnel_series IS 'Each combination of dimensions that events count for. A value beyond a limit counts under "(other)"; this table decides, so all workers and replays agree.';

CREATE TABLE counted_funnels (
    funnel text PRIMARY KEY,
    series integer NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE counted_funnels IS 'Each funnel that has series, declared or not, and how many.';

INSERT INTO funnel_series (funnel, step, os, browser, app_version)
SELECT DISTINCT funnel, step, os, browser, app_version FROM window_counts;

INSERT INTO counted_funnels (funnel, series)
SELECT funnel, count(*) FROM funnel_series GROUP BY funnel;
