-- name: lock_series
-- One worker adds new series at a time.
SELECT pg_advisory_xact_lock(hashtextextended('funnelwatch series', to_regclass('deployment')::oid::bigint));

-- name: counted_funnels
-- Every funnel that has series, and how many.
SELECT funnel, series FROM counted_funnels;

-- name: series_of
-- The series of some funnels, those that are newer than a number; of each funnel its own.
SELECT s.series_id, s.funnel, s.step, s.dimensions
FROM unnest(%(funnels)s::text[], %(newest)s::integer[]) AS w (funnel, newest)
INNER JOIN series AS s ON s.funnel = w.funnel AND s.series_id > w.newest;

-- name: series_by_number
-- The series with these numbers.
SELECT series_id, funnel, step, dimensions FROM series WHERE series_id = ANY(%(numbers)s);

-- name: new_series
-- Store series that are not stored yet, and number them in their order; their lock must be held.
WITH added AS (
    INSERT INTO series (funnel, step, dimensions)
    SELECT d.one ->> 0, d.one ->> 1, (d.one -> 2)::jsonb
    FROM json_array_elements(%(series)s::json) WITH ORDINALITY AS d (one, place)
    ORDER BY d.place
    RETURNING series_id, funnel
), counted AS (
    INSERT INTO counted_funnels AS f (funnel, series)
    SELECT funnel, count(*) FROM added GROUP BY funnel
    ON CONFLICT (funnel) DO UPDATE SET series = f.series + excluded.series
)
SELECT series_id FROM added ORDER BY series_id;
