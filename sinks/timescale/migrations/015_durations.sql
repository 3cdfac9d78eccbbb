-- How long people took, as histograms: log-linear buckets with fixed borders, so that rows are simply added up.

CREATE TABLE window_durations (
    window_start timestamptz NOT NULL,
    funnel text NOT NULL,
    step text NOT NULL,
    os text NOT NULL,
    browser text NOT NULL,
    app_version text NOT NULL,
    octave smallint NOT NULL CHECK (octave BETWEEN 0 AND 60),
    n0 bigint NOT NULL DEFAULT 0,
    n1 bigint NOT NULL DEFAULT 0,
    n2 bigint NOT NULL DEFAULT 0,
    n3 bigint NOT NULL DEFAULT 0,
    n4 bigint NOT NULL DEFAULT 0,
    n5 bigint NOT NULL DEFAULT 0,
    n6 bigint NOT NULL DEFAULT 0,
    n7 bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (funnel, window_start, step, os, browser, app_version, octave)
)
-- Room for new versions of rows on their own page: measured, this halves the time of adding to them.
WITH (fillfactor = 60);
COMMENT ON TABLE window_durations IS 'duration_ms of the successes of a series in a window, where it is known: how many in each of the eight slots of an octave (schemas/histogram.py). Written with window_counts, dated by the ts of the success.';

CREATE FUNCTION duration_quantile(q double precision, octaves smallint[], slots bigint[]) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT min(
        c.lower_border + (c.width - 1) * greatest(0, q * c.total - (c.running - c.n)) / c.n
    )
    FROM (
        SELECT
            s.n,
            sum(s.n) OVER (ORDER BY s.place)::double precision AS running,
            sum(s.n) OVER ()::double precision AS total,
            CASE WHEN o.octave = 0 THEN 0 ELSE 8 * o.width END + (s.place - 1) % 8 * o.width AS lower_border,
            o.width
        FROM unnest(slots) WITH ORDINALITY AS s (n, place)
        CROSS JOIN LATERAL (SELECT octaves[((s.place - 1) / 8 + 1)::integer]) AS a (octave)
        CROSS JOIN LATERAL (SELECT a.octave, power(2::double precision, greatest(a.octave - 1, 0)) AS width) AS o
    ) AS c
    WHERE c.n > 0 AND c.running >= q * c.total
);
COMMENT ON FUNCTION duration_quantile IS 'The q-quantile, ms, of a histogram: its octaves, ascending, and eight slots for each. Less than 12.5 % off (schemas/histogram.py); null where nothing is counted.';
