-- Questions about counts by any dimension. Their functions look for the series first and for counts by series_id then: the
-- planner cannot guess from conditions on jsonb how many series there are, and would read a range once for each. To compile
-- such a query takes longer than to run it.

CREATE FUNCTION grouped_series(
    funnel text, chosen jsonb, by text[], OUT ids integer[], OUT places integer[], OUT steps text[], OUT named jsonb[]
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH meant AS (
        SELECT
            s.series_id,
            s.step,
            (
                SELECT coalesce(jsonb_object_agg(d.name, s.dimensions -> d.name), '{}')
                FROM unnest(grouped_series.by) AS d (name)
                WHERE s.dimensions ? d.name
            ) AS kept
        FROM series AS s
        WHERE
            s.funnel = grouped_series.funnel
            AND NOT EXISTS (
                SELECT FROM jsonb_each(grouped_series.chosen) AS c (name, accepted)
                WHERE NOT c.accepted ?| CASE c.name
                    WHEN 'step' THEN ARRAY[s.step]
                    ELSE ARRAY[coalesce(s.dimensions ->> c.name, ''), coalesce(s.dimensions ->> c.name, '(none)')]
                END
            )
    ),

    placed AS (
        SELECT series_id, step, kept, dense_rank() OVER (ORDER BY step, kept)::integer AS place FROM meant
    ),

    groups AS (
        SELECT DISTINCT place, step, kept FROM placed
    )

    SELECT
        (SELECT array_agg(series_id ORDER BY series_id) FROM placed),
        (SELECT array_agg(place ORDER BY series_id) FROM placed),
        (SELECT array_agg(step ORDER BY place) FROM groups),
        (SELECT array_agg(kept ORDER BY place) FROM groups);
END;
COMMENT ON FUNCTION grouped_series IS 'The series of a funnel that are chosen (ids), each with the place of its group in steps and named: its step, and those of its dimensions that by names. chosen is an object: a dimension, or step, to the array of the values that are accepted; "" or "(none)" accepts series without a value.';

CREATE FUNCTION windows_of(funnel text, since timestamptz, until timestamptz)
RETURNS TABLE (
    window_start timestamptz, series_id integer,
    impressions integer, successes integer, failures integer, cohort_successes integer, cohort_failures integer
)
LANGUAGE plpgsql STABLE ROWS 10000 SET plan_cache_mode = force_custom_plan SET jit = off SET work_mem = '64MB' AS $$
#variable_conflict use_column
DECLARE
    ids integer[] := ARRAY(SELECT s.series_id FROM series AS s WHERE s.funnel = windows_of.funnel);
BEGIN
    RETURN QUERY
    SELECT c.window_start, c.series_id, c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures
    FROM window_counts AS c
    WHERE
        c.window_start >= windows_of.since AND c.window_start < windows_of.until
        AND (windows_of.funnel IS NULL OR c.series_id = ANY(ids));
END
$$;
COMMENT ON FUNCTION windows_of IS 'Counts of the windows of a funnel that start in [since, until); null: of every funnel.';

CREATE FUNCTION spans_by_level(
    level text, since timestamptz, until timestamptz, every interval, origin timestamptz,
    OUT from_5m timestamptz, OUT to_5m timestamptz, OUT from_1h timestamptz, OUT to_1h timestamptz,
    OUT from_1d timestamptz, OUT to_1d timestamptz
)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    levels CONSTANT text[] := ARRAY['windows', '5m', '1h', '1d'];
    zero CONSTANT timestamptz := '2000-01-01 00:00:00Z';
    coarser record;
    first timestamptz := since;
    last timestamptz := until;
    begins timestamptz;
    ends timestamptz;
BEGIN
    FOR coarser IN
        SELECT p.level, p.width, t.through
        FROM rollup_progress AS p INNER JOIN rollup_trust AS t ON t.level = p.level
        ORDER BY p.width
    LOOP
        IF array_position(levels, coarser.level) > array_position(levels, spans_by_level.level) THEN
            begins := last;
            ends := last;
            IF
                isfinite(first) AND isfinite(last)
                AND (
                    spans_by_level.every IS NULL
                    OR (
                        mod(extract(epoch FROM spans_by_level.every), extract(epoch FROM coarser.width)) = 0
                        AND mod(extract(epoch FROM spans_by_level.origin - zero), extract(epoch FROM coarser.width)) = 0
                    )
                )
            THEN
                begins := date_bin(coarser.width, first + coarser.width - interval '1 microsecond', zero);
                ends := least(date_bin(coarser.width, last, zero), coarser.through);
                IF begins >= ends THEN
                    begins := last;
                    ends := last;
                END IF;
            END IF;
            first := begins;
            last := ends;
        END IF;
        CASE coarser.level
            WHEN '5m' THEN
                from_5m := first;
                to_5m := last;
            WHEN '1h' THEN
                from_1h := first;
                to_1h := last;
            WHEN '1d' THEN
                from_1d := first;
                to_1d := last;
        END CASE;
    END LOOP;
END
$$;
COMMENT ON FUNCTION spans_by_level IS 'How a range is read with the fewest rows: days in [from_1d, to_1d), hours around them in [from_1h, to_1h), 5 minutes around those in [from_5m, to_5m), and the finest, of level, in the rest of [since, until). Levels are read as far as their buckets lie within the range and a span of every, and are materialized.';

CREATE FUNCTION counts_of(
    level text, funnel text, since timestamptz, until timestamptz, every interval DEFAULT NULL,
    chosen jsonb DEFAULT '{}', by text[] DEFAULT '{}', origin timestamptz DEFAULT '2000-01-01 00:00:00Z'
)
RETURNS TABLE (
    start timestamptz, step text, dimensions jsonb,
    impressions bigint, successes bigint, failures bigint, cohort_successes bigint, cohort_failures bigint
)
LANGUAGE plpgsql STABLE ROWS 1000 SET plan_cache_mode = force_custom_plan SET jit = off SET work_mem = '64MB' AS $$
#variable_conflict use_column
DECLARE
    ids integer[];
    places integer[];
    steps text[];
    named jsonb[];
    part record;
BEGIN
    SELECT p.* INTO part FROM spans_by_level(counts_of.level, counts_of.since, counts_of.until, counts_of.every, counts_of.origin) AS p;
    SELECT g.* INTO ids, places, steps, named FROM grouped_series(counts_of.funnel, counts_of.chosen, counts_of.by) AS g;
    RETURN QUERY
    SELECT
        t.start, steps[t.place], named[t.place],
        t.impressions, t.successes, t.failures, t.cohort_successes, t.cohort_failures
    FROM (
        SELECT
            CASE
                WHEN counts_of.every IS NULL THEN counts_of.since
                ELSE date_bin(counts_of.every, c.window_start, counts_of.origin)
            END AS start,
            s.place,
            sum(c.impressions)::bigint AS impressions,
            sum(c.successes)::bigint AS successes,
            sum(c.failures)::bigint AS failures,
            sum(c.cohort_successes)::bigint AS cohort_successes,
            sum(c.cohort_failures)::bigint AS cohort_failures
        FROM (
            SELECT
                window_start, series_id, impressions::bigint, successes::bigint, failures::bigint,
                cohort_successes::bigint, cohort_failures::bigint
            FROM window_counts
            WHERE window_start >= counts_of.since AND window_start < part.from_5m AND counts_of.since < part.from_5m
            UNION ALL
            SELECT
                window_start, series_id, impressions::bigint, successes::bigint, failures::bigint,
                cohort_successes::bigint, cohort_failures::bigint
            FROM window_counts
            WHERE window_start >= part.to_5m AND window_start < counts_of.until AND part.to_5m < counts_of.until
            UNION ALL
            SELECT window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures
            FROM counts_5m
            WHERE window_start >= part.from_5m AND window_start < part.from_1h AND part.from_5m < part.from_1h
            UNION ALL
            SELECT window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures
            FROM counts_5m
            WHERE window_start >= part.to_1h AND window_start < part.to_5m AND part.to_1h < part.to_5m
            UNION ALL
            SELECT window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures
            FROM counts_1h
            WHERE window_start >= part.from_1h AND window_start < part.from_1d AND part.from_1h < part.from_1d
            UNION ALL
            SELECT window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures
            FROM counts_1h
            WHERE window_start >= part.to_1d AND window_start < part.to_1h AND part.to_1d < part.to_1h
            UNION ALL
            SELECT window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures
            FROM counts_1d
            WHERE window_start >= part.from_1d AND window_start < part.to_1d AND part.from_1d < part.to_1d
        ) AS c
        INNER JOIN unnest(ids, places) AS s (series_id, place) ON s.series_id = c.series_id
        WHERE
            c.series_id = ANY(ids)
        GROUP BY 1, 2
    ) AS t
    ORDER BY t.start, t.place;
END
$$;
COMMENT ON FUNCTION counts_of IS 'Counts of a funnel in [since, until), from the windows or a rollup (level: windows, 5m, 1h or 1d), added up by spans of every (null: one span) that begin at origin and multiples from there, by step, and by the dimensions named in by. chosen: see grouped_series.';

CREATE FUNCTION durations_of(
    level text, funnel text, since timestamptz, until timestamptz, every interval DEFAULT NULL,
    chosen jsonb DEFAULT '{}', by text[] DEFAULT '{}', origin timestamptz DEFAULT '2000-01-01 00:00:00Z'
)
RETURNS TABLE (start timestamptz, step text, dimensions jsonb, slots bigint[])
LANGUAGE plpgsql STABLE ROWS 1000 SET plan_cache_mode = force_custom_plan SET jit = off SET work_mem = '64MB' AS $$
#variable_conflict use_column
DECLARE
    ids integer[];
    places integer[];
    steps text[];
    named jsonb[];
    part record;
BEGIN
    SELECT p.* INTO part FROM spans_by_level(durations_of.level, durations_of.since, durations_of.until, durations_of.every, durations_of.origin) AS p;
    SELECT g.* INTO ids, places, steps, named FROM grouped_series(durations_of.funnel, durations_of.chosen, durations_of.by) AS g;
    RETURN QUERY
    SELECT t.start, steps[t.place], named[t.place], t.slots
    FROM (
        SELECT
            CASE
                WHEN durations_of.every IS NULL THEN durations_of.since
                ELSE date_bin(durations_of.every, c.window_start, durations_of.origin)
            END AS start,
            s.place,
            ARRAY[
                sum(c.d0), sum(c.d1), sum(c.d2), sum(c.d3), sum(c.d4), sum(c.d5), sum(c.d6), sum(c.d7), sum(c.d8), sum(c.d9),
                sum(c.d10), sum(c.d11), sum(c.d12), sum(c.d13), sum(c.d14), sum(c.d15), sum(c.d16), sum(c.d17), sum(c.d18),
                sum(c.d19), sum(c.d20), sum(c.d21), sum(c.d22), sum(c.d23), sum(c.d24), sum(c.d25), sum(c.d26), sum(c.d27),
                sum(c.d28), sum(c.d29), sum(c.d30), sum(c.d31), sum(c.d32), sum(c.d33), sum(c.d34), sum(c.d35), sum(c.d36),
                sum(c.d37), sum(c.d38), sum(c.d39), sum(c.d40), sum(c.d41), sum(c.d42), sum(c.d43), sum(c.d44), sum(c.d45),
                sum(c.d46), sum(c.d47), sum(c.d48), sum(c.d49), sum(c.d50), sum(c.d51), sum(c.d52), sum(c.d53), sum(c.d54),
                sum(c.d55), sum(c.d56), sum(c.d57), sum(c.d58), sum(c.d59), sum(c.d60), sum(c.d61), sum(c.d62), sum(c.d63),
                sum(c.d64), sum(c.d65), sum(c.d66), sum(c.d67), sum(c.d68), sum(c.d69), sum(c.d70), sum(c.d71), sum(c.d72),
                sum(c.d73), sum(c.d74), sum(c.d75), sum(c.d76), sum(c.d77), sum(c.d78), sum(c.d79), sum(c.d80), sum(c.d81),
                sum(c.d82), sum(c.d83), sum(c.d84), sum(c.d85), sum(c.d86), sum(c.d87), sum(c.d88), sum(c.d89), sum(c.d90),
                sum(c.d91), sum(c.d92), sum(c.d93), sum(c.d94), sum(c.d95), sum(c.d96), sum(c.d97), sum(c.d98), sum(c.d99),
                sum(c.d100), sum(c.d101), sum(c.d102), sum(c.d103), sum(c.d104), sum(c.d105), sum(c.d106), sum(c.d107),
                sum(c.d108), sum(c.d109), sum(c.d110), sum(c.d111), sum(c.d112), sum(c.d113), sum(c.d114), sum(c.d115),
                sum(c.d116), sum(c.d117), sum(c.d118), sum(c.d119)
            ]::bigint[] AS slots
        FROM (
            SELECT *
            FROM window_counts
            WHERE window_start >= durations_of.since AND window_start < part.from_5m AND durations_of.since < part.from_5m
            UNION ALL
            SELECT *
            FROM window_counts
            WHERE window_start >= part.to_5m AND window_start < durations_of.until AND part.to_5m < durations_of.until
            UNION ALL
            SELECT *
            FROM counts_5m
            WHERE window_start >= part.from_5m AND window_start < part.from_1h AND part.from_5m < part.from_1h
            UNION ALL
            SELECT *
            FROM counts_5m
            WHERE window_start >= part.to_1h AND window_start < part.to_5m AND part.to_1h < part.to_5m
            UNION ALL
            SELECT *
            FROM counts_1h
            WHERE window_start >= part.from_1h AND window_start < part.from_1d AND part.from_1h < part.from_1d
            UNION ALL
            SELECT *
            FROM counts_1h
            WHERE window_start >= part.to_1d AND window_start < part.to_1h AND part.to_1d < part.to_1h
            UNION ALL
            SELECT *
            FROM counts_1d
            WHERE window_start >= part.from_1d AND window_start < part.to_1d AND part.from_1d < part.to_1d
        ) AS c
        INNER JOIN unnest(ids, places) AS s (series_id, place) ON s.series_id = c.series_id
        WHERE
            c.series_id = ANY(ids)
        GROUP BY 1, 2
    ) AS t
    WHERE EXISTS (SELECT FROM unnest(t.slots) AS slot (n) WHERE n > 0)
    ORDER BY t.start, t.place;
END
$$;
COMMENT ON FUNCTION durations_of IS 'Histograms of the time to convert, added up as counts_of adds up counts; slots are those of duration_quantile. Without a known time there is no row.';

-- Names are looked up here, whoever calls, and in temporary tables last.
DO $$
DECLARE
    made text;
BEGIN
    FOREACH made IN ARRAY ARRAY['windows_of', 'spans_by_level', 'counts_of', 'durations_of'] LOOP
        EXECUTE format('ALTER FUNCTION %I SET search_path = %I, pg_temp', made, current_schema());
    END LOOP;
END
$$;
