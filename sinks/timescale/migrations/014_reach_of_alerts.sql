-- Alerts may be about several steps, or muted by a silence.

CREATE OR REPLACE VIEW alert_messages AS
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
    published_at,
    ARRAY(SELECT jsonb_array_elements_text(coalesce(alert -> 'steps', '[]'))) AS steps,
    coalesce(alert ->> 'silenced_by', '') AS silenced_by
FROM alerts;

CREATE OR REPLACE VIEW alert_history AS
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
    (array_agg(m.summary ORDER BY m.sequence DESC))[1] AS summary,
    ARRAY(
        SELECT DISTINCT reached.step
        FROM alert_messages AS every CROSS JOIN LATERAL unnest(every.steps) AS reached (step)
        WHERE every.alert_id = m.alert_id
        ORDER BY 1
    ) AS steps,
    (array_agg(m.silenced_by ORDER BY m.sequence DESC))[1] AS silenced_by
FROM alert_messages AS m
GROUP BY m.alert_id, m.funnel, m.step, m.os, m.browser, m.app_version;

CREATE FUNCTION concerns(alert_step text, alert_steps text[], VARIADIC wanted text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN alert_step = '*' OR alert_step = ANY(wanted) OR alert_steps && wanted;
COMMENT ON FUNCTION concerns IS 'Whether an alert is about one of some steps: by its own step, by those that it has reached, or because it is about all (*).';
