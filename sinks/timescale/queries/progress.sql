-- name: topic_progress
-- How far each partition of a topic is counted, and of which topic of that name.
SELECT partition, topic_id, next_offset
FROM stream_progress
WHERE topic = %(topic)s
ORDER BY partition;

-- name: reset_progress
-- Set the progress of a partition and record the reset, if it has not moved since it was read; else returns no row.
WITH reset AS (
    UPDATE stream_progress
    SET
        topic_id = %(topic_id)s,
        next_offset = %(next_offset)s,
        -- Timestamps of another log do not apply to this one.
        log_time = CASE WHEN topic_id = %(topic_id)s THEN log_time END,
        idle = false,
        updated_at = clock_timestamp()
    WHERE
        topic = %(topic)s
        AND partition = %(partition)s
        AND topic_id = %(seen_topic_id)s
        AND next_offset = %(seen_next_offset)s
    RETURNING topic, partition, next_offset
)
INSERT INTO progress_resets (topic, partition, from_topic_id, from_offset, to_offset)
SELECT topic, partition, %(seen_topic_id)s, %(seen_next_offset)s, next_offset FROM reset
RETURNING partition;
