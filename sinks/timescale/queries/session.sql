-- name: see_extension
-- Find TimescaleDB's functions: an administrator may have made the extension in a schema that the search path lacks.
SELECT set_config(
    'search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname)), false
)
FROM pg_extension AS e INNER JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb' AND n.nspname <> ALL(current_schemas(true));

-- name: keep_search_path
-- Fix the schemas by name: "$user" would follow the role.
SELECT set_config('search_path', string_agg(quote_ident(s.name), ', ' ORDER BY s.place), false)
FROM unnest(current_schemas(false)) WITH ORDINALITY AS s (name, place)
HAVING count(*) > 0;
