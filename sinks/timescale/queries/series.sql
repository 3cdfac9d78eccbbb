-- name: lock_funnel_series
-- One worker admits new series at a time.
SELECT pg_advisory_xact_lock(hashtextextended('funnelwatch funnel series', to_regclass('deployment')::oid::bigint));

-- name: counted_funnels
-- Every funnel that has series, and how many.
SELECT funnel, series FROM counted_funnels;

-- name: funnel_series_of
-- The series of some funnels.
SELECT funnel, step, os, browser, app_version FROM funnel_series WHERE funnel = ANY(%(funnels)s);

-- name: new_funnel_series
-- Store series that were admitted.
WITH added AS (
    INSERT INTO funnel_series (funnel, step, os, browser, app_version)
    SELECT d.funnel, d.step, d.os, d.browser, d.app_version
    FROM unnest(
        %(funnel)s::text[], %(step)s::text[], %(os)s::text[], %(browser)s::text[], %(app_version)s::text[]
    ) AS d (funnel, step, os, browser, app_version)
    ON CONFLICT DO NOTHING
    RETURNING funnel
)
INSERT INTO counted_funnels AS f (funnel, series)
SELECT funnel, count(*) FROM added GROUP BY funnel
ON CONFLICT (funnel) DO UPDATE SET series = f.series + excluded.series;
