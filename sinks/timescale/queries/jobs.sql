-- name: database_jobs
-- The extension's jobs on our tables, each with how its runs end; nothing where the tables are made without it.
SELECT
    j.job_id,
    j.proc_name,
    j.hypertable_name::text AS relation,
    j.scheduled,
    extract(epoch FROM j.schedule_interval)::double precision AS every_s,
    s.started IS NOT NULL AS ran,
    s.failed,
    s.running,
    extract(epoch FROM now() - s.succeeded)::double precision AS succeeded_ago_s,
    extract(epoch FROM now() - greatest(m.run_at, j.initial_start))::double precision AS known_s,
    e.err_message AS error
FROM timescaledb_information.jobs AS j
LEFT JOIN LATERAL (
    SELECT
        max(nullif(r.last_run_started_at, '-infinity')) AS started,
        max(nullif(r.last_successful_finish, '-infinity')) AS succeeded,
        coalesce(bool_or(r.last_run_status = 'Failed'), false) AS failed,
        coalesce(bool_or(r.job_status = 'Running'), false) AS running
    FROM timescaledb_information.job_stats AS r
    WHERE r.job_id = j.job_id
) AS s ON true
LEFT JOIN LATERAL (
    SELECT f.err_message FROM timescaledb_information.job_errors AS f
    WHERE f.job_id = j.job_id
    ORDER BY f.start_time DESC
    LIMIT 1
) AS e ON true
CROSS JOIN (SELECT max(run_at) AS run_at FROM schema_migrations) AS m
WHERE
    j.proc_name LIKE 'policy\_%%'
    AND j.hypertable_schema = current_schema()
    AND j.hypertable_name = ANY(%(relations)s)
ORDER BY 3, 2;

-- name: worker_processes
-- How many background processes the server may have, how many of them the extension may take, and for parallel queries.
SELECT
    current_setting('max_worker_processes')::integer AS processes,
    current_setting('timescaledb.max_background_workers', true)::integer AS background,
    current_setting('max_parallel_workers')::integer AS parallel;
