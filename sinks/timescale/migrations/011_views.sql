-- Views for people: rates with their intervals, the funnel step by step, cohorts, alerts.

CREATE FUNCTION wilson_low(successes double precision, trials double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN trials <= 0 OR successes < 0 OR successes > trials THEN NULL
    WHEN successes = 0 THEN 0
    -- 3.8414588206941227 is the square of 1.959963984540054, the quantile of the normal distribution.
    ELSE greatest(0, (
        successes / trials + 3.8414588206941227 / trials / 2
        - 1.959963984540054 * sqrt(
            successes / trials * (1 - successes / trials) / trials
            + 3.8414588206941227 / trials / (4 * trials)
        )
    ) / (1 + 3.8414588206941227 / trials))
END;
COMMENT ON FUNCTION wilson_low IS 'Lower end of the 95 % interval of successes / trials (Wilson 1927, as sinks/timescale/wilson.py); null where there is none.';

CREATE FUNCTION wilson_high(successes double precision, trials double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN trials <= 0 OR successes < 0 OR successes > trials THEN NULL
    WHEN successes = trials THEN 1
    ELSE least(1, (
        successes / trials + 3.8414588206941227 / trials / 2
        + 1.959963984540054 * sqrt(
            successes / trials * (1 - successes / trials) / trials
            + 3.8414588206941227 / trials / (4 * trials)
        )
    ) / (1 + 3.8414588206941227 / trials))
END;
COMMENT ON FUNCTION wilson_high IS 'Upper end of the 95 % interval of successes / trials (Wilson 1927, as sinks/timescale/wilson.py); null where there is none.';

CREATE OR REPLACE VIEW conversion AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    impressions,
    successes,
    failures,
    successes::double precision / nullif(impressions, 0) AS rate,
    cohort_successes,
    cohort_failures,
    cohort_successes::double precision / nullif(impressions, 0) AS cohort_rate,
    wilson_low(successes, impressions) AS rate_low,
    wilson_high(successes, impressions) AS rate_high
FROM window_counts;
COMMENT ON VIEW conversion IS 'window_counts with its rates: rate by window, cohort_rate of those shown the step in the window; null where nobody was. rate_low and rate_high enclose the rate with 95 % coverage; null where it is above 1.';

CREATE VIEW conversion_5m AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    impressions,
    successes,
    failures,
    successes::double precision / nullif(impressions, 0) AS rate,
    cohort_successes,
    cohort_failures,
    cohort_successes::double precision / nullif(impressions, 0) AS cohort_rate,
    wilson_low(successes, impressions) AS rate_low,
    wilson_high(successes, impressions) AS rate_high
FROM counts_5m;
COMMENT ON VIEW conversion_5m IS 'As conversion, by 5 minutes.';

CREATE VIEW conversion_1h AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    impressions,
    successes,
    failures,
    successes::double precision / nullif(impressions, 0) AS rate,
    cohort_successes,
    cohort_failures,
    cohort_successes::double precision / nullif(impressions, 0) AS cohort_rate,
    wilson_low(successes, impressions) AS rate_low,
    wilson_high(successes, impressions) AS rate_high
FROM counts_1h;
COMMENT ON VIEW conversion_1h IS 'As conversion, by hour.';

CREATE VIEW conversion_1d AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    impressions,
    successes,
    failures,
    successes::double precision / nullif(impressions, 0) AS rate,
    cohort_successes,
    cohort_failures,
    cohort_successes::double precision / nullif(impressions, 0) AS cohort_rate,
    wilson_low(successes, impressions) AS rate_low,
    wilson_high(successes, impressions) AS rate_high
FROM counts_1d;
COMMENT ON VIEW conversion_1d IS 'As conversion, by day, UTC.';

CREATE TABLE declared_steps (
    funnel text NOT NULL,
    position integer NOT NULL CHECK (position > 0),
    step text NOT NULL,
    PRIMARY KEY (funnel, position),
    UNIQUE (funnel, step)
);
COMMENT ON TABLE declared_steps IS 'The steps of declared funnels in their order, from 1; as the worker that was started last knows them.';

CREATE VIEW funnel_steps AS
SELECT
    c.window_start,
    c.funnel,
    s.position,
    c.step,
    c.os,
    c.browser,
    c.app_version,
    sum(c.impressions)::bigint AS impressions,
    sum(c.successes)::bigint AS successes,
    sum(c.impressions_before)::bigint AS impressions_before,
    sum(c.successes_before)::bigint AS successes_before,
    CASE WHEN s.position > 1 THEN sum(c.impressions)::double precision / nullif(sum(c.impressions_before), 0) END
        AS survival
FROM (
    SELECT
        window_start, funnel, step, os, browser, app_version,
        impressions, successes, 0 AS impressions_before, 0 AS successes_before
    FROM window_counts
    UNION ALL
    SELECT
        b.window_start, b.funnel, following.step, b.os, b.browser, b.app_version,
        0, 0, b.impressions, b.successes
    FROM window_counts AS b
    INNER JOIN declared_steps AS this ON this.funnel = b.funnel AND this.step = b.step
    INNER JOIN declared_steps AS following
        ON following.funnel = this.funnel AND following.position = this.position + 1
) AS c
INNER JOIN declared_steps AS s ON s.funnel = c.funnel AND s.step = c.step
GROUP BY c.window_start, c.funnel, s.position, c.step, c.os, c.browser, c.app_version;
COMMENT ON VIEW funnel_steps IS 'The steps of declared funnels, each beside the one before it. survival: of those shown the step before in the window, how many were shown this one; null for the first. To add up, add the counts up and divide.';

ALTER TABLE deployment ADD COLUMN maturity interval NOT NULL DEFAULT INTERVAL '2 minutes';
COMMENT ON COLUMN deployment.maturity IS 'A cohort is mature when all windows are closed that end at most this long after its own: a time within which nearly every success has come.';

CREATE VIEW cohort_conversion AS
SELECT
    c.window_start,
    c.funnel,
    c.step,
    c.os,
    c.browser,
    c.app_version,
    c.impressions,
    c.cohort_successes AS successes,
    c.cohort_failures AS failures,
    c.cohort_successes::double precision / nullif(c.impressions, 0) AS rate,
    wilson_low(c.cohort_successes, c.impressions) AS rate_low,
    wilson_high(c.cohort_successes, c.impressions) AS rate_high,
    coalesce(
        c.window_start + d.window_ms * INTERVAL '1 millisecond' + d.maturity <= p.closed_through,
        false
    ) AS mature
FROM window_counts AS c
CROSS JOIN deployment AS d
LEFT JOIN funnel_progress AS p ON p.funnel = c.funnel;
COMMENT ON VIEW cohort_conversion IS 'Of those shown the step in the window, how many made it, whenever that was. While a window is not mature its rate still grows.';

CREATE VIEW alert_messages AS
SELECT
    alert_id,
    sequence,
    alert ->> 'state' AS state,
    alert ->> 'reason' AS reason,
    alert ->> 'rule' AS rule,
    alert ->> 'severity' AS severity,
    alert ->> 'funnel' AS funnel,
    alert ->> 'step' AS step,
    coalesce(alert -> 'dimensions' ->> 'os', '') AS os,
    coalesce(alert -> 'dimensions' ->> 'browser', '') AS browser,
    coalesce(alert -> 'dimensions' ->> 'app_version', '') AS app_version,
    alert ->> 'basis' AS basis,
    to_timestamp((alert ->> 'started_at')::bigint / 1000.0) AS started_at,
    to_timestamp((alert ->> 'window_start')::bigint / 1000.0) AS window_start,
    to_timestamp((alert ->> 'window_end')::bigint / 1000.0) AS window_end,
    (alert ->> 'rate')::double precision AS rate,
    (alert ->> 'expected_rate')::double precision AS expected_rate,
    (alert ->> 'expected_low')::double precision AS expected_low,
    (alert ->> 'expected_high')::double precision AS expected_high,
    (alert ->> 'impressions')::bigint AS impressions,
    (alert ->> 'successes')::bigint AS successes,
    (alert ->> 'score')::double precision AS score,
    (alert ->> 'lost_conversions')::double precision AS lost_conversions,
    coalesce(alert ->> 'where_dimension', '') AS where_dimension,
    coalesce(alert ->> 'where_value', '') AS where_value,
    coalesce((alert ->> 'where_share')::double precision, 0) AS where_share,
    coalesce(alert -> 'annotations' ->> 'summary', '') AS summary,
    published_at
FROM alerts;
COMMENT ON VIEW alert_messages IS 'Every message of every alert with its fields as columns (schemas/alert.avsc); times are those of events. A dimension that the rule does not tell apart is empty.';

CREATE VIEW alert_history AS
SELECT
    m.alert_id,
    (array_agg(m.rule ORDER BY m.sequence))[1] AS rule,
    (array_agg(m.severity ORDER BY m.sequence DESC))[1] AS severity,
    (array_agg(m.state ORDER BY m.sequence DESC))[1] AS state,
    (array_agg(m.reason ORDER BY m.sequence DESC))[1] AS reason,
    m.funnel,
    m.step,
    m.os,
    m.browser,
    m.app_version,
    min(m.started_at) AS started_at,
    min(m.window_end) AS fired_at,
    max(m.window_end) FILTER (WHERE m.state = 'resolved') AS resolved_at,
    count(*) AS messages,
    (array_agg(m.rate ORDER BY m.rate - m.expected_rate, m.sequence))[1] AS worst_rate,
    (array_agg(m.expected_rate ORDER BY m.rate - m.expected_rate, m.sequence))[1] AS expected_rate,
    max(m.lost_conversions) AS lost_conversions,
    (array_agg(m.where_dimension ORDER BY m.sequence DESC))[1] AS where_dimension,
    (array_agg(m.where_value ORDER BY m.sequence DESC))[1] AS where_value,
    (array_agg(m.where_share ORDER BY m.sequence DESC))[1] AS where_share,
    (array_agg(m.summary ORDER BY m.sequence DESC))[1] AS summary
FROM alert_messages AS m
GROUP BY m.alert_id, m.funnel, m.step, m.os, m.browser, m.app_version;
COMMENT ON VIEW alert_history IS 'One row an alert. started_at is the start of the drop, fired_at the end of the window that made it known; resolved_at is null while it fires. worst_rate is the one farthest below what was expected.';
