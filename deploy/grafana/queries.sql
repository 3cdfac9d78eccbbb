-- name: level
-- Which level a panel reads: as fine as its range allows, and one that still has the range.
SELECT CASE
    WHEN
        ${__to} - ${__from} <= 6 * 3600000::bigint
        AND to_timestamp(${__from} / 1000.0) > coalesce(
            max(greatest(now() - keep, dropped_before)) FILTER (WHERE level = 'windows'), '-infinity'
        )
        THEN 'windows'
    WHEN
        ${__to} - ${__from} <= 3 * 86400000::bigint
        AND to_timestamp(${__from} / 1000.0) > coalesce(
            max(greatest(now() - keep, dropped_before)) FILTER (WHERE level = '5m'), '-infinity'
        )
        THEN '5m'
    WHEN
        ${__to} - ${__from} <= 62 * 86400000::bigint
        AND to_timestamp(${__from} / 1000.0) > coalesce(
            max(greatest(now() - keep, dropped_before)) FILTER (WHERE level = '1h'), '-infinity'
        )
        THEN '1h'
    ELSE '1d'
END
FROM retention;

-- name: funnels
-- The funnels there are.
SELECT funnel FROM funnel_progress WHERE funnel @offered ORDER BY funnel;

-- name: steps
-- The steps of a funnel, in order where it is declared.
SELECT c.step
FROM counts_of(@level, @funnel, @range) AS c
LEFT JOIN declared_steps AS d ON d.funnel = @funnel AND d.step = c.step
WHERE c.step @offered
ORDER BY d.position NULLS LAST, c.step;

-- name: dimensions
-- The dimensions of a funnel, in the order of the declaration.
SELECT k.name
FROM series AS s CROSS JOIN jsonb_object_keys(s.dimensions) AS k (name)
WHERE s.funnel = @funnel
GROUP BY k.name
ORDER BY array_position(ARRAY[@declared]::text[], k.name), k.name;

-- name: values
-- The values of one dimension of a funnel; no row if the funnel does not have the dimension.
WITH found AS (
    SELECT DISTINCT dimensions ->> '@name' AS value FROM series WHERE funnel = @funnel
)

SELECT coalesce(value, '(none)')
FROM found
WHERE EXISTS (SELECT FROM found WHERE value IS NOT NULL) AND coalesce(value, '') @offered
ORDER BY found.value NULLS LAST;

-- name: alerts_as_annotations
-- Each alert as a region from the start of its drop to its end.
SELECT
    started_at AS time,
    coalesce(resolved_at, $__timeTo()::timestamptz) AS timeend,
    severity || ': ' || CASE WHEN step = '*' THEN 'all steps' ELSE step END || coalesce(', ' || @of_alert, '') || '. ' || summary AS text,
    concat_ws(',', rule, state, reason) AS tags
FROM alert_history
WHERE
    @concerned
    AND @in_range
ORDER BY started_at;

-- name: funnel_totals
-- Each step in the range: how many were shown it, how many made it, and of those before how many came here.
SELECT
    c.step,
    c.impressions,
    c.successes,
    c.failures,
    c.successes::double precision / nullif(c.impressions, 0) AS rate,
    wilson_low(c.successes, c.impressions) AS rate_low,
    wilson_high(c.successes, c.impressions) AS rate_high,
    c.impressions::double precision / nullif(lag(c.impressions) OVER by_position, 0) AS survival,
    c.impressions::double precision / nullif(first_value(c.impressions) OVER by_position, 0) AS reached
FROM counts_of(
    @level, @funnel, @range, NULL,
    @chosen
) AS c
LEFT JOIN declared_steps AS d ON d.funnel = @funnel AND d.step = c.step
WINDOW by_position AS (ORDER BY d.position NULLS LAST, c.step)
ORDER BY d.position NULLS LAST, c.step;

-- name: people_shares
-- How far the sessions came that entered in the range, as shares of them; the last is end-to-end conversion. No share where steps were reordered.
@people

SELECT name, CASE WHEN part <= entered THEN part::double precision / entered END AS share
FROM (
    SELECT
        position,
        step || CASE WHEN still_open > 0 THEN ' (' || still_open || ' of ' || sessions || ' still open)' ELSE '' END AS name,
        sessions AS part,
        entered
    FROM funnel
    UNION ALL
    (SELECT position + 1, 'Completed', completed, entered FROM funnel ORDER BY position DESC LIMIT 1)
) AS shares
WHERE entered > 0
ORDER BY position;

-- name: people_totals
-- Each step in order: the sessions that reached it, and how many of them went no further.
@people

SELECT
    step,
    sessions,
    CASE WHEN sessions <= entered THEN sessions::double precision / entered END AS reached,
    CASE WHEN sessions <= before THEN sessions::double precision / nullif(before, 0) END AS survival,
    CASE WHEN coalesce(next, completed) <= sessions THEN sessions - coalesce(next, completed) END AS dropped,
    completed,
    still_open AS "still open"
FROM funnel
WHERE entered > 0
ORDER BY position;

-- name: session_rate_by_step
-- Of the sessions that first saw the step at a time, how many completed it, each once; of closed windows. A line of its own while they may go on.
-- gaps: NULL in rate of each metric
SELECT
    start AS time,
    step || CASE WHEN @open THEN ' (still open)' ELSE '' END AS metric,
    sum(session_successes)::double precision / nullif(sum(sessions), 0) AS rate
FROM counts_of(
    @level, @funnel, @range, @width,
    @chosen
)
WHERE start < @closed AND sessions > 0
GROUP BY 1, 2;

-- name: rate_by_step
-- The rate of each step over time, of closed windows.
-- gaps: NULL in rate of each metric
SELECT start AS time, step AS metric, sum(successes)::double precision / nullif(sum(impressions), 0) AS rate
FROM counts_of(
    @level, @funnel, @range, @width,
    @chosen
)
WHERE start < @closed
GROUP BY 1, 2;

-- name: expected_by_step
-- What the rate of each step was at the same time of the four weeks before.
-- gaps: NULL in expected of each metric
SELECT
    past.start + week * INTERVAL '7 days' AS time,
    past.step || ' (expected)' AS metric,
    sum(past.successes)::double precision / nullif(sum(past.impressions), 0) AS expected
FROM generate_series(1, 4) AS week
CROSS JOIN LATERAL counts_of(
    @level, @funnel,
    $__timeFrom()::timestamptz - week * INTERVAL '7 days', $__timeTo()::timestamptz - week * INTERVAL '7 days', @width,
    @chosen
) AS past
GROUP BY 1, 2;

-- name: impressions_by_step
-- How many were shown each step over time.
-- gaps: 0 in impressions of each metric
SELECT start AS time, step AS metric, sum(impressions)::bigint AS impressions
FROM counts_of(
    @level, @funnel, @range, @width,
    @chosen
)
GROUP BY 1, 2;

-- name: totals_by
-- Each step by the values of some dimensions together, in the range.
SELECT
    c.step,
    @by_value AS value,
    c.impressions,
    c.successes,
    c.successes::double precision / nullif(c.impressions, 0) AS rate,
    wilson_low(c.successes, c.impressions) AS rate_low,
    wilson_high(c.successes, c.impressions) AS rate_high
FROM counts_of(
    @level, @funnel, @range, NULL,
    @chosen,
    @by
) AS c
ORDER BY 1, 3 DESC, 2;

-- name: rate_by
-- The rate over time by the values of some dimensions together, of closed windows.
-- gaps: NULL in rate of each metric
SELECT
    c.start AS time,
    @by_value AS metric,
    sum(c.successes)::double precision / nullif(sum(c.impressions), 0) AS rate
FROM counts_of(
    @level, @funnel, @range, @width,
    @chosen,
    @by
) AS c
WHERE c.start < @closed
GROUP BY 1, 2;

-- name: rate_with_interval
-- The rate over time with its 95 % interval, of closed windows.
-- gaps: NULL in rate, low, high
SELECT
    start AS time,
    sum(successes)::double precision / nullif(sum(impressions), 0) AS rate,
    wilson_low(sum(successes), sum(impressions)) AS low,
    wilson_high(sum(successes), sum(impressions)) AS high
FROM counts_of(
    @level, @funnel, @range, @width,
    @chosen
)
WHERE start < @closed
GROUP BY 1;

-- name: verdicts
-- What became of those who were shown the step: successes, failures, and who is still without a verdict.
-- gaps: 0 in successes, failures, "no verdict"
SELECT
    start AS time,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    greatest(sum(impressions) - sum(successes) - sum(failures), 0)::bigint AS "no verdict"
FROM counts_of(
    @level, @funnel, @range, @width,
    @chosen
)
GROUP BY 1;

-- name: cohort_rate
-- Of those shown the step at a time, how many made it, whenever that was; mature windows only.
-- gaps: NULL in "cohort rate"
SELECT start AS time, sum(cohort_successes)::double precision / nullif(sum(impressions), 0) AS "cohort rate"
FROM counts_of(
    @level, @funnel, @range, @width,
    @chosen
)
WHERE start + (SELECT d.window_ms * INTERVAL '1 millisecond' + d.maturity FROM deployment AS d) <= @closed
GROUP BY 1;

-- name: time_to_convert
-- Quantiles of how long the successes of a step took; of the level's histograms, which are simply added up.
-- gaps: NULL in p50, p90, p99
SELECT
    start AS time,
    duration_quantile(0.5, slots) AS p50,
    duration_quantile(0.9, slots) AS p90,
    duration_quantile(0.99, slots) AS p99
FROM durations_of(
    @level, @funnel, @range, @width,
    @chosen
);

-- name: alerts_firing
-- How many alerts fire now.
SELECT count(*) AS firing
FROM alert_history
WHERE
    state = 'firing'
    AND @concerned;

-- name: alerts_lost
-- Conversions that were lost to alerts of the range, by step.
SELECT step, count(*) AS alerts, sum(lost_conversions) AS "conversions lost"
FROM alert_history
WHERE
    @concerned
    AND @in_range
GROUP BY step
ORDER BY 3 DESC, 1;

-- name: alerts_table
-- The alerts of the range, newest first, each at its worst; the columns from funnel on are for the link.
SELECT
    started_at,
    fired_at,
    resolved_at,
    severity,
    state,
    step,
    coalesce(@of_alert, 'all') AS dimensions,
    expected_rate,
    worst_rate,
    lost_conversions,
    CASE WHEN where_dimension = '' THEN '' ELSE where_dimension || ' = ' || where_value END AS "where",
    rule,
    summary,
    silenced_by AS silence,
    funnel,
    @links
    (extract(epoch FROM started_at - INTERVAL '1 hour') * 1000)::bigint AS from_ms,
    (extract(epoch FROM coalesce(resolved_at + INTERVAL '1 hour', $__timeTo()::timestamptz)) * 1000)::bigint AS to_ms
FROM alert_history
WHERE
    @concerned
    AND @in_range
ORDER BY started_at DESC, step, 7
LIMIT 500;

-- name: alert_messages
-- What was said in the range, newest first.
SELECT window_end AS time, state, reason, severity, step, coalesce(@of_alert, 'all') AS dimensions, rate, expected_rate, score, summary, alert_id
FROM alert_messages
WHERE
    @concerned
    AND $__timeFilter(window_end)
ORDER BY window_end DESC, alert_id, sequence DESC
LIMIT 500;

-- name: closed_age
-- How long ago the newest closed window ended, s: above some windows the pipeline is behind.
SELECT funnel, extract(epoch FROM now() - closed_through)::double precision AS "closed, s ago"
FROM funnel_progress
ORDER BY funnel;

-- name: dealt
-- What became of the records so far.
SELECT
    sum(accepted)::bigint AS accepted,
    sum(rejected)::bigint AS "dead letters",
    sum(duplicates)::bigint AS duplicates
FROM stream_progress
WHERE holds = 'events';

-- name: partitions
-- How far each partition is counted.
SELECT
    topic,
    partition,
    next_offset AS "counted up to",
    watermark,
    idle,
    accepted,
    rejected AS "dead letters",
    duplicates,
    updated_at
FROM stream_progress
ORDER BY topic, partition;

-- name: events_per_second
-- Events by their own time, a second.
-- gaps: 0 in "events/s" of each metric
SELECT
    c.start AS time,
    p.funnel AS metric,
    sum(c.impressions + c.successes + c.failures)::double precision / extract(epoch FROM @width)::double precision AS "events/s"
FROM funnel_progress AS p
CROSS JOIN LATERAL counts_of(@level, p.funnel, @range, @width) AS c
GROUP BY 1, 2;

-- name: counters
-- Counters by their own time, a second.
-- gaps: 0 in "a second" of each metric
SELECT
    time,
    name AS metric,
    sum(total)::double precision / extract(epoch FROM @width)::double precision AS "a second"
FROM (
    SELECT
        date_bin(@width, window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS time,
        name,
        total
    FROM metrics
    WHERE kind = 'COUNTER' AND $__timeFilter(window_start)
) AS counted
GROUP BY 1, 2;

-- name: timers
-- What 90 % of a timer's samples took less than, ms.
-- gaps: NULL in p90 of each metric
SELECT
    date_bin(@width, c.window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS time,
    s.name AS metric,
    duration_quantile(0.9, ARRAY[@slots]::bigint[]) AS p90
FROM metric_counts AS c INNER JOIN metric_series AS s ON s.series = c.series
WHERE $__timeFilter(c.window_start) AND s.kind = 'TIMER'
GROUP BY 1, 2;

-- name: revised
-- Closed windows of the range that late events have changed, newest first.
SELECT window_start, funnel, revision, events AS "late events", changed_at, published
FROM late_windows
WHERE $__timeFilter(window_start)
ORDER BY changed_at DESC
LIMIT 200;
