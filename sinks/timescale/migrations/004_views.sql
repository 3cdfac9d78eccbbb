-- Views for people: rates with their intervals, the funnel step by step, cohorts, time to convert.
-- Each series exists, yet the views join it from the left, behind coalesce: so a condition on a dimension, of which the
-- planner cannot guess how many series meet it, never makes it read the range of counts anew for each series.

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

CREATE VIEW conversion AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.impressions,
    c.successes,
    c.failures,
    c.successes::double precision / nullif(c.impressions, 0) AS rate,
    c.cohort_successes,
    c.cohort_failures,
    c.cohort_successes::double precision / nullif(c.impressions, 0) AS cohort_rate,
    wilson_low(c.successes, c.impressions) AS rate_low,
    wilson_high(c.successes, c.impressions) AS rate_high,
    c.series_id
FROM window_counts AS c LEFT JOIN series AS s ON s.series_id = c.series_id;
COMMENT ON VIEW conversion IS 'window_counts with its rates: rate by window, cohort_rate of those shown the step in the window; null where nobody was. rate_low and rate_high enclose the rate with 95 % coverage; null where it is above 1. dimensions holds every dimension that has a value.';

CREATE VIEW conversion_5m AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.impressions,
    c.successes,
    c.failures,
    c.successes::double precision / nullif(c.impressions, 0) AS rate,
    c.cohort_successes,
    c.cohort_failures,
    c.cohort_successes::double precision / nullif(c.impressions, 0) AS cohort_rate,
    wilson_low(c.successes, c.impressions) AS rate_low,
    wilson_high(c.successes, c.impressions) AS rate_high,
    c.series_id
FROM counts_5m AS c LEFT JOIN series AS s ON s.series_id = c.series_id;
COMMENT ON VIEW conversion_5m IS 'As conversion, by 5 minutes.';

CREATE VIEW conversion_1h AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.impressions,
    c.successes,
    c.failures,
    c.successes::double precision / nullif(c.impressions, 0) AS rate,
    c.cohort_successes,
    c.cohort_failures,
    c.cohort_successes::double precision / nullif(c.impressions, 0) AS cohort_rate,
    wilson_low(c.successes, c.impressions) AS rate_low,
    wilson_high(c.successes, c.impressions) AS rate_high,
    c.series_id
FROM counts_1h AS c LEFT JOIN series AS s ON s.series_id = c.series_id;
COMMENT ON VIEW conversion_1h IS 'As conversion, by hour.';

CREATE VIEW conversion_1d AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.impressions,
    c.successes,
    c.failures,
    c.successes::double precision / nullif(c.impressions, 0) AS rate,
    c.cohort_successes,
    c.cohort_failures,
    c.cohort_successes::double precision / nullif(c.impressions, 0) AS cohort_rate,
    wilson_low(c.successes, c.impressions) AS rate_low,
    wilson_high(c.successes, c.impressions) AS rate_high,
    c.series_id
FROM counts_1d AS c LEFT JOIN series AS s ON s.series_id = c.series_id;
COMMENT ON VIEW conversion_1d IS 'As conversion, by day, UTC.';

CREATE VIEW funnel_steps AS
SELECT
    c.window_start,
    c.funnel,
    s.position,
    c.step,
    coalesce(c.dimensions ->> 'os', '') AS os,
    coalesce(c.dimensions ->> 'browser', '') AS browser,
    coalesce(c.dimensions ->> 'app_version', '') AS app_version,
    c.dimensions,
    sum(c.impressions)::bigint AS impressions,
    sum(c.successes)::bigint AS successes,
    sum(c.impressions_before)::bigint AS impressions_before,
    sum(c.successes_before)::bigint AS successes_before,
    CASE WHEN s.position > 1 THEN sum(c.impressions)::double precision / nullif(sum(c.impressions_before), 0) END
        AS survival
FROM (
    SELECT
        w.window_start, coalesce(k.funnel, '') AS funnel, coalesce(k.step, '') AS step, coalesce(k.dimensions, '{}') AS dimensions,
        w.impressions, w.successes, 0 AS impressions_before, 0 AS successes_before
    FROM window_counts AS w LEFT JOIN series AS k ON k.series_id = w.series_id
    UNION ALL
    SELECT
        w.window_start, coalesce(k.funnel, ''), following.step, coalesce(k.dimensions, '{}'),
        0, 0, w.impressions, w.successes
    FROM window_counts AS w
    LEFT JOIN series AS k ON k.series_id = w.series_id
    INNER JOIN declared_steps AS this ON this.funnel = coalesce(k.funnel, '') AND this.step = coalesce(k.step, '')
    INNER JOIN declared_steps AS following
        ON following.funnel = this.funnel AND following.position = this.position + 1
) AS c
INNER JOIN declared_steps AS s ON s.funnel = c.funnel AND s.step = c.step
GROUP BY c.window_start, c.funnel, s.position, c.step, c.dimensions;
COMMENT ON VIEW funnel_steps IS 'The steps of declared funnels, each beside the one before it. survival: of those shown the step before in the window, how many were shown this one; null for the first. To add up, add the counts up and divide.';

CREATE VIEW cohort_conversion AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
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
LEFT JOIN series AS s ON s.series_id = c.series_id
CROSS JOIN deployment AS d
LEFT JOIN funnel_progress AS p ON p.funnel = s.funnel;
COMMENT ON VIEW cohort_conversion IS 'Of those shown the step in the window, how many made it, whenever that was. While a window is not mature its rate still grows.';

CREATE VIEW time_to_convert AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    (SELECT sum(n)::bigint FROM unnest(c.slots) AS slot (n)) AS conversions,
    duration_quantile(0.5, c.slots) AS p50_ms,
    duration_quantile(0.9, c.slots) AS p90_ms,
    duration_quantile(0.99, c.slots) AS p99_ms,
    c.slots
FROM (
    SELECT window_start, series_id, ARRAY[
        d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15, d16, d17, d18, d19, d20, d21, d22, d23, d24, d25,
        d26, d27, d28, d29, d30, d31, d32, d33, d34, d35, d36, d37, d38, d39, d40, d41, d42, d43, d44, d45, d46, d47, d48, d49,
        d50, d51, d52, d53, d54, d55, d56, d57, d58, d59, d60, d61, d62, d63, d64, d65, d66, d67, d68, d69, d70, d71, d72, d73,
        d74, d75, d76, d77, d78, d79, d80, d81, d82, d83, d84, d85, d86, d87, d88, d89, d90, d91, d92, d93, d94, d95, d96, d97,
        d98, d99, d100, d101, d102, d103, d104, d105, d106, d107, d108, d109, d110, d111, d112, d113, d114, d115, d116, d117,
        d118, d119
    ]::bigint[] AS slots
    FROM window_counts
) AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
WHERE EXISTS (SELECT FROM unnest(c.slots) AS slot (n) WHERE n > 0);
COMMENT ON VIEW time_to_convert IS 'Quantiles of the ms from impression to success, where known (conversions: of how many), by window and series; at most 12.5 % off. To add series up, add slots up and use duration_quantile: slots is an array of their counts.';

CREATE VIEW time_to_convert_5m AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    (SELECT sum(n)::bigint FROM unnest(c.slots) AS slot (n)) AS conversions,
    duration_quantile(0.5, c.slots) AS p50_ms,
    duration_quantile(0.9, c.slots) AS p90_ms,
    duration_quantile(0.99, c.slots) AS p99_ms,
    c.slots
FROM (
    SELECT window_start, series_id, ARRAY[
        d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15, d16, d17, d18, d19, d20, d21, d22, d23, d24, d25,
        d26, d27, d28, d29, d30, d31, d32, d33, d34, d35, d36, d37, d38, d39, d40, d41, d42, d43, d44, d45, d46, d47, d48, d49,
        d50, d51, d52, d53, d54, d55, d56, d57, d58, d59, d60, d61, d62, d63, d64, d65, d66, d67, d68, d69, d70, d71, d72, d73,
        d74, d75, d76, d77, d78, d79, d80, d81, d82, d83, d84, d85, d86, d87, d88, d89, d90, d91, d92, d93, d94, d95, d96, d97,
        d98, d99, d100, d101, d102, d103, d104, d105, d106, d107, d108, d109, d110, d111, d112, d113, d114, d115, d116, d117,
        d118, d119
    ]::bigint[] AS slots
    FROM counts_5m
) AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
WHERE EXISTS (SELECT FROM unnest(c.slots) AS slot (n) WHERE n > 0);
COMMENT ON VIEW time_to_convert_5m IS 'As time_to_convert, by 5 minutes.';

CREATE VIEW time_to_convert_1h AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    (SELECT sum(n)::bigint FROM unnest(c.slots) AS slot (n)) AS conversions,
    duration_quantile(0.5, c.slots) AS p50_ms,
    duration_quantile(0.9, c.slots) AS p90_ms,
    duration_quantile(0.99, c.slots) AS p99_ms,
    c.slots
FROM (
    SELECT window_start, series_id, ARRAY[
        d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15, d16, d17, d18, d19, d20, d21, d22, d23, d24, d25,
        d26, d27, d28, d29, d30, d31, d32, d33, d34, d35, d36, d37, d38, d39, d40, d41, d42, d43, d44, d45, d46, d47, d48, d49,
        d50, d51, d52, d53, d54, d55, d56, d57, d58, d59, d60, d61, d62, d63, d64, d65, d66, d67, d68, d69, d70, d71, d72, d73,
        d74, d75, d76, d77, d78, d79, d80, d81, d82, d83, d84, d85, d86, d87, d88, d89, d90, d91, d92, d93, d94, d95, d96, d97,
        d98, d99, d100, d101, d102, d103, d104, d105, d106, d107, d108, d109, d110, d111, d112, d113, d114, d115, d116, d117,
        d118, d119
    ]::bigint[] AS slots
    FROM counts_1h
) AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
WHERE EXISTS (SELECT FROM unnest(c.slots) AS slot (n) WHERE n > 0);
COMMENT ON VIEW time_to_convert_1h IS 'As time_to_convert, by hour.';

CREATE VIEW time_to_convert_1d AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    (SELECT sum(n)::bigint FROM unnest(c.slots) AS slot (n)) AS conversions,
    duration_quantile(0.5, c.slots) AS p50_ms,
    duration_quantile(0.9, c.slots) AS p90_ms,
    duration_quantile(0.99, c.slots) AS p99_ms,
    c.slots
FROM (
    SELECT window_start, series_id, ARRAY[
        d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15, d16, d17, d18, d19, d20, d21, d22, d23, d24, d25,
        d26, d27, d28, d29, d30, d31, d32, d33, d34, d35, d36, d37, d38, d39, d40, d41, d42, d43, d44, d45, d46, d47, d48, d49,
        d50, d51, d52, d53, d54, d55, d56, d57, d58, d59, d60, d61, d62, d63, d64, d65, d66, d67, d68, d69, d70, d71, d72, d73,
        d74, d75, d76, d77, d78, d79, d80, d81, d82, d83, d84, d85, d86, d87, d88, d89, d90, d91, d92, d93, d94, d95, d96, d97,
        d98, d99, d100, d101, d102, d103, d104, d105, d106, d107, d108, d109, d110, d111, d112, d113, d114, d115, d116, d117,
        d118, d119
    ]::bigint[] AS slots
    FROM counts_1d
) AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
WHERE EXISTS (SELECT FROM unnest(c.slots) AS slot (n) WHERE n > 0);
COMMENT ON VIEW time_to_convert_1d IS 'As time_to_convert, by day.';

CREATE FUNCTION or_none(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value = '' THEN '(none)' ELSE value END;
COMMENT ON FUNCTION or_none IS 'The value of a dimension as it is shown.';

CREATE FUNCTION level_width(level text) RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE level
    WHEN '1d' THEN INTERVAL '24 hours'
    WHEN '1h' THEN INTERVAL '1 hour'
    WHEN '5m' THEN INTERVAL '5 minutes'
    ELSE (SELECT d.window_ms * INTERVAL '1 millisecond' FROM deployment AS d)
END;
COMMENT ON FUNCTION level_width IS 'How far apart the rows of a level are: windows, 5m, 1h or 1d.';
