-- name: pipeline_look
-- How far each partition of the events topic is, what was counted and rejected of it, and whether it is idle.
SELECT
    partition,
    next_offset,
    accepted + duplicates AS counted,
    rejected,
    undeclared,
    idle AND updated_at > clock_timestamp() - %(idle_valid_s)s * interval '1 second' AS idle
FROM stream_progress
WHERE topic = %(topic)s
ORDER BY partition;

-- name: try_monitor_lock
-- Become the one that watches the pipeline; held until the session ends.
SELECT pg_try_advisory_lock(hashtextextended('funnelwatch pipeline monitor ' || %(topic)s, to_regclass('deployment')::oid::bigint)) AS locked;

-- name: have_monitor_lock
-- Whether this session holds it already.
SELECT EXISTS (
    SELECT 1
    FROM pg_locks
    WHERE
        locktype = 'advisory'
        AND pid = pg_backend_pid()
        AND granted
        AND (classid::bigint << 32) + objid::bigint = hashtextextended('funnelwatch pipeline monitor ' || %(topic)s, to_regclass('deployment')::oid::bigint)
) AS held;
