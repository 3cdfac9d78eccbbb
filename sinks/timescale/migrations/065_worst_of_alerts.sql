-- An alert's history describes its worst moment, also after its recovery. Panels know how far apart windows of a level are.

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
    (array_agg(m.where_dimension ORDER BY m.rate - m.expected_rate, m.sequence))[1] AS where_dimension,
    (array_agg(m.where_value ORDER BY m.rate - m.expected_rate, m.sequence))[1] AS where_value,
    (array_agg(m.where_share ORDER BY m.rate - m.expected_rate, m.sequence))[1] AS where_share,
    (array_agg(m.summary ORDER BY m.rate - m.expected_rate, m.sequence))[1] AS summary,
    ARRAY(
        SELECT DISTINCT reached.step
        FROM alert_messages AS every CROSS JOIN LATERAL unnest(every.steps) AS reached (step)
        WHERE every.alert_id = m.alert_id
        ORDER BY 1
    ) AS steps,
    (array_agg(m.silenced_by ORDER BY m.sequence DESC))[1] AS silenced_by
FROM alert_messages AS m
GROUP BY m.alert_id, m.funnel, m.step, m.os, m.browser, m.app_version;

CREATE FUNCTION level_width(level text) RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE level
    WHEN 'conversion_1d' THEN INTERVAL '24 hours'
    WHEN 'conversion_1h' THEN INTERVAL '1 hour'
    WHEN 'conversion_5m' THEN INTERVAL '5 minutes'
    ELSE (SELECT d.window_ms * INTERVAL '1 millisecond' FROM deployment AS d)
END;
COMMENT ON FUNCTION level_width IS 'How far apart the rows of a level are: conversion, conversion_5m, conversion_1h or conversion_1d.';
