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
    -- Another database of this server was faster, or this user may not make roles: an administrator makes it, and the next
    -- worker that starts grants it what is for reading (query grant_reading).
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END
$$;
