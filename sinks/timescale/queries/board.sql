-- name: board_progress
-- How far the records of a topic are counted: what became of them, where each partition stands, and its watermark.
SELECT
    partition,
    next_offset,
    accepted,
    rejected,
    duplicates,
    (extract(epoch FROM watermark) * 1000)::bigint AS watermark_ms,
    idle AND updated_at > clock_timestamp() - %(idle_valid_s)s * interval '1 second' AS idle
FROM stream_progress
WHERE topic = %(topic)s
ORDER BY partition;

-- name: board_steps
-- The declared steps of a funnel, in order.
SELECT step FROM declared_steps WHERE funnel = %(funnel)s ORDER BY position;

-- name: board_messages
-- Grows with every message of any alert.
SELECT coalesce(max(place), 0)::bigint AS messages FROM alerts;

-- name: board_alerts
-- The alerts of a funnel and of the whole pipeline that fire, or fired since a time; newest first.
SELECT
    h.*,
    m.basis,
    (extract(epoch FROM h.started_at) * 1000)::bigint AS started_ms,
    (extract(epoch FROM h.fired_at) * 1000)::bigint AS fired_ms,
    (extract(epoch FROM h.resolved_at) * 1000)::bigint AS resolved_ms
FROM (
    SELECT alert_id
    FROM alert_summaries
    WHERE funnel IN (%(funnel)s, '*') AND ended_at >= to_timestamp(%(from_ms)s / 1000.0)
    ORDER BY fired_at DESC, alert_id
    LIMIT %(limit)s
) AS s
-- The offset keeps the view from being made for every alert before they are joined.
CROSS JOIN LATERAL (SELECT * FROM alert_history AS one WHERE one.alert_id = s.alert_id OFFSET 0) AS h
INNER JOIN alert_messages AS m ON m.alert_id = s.alert_id AND m.sequence = 0
ORDER BY h.fired_at DESC, h.alert_id;
