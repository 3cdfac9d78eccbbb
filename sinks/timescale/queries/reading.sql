-- name: become_reader
-- Act as the role that may read and nothing else, where there is one, the login may, and it may read the tables here.
SELECT set_config('role', r.rolname, false)
FROM pg_roles AS r LEFT JOIN pg_class AS c ON c.oid = to_regclass('window_counts')
WHERE
    r.rolname = 'funnelwatch_reader'
    AND pg_has_role(session_user, r.oid, 'MEMBER')
    AND (
        c.oid IS NULL
        OR (has_table_privilege(r.oid, c.oid, 'SELECT') AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE'))
    );

-- name: only_read
-- Reject to write, and end statements that take too long.
SELECT
    set_config('default_transaction_read_only', 'on', false),
    set_config('statement_timeout', %(statement_ms)s, false);

-- name: grant_reading
-- Let funnelwatch_reader, where an administrator or a migration made it, read what is for reading.
DO $$
DECLARE
    relation regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        RETURN;
    END IF;
    IF NOT has_schema_privilege('funnelwatch_reader', current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %%I TO funnelwatch_reader', current_schema());
    END IF;
    FOR relation IN
        SELECT c.oid::regclass
        FROM unnest(ARRAY[
            'alert_history', 'alert_messages', 'alert_summaries', 'alerts', 'cohort_conversion', 'conversion',
            'conversion_1d', 'conversion_1h', 'conversion_5m', 'counted_funnels', 'counts_1d', 'counts_1h', 'counts_5m',
            'declared_funnels', 'declared_steps', 'deployment', 'detector_progress', 'funnel_progress', 'funnel_steps',
            'late_windows',
            'metric_counts', 'metric_series', 'metric_totals', 'metrics', 'notifications', 'notified_alerts',
            'notify_routes', 'progress_resets', 'replayed_letters', 'retention', 'rollup_1d', 'rollup_1h', 'rollup_5m',
            'rollup_changes', 'rollup_invalidations', 'rollup_progress', 'rollup_trust', 'schema_migrations', 'series', 'series_totals',
            'session_conversion', 'session_conversion_1d', 'session_conversion_1h', 'session_conversion_5m', 'session_funnel',
            'session_funnel_1d', 'session_funnel_1h', 'session_funnel_5m', 'session_maturity', 'silences', 'stream_progress',
            'time_to_convert', 'time_to_convert_1d', 'time_to_convert_1h', 'time_to_convert_5m', 'timers',
            'window_counts', 'window_repairs', 'worker_heartbeats'
        ]) AS readable (name)
        INNER JOIN pg_class AS c ON c.relname = readable.name AND c.relnamespace = quote_ident(current_schema())::regnamespace
        WHERE
            pg_has_role(c.relowner, 'USAGE')
            AND NOT has_table_privilege('funnelwatch_reader', c.oid, 'SELECT')
    LOOP
        EXECUTE format('GRANT SELECT ON %%s TO funnelwatch_reader', relation);
    END LOOP;
END
$$;
