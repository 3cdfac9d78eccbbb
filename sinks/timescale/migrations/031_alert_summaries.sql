-- One row per alert, so that the alerts that fire, or ended lately, are found without reading every message.

CREATE TABLE alert_summaries (
    alert_id text PRIMARY KEY,
    funnel text NOT NULL,
    last_sequence integer NOT NULL,
    silenced boolean NOT NULL,
    fired_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL
);
CREATE INDEX alert_summaries_ended ON alert_summaries (funnel, ended_at);
CREATE INDEX alert_summaries_old ON alert_summaries (ended_at);
CREATE INDEX alert_summaries_silenced ON alert_summaries (funnel, alert_id) WHERE silenced AND ended_at = 'infinity';
COMMENT ON TABLE alert_summaries IS 'Each alert with the number of its last message, whether a silence muted that one, the end of its first window, and the end of the last one once it has resolved (infinity: it fires). Kept by a trigger on alerts.';

CREATE FUNCTION summarize_alerts() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO alert_summaries AS s (alert_id, funnel, last_sequence, silenced, fired_at, ended_at)
    SELECT DISTINCT ON (m.alert_id)
        m.alert_id, m.funnel, m.sequence, m.silenced,
        min(m.window_end) OVER (PARTITION BY m.alert_id),
        CASE WHEN m.state = 'resolved' THEN m.window_end ELSE 'infinity' END
    FROM (
        SELECT
            a.alert_id,
            a.sequence,
            coalesce(a.alert ->> 'funnel', '') AS funnel,
            a.alert ->> 'state' AS state,
            coalesce(a.alert ->> 'silenced_by', '') <> '' AS silenced,
            coalesce(to_timestamp((a.alert ->> 'window_end')::bigint / 1000.0), clock_timestamp()) AS window_end
        FROM added AS a
    ) AS m
    ORDER BY m.alert_id, m.sequence DESC
    ON CONFLICT (alert_id) DO UPDATE SET
        funnel = CASE WHEN excluded.last_sequence > s.last_sequence THEN excluded.funnel ELSE s.funnel END,
        silenced = CASE WHEN excluded.last_sequence > s.last_sequence THEN excluded.silenced ELSE s.silenced END,
        ended_at = CASE WHEN excluded.last_sequence > s.last_sequence THEN excluded.ended_at ELSE s.ended_at END,
        last_sequence = greatest(s.last_sequence, excluded.last_sequence),
        fired_at = least(s.fired_at, excluded.fired_at);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION summarize_alerts IS 'Keeps alert_summaries.';

CREATE TRIGGER summarize_alerts AFTER INSERT ON alerts
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION summarize_alerts();

-- Whoever inserts may have another search path.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION summarize_alerts() SET search_path = %I, pg_temp', current_schema());
END
$$;

INSERT INTO alert_summaries (alert_id, funnel, last_sequence, silenced, fired_at, ended_at)
SELECT DISTINCT ON (alert_id)
    alert_id, coalesce(funnel, ''), sequence, silenced_by <> '',
    coalesce(min(window_end) OVER (PARTITION BY alert_id), now()),
    CASE WHEN state = 'resolved' THEN coalesce(window_end, now()) ELSE 'infinity' END
FROM alert_messages
ORDER BY alert_id, sequence DESC;

DROP INDEX alerts_silenced;
CREATE INDEX alerts_recent ON alerts (((alert ->> 'window_start')::bigint) DESC, place DESC);
CREATE UNIQUE INDEX alerts_place ON alerts (place);

-- Otherwise the planner takes each value for a two-hundredth of the messages, and reads them all.
CREATE STATISTICS alerts_by_state ON (alert ->> 'state') FROM alerts;
CREATE STATISTICS alerts_by_funnel ON (alert ->> 'funnel') FROM alerts;
CREATE STATISTICS alerts_by_rule ON (alert ->> 'rule') FROM alerts;
CREATE STATISTICS alerts_by_severity ON (alert ->> 'severity') FROM alerts;
