-- name: lock_migrations
-- One process migrates at a time; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('funnelwatch migrations', 0));

-- name: create_migrations
-- The table that remembers which migrations have been run.
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    run_at timestamptz NOT NULL DEFAULT now()
);

-- name: known_migrations
-- The migrations that have been run.
SELECT name FROM schema_migrations;

-- name: note_migration
-- A migration has been run.
INSERT INTO schema_migrations (name) VALUES (%(name)s);

-- name: timescale_available
-- A row if this server has the extension loaded, so that a database can have it.
SELECT 1 AS yes
FROM pg_available_extensions
WHERE name = 'timescaledb' AND current_setting('shared_preload_libraries') LIKE '%%timescaledb%%';

-- name: timescale_installed
-- A row if this database has the extension.
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb';

-- name: create_timescale
-- Give this database the extension.
CREATE EXTENSION IF NOT EXISTS timescaledb;

-- name: set_window_length
-- Remember the length of a window, the first time.
INSERT INTO deployment (window_ms) VALUES (%(window_ms)s) ON CONFLICT DO NOTHING;

-- name: window_length
-- The length of a window of the counts here.
SELECT window_ms FROM deployment;

-- name: encoding
-- How this database stores text.
SELECT current_setting('server_encoding') AS encoding;
