-- The counts of record: one row per series and window, without text.

CREATE TABLE series (
    series_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    funnel text NOT NULL,
    step text NOT NULL,
    dimensions jsonb NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (funnel, step, dimensions)
);
COMMENT ON TABLE series IS 'Each combination of funnel, step and dimensions that events count for. A dimension without a value is left out. A value beyond a limit counts under "(other)"; this table decides, so all workers and replays agree.';

CREATE TABLE counted_funnels (
    funnel text PRIMARY KEY,
    series integer NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE counted_funnels IS 'Each funnel that has series, declared or not, and how many.';

-- d0, d1, …: successes by time to convert, slot by slot (schemas/histogram.py); null: none.
CREATE TABLE window_counts (
    window_start timestamptz NOT NULL,
    series_id integer NOT NULL,
    impressions integer NOT NULL,
    successes integer NOT NULL,
    failures integer NOT NULL,
    cohort_successes integer NOT NULL,
    cohort_failures integer NOT NULL,
    sessions integer NOT NULL DEFAULT 0,
    session_successes integer NOT NULL DEFAULT 0,
    reached integer NOT NULL DEFAULT 0,
    completed integer NOT NULL DEFAULT 0,
    d0 integer, d1 integer, d2 integer, d3 integer, d4 integer, d5 integer, d6 integer, d7 integer, d8 integer, d9 integer,
    d10 integer, d11 integer, d12 integer, d13 integer, d14 integer, d15 integer, d16 integer, d17 integer, d18 integer,
    d19 integer, d20 integer, d21 integer, d22 integer, d23 integer, d24 integer, d25 integer, d26 integer, d27 integer,
    d28 integer, d29 integer, d30 integer, d31 integer, d32 integer, d33 integer, d34 integer, d35 integer, d36 integer,
    d37 integer, d38 integer, d39 integer, d40 integer, d41 integer, d42 integer, d43 integer, d44 integer, d45 integer,
    d46 integer, d47 integer, d48 integer, d49 integer, d50 integer, d51 integer, d52 integer, d53 integer, d54 integer,
    d55 integer, d56 integer, d57 integer, d58 integer, d59 integer, d60 integer, d61 integer, d62 integer, d63 integer,
    d64 integer, d65 integer, d66 integer, d67 integer, d68 integer, d69 integer, d70 integer, d71 integer, d72 integer,
    d73 integer, d74 integer, d75 integer, d76 integer, d77 integer, d78 integer, d79 integer, d80 integer, d81 integer,
    d82 integer, d83 integer, d84 integer, d85 integer, d86 integer, d87 integer, d88 integer, d89 integer, d90 integer,
    d91 integer, d92 integer, d93 integer, d94 integer, d95 integer, d96 integer, d97 integer, d98 integer, d99 integer,
    d100 integer, d101 integer, d102 integer, d103 integer, d104 integer, d105 integer, d106 integer, d107 integer,
    d108 integer, d109 integer, d110 integer, d111 integer, d112 integer, d113 integer, d114 integer, d115 integer,
    d116 integer, d117 integer, d118 integer, d119 integer,
    PRIMARY KEY (window_start, series_id)
)
-- Room for new versions of rows on their own page: each flush adds to the rows of the newest windows.
WITH (fillfactor = 70);
COMMENT ON TABLE window_counts IS 'Counts of a series in the window [window_start, window_start + window). successes, failures and the slots of durations are dated by their own ts, the cohort columns by the impression that they answer, sessions and session_successes by the session''s first impression of the step, reached and completed by its entry into the funnel.';

CREATE TABLE series_totals (
    series_id integer PRIMARY KEY,
    impressions bigint NOT NULL,
    successes bigint NOT NULL,
    failures bigint NOT NULL,
    sessions bigint NOT NULL,
    session_successes bigint NOT NULL,
    duration_ms bigint NOT NULL,
    b0 bigint, b1 bigint, b2 bigint, b3 bigint, b4 bigint, b5 bigint, b6 bigint, b7 bigint, b8 bigint, b9 bigint, b10 bigint,
    b11 bigint, b12 bigint, b13 bigint, b14 bigint, b15 bigint
)
WITH (fillfactor = 50);
COMMENT ON TABLE series_totals IS 'Events and sessions counted since the beginning, by series, for Prometheus. Each flush adds to it and nothing else does: retention, repairs and rebuilds leave it alone, so that no count ever falls. duration_ms adds up the middles of the slots of durations; b0, b1, …: successes by duration, each bucket twice as wide as the one before (schemas/histogram.py).';

CREATE FUNCTION duration_quantile(q double precision, slots bigint[]) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    total double precision := 0;
    running double precision := 0;
    place integer := 0;
    width double precision;
    lower_border double precision;
    n bigint;
BEGIN
    IF slots IS NULL THEN
        RETURN NULL;
    END IF;
    -- A loop: a query over the slots takes ten times as long, and there is a call for each group.
    FOREACH n IN ARRAY slots LOOP
        IF n > 0 THEN
            total := total + n;
        END IF;
    END LOOP;
    FOREACH n IN ARRAY slots LOOP
        place := place + 1;
        IF n > 0 THEN
            running := running + n;
            IF running >= q * total THEN
                IF place <= 8 THEN
                    RETURN place - 1;
                END IF;
                width := power(2::double precision, (place - 9) / 4 + 1);
                lower_border := (4 + (place - 9) % 4) * width;
                -- In proportion within the slot, and never farther than an eighth from any value of the slot.
                RETURN greatest(0.875 * (lower_border + width - 1), least(1.125 * lower_border,
                    lower_border + (width - 1) * greatest(0, q * total - (running - n)) / n
                ));
            END IF;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION duration_quantile IS 'The q-quantile, ms, of a histogram of durations, whose slots are d0, d1, … in this order. At most 12.5 % off (schemas/histogram.py); null where nothing is counted.';
