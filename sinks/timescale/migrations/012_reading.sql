-- How long each level is kept, and a role that may read and nothing else.

CREATE TABLE retention (
    level text PRIMARY KEY CHECK (level IN ('windows', '5m', '1h', '1d')),
    keep interval
);
COMMENT ON TABLE retention IS 'How long counts are kept, by level; null: for ever. As the worker that was started last was told to.';
INSERT INTO retention (level) VALUES ('windows'), ('5m'), ('1h'), ('1d');

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        CREATE ROLE funnelwatch_reader NOLOGIN;
    END IF;
EXCEPTION
    -- Another database of this server was faster, or we may not make roles: then whoever may grants what is below.
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        GRANT USAGE ON SCHEMA public TO funnelwatch_reader;
        GRANT SELECT ON
            window_counts, counts_5m, counts_1h, counts_1d,
            conversion, conversion_5m, conversion_1h, conversion_1d,
            declared_steps, funnel_steps, cohort_conversion, alert_messages, alert_history,
            deployment, retention, stream_progress, funnel_progress, late_windows
        TO funnelwatch_reader;
    END IF;
END
$$;
