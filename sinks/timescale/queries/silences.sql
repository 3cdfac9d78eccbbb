-- name: add_silence
-- A new silence; its number.
INSERT INTO silences (rule, funnel, step, os, browser, app_version, starts_at, ends_at, comment, created_by)
VALUES (
    %(rule)s, %(funnel)s, %(step)s, %(os)s, %(browser)s, %(app_version)s,
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
    id, rule, funnel, step, os, browser, app_version, comment, created_by,
    (extract(epoch FROM starts_at) * 1000)::bigint AS starts_at,
    (extract(epoch FROM ends_at) * 1000)::bigint AS ends_at
FROM silences
WHERE ends_at > to_timestamp(%(after_ms)s / 1000.0)
ORDER BY id;

-- name: withheld_alerts
-- The last messages, of alerts of this funnel that fire, that a silence has muted.
SELECT alert
FROM alerts AS a
WHERE
    alert ->> 'silenced_by' <> ''
    AND alert ->> 'funnel' = %(funnel)s
    AND alert ->> 'state' = 'firing'
    AND NOT EXISTS (SELECT 1 FROM alerts AS b WHERE b.alert_id = a.alert_id AND b.sequence > a.sequence)
ORDER BY alert_id;
