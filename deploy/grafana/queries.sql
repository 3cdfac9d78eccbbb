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
SELECT funnel FROM funnel_progress ORDER BY funnel;

-- name: steps
-- The steps of a funnel, in order where it is declared.
SELECT c.step
FROM counts_of(
    '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, NULL
) AS c
LEFT JOIN declared_steps AS d ON d.funnel = ${funnel:sqlstring} AND d.step = c.step
ORDER BY d.position NULLS LAST, c.step;

-- name: values_of_os
-- The operating systems of a funnel in the range.
SELECT DISTINCT coalesce(dimensions ->> 'os', '(none)')
FROM counts_of(
    '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, NULL,
    '{}',
    '{os}'
)
ORDER BY 1;

-- name: values_of_browser
-- The browsers of a funnel in the range.
SELECT DISTINCT coalesce(dimensions ->> 'browser', '(none)')
FROM counts_of(
    '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, NULL,
    '{}',
    '{browser}'
)
ORDER BY 1;

-- name: values_of_app_version
-- The app versions of a funnel in the range.
SELECT DISTINCT coalesce(dimensions ->> 'app_version', '(none)')
FROM counts_of(
    '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, NULL,
    '{}',
    '{app_version}'
)
ORDER BY 1;

-- name: alerts_as_annotations
-- Each alert as a region from the start of its drop to its end.
SELECT
    started_at AS time,
    coalesce(resolved_at, $__timeTo()::timestamptz) AS timeend,
    severity || ': ' || CASE WHEN step = '*' THEN 'all steps' ELSE step END || CASE WHEN os = '' THEN '' ELSE ' on ' || os END || '. ' || summary AS text,
    concat_ws(',', rule, state, reason) AS tags
FROM alert_history
WHERE
    funnel IN (${funnel:sqlstring}, '*')
    AND concerns(step, steps, VARIADIC ARRAY[${step:sqlstring}]::text[])
    AND started_at <= $__timeTo()::timestamptz
    AND coalesce(resolved_at, $__timeTo()::timestamptz) >= $__timeFrom()::timestamptz
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
    '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, NULL,
    jsonb_build_object(
        'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
        'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
    )
) AS c
LEFT JOIN declared_steps AS d ON d.funnel = ${funnel:sqlstring} AND d.step = c.step
WINDOW by_position AS (ORDER BY d.position NULLS LAST, c.step)
ORDER BY d.position NULLS LAST, c.step;

-- name: rate_by_step
-- The rate of each step over time, of closed windows.
WITH counted AS (
    SELECT start AS time, step AS metric, sum(successes)::double precision / nullif(sum(impressions), 0) AS rate
    FROM counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        )
    )
    WHERE start < (SELECT p.closed_through FROM funnel_progress AS p WHERE p.funnel = ${funnel:sqlstring})
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, rate FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1, 2;

-- name: expected_by_step
-- What the rate of each step was at the same time of the four weeks before.
WITH counted AS (
    SELECT
        past.start + week * INTERVAL '7 days' AS time,
        past.step || ' (expected)' AS metric,
        sum(past.successes)::double precision / nullif(sum(past.impressions), 0) AS expected
    FROM generate_series(1, 4) AS week
    CROSS JOIN LATERAL counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz - week * INTERVAL '7 days', $__timeTo()::timestamptz - week * INTERVAL '7 days', level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        )
    ) AS past
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, expected FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1, 2;

-- name: impressions_by_step
-- How many were shown each step over time.
WITH counted AS (
    SELECT start AS time, step AS metric, sum(impressions)::bigint AS impressions
    FROM counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        )
    )
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, impressions FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, 0
FROM neighbours
WHERE next > time + level_width('${level:raw}')
UNION ALL
SELECT next - level_width('${level:raw}'), metric, 0
FROM neighbours
WHERE next > time + 2 * level_width('${level:raw}')
ORDER BY 1, 2;

-- name: totals_by_os
-- Each step by os in the range.
SELECT
    step,
    coalesce(dimensions ->> 'os', '(none)') AS os,
    impressions,
    successes,
    successes::double precision / nullif(impressions, 0) AS rate,
    wilson_low(successes, impressions) AS rate_low,
    wilson_high(successes, impressions) AS rate_high
FROM counts_of(
    '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, NULL,
    jsonb_build_object(
        'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
        'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
    ),
    '{os}'
)
ORDER BY 1, 3 DESC, 2;

-- name: totals_by_browser
-- Each step by browser in the range.
SELECT
    step,
    coalesce(dimensions ->> 'browser', '(none)') AS browser,
    impressions,
    successes,
    successes::double precision / nullif(impressions, 0) AS rate,
    wilson_low(successes, impressions) AS rate_low,
    wilson_high(successes, impressions) AS rate_high
FROM counts_of(
    '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, NULL,
    jsonb_build_object(
        'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
        'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
    ),
    '{browser}'
)
ORDER BY 1, 3 DESC, 2;

-- name: totals_by_app_version
-- Each step by app_version in the range.
SELECT
    step,
    coalesce(dimensions ->> 'app_version', '(none)') AS app_version,
    impressions,
    successes,
    successes::double precision / nullif(impressions, 0) AS rate,
    wilson_low(successes, impressions) AS rate_low,
    wilson_high(successes, impressions) AS rate_high
FROM counts_of(
    '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, NULL,
    jsonb_build_object(
        'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
        'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
    ),
    '{app_version}'
)
ORDER BY 1, 3 DESC, 2;

-- name: rate_by_os
-- The rate over time by os, of closed windows.
WITH counted AS (
    SELECT start AS time, coalesce(dimensions ->> 'os', '(none)') AS metric, sum(successes)::double precision / nullif(sum(impressions), 0) AS rate
    FROM counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        ),
        '{os}'
    )
    WHERE start < (SELECT p.closed_through FROM funnel_progress AS p WHERE p.funnel = ${funnel:sqlstring})
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, rate FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1, 2;

-- name: rate_by_browser
-- The rate over time by browser, of closed windows.
WITH counted AS (
    SELECT start AS time, coalesce(dimensions ->> 'browser', '(none)') AS metric, sum(successes)::double precision / nullif(sum(impressions), 0) AS rate
    FROM counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        ),
        '{browser}'
    )
    WHERE start < (SELECT p.closed_through FROM funnel_progress AS p WHERE p.funnel = ${funnel:sqlstring})
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, rate FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1, 2;

-- name: rate_by_app_version
-- The rate over time by app_version, of closed windows.
WITH counted AS (
    SELECT start AS time, coalesce(dimensions ->> 'app_version', '(none)') AS metric, sum(successes)::double precision / nullif(sum(impressions), 0) AS rate
    FROM counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        ),
        '{app_version}'
    )
    WHERE start < (SELECT p.closed_through FROM funnel_progress AS p WHERE p.funnel = ${funnel:sqlstring})
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, rate FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1, 2;

-- name: rate_with_interval
-- The rate over time with its 95 % interval, of closed windows.
WITH counted AS (
    SELECT
        start AS time,
        sum(successes)::double precision / nullif(sum(impressions), 0) AS rate,
        wilson_low(sum(successes), sum(impressions)) AS low,
        wilson_high(sum(successes), sum(impressions)) AS high
    FROM counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        )
    )
    WHERE start < (SELECT p.closed_through FROM funnel_progress AS p WHERE p.funnel = ${funnel:sqlstring})
    GROUP BY 1
),

neighbours AS (
    SELECT *, lead(time) OVER (ORDER BY time) AS next FROM counted
)

SELECT time, rate, low, high FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), NULL, NULL, NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1;

-- name: verdicts
-- What became of those who were shown the step: successes, failures, and who is still without a verdict.
WITH counted AS (
    SELECT
        start AS time,
        sum(successes)::bigint AS successes,
        sum(failures)::bigint AS failures,
        greatest(sum(impressions) - sum(successes) - sum(failures), 0)::bigint AS "no verdict"
    FROM counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        )
    )
    GROUP BY 1
),

neighbours AS (
    SELECT *, lead(time) OVER (ORDER BY time) AS next FROM counted
)

SELECT time, successes, failures, "no verdict" FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), 0, 0, 0
FROM neighbours
WHERE next > time + level_width('${level:raw}')
UNION ALL
SELECT next - level_width('${level:raw}'), 0, 0, 0
FROM neighbours
WHERE next > time + 2 * level_width('${level:raw}')
ORDER BY 1;

-- name: cohort_rate
-- Of those shown the step at a time, how many made it, whenever that was; mature windows only.
WITH counted AS (
    SELECT start AS time, sum(cohort_successes)::double precision / nullif(sum(impressions), 0) AS "cohort rate"
    FROM counts_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        )
    )
    WHERE start + (SELECT d.window_ms * INTERVAL '1 millisecond' + d.maturity FROM deployment AS d)
        <= (SELECT p.closed_through FROM funnel_progress AS p WHERE p.funnel = ${funnel:sqlstring})
    GROUP BY 1
),

neighbours AS (
    SELECT *, lead(time) OVER (ORDER BY time) AS next FROM counted
)

SELECT time, "cohort rate" FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1;

-- name: time_to_convert
-- Quantiles of how long the successes of a step took; of the level's histograms, which are simply added up.
WITH counted AS (
    SELECT
        start AS time,
        duration_quantile(0.5, slots) AS p50,
        duration_quantile(0.9, slots) AS p90,
        duration_quantile(0.99, slots) AS p99
    FROM durations_of(
        '${level:raw}', ${funnel:sqlstring}, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}'),
        jsonb_build_object(
            'step', ARRAY[${step:sqlstring}]::text[], 'os', ARRAY[${os:sqlstring}]::text[],
            'browser', ARRAY[${browser:sqlstring}]::text[], 'app_version', ARRAY[${app_version:sqlstring}]::text[]
        )
    )
),

neighbours AS (
    SELECT *, lead(time) OVER (ORDER BY time) AS next FROM counted
)

SELECT time, p50, p90, p99 FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), NULL, NULL, NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1;

-- name: alerts_firing
-- How many alerts fire now.
SELECT count(*) AS firing
FROM alert_history
WHERE state = 'firing' AND funnel IN (${funnel:sqlstring}, '*') AND concerns(step, steps, VARIADIC ARRAY[${step:sqlstring}]::text[]);

-- name: alerts_lost
-- Conversions that were lost to alerts of the range, by step.
SELECT step, count(*) AS alerts, sum(lost_conversions) AS "conversions lost"
FROM alert_history
WHERE
    funnel IN (${funnel:sqlstring}, '*')
    AND concerns(step, steps, VARIADIC ARRAY[${step:sqlstring}]::text[])
    AND started_at <= $__timeTo()::timestamptz
    AND coalesce(resolved_at, $__timeTo()::timestamptz) >= $__timeFrom()::timestamptz
GROUP BY step
ORDER BY 3 DESC, 1;

-- name: alerts_table
-- The alerts of the range, newest first, each at its worst; of_os to to_ms are what a link shows.
SELECT
    started_at,
    fired_at,
    resolved_at,
    severity,
    state,
    step,
    or_none(os) AS os,
    expected_rate,
    worst_rate,
    lost_conversions,
    CASE WHEN where_dimension = '' THEN '' ELSE where_dimension || ' = ' || where_value END AS "where",
    rule,
    summary,
    silenced_by AS silence,
    funnel,
    CASE WHEN os = '' THEN 'All' ELSE os END AS of_os,
    CASE WHEN browser = '' THEN 'All' ELSE browser END AS of_browser,
    CASE WHEN app_version = '' THEN 'All' ELSE app_version END AS of_app_version,
    (extract(epoch FROM started_at - INTERVAL '1 hour') * 1000)::bigint AS from_ms,
    (extract(epoch FROM coalesce(resolved_at + INTERVAL '1 hour', $__timeTo()::timestamptz)) * 1000)::bigint AS to_ms
FROM alert_history
WHERE
    funnel IN (${funnel:sqlstring}, '*')
    AND concerns(step, steps, VARIADIC ARRAY[${step:sqlstring}]::text[])
    AND started_at <= $__timeTo()::timestamptz
    AND coalesce(resolved_at, $__timeTo()::timestamptz) >= $__timeFrom()::timestamptz
ORDER BY started_at DESC, step, os
LIMIT 500;

-- name: alert_messages
-- What was said in the range, newest first.
SELECT window_end AS time, state, reason, severity, step, or_none(os) AS os, rate, expected_rate, score, summary, alert_id
FROM alert_messages
WHERE funnel IN (${funnel:sqlstring}, '*') AND concerns(step, steps, VARIADIC ARRAY[${step:sqlstring}]::text[]) AND $__timeFilter(window_end)
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
WITH counted AS (
    SELECT
        c.start AS time,
        p.funnel AS metric,
        sum(c.impressions + c.successes + c.failures)::double precision / extract(epoch FROM level_width('${level:raw}'))::double precision AS "events/s"
    FROM funnel_progress AS p
    CROSS JOIN LATERAL counts_of(
        '${level:raw}', p.funnel, $__timeFrom()::timestamptz, $__timeTo()::timestamptz, level_width('${level:raw}')
    ) AS c
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, "events/s" FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, 0
FROM neighbours
WHERE next > time + level_width('${level:raw}')
UNION ALL
SELECT next - level_width('${level:raw}'), metric, 0
FROM neighbours
WHERE next > time + 2 * level_width('${level:raw}')
ORDER BY 1, 2;

-- name: counters
-- Counters by their own time, a second.
WITH counted AS (
    SELECT
        time,
        name AS metric,
        sum(total)::double precision / extract(epoch FROM level_width('${level:raw}'))::double precision AS "a second"
    FROM (
        SELECT
            date_bin(
                level_width('${level:raw}'),
                window_start,
                TIMESTAMPTZ '2000-01-01 00:00:00Z'
            ) AS time,
            name,
            total
        FROM metrics
        WHERE kind = 'COUNTER' AND $__timeFilter(window_start)
    ) AS counted
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, "a second" FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, 0
FROM neighbours
WHERE next > time + level_width('${level:raw}')
UNION ALL
SELECT next - level_width('${level:raw}'), metric, 0
FROM neighbours
WHERE next > time + 2 * level_width('${level:raw}')
ORDER BY 1, 2;

-- name: timers
-- What 90 % of a timer's samples took less than, ms.
WITH counted AS (
    SELECT
        date_bin(
            level_width('${level:raw}'),
            c.window_start,
            TIMESTAMPTZ '2000-01-01 00:00:00Z'
        ) AS time,
        s.name AS metric,
        duration_quantile(0.9, ARRAY[
            sum(c.d0), sum(c.d1), sum(c.d2), sum(c.d3), sum(c.d4), sum(c.d5), sum(c.d6), sum(c.d7), sum(c.d8), sum(c.d9),
            sum(c.d10), sum(c.d11), sum(c.d12), sum(c.d13), sum(c.d14), sum(c.d15), sum(c.d16), sum(c.d17), sum(c.d18),
            sum(c.d19), sum(c.d20), sum(c.d21), sum(c.d22), sum(c.d23), sum(c.d24), sum(c.d25), sum(c.d26), sum(c.d27),
            sum(c.d28), sum(c.d29), sum(c.d30), sum(c.d31), sum(c.d32), sum(c.d33), sum(c.d34), sum(c.d35), sum(c.d36),
            sum(c.d37), sum(c.d38), sum(c.d39), sum(c.d40), sum(c.d41), sum(c.d42), sum(c.d43), sum(c.d44), sum(c.d45),
            sum(c.d46), sum(c.d47), sum(c.d48), sum(c.d49), sum(c.d50), sum(c.d51), sum(c.d52), sum(c.d53), sum(c.d54),
            sum(c.d55), sum(c.d56), sum(c.d57), sum(c.d58), sum(c.d59), sum(c.d60), sum(c.d61), sum(c.d62), sum(c.d63),
            sum(c.d64), sum(c.d65), sum(c.d66), sum(c.d67), sum(c.d68), sum(c.d69), sum(c.d70), sum(c.d71), sum(c.d72),
            sum(c.d73), sum(c.d74), sum(c.d75), sum(c.d76), sum(c.d77), sum(c.d78), sum(c.d79), sum(c.d80), sum(c.d81),
            sum(c.d82), sum(c.d83), sum(c.d84), sum(c.d85), sum(c.d86), sum(c.d87), sum(c.d88), sum(c.d89), sum(c.d90),
            sum(c.d91), sum(c.d92), sum(c.d93), sum(c.d94), sum(c.d95), sum(c.d96), sum(c.d97), sum(c.d98), sum(c.d99),
            sum(c.d100), sum(c.d101), sum(c.d102), sum(c.d103), sum(c.d104), sum(c.d105), sum(c.d106), sum(c.d107),
            sum(c.d108), sum(c.d109), sum(c.d110), sum(c.d111), sum(c.d112), sum(c.d113), sum(c.d114), sum(c.d115),
            sum(c.d116), sum(c.d117), sum(c.d118), sum(c.d119)
        ]::bigint[]) AS p90
    FROM metric_counts AS c INNER JOIN metric_series AS s ON s.series = c.series
    WHERE $__timeFilter(c.window_start) AND s.kind = 'TIMER'
    GROUP BY 1, 2
),

neighbours AS (
    SELECT *, lead(time) OVER (PARTITION BY metric ORDER BY time) AS next FROM counted
)

SELECT time, metric, p90 FROM counted
UNION ALL
SELECT time + level_width('${level:raw}'), metric, NULL
FROM neighbours
WHERE next > time + level_width('${level:raw}')
ORDER BY 1, 2;

-- name: revised
-- Closed windows of the range that late events have changed, newest first.
SELECT window_start, funnel, revision, events AS "late events", changed_at, published
FROM late_windows
WHERE $__timeFilter(window_start)
ORDER BY changed_at DESC
LIMIT 200;
