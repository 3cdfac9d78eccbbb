-- name: add_silence
-- A new silence; its number.
INSERT INTO silences (rule, funnel, step, dimensions, starts_at, ends_at, comment, created_by)
VALUES (
    %(rule)s, %(funnel)s, %(step)s, %(dimensions)s,
    to_timestamp(%(starts_at)s / 1000.0), to_timestamp(%(ends_at)s / 1000.0), %(comment)s, %(created_by)s
)
RETURNING id;

-- name: expire_silence
-- End a silence that has not ended; its number if there was one.
UPDATE silences
SET
    starts_at = least(starts_at, to_timestamp(%(now_ms)s / 1000.0)),
    ends_at = to_timestamp(%(now_ms)s / 1000.0)
WHERE id = %(id)s AND ends_at > to_timestamp(%(now_ms)s / 1000.0)
RETURNING id;

-- name: silences
-- Silences that end after a time, in the order in which they were made.
SELECT
    id, rule, funnel, step, dimensions, comment, created_by,
    (extract(epoch FROM starts_at) * 1000)::bigint AS starts_at,
    (extract(epoch FROM ends_at) * 1000)::bigint AS ends_at
FROM silences
WHERE ends_at > to_timestamp(%(after_ms)s / 1000.0)
ORDER BY id;

-- name: muted_alerts
-- The last messages, of alerts of this funnel that fire, that a silence has muted.
SELECT a.alert
FROM alert_summaries AS s INNER JOIN alerts AS a ON a.alert_id = s.alert_id AND a.sequence = s.last_sequence
WHERE s.funnel = %(funnel)s AND s.silenced AND s.ended_at = 'infinity'
ORDER BY s.alert_id;
