-- name: counting_ourselves
-- In this transaction it is funnelwatch who changes counts, and notes down which rollups that changes.
SELECT set_config('funnelwatch.counting', 'on', true);

-- name: note_invalidated
-- Buckets whose windows this transaction changes are to be materialized again, but for final ones, whose source is dropped;
-- the closer must be held off.
INSERT INTO rollup_invalidations (level, window_start)
SELECT DISTINCT
    p.level,
    date_bin(p.width, to_timestamp(d.window_ms / 1000.0), TIMESTAMPTZ '2000-01-01 00:00:00Z')
FROM unnest(%(window_ms)s::bigint[]) AS d (window_ms)
CROSS JOIN rollup_progress AS p
INNER JOIN retention AS r ON r.level = p.source
WHERE
    to_timestamp(d.window_ms / 1000.0) < p.materializing_through
    AND to_timestamp(d.window_ms / 1000.0) >= coalesce(r.dropped_before, '-infinity');

-- name: lock_rollups
-- One worker materializes a level at a time (null: all of them); the others do not wait. 
SELECT
    level,
    (extract(epoch FROM width) * 1000)::bigint AS width_ms,
    (extract(epoch FROM nullif(materializing_through, '-infinity')) * 1000)::bigint AS materializing_ms,
    (extract(epoch FROM nullif(materialized_through, '-infinity')) * 1000)::bigint AS materialized_ms
FROM rollup_progress
WHERE %(level)s::text IS NULL OR level = %(level)s
ORDER BY width
FOR UPDATE SKIP LOCKED;

-- name: settled_through
-- Up to where hardly anything changes any more: a while before now, and not ahead of what is closed.
SELECT (extract(epoch FROM least(
    to_timestamp(%(before_ms)s / 1000.0), (SELECT max(closing_through) FROM funnel_progress)
)) * 1000)::bigint AS settled_ms;

-- name: start_materializing
-- From now on a flush notes which buckets before this it changes.
UPDATE rollup_progress
SET materializing_through = to_timestamp(%(through_ms)s / 1000.0)
WHERE level = %(level)s;

-- name: finish_materializing
-- The buckets before this stand in the level's tables.
UPDATE rollup_progress
SET materialized_through = to_timestamp(%(through_ms)s / 1000.0)
WHERE level = %(level)s;

-- name: first_counted
-- When the oldest counts from a time on begin, of any level; null: from the beginning, which reads whole tables.
SELECT (extract(epoch FROM least(
    (SELECT min(window_start) FROM window_counts WHERE window_start >= f.since),
    (SELECT min(window_start) FROM rollup_5m WHERE window_start >= f.since),
    (SELECT min(window_start) FROM rollup_1h WHERE window_start >= f.since),
    (SELECT min(window_start) FROM rollup_1d WHERE window_start >= f.since)
)) * 1000)::bigint AS first_ms
FROM (SELECT coalesce(to_timestamp(%(from_ms)s::bigint / 1000.0), '-infinity') AS since) AS f;

-- name: invalidated
-- Buckets of a level that have changed since they were materialized, oldest first.
SELECT DISTINCT (extract(epoch FROM i.window_start) * 1000)::bigint AS window_ms
FROM rollup_invalidations AS i INNER JOIN rollup_progress AS p ON p.level = i.level
WHERE i.level = %(level)s AND i.window_start < p.materialized_through
ORDER BY 1;

-- name: final_before
-- Before when buckets of a level are final, since their source is dropped; null: none is. Asked once the level is locked.
SELECT (extract(epoch FROM r.dropped_before) * 1000)::bigint AS final_ms
FROM rollup_progress AS p INNER JOIN retention AS r ON r.level = p.source
WHERE p.level = %(level)s;

-- name: forget_invalidated
-- What is materialized next, in [from, to), is not invalid any more; null: from the beginning.
DELETE FROM rollup_invalidations
WHERE
    level = %(level)s
    AND window_start >= coalesce(to_timestamp(%(from_ms)s / 1000.0), '-infinity')
    AND window_start < to_timestamp(%(to_ms)s / 1000.0);

-- name: clear_5m
-- Delete counts by 5 minutes in [from, to), which are written anew; null: from the beginning.
DELETE FROM rollup_5m
WHERE
    window_start >= coalesce(to_timestamp(%(from_ms)s / 1000.0), '-infinity')
    AND window_start < to_timestamp(%(to_ms)s / 1000.0);

-- name: materialize_5m
-- Write counts by 5 minutes in [from, to), those of a series together; null: from the beginning.
-- A statement of its own: in one with the DELETE, TimescaleDB deletes the new rows of compressed chunks, too.
INSERT INTO rollup_5m
SELECT * FROM live_5m
WHERE
    window_start >= coalesce(to_timestamp(%(from_ms)s / 1000.0), '-infinity')
    AND window_start < to_timestamp(%(to_ms)s / 1000.0)
ORDER BY series_id, window_start;

-- name: clear_1h
-- Delete counts by hours in [from, to), which are written anew; null: from the beginning.
DELETE FROM rollup_1h
WHERE
    window_start >= coalesce(to_timestamp(%(from_ms)s / 1000.0), '-infinity')
    AND window_start < to_timestamp(%(to_ms)s / 1000.0);

-- name: materialize_1h
-- Write counts by hours in [from, to), those of a series together; null: from the beginning.
-- A statement of its own: in one with the DELETE, TimescaleDB deletes the new rows of compressed chunks, too.
INSERT INTO rollup_1h
SELECT * FROM live_1h
WHERE
    window_start >= coalesce(to_timestamp(%(from_ms)s / 1000.0), '-infinity')
    AND window_start < to_timestamp(%(to_ms)s / 1000.0)
ORDER BY series_id, window_start;

-- name: clear_1d
-- Delete counts by days in [from, to), which are written anew; null: from the beginning.
DELETE FROM rollup_1d
WHERE
    window_start >= coalesce(to_timestamp(%(from_ms)s / 1000.0), '-infinity')
    AND window_start < to_timestamp(%(to_ms)s / 1000.0);

-- name: materialize_1d
-- Write counts by days in [from, to), those of a series together; null: from the beginning.
-- A statement of its own: in one with the DELETE, TimescaleDB deletes the new rows of compressed chunks, too.
INSERT INTO rollup_1d
SELECT * FROM live_1d
WHERE
    window_start >= coalesce(to_timestamp(%(from_ms)s / 1000.0), '-infinity')
    AND window_start < to_timestamp(%(to_ms)s / 1000.0)
ORDER BY series_id, window_start;
