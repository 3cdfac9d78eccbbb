-- name: lock_migrations
-- One process migrates at a time; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('funnelwatch migrations', 0));

-- name: migrations_kept
-- A row if the table of migrations exists: a login that may not create tables can still run.
SELECT 1 AS yes WHERE to_regclass('schema_migrations') IS NOT NULL;

-- name: create_migrations
-- The table of migrations that have run.
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    run_at timestamptz NOT NULL DEFAULT now()
);

-- name: known_migrations
-- The migrations that have run.
SELECT name FROM schema_migrations;

-- name: note_migration
-- Record that a migration has run.
INSERT INTO schema_migrations (name) VALUES (%(name)s);

-- name: timescale_available
-- A row if this server has loaded the extension, so that a database can have it. Its settings show that, since only a
-- superuser may read shared_preload_libraries.
SELECT 1 AS yes
FROM pg_available_extensions AS e
WHERE e.name = 'timescaledb' AND EXISTS (SELECT FROM pg_settings AS s WHERE s.name LIKE 'timescaledb.%%');

-- name: timescale_installed
-- A row if this database has the extension.
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb';

-- name: create_timescale
-- Give this database the extension.
CREATE EXTENSION IF NOT EXISTS timescaledb;

-- name: where_tables_go
-- The schema in which tables are made, the user, and whether that user may make them there; a null schema: there is none.
SELECT
    current_schema() AS schema,
    current_user AS role,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
    current_setting('search_path') AS search_path,
    current_database() AS database;

-- name: set_window_length
-- Remember the length of a window, the first time.
INSERT INTO deployment (window_ms) VALUES (%(window_ms)s) ON CONFLICT DO NOTHING;

-- name: window_length
-- The length of a window of the counts here.
SELECT window_ms FROM deployment;

-- name: encoding
-- How this database stores text.
SELECT current_setting('server_encoding') AS encoding;
