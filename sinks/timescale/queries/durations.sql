-- name: upsert_durations
-- Add histograms of durations, sorted as counts are; the least that any of their slots counts then.
WITH added AS (
    INSERT INTO window_durations AS h (
        window_start, funnel, step, os, browser, app_version, octave,
        n0, n1, n2, n3, n4, n5, n6, n7
    )
    SELECT
        to_timestamp(d.window_ms / 1000.0), d.funnel, d.step, d.os, d.browser, d.app_version, d.octave,
        d.n0, d.n1, d.n2, d.n3, d.n4, d.n5, d.n6, d.n7
    FROM unnest(
        %(window_ms)s::bigint[], %(funnel)s::text[], %(step)s::text[], %(os)s::text[],
        %(browser)s::text[], %(app_version)s::text[], %(octave)s::smallint[],
        %(n0)s::bigint[], %(n1)s::bigint[], %(n2)s::bigint[], %(n3)s::bigint[],
        %(n4)s::bigint[], %(n5)s::bigint[], %(n6)s::bigint[], %(n7)s::bigint[]
    ) AS d (
        window_ms, funnel, step, os, browser, app_version, octave,
        n0, n1, n2, n3, n4, n5, n6, n7
    )
    ORDER BY d.funnel, d.window_ms, d.step, d.os, d.browser, d.app_version, d.octave
    ON CONFLICT (funnel, window_start, step, os, browser, app_version, octave) DO UPDATE SET
        n0 = h.n0 + excluded.n0,
        n1 = h.n1 + excluded.n1,
        n2 = h.n2 + excluded.n2,
        n3 = h.n3 + excluded.n3,
        n4 = h.n4 + excluded.n4,
        n5 = h.n5 + excluded.n5,
        n6 = h.n6 + excluded.n6,
        n7 = h.n7 + excluded.n7
    RETURNING least(h.n0, h.n1, h.n2, h.n3, h.n4, h.n5, h.n6, h.n7) AS least
)
SELECT min(least) AS least FROM added;

-- name: read_durations
-- Histograms of windows in [from, to), oldest first; of one funnel, or of all.
SELECT
    (extract(epoch FROM window_start) * 1000)::bigint AS window_ms,
    funnel, step, os, browser, app_version, octave,
    n0, n1, n2, n3, n4, n5, n6, n7
FROM window_durations
WHERE
    (%(funnel)s::text IS NULL OR funnel = %(funnel)s)
    AND window_start >= to_timestamp(%(from_ms)s / 1000.0)
    AND window_start < to_timestamp(%(to_ms)s / 1000.0)
ORDER BY funnel, window_start, step, os, browser, app_version, octave;

-- name: remove_empty_durations
-- Remove those of some rows that count nothing any more.
DELETE FROM window_durations AS h
USING unnest(
    %(window_ms)s::bigint[], %(funnel)s::text[], %(step)s::text[], %(os)s::text[],
    %(browser)s::text[], %(app_version)s::text[], %(octave)s::smallint[]
) AS d (window_ms, funnel, step, os, browser, app_version, octave)
WHERE
    h.funnel = d.funnel
    AND h.window_start = to_timestamp(d.window_ms / 1000.0)
    AND h.step = d.step
    AND h.os = d.os
    AND h.browser = d.browser
    AND h.app_version = d.app_version
    AND h.octave = d.octave
    AND (n0, n1, n2, n3, n4, n5, n6, n7) = (0, 0, 0, 0, 0, 0, 0, 0);

-- name: archive_durations_windows
-- Move histograms of windows that start before a time into the archive of 5 minutes; it must be a multiple of those.
WITH gone AS (
    DELETE FROM window_durations WHERE window_start < %(before)s RETURNING *
)
INSERT INTO archived_durations_5m AS a
SELECT
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    funnel, step, os, browser, app_version, octave,
    sum(n0), sum(n1), sum(n2), sum(n3), sum(n4), sum(n5), sum(n6), sum(n7)
FROM gone
GROUP BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT (funnel, window_start, step, os, browser, app_version, octave) DO UPDATE SET
    n0 = a.n0 + excluded.n0,
    n1 = a.n1 + excluded.n1,
    n2 = a.n2 + excluded.n2,
    n3 = a.n3 + excluded.n3,
    n4 = a.n4 + excluded.n4,
    n5 = a.n5 + excluded.n5,
    n6 = a.n6 + excluded.n6,
    n7 = a.n7 + excluded.n7;

-- name: archive_durations_5m
-- Move what is archived by 5 minutes and starts before a time into the archive of hours.
WITH gone AS (
    DELETE FROM archived_durations_5m WHERE window_start < %(before)s RETURNING *
), noted AS (
    INSERT INTO rollup_invalidations (level, window_start) SELECT DISTINCT '5m', window_start FROM gone
)
INSERT INTO archived_durations_1h AS a
SELECT
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    funnel, step, os, browser, app_version, octave,
    sum(n0), sum(n1), sum(n2), sum(n3), sum(n4), sum(n5), sum(n6), sum(n7)
FROM gone
GROUP BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT (funnel, window_start, step, os, browser, app_version, octave) DO UPDATE SET
    n0 = a.n0 + excluded.n0,
    n1 = a.n1 + excluded.n1,
    n2 = a.n2 + excluded.n2,
    n3 = a.n3 + excluded.n3,
    n4 = a.n4 + excluded.n4,
    n5 = a.n5 + excluded.n5,
    n6 = a.n6 + excluded.n6,
    n7 = a.n7 + excluded.n7;

-- name: archive_durations_1h
-- Move what is archived by hours and starts before a time into the archive of days.
WITH gone AS (
    DELETE FROM archived_durations_1h WHERE window_start < %(before)s RETURNING *
), noted AS (
    INSERT INTO rollup_invalidations (level, window_start) SELECT DISTINCT '1h', window_start FROM gone
)
INSERT INTO archived_durations_1d AS a
SELECT
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    funnel, step, os, browser, app_version, octave,
    sum(n0), sum(n1), sum(n2), sum(n3), sum(n4), sum(n5), sum(n6), sum(n7)
FROM gone
GROUP BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT (funnel, window_start, step, os, browser, app_version, octave) DO UPDATE SET
    n0 = a.n0 + excluded.n0,
    n1 = a.n1 + excluded.n1,
    n2 = a.n2 + excluded.n2,
    n3 = a.n3 + excluded.n3,
    n4 = a.n4 + excluded.n4,
    n5 = a.n5 + excluded.n5,
    n6 = a.n6 + excluded.n6,
    n7 = a.n7 + excluded.n7;

-- name: forget_durations_1d
-- Delete what is archived by days and starts before a time.
WITH gone AS (
    DELETE FROM archived_durations_1d WHERE window_start < %(before)s RETURNING window_start
)
INSERT INTO rollup_invalidations (level, window_start) SELECT DISTINCT '1d', window_start FROM gone;
