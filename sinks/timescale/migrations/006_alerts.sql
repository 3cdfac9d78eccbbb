-- What the detector knows, its alerts, and silences.

CREATE TABLE detector_progress (
    funnel text PRIMARY KEY,
    last_window timestamptz NOT NULL,
    saves bigint NOT NULL DEFAULT 0,
    evaluated_at timestamptz
);
COMMENT ON TABLE detector_progress IS 'The newest closed window that the detector has evaluated.';
COMMENT ON COLUMN detector_progress.saves IS 'How often anything was saved for this funnel; a detector that does not know the last number writes nothing.';
COMMENT ON COLUMN detector_progress.evaluated_at IS 'When last_window last moved, wall clock.';

CREATE TABLE alert_states (
    funnel text NOT NULL,
    state_key text NOT NULL,
    state jsonb NOT NULL,
    PRIMARY KEY (funnel, state_key)
);
COMMENT ON TABLE alert_states IS 'The state of each rule on each series it evaluates, so that a restart forgets nothing.';

CREATE TABLE alerts (
    alert_id text NOT NULL,
    sequence integer NOT NULL,
    place bigint GENERATED ALWAYS AS IDENTITY,
    alert jsonb NOT NULL,
    published_at timestamptz,
    PRIMARY KEY (alert_id, sequence)
);
CREATE INDEX alerts_outbox ON alerts (alert_id, sequence) WHERE published_at IS NULL;
CREATE INDEX alerts_recent ON alerts (((alert ->> 'window_start')::bigint) DESC, place DESC);
CREATE UNIQUE INDEX alerts_place ON alerts (place);

-- Otherwise the planner takes each value for a two-hundredth of the messages, and reads them all.
CREATE STATISTICS alerts_by_state ON (alert ->> 'state') FROM alerts;
CREATE STATISTICS alerts_by_funnel ON (alert ->> 'funnel') FROM alerts;
CREATE STATISTICS alerts_by_rule ON (alert ->> 'rule') FROM alerts;
CREATE STATISTICS alerts_by_severity ON (alert ->> 'severity') FROM alerts;
COMMENT ON TABLE alerts IS 'Every message of every alert; those without published_at are still to be published (outbox).';
COMMENT ON COLUMN alerts.place IS 'Grows in the order in which the detector said the messages, which is that in which they are published.';

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

CREATE TABLE silences (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule text,
    funnel text,
    step text,
    dimensions jsonb NOT NULL DEFAULT '{}',
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    comment text NOT NULL DEFAULT '',
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (starts_at <= ends_at),
    CHECK (num_nonnulls(rule, funnel, step) > 0 OR dimensions <> '{}')
);
COMMENT ON TABLE silences IS 'Firing alerts within all that is named here are published as silenced_by this silence during [starts_at, ends_at); null, and a dimension that is absent, is any. Kept after they have ended.';
CREATE INDEX silences_ends ON silences (ends_at);

CREATE VIEW alert_messages AS
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
    coalesce(alert -> 'dimensions', '{}') AS dimensions,
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
COMMENT ON VIEW alert_messages IS 'Every message of every alert with its fields as columns (schemas/alert.avsc); times are those of events. A dimension that the rule does not tell apart is empty.';

CREATE VIEW alert_history AS
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
    m.dimensions,
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
GROUP BY m.alert_id, m.funnel, m.step, m.os, m.browser, m.app_version, m.dimensions;
COMMENT ON VIEW alert_history IS 'One row an alert. started_at is the start of the drop, fired_at the end of the window that made it known; resolved_at is null while it fires. worst_rate is the one farthest below what was expected.';

CREATE FUNCTION concerns(alert_step text, alert_steps text[], VARIADIC wanted text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN alert_step = '*' OR alert_step = ANY(wanted) OR alert_steps && wanted;
COMMENT ON FUNCTION concerns IS 'Whether an alert is about one of some steps: by its own step, by those that it has reached, or because it is about all (*).';
