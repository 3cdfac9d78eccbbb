-- name: cache_progress
-- How far each partition of a topic is counted, and whether any of its records was.
SELECT partition, topic_id, next_offset, accepted + rejected + duplicates > 0 AS counted
FROM stream_progress
WHERE topic = %(topic)s;

-- name: try_cache_lock
-- Become the one who copies all recent windows to Redis; held until the session ends.
SELECT pg_try_advisory_lock(hashtextextended('funnelwatch cache ' || %(prefix)s, to_regclass('deployment')::oid::bigint)) AS locked;
