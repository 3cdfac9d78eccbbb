-- name: beat
-- A worker lives.
INSERT INTO worker_heartbeats (worker, topic, host, pid, version, assigned, error)
VALUES (%(worker)s, %(topic)s, %(host)s, %(pid)s, %(version)s, %(assigned)s, %(error)s)
ON CONFLICT (worker) DO UPDATE SET
    seen_at = clock_timestamp(),
    ended_at = NULL,
    assigned = excluded.assigned,
    error = excluded.error;

-- name: end_heartbeat
-- A worker ends on purpose.
UPDATE worker_heartbeats SET seen_at = clock_timestamp(), ended_at = clock_timestamp() WHERE worker = %(worker)s;

-- name: prune_heartbeats
-- Delete workers that have not been seen for ten minutes.
DELETE FROM worker_heartbeats WHERE topic = %(topic)s AND seen_at < clock_timestamp() - interval '10 minutes';

-- name: workers
-- The workers of a topic, the one that was seen last first; ages by the database's clock.
SELECT
    host,
    pid,
    version,
    assigned,
    error,
    ended_at IS NOT NULL AS ended,
    (extract(epoch FROM seen_at) * 1000)::bigint AS seen_ms,
    extract(epoch FROM clock_timestamp() - seen_at)::double precision AS age_s
FROM worker_heartbeats
WHERE topic = %(topic)s
ORDER BY seen_at DESC, worker;

-- name: funnels_freshness
-- How far each funnel is closed and evaluated, and since when windows wait for it; by the database's clock.
SELECT
    p.funnel,
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms,
    (extract(epoch FROM p.closed_through) * 1000)::bigint AS closed_through_ms,
    (extract(epoch FROM p.closed_at) * 1000)::bigint AS closed_at_ms,
    (extract(epoch FROM p.counted_since) * 1000)::bigint AS counted_since_ms,
    CASE
        WHEN p.published_window > coalesce(d.last_window, '-infinity'::timestamptz)
            THEN (extract(epoch FROM greatest(p.unevaluated_since, d.evaluated_at)) * 1000)::bigint
    END AS unevaluated_since_ms
FROM funnel_progress AS p
LEFT JOIN detector_progress AS d ON d.funnel = p.funnel
ORDER BY p.funnel;

-- name: has_progress
-- Whether the tables of funnelwatch are there.
SELECT to_regclass('stream_progress') IS NOT NULL AS there;
