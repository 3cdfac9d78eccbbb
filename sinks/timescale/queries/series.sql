-- name: lock_series
-- One worker adds new series at a time.
SELECT pg_advisory_xact_lock(hashtextextended('funnelwatch series', to_regclass('deployment')::oid::bigint));

-- name: counted_funnels
-- Every funnel that has series, and how many.
SELECT funnel, series FROM counted_funnels;

-- name: series_of
-- The series of some funnels.
SELECT series_id, funnel, step, dimensions FROM series WHERE funnel = ANY(%(funnels)s);

-- name: series_by_number
-- The series with these numbers.
SELECT series_id, funnel, step, dimensions FROM series WHERE series_id = ANY(%(numbers)s);

-- name: new_series
-- Store series; their lock must be held.
WITH added AS (
    INSERT INTO series (funnel, step, dimensions)
    SELECT d.funnel, d.step, d.dimensions
    FROM unnest(%(funnel)s::text[], %(step)s::text[], %(dimensions)s::jsonb[])
    WITH ORDINALITY AS d (funnel, step, dimensions, place)
    ORDER BY d.place
    ON CONFLICT DO NOTHING
    RETURNING series_id, funnel, step, dimensions
), counted AS (
    INSERT INTO counted_funnels AS f (funnel, series)
    SELECT funnel, count(*) FROM added GROUP BY funnel
    ON CONFLICT (funnel) DO UPDATE SET series = f.series + excluded.series
)
SELECT series_id, funnel, step, dimensions FROM added;
