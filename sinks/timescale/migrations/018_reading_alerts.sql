-- Whoever may read alert_messages may read the messages themselves: the query API hands them out as they were published.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        GRANT SELECT ON alerts, silences TO funnelwatch_reader;
    END IF;
END
$$;
