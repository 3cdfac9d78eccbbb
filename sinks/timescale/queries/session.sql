-- name: see_extension
-- Find TimescaleDB's functions: an administrator may have made the extension in a schema that the search path lacks.
-- And lift its limit of tuples that a transaction may decompress: late events of a hundred series of a compressed day exceed
-- it. A version without the limit knows no such setting.
SELECT
    CASE WHEN n.nspname <> ALL(current_schemas(true)) THEN set_config(
        'search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname)), false
    ) END,
    CASE WHEN current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction', true) IS NOT NULL THEN set_config(
        'timescaledb.max_tuples_decompressed_per_dml_transaction', '0', false
    ) END
FROM pg_extension AS e INNER JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- name: keep_search_path
-- Fix the schemas by name: "$user" would follow the role.
SELECT set_config('search_path', string_agg(quote_ident(s.name), ', ' ORDER BY s.place), false)
FROM unnest(current_schemas(false)) WITH ORDINALITY AS s (name, place)
HAVING count(*) > 0;

-- name: rights
-- What this user may do here, what the reader role may, and whether the extension is there, could be, and is used.
SELECT
    current_user AS role,
    current_schema() AS schema,
    to_regclass('stream_progress') IS NOT NULL AS tables,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
    EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') AS reader,
    CASE
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader')
        THEN coalesce(has_table_privilege('funnelwatch_reader', to_regclass('window_counts'), 'SELECT'), false)
    END AS reader_may_read,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS extension,
    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
        AND EXISTS (SELECT FROM pg_settings WHERE name LIKE 'timescaledb.%%') AS extension_available,
    EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('window_counts_time')) AS plain_tables;
