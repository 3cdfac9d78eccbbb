-- name: claim_replays
-- Remember places as replayed; returns those that were not. Waits for another transaction that claims the same ones.
INSERT INTO replayed_letters (topic, partition, record_offset, record_time)
SELECT d.topic, d.partition, d.record_offset, to_timestamp(d.record_ms / 1000.0)
FROM unnest(%(topic)s::text[], %(partition)s::integer[], %(record_offset)s::bigint[], %(record_ms)s::bigint[])
    AS d (topic, partition, record_offset, record_ms)
ORDER BY 1, 2, 3, 4
ON CONFLICT DO NOTHING
RETURNING topic, partition, record_offset, (extract(epoch FROM record_time) * 1000)::bigint AS record_ms;

-- name: replayed
-- The places whose records were produced again.
SELECT topic, partition, record_offset, (extract(epoch FROM record_time) * 1000)::bigint AS record_ms
FROM replayed_letters;
