-- name: detector_progress
-- The newest window that the detector has judged.
SELECT (extract(epoch FROM last_window) * 1000)::bigint AS last_window_ms
FROM detector_progress
WHERE funnel = %(funnel)s;

-- name: detector_saves
-- How often anything was saved for this funnel.
SELECT saves FROM detector_progress WHERE funnel = %(funnel)s;

-- name: move_detector
-- The detector has judged up to this window; no row if somebody has saved since it looked.
INSERT INTO detector_progress AS p (funnel, last_window, saves, evaluated_at)
VALUES (%(funnel)s, to_timestamp(%(window_ms)s / 1000.0), 1, clock_timestamp())
ON CONFLICT (funnel) DO UPDATE SET
    last_window = greatest(p.last_window, excluded.last_window),
    evaluated_at = CASE WHEN excluded.last_window > p.last_window THEN excluded.evaluated_at ELSE p.evaluated_at END,
    saves = p.saves + 1
WHERE %(saves)s::bigint IS NULL OR p.saves = %(saves)s
RETURNING saves;

-- name: read_states
-- The states of a funnel's rules and series.
SELECT state::text AS state FROM alert_states WHERE funnel = %(funnel)s;

-- name: save_state
-- Keep the state of one rule on one series.
INSERT INTO alert_states (funnel, state_key, state)
VALUES (%(funnel)s, %(state_key)s, %(state)s::jsonb)
ON CONFLICT (funnel, state_key) DO UPDATE SET state = excluded.state;

-- name: add_alert
-- Put one message of an alert into the outbox; the same message again changes nothing.
INSERT INTO alerts (alert_id, sequence, alert)
VALUES (%(alert_id)s, %(sequence)s, %(alert)s::jsonb)
ON CONFLICT DO NOTHING;

-- name: outbox
-- The unpublished messages, in the order in which the detector saved them.
SELECT alert_id, sequence, alert
FROM alerts
WHERE published_at IS NULL AND alert ->> 'funnel' = %(funnel)s
ORDER BY place;

-- name: published
-- A message has been acknowledged by Kafka.
UPDATE alerts SET published_at = clock_timestamp()
WHERE alert_id = %(alert_id)s AND sequence = %(sequence)s;

-- name: recent_alerts
-- The newest messages, newest first; of one state, or of all; all of them, or only the last of each alert.
SELECT a.alert
FROM alerts AS a
LEFT JOIN alert_summaries AS s ON s.alert_id = a.alert_id AND s.last_sequence = a.sequence
WHERE
    (%(state)s::text IS NULL OR alert ->> 'state' = %(state)s)
    AND (NOT %(current)s::boolean OR s.alert_id IS NOT NULL)
ORDER BY (alert ->> 'window_start')::bigint DESC, place DESC
LIMIT %(limit)s;

-- name: last_message
-- The last message of an alert, published or not.
SELECT alert FROM alerts WHERE alert_id = %(alert_id)s ORDER BY sequence DESC LIMIT 1;

-- name: asked_alerts
-- The newest messages, newest first, of what was asked for; null is any.
SELECT a.alert
FROM alerts AS a
LEFT JOIN alert_summaries AS s ON s.alert_id = a.alert_id AND s.last_sequence = a.sequence
WHERE
    (%(funnel)s::text IS NULL OR alert ->> 'funnel' IN (%(funnel)s, '*'))
    AND (
        %(step)s::text IS NULL
        OR concerns(
            alert ->> 'step', ARRAY(SELECT jsonb_array_elements_text(coalesce(alert -> 'steps', '[]'))), %(step)s::text
        )
    )
    AND coalesce(alert -> 'dimensions', '{}') @> %(dimensions)s
    AND (%(rule)s::text IS NULL OR alert ->> 'rule' = %(rule)s)
    AND (%(severity)s::text IS NULL OR alert ->> 'severity' = %(severity)s)
    AND (%(state)s::text IS NULL OR alert ->> 'state' = %(state)s)
    AND (%(since_ms)s::bigint IS NULL OR (alert ->> 'window_end')::bigint >= %(since_ms)s)
    AND (%(until_ms)s::bigint IS NULL OR (alert ->> 'window_end')::bigint < %(until_ms)s)
    AND (NOT %(current)s::boolean OR s.alert_id IS NOT NULL)
ORDER BY (alert ->> 'window_start')::bigint DESC, place DESC
LIMIT %(limit)s;
