-- name: timers
-- Quantiles of the time to convert, of a level, in [from, to), by spans of every_ms (null: one), steps and the dimensions of by.
SELECT
    (extract(epoch FROM start) * 1000)::bigint AS start_ms,
    step,
    dimensions,
    (SELECT sum(n)::bigint FROM unnest(slots) AS slot (n)) AS conversions,
    duration_quantile(0.5, slots) AS p50_ms,
    duration_quantile(0.9, slots) AS p90_ms,
    duration_quantile(0.99, slots) AS p99_ms
FROM durations_of(
    %(level)s, %(funnel)s, to_timestamp(%(from_ms)s / 1000.0), to_timestamp(%(to_ms)s / 1000.0),
    %(every_ms)s * interval '1 millisecond', %(chosen)s, %(by)s, to_timestamp(%(origin_ms)s / 1000.0)
)
LIMIT %(limit)s;
