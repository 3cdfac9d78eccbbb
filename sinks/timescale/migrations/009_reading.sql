-- Questions about counts by any dimension. Their functions look for the series first and for counts by series_id then: the
-- planner cannot guess from conditions on jsonb how many series there are, and would read a range once for each. To compile
-- such a query takes longer than to run it.

CREATE FUNCTION grouped_series(
    funnel text, chosen jsonb, by text[], OUT ids integer[], OUT places integer[], OUT steps text[], OUT named jsonb[]
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH others AS MATERIALIZED (
        SELECT coalesce(array_agg(DISTINCT d.name), '{}') AS names
        FROM series AS s CROSS JOIN LATERAL jsonb_object_keys(s.dimensions) AS d (name)
        WHERE s.funnel = grouped_series.funnel AND d.name <> ALL(coalesce(grouped_series.by, '{}'))
    ),

    meant AS (
        SELECT s.series_id, s.step, s.dimensions - (SELECT o.names FROM others AS o) AS kept
        FROM series AS s
        WHERE
            s.funnel = grouped_series.funnel
            AND (
                grouped_series.chosen = '{}'
                OR NOT EXISTS (
                    SELECT FROM jsonb_each(grouped_series.chosen) AS c (name, accepted)
                    WHERE NOT c.accepted ?| CASE c.name
                        WHEN 'step' THEN ARRAY[s.step]
                        ELSE ARRAY[coalesce(s.dimensions ->> c.name, ''), coalesce(s.dimensions ->> c.name, '(none)')]
                    END
                )
            )
    ),

    groups AS MATERIALIZED (
        SELECT g.step, g.kept, g.ids, row_number() OVER (ORDER BY g.step, g.kept)::integer AS place
        FROM (SELECT m.step, m.kept, array_agg(m.series_id) AS ids FROM meant AS m GROUP BY m.step, m.kept) AS g
    ),

    placed AS (
        SELECT array_agg(u.series_id) AS ids, array_agg(g.place) AS places
        FROM groups AS g CROSS JOIN LATERAL unnest(g.ids) AS u (series_id)
    )

    SELECT
        p.ids,
        p.places,
        (SELECT array_agg(g.step ORDER BY g.place) FROM groups AS g),
        (SELECT array_agg(g.kept ORDER BY g.place) FROM groups AS g)
    FROM placed AS p;
END;
COMMENT ON FUNCTION grouped_series IS 'The series of a funnel that are chosen (ids), each with the place of its group in steps and named: its step, and those of its dimensions that by names. chosen is an object: a dimension, or step, to the array of the values that are accepted; "" or "(none)" accepts series without a value.';

CREATE FUNCTION windows_of(funnel text, since timestamptz, until timestamptz)
RETURNS TABLE (
    window_start timestamptz, series_id integer,
    impressions integer, successes integer, failures integer, cohort_successes integer, cohort_failures integer,
    sessions integer, session_successes integer, reached integer, completed integer
)
LANGUAGE plpgsql STABLE ROWS 10000 SET plan_cache_mode = force_custom_plan SET jit = off SET work_mem = '64MB' AS $$
#variable_conflict use_column
DECLARE
    ids integer[] := ARRAY(SELECT s.series_id FROM series AS s WHERE s.funnel = windows_of.funnel);
BEGIN
    RETURN QUERY
    SELECT
        c.window_start, c.series_id, c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures,
        c.sessions, c.session_successes, c.reached, c.completed
    FROM window_counts AS c
    WHERE
        c.window_start >= windows_of.since AND c.window_start < windows_of.until
        AND (windows_of.funnel IS NULL OR c.series_id = ANY(ids));
END
$$;
COMMENT ON FUNCTION windows_of IS 'Counts of the windows of a funnel that start in [since, until); null: of every funnel.';

CREATE AGGREGATE total(bigint) (SFUNC = int8pl, STYPE = bigint, COMBINEFUNC = int8pl, PARALLEL = SAFE);
COMMENT ON AGGREGATE total(bigint) IS 'sum as a bigint, several times as fast: it passes over nulls without a call, and needs no numeric. A number beyond a bigint is an error.';

CREATE FUNCTION spans_by_level(
    level text, since timestamptz, until timestamptz, every interval, origin timestamptz,
    OUT from_5m timestamptz, OUT to_5m timestamptz, OUT again_5m timestamptz[],
    OUT from_1h timestamptz, OUT to_1h timestamptz, OUT again_1h timestamptz[],
    OUT from_1d timestamptz, OUT to_1d timestamptz, OUT again_1d timestamptz[]
)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    levels CONSTANT text[] := ARRAY['windows', '5m', '1h', '1d'];
    zero CONSTANT timestamptz := '2000-01-01 00:00:00Z';
    rollup record;
    first timestamptz := since;
    last timestamptz := until;
    begins timestamptz;
    ends timestamptz;
    changed_5m timestamptz[];
    changed_1h timestamptz[];
    changed_1d timestamptz[];
BEGIN
    FOR rollup IN
        SELECT p.level, p.width, t.through, t.changed
        FROM rollup_progress AS p INNER JOIN rollup_trust AS t ON t.level = p.level
        ORDER BY p.width
    LOOP
        IF rollup.level = spans_by_level.level THEN
            last := greatest(first, least(last, rollup.through));
        ELSIF array_position(levels, rollup.level) > array_position(levels, spans_by_level.level) THEN
            begins := last;
            ends := last;
            IF
                isfinite(first) AND isfinite(last)
                AND (
                    spans_by_level.every IS NULL
                    OR (
                        mod(extract(epoch FROM spans_by_level.every), extract(epoch FROM rollup.width)) = 0
                        AND mod(extract(epoch FROM spans_by_level.origin - zero), extract(epoch FROM rollup.width)) = 0
                    )
                )
            THEN
                begins := date_bin(rollup.width, first + rollup.width - interval '1 microsecond', zero);
                ends := least(date_bin(rollup.width, last, zero), rollup.through);
                IF begins >= ends THEN
                    begins := last;
                    ends := last;
                END IF;
            END IF;
            first := begins;
            last := ends;
        END IF;
        CASE rollup.level
            WHEN '5m' THEN
                from_5m := first;
                to_5m := last;
                changed_5m := rollup.changed;
            WHEN '1h' THEN
                from_1h := first;
                to_1h := last;
                changed_1h := rollup.changed;
            WHEN '1d' THEN
                from_1d := first;
                to_1d := last;
                changed_1d := rollup.changed;
        END CASE;
    END LOOP;
    -- What is finer than the level is not read.
    IF spans_by_level.level = '1d' THEN
        to_1h := to_1d;
    END IF;
    IF spans_by_level.level IN ('1h', '1d') THEN
        to_5m := to_1h;
    END IF;
    again_5m := ARRAY(
        SELECT c.start FROM unnest(changed_5m) AS c (start)
        WHERE c.start >= from_5m AND c.start < from_1h OR c.start >= to_1h AND c.start < to_5m
    );
    again_1h := ARRAY(
        SELECT c.start FROM unnest(changed_1h) AS c (start)
        WHERE c.start >= from_1h AND c.start < from_1d OR c.start >= to_1d AND c.start < to_1h
    );
    again_1d := ARRAY(SELECT c.start FROM unnest(changed_1d) AS c (start) WHERE c.start >= from_1d AND c.start < to_1d);
END
$$;
COMMENT ON FUNCTION spans_by_level IS 'How a range is read with the fewest rows: days in [from_1d, to_1d), hours around them in [from_1h, to_1h), 5 minutes around those in [from_5m, to_5m), each from its table but for the buckets that have changed (again), and the finest, of level, in the rest of [since, until). A coarser level than that is read as far as its buckets are materialized, and lie within the range and within spans of every.';

CREATE FUNCTION counts_of(
    level text, funnel text, since timestamptz, until timestamptz, every interval DEFAULT NULL,
    chosen jsonb DEFAULT '{}', by text[] DEFAULT '{}', origin timestamptz DEFAULT '2000-01-01 00:00:00Z'
)
RETURNS TABLE (
    start timestamptz, step text, dimensions jsonb,
    impressions bigint, successes bigint, failures bigint, cohort_successes bigint, cohort_failures bigint,
    sessions bigint, session_successes bigint, reached bigint, completed bigint
)
LANGUAGE plpgsql STABLE ROWS 1000
SET plan_cache_mode = force_custom_plan SET jit = off SET work_mem = '64MB' SET enable_mergejoin = off AS $$
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
        t.start, g.step, g.kept,
        t.impressions, t.successes, t.failures, t.cohort_successes, t.cohort_failures,
        t.sessions, t.session_successes, t.reached, t.completed
    FROM (
        SELECT
            CASE
                WHEN counts_of.every IS NULL THEN counts_of.since
                ELSE date_bin(counts_of.every, c.window_start, counts_of.origin)
            END AS start,
            s.place,
            total(c.impressions) AS impressions,
            total(c.successes) AS successes,
            total(c.failures) AS failures,
            total(c.cohort_successes) AS cohort_successes,
            total(c.cohort_failures) AS cohort_failures,
            total(c.sessions) AS sessions,
            total(c.session_successes) AS session_successes,
            total(c.reached) AS reached,
            total(c.completed) AS completed
        FROM (
            SELECT
                window_start, series_id, impressions::bigint, successes::bigint, failures::bigint,
                cohort_successes::bigint, cohort_failures::bigint,
                sessions::bigint, session_successes::bigint, reached::bigint, completed::bigint
            FROM window_counts
            WHERE window_start >= counts_of.since AND window_start < part.from_5m AND counts_of.since < part.from_5m
            UNION ALL
            SELECT
                window_start, series_id, impressions::bigint, successes::bigint, failures::bigint,
                cohort_successes::bigint, cohort_failures::bigint,
                sessions::bigint, session_successes::bigint, reached::bigint, completed::bigint
            FROM window_counts
            WHERE
                window_start >= part.to_5m AND window_start < counts_of.until AND part.to_5m < counts_of.until
                AND counts_of.level = 'windows'
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM rollup_5m
            WHERE
                window_start >= part.from_5m AND window_start < part.from_1h AND part.from_5m < part.from_1h
                AND window_start <> ALL(part.again_5m)
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM rollup_5m
            WHERE
                window_start >= part.to_1h AND window_start < part.to_5m AND part.to_1h < part.to_5m
                AND window_start <> ALL(part.again_5m)
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM counts_5m
            WHERE window_start = ANY(part.again_5m) AND cardinality(part.again_5m) > 0
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM counts_5m
            WHERE
                window_start >= part.to_5m AND window_start < counts_of.until AND part.to_5m < counts_of.until
                AND counts_of.level = '5m'
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM rollup_1h
            WHERE
                window_start >= part.from_1h AND window_start < part.from_1d AND part.from_1h < part.from_1d
                AND window_start <> ALL(part.again_1h)
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM rollup_1h
            WHERE
                window_start >= part.to_1d AND window_start < part.to_1h AND part.to_1d < part.to_1h
                AND window_start <> ALL(part.again_1h)
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM counts_1h
            WHERE window_start = ANY(part.again_1h) AND cardinality(part.again_1h) > 0
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM counts_1h
            WHERE
                window_start >= part.to_1h AND window_start < counts_of.until AND part.to_1h < counts_of.until
                AND counts_of.level = '1h'
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM rollup_1d
            WHERE
                window_start >= part.from_1d AND window_start < part.to_1d AND part.from_1d < part.to_1d
                AND window_start <> ALL(part.again_1d)
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM counts_1d
            WHERE window_start = ANY(part.again_1d) AND cardinality(part.again_1d) > 0
            UNION ALL
            SELECT
                window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
                sessions, session_successes, reached, completed
            FROM counts_1d
            WHERE
                window_start >= part.to_1d AND window_start < counts_of.until AND part.to_1d < counts_of.until
                AND counts_of.level = '1d'
        ) AS c
        INNER JOIN unnest(ids, places) AS s (series_id, place) ON s.series_id = c.series_id
        WHERE
            c.series_id = ANY(ids)
        GROUP BY 1, 2
    ) AS t
    INNER JOIN unnest(steps, named) WITH ORDINALITY AS g (step, kept, place) ON g.place = t.place
    ORDER BY t.start, t.place;
END
$$;
COMMENT ON FUNCTION counts_of IS 'Counts of a funnel in [since, until), from the windows or a rollup (level: windows, 5m, 1h or 1d), added up by spans of every (null: one span) that begin at origin and multiples from there, by step, and by the dimensions named in by. chosen: see grouped_series.';

CREATE FUNCTION durations_of(
    level text, funnel text, since timestamptz, until timestamptz, every interval DEFAULT NULL,
    chosen jsonb DEFAULT '{}', by text[] DEFAULT '{}', origin timestamptz DEFAULT '2000-01-01 00:00:00Z'
)
RETURNS TABLE (start timestamptz, step text, dimensions jsonb, slots bigint[])
LANGUAGE plpgsql STABLE ROWS 1000
SET plan_cache_mode = force_custom_plan SET jit = off SET work_mem = '64MB' SET enable_mergejoin = off AS $$
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
    SELECT t.start, g.step, g.kept, t.slots
    FROM (
        SELECT
            CASE
                WHEN durations_of.every IS NULL THEN durations_of.since
                ELSE date_bin(durations_of.every, c.window_start, durations_of.origin)
            END AS start,
            s.place,
            ARRAY[
                total(c.d0), total(c.d1), total(c.d2), total(c.d3), total(c.d4), total(c.d5), total(c.d6), total(c.d7), total(c.d8), total(c.d9),
                total(c.d10), total(c.d11), total(c.d12), total(c.d13), total(c.d14), total(c.d15), total(c.d16), total(c.d17), total(c.d18),
                total(c.d19), total(c.d20), total(c.d21), total(c.d22), total(c.d23), total(c.d24), total(c.d25), total(c.d26), total(c.d27),
                total(c.d28), total(c.d29), total(c.d30), total(c.d31), total(c.d32), total(c.d33), total(c.d34), total(c.d35), total(c.d36),
                total(c.d37), total(c.d38), total(c.d39), total(c.d40), total(c.d41), total(c.d42), total(c.d43), total(c.d44), total(c.d45),
                total(c.d46), total(c.d47), total(c.d48), total(c.d49), total(c.d50), total(c.d51), total(c.d52), total(c.d53), total(c.d54),
                total(c.d55), total(c.d56), total(c.d57), total(c.d58), total(c.d59), total(c.d60), total(c.d61), total(c.d62), total(c.d63),
                total(c.d64), total(c.d65), total(c.d66), total(c.d67), total(c.d68), total(c.d69), total(c.d70), total(c.d71), total(c.d72),
                total(c.d73), total(c.d74), total(c.d75), total(c.d76), total(c.d77), total(c.d78), total(c.d79), total(c.d80), total(c.d81),
                total(c.d82), total(c.d83), total(c.d84), total(c.d85), total(c.d86), total(c.d87), total(c.d88), total(c.d89), total(c.d90),
                total(c.d91), total(c.d92), total(c.d93), total(c.d94), total(c.d95), total(c.d96), total(c.d97), total(c.d98), total(c.d99),
                total(c.d100), total(c.d101), total(c.d102), total(c.d103), total(c.d104), total(c.d105), total(c.d106), total(c.d107),
                total(c.d108), total(c.d109), total(c.d110), total(c.d111), total(c.d112), total(c.d113), total(c.d114), total(c.d115),
                total(c.d116), total(c.d117), total(c.d118), total(c.d119)
            ] AS slots
        FROM (
            SELECT *
            FROM window_counts
            WHERE window_start >= durations_of.since AND window_start < part.from_5m AND durations_of.since < part.from_5m
            UNION ALL
            SELECT *
            FROM window_counts
            WHERE
                window_start >= part.to_5m AND window_start < durations_of.until AND part.to_5m < durations_of.until
                AND durations_of.level = 'windows'
            UNION ALL
            SELECT *
            FROM rollup_5m
            WHERE
                window_start >= part.from_5m AND window_start < part.from_1h AND part.from_5m < part.from_1h
                AND window_start <> ALL(part.again_5m)
            UNION ALL
            SELECT *
            FROM rollup_5m
            WHERE
                window_start >= part.to_1h AND window_start < part.to_5m AND part.to_1h < part.to_5m
                AND window_start <> ALL(part.again_5m)
            UNION ALL
            SELECT *
            FROM counts_5m
            WHERE window_start = ANY(part.again_5m) AND cardinality(part.again_5m) > 0
            UNION ALL
            SELECT *
            FROM counts_5m
            WHERE
                window_start >= part.to_5m AND window_start < durations_of.until AND part.to_5m < durations_of.until
                AND durations_of.level = '5m'
            UNION ALL
            SELECT *
            FROM rollup_1h
            WHERE
                window_start >= part.from_1h AND window_start < part.from_1d AND part.from_1h < part.from_1d
                AND window_start <> ALL(part.again_1h)
            UNION ALL
            SELECT *
            FROM rollup_1h
            WHERE
                window_start >= part.to_1d AND window_start < part.to_1h AND part.to_1d < part.to_1h
                AND window_start <> ALL(part.again_1h)
            UNION ALL
            SELECT *
            FROM counts_1h
            WHERE window_start = ANY(part.again_1h) AND cardinality(part.again_1h) > 0
            UNION ALL
            SELECT *
            FROM counts_1h
            WHERE
                window_start >= part.to_1h AND window_start < durations_of.until AND part.to_1h < durations_of.until
                AND durations_of.level = '1h'
            UNION ALL
            SELECT *
            FROM rollup_1d
            WHERE
                window_start >= part.from_1d AND window_start < part.to_1d AND part.from_1d < part.to_1d
                AND window_start <> ALL(part.again_1d)
            UNION ALL
            SELECT *
            FROM counts_1d
            WHERE window_start = ANY(part.again_1d) AND cardinality(part.again_1d) > 0
            UNION ALL
            SELECT *
            FROM counts_1d
            WHERE
                window_start >= part.to_1d AND window_start < durations_of.until AND part.to_1d < durations_of.until
                AND durations_of.level = '1d'
        ) AS c
        INNER JOIN unnest(ids, places) AS s (series_id, place) ON s.series_id = c.series_id
        WHERE
            c.series_id = ANY(ids)
        GROUP BY 1, 2
    ) AS t
    INNER JOIN unnest(steps, named) WITH ORDINALITY AS g (step, kept, place) ON g.place = t.place
    WHERE 0 < ANY(t.slots)
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
