-- Rollups: tables up to a moment; what is newer, or has changed since, is added up at each query. So a level always shows
-- what its windows show, on both databases.

CREATE TABLE retention (
    level text PRIMARY KEY CHECK (level IN ('windows', '5m', '1h', '1d')),
    keep interval,
    dropped_before timestamptz,
    set_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE retention IS 'How long counts are kept, by level; null: for ever. As the worker that was started last was told to.';
COMMENT ON COLUMN retention.dropped_before IS 'Counts of the level that start before this are dropped for their age; null: none are. It only ever moves forward, whatever keep becomes: buckets before it of the rollup that is made of the level are final.';
COMMENT ON COLUMN retention.set_at IS 'When keep was changed.';
INSERT INTO retention (level) VALUES ('windows'), ('5m'), ('1h'), ('1d');

CREATE TABLE rollup_progress (
    level text PRIMARY KEY CHECK (level IN ('5m', '1h', '1d')),
    width interval NOT NULL,
    source text NOT NULL REFERENCES retention (level),
    materializing_through timestamptz NOT NULL DEFAULT '-infinity',
    materialized_through timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE rollup_progress IS 'Buckets of a level that begin before materialized_through stand in its table. Who changes one that begins before materializing_through says so in rollup_invalidations.';
INSERT INTO rollup_progress (level, width, source) VALUES
('5m', '5 minutes', 'windows'), ('1h', '1 hour', '5m'), ('1d', '1 day', '1h');

CREATE TABLE rollup_invalidations (
    level text NOT NULL,
    window_start timestamptz NOT NULL
);
COMMENT ON TABLE rollup_invalidations IS 'Buckets that have changed since they were materialized, noted in the transaction that changes them, and taken away by the one that materializes them again. A row a change: none waits for another.';

CREATE VIEW rollup_changes AS
SELECT i.level, i.window_start
FROM rollup_invalidations AS i
INNER JOIN rollup_progress AS p ON p.level = i.level
INNER JOIN retention AS r ON r.level = p.source
WHERE i.window_start >= coalesce(r.dropped_before, '-infinity');
COMMENT ON VIEW rollup_changes IS 'rollup_invalidations without final buckets: their source is dropped, and a flush that did not see that yet may have noted one.';

CREATE VIEW rollup_trust AS
SELECT
    p.level,
    CASE WHEN n.number > 200 THEN least(n.oldest, p.materialized_through) ELSE p.materialized_through END AS through,
    CASE WHEN n.number > 200 THEN '{}'::timestamptz[] ELSE coalesce(n.buckets, '{}'::timestamptz[]) END AS changed
FROM rollup_progress AS p CROSS JOIN LATERAL (
    SELECT
        count(DISTINCT i.window_start) AS number,
        min(i.window_start) AS oldest,
        array_agg(DISTINCT i.window_start) AS buckets
    FROM rollup_changes AS i
    WHERE i.level = p.level
) AS n;
COMMENT ON VIEW rollup_trust IS 'The table of a level is right before through, but for the buckets that have changed. A list is searched from its beginning for each row: with over 200 buckets of them nothing from the oldest on is taken from the table.';

CREATE TABLE rollup_5m (
    window_start timestamptz NOT NULL,
    series_id integer NOT NULL,
    impressions bigint NOT NULL,
    successes bigint NOT NULL,
    failures bigint NOT NULL,
    cohort_successes bigint NOT NULL,
    cohort_failures bigint NOT NULL,
    sessions bigint NOT NULL,
    session_successes bigint NOT NULL,
    reached bigint NOT NULL,
    completed bigint NOT NULL,
    d0 bigint, d1 bigint, d2 bigint, d3 bigint, d4 bigint, d5 bigint, d6 bigint, d7 bigint, d8 bigint, d9 bigint, d10 bigint,
    d11 bigint, d12 bigint, d13 bigint, d14 bigint, d15 bigint, d16 bigint, d17 bigint, d18 bigint, d19 bigint, d20 bigint,
    d21 bigint, d22 bigint, d23 bigint, d24 bigint, d25 bigint, d26 bigint, d27 bigint, d28 bigint, d29 bigint, d30 bigint,
    d31 bigint, d32 bigint, d33 bigint, d34 bigint, d35 bigint, d36 bigint, d37 bigint, d38 bigint, d39 bigint, d40 bigint,
    d41 bigint, d42 bigint, d43 bigint, d44 bigint, d45 bigint, d46 bigint, d47 bigint, d48 bigint, d49 bigint, d50 bigint,
    d51 bigint, d52 bigint, d53 bigint, d54 bigint, d55 bigint, d56 bigint, d57 bigint, d58 bigint, d59 bigint, d60 bigint,
    d61 bigint, d62 bigint, d63 bigint, d64 bigint, d65 bigint, d66 bigint, d67 bigint, d68 bigint, d69 bigint, d70 bigint,
    d71 bigint, d72 bigint, d73 bigint, d74 bigint, d75 bigint, d76 bigint, d77 bigint, d78 bigint, d79 bigint, d80 bigint,
    d81 bigint, d82 bigint, d83 bigint, d84 bigint, d85 bigint, d86 bigint, d87 bigint, d88 bigint, d89 bigint, d90 bigint,
    d91 bigint, d92 bigint, d93 bigint, d94 bigint, d95 bigint, d96 bigint, d97 bigint, d98 bigint, d99 bigint, d100 bigint,
    d101 bigint, d102 bigint, d103 bigint, d104 bigint, d105 bigint, d106 bigint, d107 bigint, d108 bigint, d109 bigint,
    d110 bigint, d111 bigint, d112 bigint, d113 bigint, d114 bigint, d115 bigint, d116 bigint, d117 bigint, d118 bigint,
    d119 bigint
);
CREATE INDEX ON rollup_5m (series_id, window_start);
COMMENT ON TABLE rollup_5m IS 'live_5m where it begins before rollup_progress.materialized_through, and is not made again.';

CREATE VIEW live_5m AS
SELECT
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
    series_id,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures,
    sum(sessions)::bigint AS sessions,
    sum(session_successes)::bigint AS session_successes,
    sum(reached)::bigint AS reached,
    sum(completed)::bigint AS completed,
    sum(d0)::bigint AS d0, sum(d1)::bigint AS d1, sum(d2)::bigint AS d2, sum(d3)::bigint AS d3, sum(d4)::bigint AS d4,
    sum(d5)::bigint AS d5, sum(d6)::bigint AS d6, sum(d7)::bigint AS d7, sum(d8)::bigint AS d8, sum(d9)::bigint AS d9,
    sum(d10)::bigint AS d10, sum(d11)::bigint AS d11, sum(d12)::bigint AS d12, sum(d13)::bigint AS d13,
    sum(d14)::bigint AS d14, sum(d15)::bigint AS d15, sum(d16)::bigint AS d16, sum(d17)::bigint AS d17,
    sum(d18)::bigint AS d18, sum(d19)::bigint AS d19, sum(d20)::bigint AS d20, sum(d21)::bigint AS d21,
    sum(d22)::bigint AS d22, sum(d23)::bigint AS d23, sum(d24)::bigint AS d24, sum(d25)::bigint AS d25,
    sum(d26)::bigint AS d26, sum(d27)::bigint AS d27, sum(d28)::bigint AS d28, sum(d29)::bigint AS d29,
    sum(d30)::bigint AS d30, sum(d31)::bigint AS d31, sum(d32)::bigint AS d32, sum(d33)::bigint AS d33,
    sum(d34)::bigint AS d34, sum(d35)::bigint AS d35, sum(d36)::bigint AS d36, sum(d37)::bigint AS d37,
    sum(d38)::bigint AS d38, sum(d39)::bigint AS d39, sum(d40)::bigint AS d40, sum(d41)::bigint AS d41,
    sum(d42)::bigint AS d42, sum(d43)::bigint AS d43, sum(d44)::bigint AS d44, sum(d45)::bigint AS d45,
    sum(d46)::bigint AS d46, sum(d47)::bigint AS d47, sum(d48)::bigint AS d48, sum(d49)::bigint AS d49,
    sum(d50)::bigint AS d50, sum(d51)::bigint AS d51, sum(d52)::bigint AS d52, sum(d53)::bigint AS d53,
    sum(d54)::bigint AS d54, sum(d55)::bigint AS d55, sum(d56)::bigint AS d56, sum(d57)::bigint AS d57,
    sum(d58)::bigint AS d58, sum(d59)::bigint AS d59, sum(d60)::bigint AS d60, sum(d61)::bigint AS d61,
    sum(d62)::bigint AS d62, sum(d63)::bigint AS d63, sum(d64)::bigint AS d64, sum(d65)::bigint AS d65,
    sum(d66)::bigint AS d66, sum(d67)::bigint AS d67, sum(d68)::bigint AS d68, sum(d69)::bigint AS d69,
    sum(d70)::bigint AS d70, sum(d71)::bigint AS d71, sum(d72)::bigint AS d72, sum(d73)::bigint AS d73,
    sum(d74)::bigint AS d74, sum(d75)::bigint AS d75, sum(d76)::bigint AS d76, sum(d77)::bigint AS d77,
    sum(d78)::bigint AS d78, sum(d79)::bigint AS d79, sum(d80)::bigint AS d80, sum(d81)::bigint AS d81,
    sum(d82)::bigint AS d82, sum(d83)::bigint AS d83, sum(d84)::bigint AS d84, sum(d85)::bigint AS d85,
    sum(d86)::bigint AS d86, sum(d87)::bigint AS d87, sum(d88)::bigint AS d88, sum(d89)::bigint AS d89,
    sum(d90)::bigint AS d90, sum(d91)::bigint AS d91, sum(d92)::bigint AS d92, sum(d93)::bigint AS d93,
    sum(d94)::bigint AS d94, sum(d95)::bigint AS d95, sum(d96)::bigint AS d96, sum(d97)::bigint AS d97,
    sum(d98)::bigint AS d98, sum(d99)::bigint AS d99, sum(d100)::bigint AS d100, sum(d101)::bigint AS d101,
    sum(d102)::bigint AS d102, sum(d103)::bigint AS d103, sum(d104)::bigint AS d104, sum(d105)::bigint AS d105,
    sum(d106)::bigint AS d106, sum(d107)::bigint AS d107, sum(d108)::bigint AS d108, sum(d109)::bigint AS d109,
    sum(d110)::bigint AS d110, sum(d111)::bigint AS d111, sum(d112)::bigint AS d112, sum(d113)::bigint AS d113,
    sum(d114)::bigint AS d114, sum(d115)::bigint AS d115, sum(d116)::bigint AS d116, sum(d117)::bigint AS d117,
    sum(d118)::bigint AS d118, sum(d119)::bigint AS d119
FROM window_counts
GROUP BY 1, 2;
COMMENT ON VIEW live_5m IS 'window_counts added up by 5 minutes, at each query.';

-- What is not known when a query is planned is taken for a two-hundredth of a table if it has two ends; and this is less than
-- that: so it is said by window and by bucket. Else it looks so much that the query is compiled and run in parallel.
CREATE VIEW counts_5m AS
SELECT * FROM rollup_5m
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '5m')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_changes WHERE level = '5m')
UNION ALL
SELECT
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
    series_id,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures,
    sum(sessions)::bigint AS sessions,
    sum(session_successes)::bigint AS session_successes,
    sum(reached)::bigint AS reached,
    sum(completed)::bigint AS completed,
    sum(d0)::bigint AS d0, sum(d1)::bigint AS d1, sum(d2)::bigint AS d2, sum(d3)::bigint AS d3, sum(d4)::bigint AS d4,
    sum(d5)::bigint AS d5, sum(d6)::bigint AS d6, sum(d7)::bigint AS d7, sum(d8)::bigint AS d8, sum(d9)::bigint AS d9,
    sum(d10)::bigint AS d10, sum(d11)::bigint AS d11, sum(d12)::bigint AS d12, sum(d13)::bigint AS d13,
    sum(d14)::bigint AS d14, sum(d15)::bigint AS d15, sum(d16)::bigint AS d16, sum(d17)::bigint AS d17,
    sum(d18)::bigint AS d18, sum(d19)::bigint AS d19, sum(d20)::bigint AS d20, sum(d21)::bigint AS d21,
    sum(d22)::bigint AS d22, sum(d23)::bigint AS d23, sum(d24)::bigint AS d24, sum(d25)::bigint AS d25,
    sum(d26)::bigint AS d26, sum(d27)::bigint AS d27, sum(d28)::bigint AS d28, sum(d29)::bigint AS d29,
    sum(d30)::bigint AS d30, sum(d31)::bigint AS d31, sum(d32)::bigint AS d32, sum(d33)::bigint AS d33,
    sum(d34)::bigint AS d34, sum(d35)::bigint AS d35, sum(d36)::bigint AS d36, sum(d37)::bigint AS d37,
    sum(d38)::bigint AS d38, sum(d39)::bigint AS d39, sum(d40)::bigint AS d40, sum(d41)::bigint AS d41,
    sum(d42)::bigint AS d42, sum(d43)::bigint AS d43, sum(d44)::bigint AS d44, sum(d45)::bigint AS d45,
    sum(d46)::bigint AS d46, sum(d47)::bigint AS d47, sum(d48)::bigint AS d48, sum(d49)::bigint AS d49,
    sum(d50)::bigint AS d50, sum(d51)::bigint AS d51, sum(d52)::bigint AS d52, sum(d53)::bigint AS d53,
    sum(d54)::bigint AS d54, sum(d55)::bigint AS d55, sum(d56)::bigint AS d56, sum(d57)::bigint AS d57,
    sum(d58)::bigint AS d58, sum(d59)::bigint AS d59, sum(d60)::bigint AS d60, sum(d61)::bigint AS d61,
    sum(d62)::bigint AS d62, sum(d63)::bigint AS d63, sum(d64)::bigint AS d64, sum(d65)::bigint AS d65,
    sum(d66)::bigint AS d66, sum(d67)::bigint AS d67, sum(d68)::bigint AS d68, sum(d69)::bigint AS d69,
    sum(d70)::bigint AS d70, sum(d71)::bigint AS d71, sum(d72)::bigint AS d72, sum(d73)::bigint AS d73,
    sum(d74)::bigint AS d74, sum(d75)::bigint AS d75, sum(d76)::bigint AS d76, sum(d77)::bigint AS d77,
    sum(d78)::bigint AS d78, sum(d79)::bigint AS d79, sum(d80)::bigint AS d80, sum(d81)::bigint AS d81,
    sum(d82)::bigint AS d82, sum(d83)::bigint AS d83, sum(d84)::bigint AS d84, sum(d85)::bigint AS d85,
    sum(d86)::bigint AS d86, sum(d87)::bigint AS d87, sum(d88)::bigint AS d88, sum(d89)::bigint AS d89,
    sum(d90)::bigint AS d90, sum(d91)::bigint AS d91, sum(d92)::bigint AS d92, sum(d93)::bigint AS d93,
    sum(d94)::bigint AS d94, sum(d95)::bigint AS d95, sum(d96)::bigint AS d96, sum(d97)::bigint AS d97,
    sum(d98)::bigint AS d98, sum(d99)::bigint AS d99, sum(d100)::bigint AS d100, sum(d101)::bigint AS d101,
    sum(d102)::bigint AS d102, sum(d103)::bigint AS d103, sum(d104)::bigint AS d104, sum(d105)::bigint AS d105,
    sum(d106)::bigint AS d106, sum(d107)::bigint AS d107, sum(d108)::bigint AS d108, sum(d109)::bigint AS d109,
    sum(d110)::bigint AS d110, sum(d111)::bigint AS d111, sum(d112)::bigint AS d112, sum(d113)::bigint AS d113,
    sum(d114)::bigint AS d114, sum(d115)::bigint AS d115, sum(d116)::bigint AS d116, sum(d117)::bigint AS d117,
    sum(d118)::bigint AS d118, sum(d119)::bigint AS d119
FROM window_counts
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '5m')
        AND window_start < (SELECT timestamptz 'infinity')
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') >= (
            SELECT through FROM rollup_trust WHERE level = '5m'
        )
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') < (SELECT timestamptz 'infinity')
    )
    OR (
        window_start >= (SELECT min(window_start) FROM rollup_changes WHERE level = '5m')
        AND window_start < (SELECT max(window_start) + INTERVAL '5 minutes' FROM rollup_changes WHERE level = '5m')
        AND date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') = ANY(
            ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '5m')
        )
    )
GROUP BY 1, 2;
COMMENT ON VIEW counts_5m IS 'window_counts added up by 5 minutes of window_start.';

CREATE TABLE rollup_1h (
    window_start timestamptz NOT NULL,
    series_id integer NOT NULL,
    impressions bigint NOT NULL,
    successes bigint NOT NULL,
    failures bigint NOT NULL,
    cohort_successes bigint NOT NULL,
    cohort_failures bigint NOT NULL,
    sessions bigint NOT NULL,
    session_successes bigint NOT NULL,
    reached bigint NOT NULL,
    completed bigint NOT NULL,
    d0 bigint, d1 bigint, d2 bigint, d3 bigint, d4 bigint, d5 bigint, d6 bigint, d7 bigint, d8 bigint, d9 bigint, d10 bigint,
    d11 bigint, d12 bigint, d13 bigint, d14 bigint, d15 bigint, d16 bigint, d17 bigint, d18 bigint, d19 bigint, d20 bigint,
    d21 bigint, d22 bigint, d23 bigint, d24 bigint, d25 bigint, d26 bigint, d27 bigint, d28 bigint, d29 bigint, d30 bigint,
    d31 bigint, d32 bigint, d33 bigint, d34 bigint, d35 bigint, d36 bigint, d37 bigint, d38 bigint, d39 bigint, d40 bigint,
    d41 bigint, d42 bigint, d43 bigint, d44 bigint, d45 bigint, d46 bigint, d47 bigint, d48 bigint, d49 bigint, d50 bigint,
    d51 bigint, d52 bigint, d53 bigint, d54 bigint, d55 bigint, d56 bigint, d57 bigint, d58 bigint, d59 bigint, d60 bigint,
    d61 bigint, d62 bigint, d63 bigint, d64 bigint, d65 bigint, d66 bigint, d67 bigint, d68 bigint, d69 bigint, d70 bigint,
    d71 bigint, d72 bigint, d73 bigint, d74 bigint, d75 bigint, d76 bigint, d77 bigint, d78 bigint, d79 bigint, d80 bigint,
    d81 bigint, d82 bigint, d83 bigint, d84 bigint, d85 bigint, d86 bigint, d87 bigint, d88 bigint, d89 bigint, d90 bigint,
    d91 bigint, d92 bigint, d93 bigint, d94 bigint, d95 bigint, d96 bigint, d97 bigint, d98 bigint, d99 bigint, d100 bigint,
    d101 bigint, d102 bigint, d103 bigint, d104 bigint, d105 bigint, d106 bigint, d107 bigint, d108 bigint, d109 bigint,
    d110 bigint, d111 bigint, d112 bigint, d113 bigint, d114 bigint, d115 bigint, d116 bigint, d117 bigint, d118 bigint,
    d119 bigint
);
CREATE INDEX ON rollup_1h (series_id, window_start);
COMMENT ON TABLE rollup_1h IS 'live_1h where it begins before rollup_progress.materialized_through, and is not made again.';

CREATE VIEW live_1h AS
SELECT
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
    series_id,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures,
    sum(sessions)::bigint AS sessions,
    sum(session_successes)::bigint AS session_successes,
    sum(reached)::bigint AS reached,
    sum(completed)::bigint AS completed,
    sum(d0)::bigint AS d0, sum(d1)::bigint AS d1, sum(d2)::bigint AS d2, sum(d3)::bigint AS d3, sum(d4)::bigint AS d4,
    sum(d5)::bigint AS d5, sum(d6)::bigint AS d6, sum(d7)::bigint AS d7, sum(d8)::bigint AS d8, sum(d9)::bigint AS d9,
    sum(d10)::bigint AS d10, sum(d11)::bigint AS d11, sum(d12)::bigint AS d12, sum(d13)::bigint AS d13,
    sum(d14)::bigint AS d14, sum(d15)::bigint AS d15, sum(d16)::bigint AS d16, sum(d17)::bigint AS d17,
    sum(d18)::bigint AS d18, sum(d19)::bigint AS d19, sum(d20)::bigint AS d20, sum(d21)::bigint AS d21,
    sum(d22)::bigint AS d22, sum(d23)::bigint AS d23, sum(d24)::bigint AS d24, sum(d25)::bigint AS d25,
    sum(d26)::bigint AS d26, sum(d27)::bigint AS d27, sum(d28)::bigint AS d28, sum(d29)::bigint AS d29,
    sum(d30)::bigint AS d30, sum(d31)::bigint AS d31, sum(d32)::bigint AS d32, sum(d33)::bigint AS d33,
    sum(d34)::bigint AS d34, sum(d35)::bigint AS d35, sum(d36)::bigint AS d36, sum(d37)::bigint AS d37,
    sum(d38)::bigint AS d38, sum(d39)::bigint AS d39, sum(d40)::bigint AS d40, sum(d41)::bigint AS d41,
    sum(d42)::bigint AS d42, sum(d43)::bigint AS d43, sum(d44)::bigint AS d44, sum(d45)::bigint AS d45,
    sum(d46)::bigint AS d46, sum(d47)::bigint AS d47, sum(d48)::bigint AS d48, sum(d49)::bigint AS d49,
    sum(d50)::bigint AS d50, sum(d51)::bigint AS d51, sum(d52)::bigint AS d52, sum(d53)::bigint AS d53,
    sum(d54)::bigint AS d54, sum(d55)::bigint AS d55, sum(d56)::bigint AS d56, sum(d57)::bigint AS d57,
    sum(d58)::bigint AS d58, sum(d59)::bigint AS d59, sum(d60)::bigint AS d60, sum(d61)::bigint AS d61,
    sum(d62)::bigint AS d62, sum(d63)::bigint AS d63, sum(d64)::bigint AS d64, sum(d65)::bigint AS d65,
    sum(d66)::bigint AS d66, sum(d67)::bigint AS d67, sum(d68)::bigint AS d68, sum(d69)::bigint AS d69,
    sum(d70)::bigint AS d70, sum(d71)::bigint AS d71, sum(d72)::bigint AS d72, sum(d73)::bigint AS d73,
    sum(d74)::bigint AS d74, sum(d75)::bigint AS d75, sum(d76)::bigint AS d76, sum(d77)::bigint AS d77,
    sum(d78)::bigint AS d78, sum(d79)::bigint AS d79, sum(d80)::bigint AS d80, sum(d81)::bigint AS d81,
    sum(d82)::bigint AS d82, sum(d83)::bigint AS d83, sum(d84)::bigint AS d84, sum(d85)::bigint AS d85,
    sum(d86)::bigint AS d86, sum(d87)::bigint AS d87, sum(d88)::bigint AS d88, sum(d89)::bigint AS d89,
    sum(d90)::bigint AS d90, sum(d91)::bigint AS d91, sum(d92)::bigint AS d92, sum(d93)::bigint AS d93,
    sum(d94)::bigint AS d94, sum(d95)::bigint AS d95, sum(d96)::bigint AS d96, sum(d97)::bigint AS d97,
    sum(d98)::bigint AS d98, sum(d99)::bigint AS d99, sum(d100)::bigint AS d100, sum(d101)::bigint AS d101,
    sum(d102)::bigint AS d102, sum(d103)::bigint AS d103, sum(d104)::bigint AS d104, sum(d105)::bigint AS d105,
    sum(d106)::bigint AS d106, sum(d107)::bigint AS d107, sum(d108)::bigint AS d108, sum(d109)::bigint AS d109,
    sum(d110)::bigint AS d110, sum(d111)::bigint AS d111, sum(d112)::bigint AS d112, sum(d113)::bigint AS d113,
    sum(d114)::bigint AS d114, sum(d115)::bigint AS d115, sum(d116)::bigint AS d116, sum(d117)::bigint AS d117,
    sum(d118)::bigint AS d118, sum(d119)::bigint AS d119
FROM counts_5m
GROUP BY 1, 2;
COMMENT ON VIEW live_1h IS 'counts_5m added up by 1 hour, at each query.';

CREATE VIEW counts_1h AS
SELECT * FROM rollup_1h
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '1h')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_changes WHERE level = '1h')
UNION ALL
SELECT
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
    series_id,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures,
    sum(sessions)::bigint AS sessions,
    sum(session_successes)::bigint AS session_successes,
    sum(reached)::bigint AS reached,
    sum(completed)::bigint AS completed,
    sum(d0)::bigint AS d0, sum(d1)::bigint AS d1, sum(d2)::bigint AS d2, sum(d3)::bigint AS d3, sum(d4)::bigint AS d4,
    sum(d5)::bigint AS d5, sum(d6)::bigint AS d6, sum(d7)::bigint AS d7, sum(d8)::bigint AS d8, sum(d9)::bigint AS d9,
    sum(d10)::bigint AS d10, sum(d11)::bigint AS d11, sum(d12)::bigint AS d12, sum(d13)::bigint AS d13,
    sum(d14)::bigint AS d14, sum(d15)::bigint AS d15, sum(d16)::bigint AS d16, sum(d17)::bigint AS d17,
    sum(d18)::bigint AS d18, sum(d19)::bigint AS d19, sum(d20)::bigint AS d20, sum(d21)::bigint AS d21,
    sum(d22)::bigint AS d22, sum(d23)::bigint AS d23, sum(d24)::bigint AS d24, sum(d25)::bigint AS d25,
    sum(d26)::bigint AS d26, sum(d27)::bigint AS d27, sum(d28)::bigint AS d28, sum(d29)::bigint AS d29,
    sum(d30)::bigint AS d30, sum(d31)::bigint AS d31, sum(d32)::bigint AS d32, sum(d33)::bigint AS d33,
    sum(d34)::bigint AS d34, sum(d35)::bigint AS d35, sum(d36)::bigint AS d36, sum(d37)::bigint AS d37,
    sum(d38)::bigint AS d38, sum(d39)::bigint AS d39, sum(d40)::bigint AS d40, sum(d41)::bigint AS d41,
    sum(d42)::bigint AS d42, sum(d43)::bigint AS d43, sum(d44)::bigint AS d44, sum(d45)::bigint AS d45,
    sum(d46)::bigint AS d46, sum(d47)::bigint AS d47, sum(d48)::bigint AS d48, sum(d49)::bigint AS d49,
    sum(d50)::bigint AS d50, sum(d51)::bigint AS d51, sum(d52)::bigint AS d52, sum(d53)::bigint AS d53,
    sum(d54)::bigint AS d54, sum(d55)::bigint AS d55, sum(d56)::bigint AS d56, sum(d57)::bigint AS d57,
    sum(d58)::bigint AS d58, sum(d59)::bigint AS d59, sum(d60)::bigint AS d60, sum(d61)::bigint AS d61,
    sum(d62)::bigint AS d62, sum(d63)::bigint AS d63, sum(d64)::bigint AS d64, sum(d65)::bigint AS d65,
    sum(d66)::bigint AS d66, sum(d67)::bigint AS d67, sum(d68)::bigint AS d68, sum(d69)::bigint AS d69,
    sum(d70)::bigint AS d70, sum(d71)::bigint AS d71, sum(d72)::bigint AS d72, sum(d73)::bigint AS d73,
    sum(d74)::bigint AS d74, sum(d75)::bigint AS d75, sum(d76)::bigint AS d76, sum(d77)::bigint AS d77,
    sum(d78)::bigint AS d78, sum(d79)::bigint AS d79, sum(d80)::bigint AS d80, sum(d81)::bigint AS d81,
    sum(d82)::bigint AS d82, sum(d83)::bigint AS d83, sum(d84)::bigint AS d84, sum(d85)::bigint AS d85,
    sum(d86)::bigint AS d86, sum(d87)::bigint AS d87, sum(d88)::bigint AS d88, sum(d89)::bigint AS d89,
    sum(d90)::bigint AS d90, sum(d91)::bigint AS d91, sum(d92)::bigint AS d92, sum(d93)::bigint AS d93,
    sum(d94)::bigint AS d94, sum(d95)::bigint AS d95, sum(d96)::bigint AS d96, sum(d97)::bigint AS d97,
    sum(d98)::bigint AS d98, sum(d99)::bigint AS d99, sum(d100)::bigint AS d100, sum(d101)::bigint AS d101,
    sum(d102)::bigint AS d102, sum(d103)::bigint AS d103, sum(d104)::bigint AS d104, sum(d105)::bigint AS d105,
    sum(d106)::bigint AS d106, sum(d107)::bigint AS d107, sum(d108)::bigint AS d108, sum(d109)::bigint AS d109,
    sum(d110)::bigint AS d110, sum(d111)::bigint AS d111, sum(d112)::bigint AS d112, sum(d113)::bigint AS d113,
    sum(d114)::bigint AS d114, sum(d115)::bigint AS d115, sum(d116)::bigint AS d116, sum(d117)::bigint AS d117,
    sum(d118)::bigint AS d118, sum(d119)::bigint AS d119
FROM counts_5m
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '1h')
        AND window_start < (SELECT timestamptz 'infinity')
        AND date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') >= (
            SELECT through FROM rollup_trust WHERE level = '1h'
        )
        AND date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') < (SELECT timestamptz 'infinity')
    )
    OR (
        window_start >= (SELECT min(window_start) FROM rollup_changes WHERE level = '1h')
        AND window_start < (SELECT max(window_start) + INTERVAL '1 hour' FROM rollup_changes WHERE level = '1h')
        AND date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') = ANY(
            ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '1h')
        )
    )
GROUP BY 1, 2;
COMMENT ON VIEW counts_1h IS 'window_counts added up by hours.';

CREATE TABLE rollup_1d (
    window_start timestamptz NOT NULL,
    series_id integer NOT NULL,
    impressions bigint NOT NULL,
    successes bigint NOT NULL,
    failures bigint NOT NULL,
    cohort_successes bigint NOT NULL,
    cohort_failures bigint NOT NULL,
    sessions bigint NOT NULL,
    session_successes bigint NOT NULL,
    reached bigint NOT NULL,
    completed bigint NOT NULL,
    d0 bigint, d1 bigint, d2 bigint, d3 bigint, d4 bigint, d5 bigint, d6 bigint, d7 bigint, d8 bigint, d9 bigint, d10 bigint,
    d11 bigint, d12 bigint, d13 bigint, d14 bigint, d15 bigint, d16 bigint, d17 bigint, d18 bigint, d19 bigint, d20 bigint,
    d21 bigint, d22 bigint, d23 bigint, d24 bigint, d25 bigint, d26 bigint, d27 bigint, d28 bigint, d29 bigint, d30 bigint,
    d31 bigint, d32 bigint, d33 bigint, d34 bigint, d35 bigint, d36 bigint, d37 bigint, d38 bigint, d39 bigint, d40 bigint,
    d41 bigint, d42 bigint, d43 bigint, d44 bigint, d45 bigint, d46 bigint, d47 bigint, d48 bigint, d49 bigint, d50 bigint,
    d51 bigint, d52 bigint, d53 bigint, d54 bigint, d55 bigint, d56 bigint, d57 bigint, d58 bigint, d59 bigint, d60 bigint,
    d61 bigint, d62 bigint, d63 bigint, d64 bigint, d65 bigint, d66 bigint, d67 bigint, d68 bigint, d69 bigint, d70 bigint,
    d71 bigint, d72 bigint, d73 bigint, d74 bigint, d75 bigint, d76 bigint, d77 bigint, d78 bigint, d79 bigint, d80 bigint,
    d81 bigint, d82 bigint, d83 bigint, d84 bigint, d85 bigint, d86 bigint, d87 bigint, d88 bigint, d89 bigint, d90 bigint,
    d91 bigint, d92 bigint, d93 bigint, d94 bigint, d95 bigint, d96 bigint, d97 bigint, d98 bigint, d99 bigint, d100 bigint,
    d101 bigint, d102 bigint, d103 bigint, d104 bigint, d105 bigint, d106 bigint, d107 bigint, d108 bigint, d109 bigint,
    d110 bigint, d111 bigint, d112 bigint, d113 bigint, d114 bigint, d115 bigint, d116 bigint, d117 bigint, d118 bigint,
    d119 bigint
);
CREATE INDEX ON rollup_1d (series_id, window_start);
COMMENT ON TABLE rollup_1d IS 'live_1d where it begins before rollup_progress.materialized_through, and is not made again.';

CREATE VIEW live_1d AS
SELECT
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
    series_id,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures,
    sum(sessions)::bigint AS sessions,
    sum(session_successes)::bigint AS session_successes,
    sum(reached)::bigint AS reached,
    sum(completed)::bigint AS completed,
    sum(d0)::bigint AS d0, sum(d1)::bigint AS d1, sum(d2)::bigint AS d2, sum(d3)::bigint AS d3, sum(d4)::bigint AS d4,
    sum(d5)::bigint AS d5, sum(d6)::bigint AS d6, sum(d7)::bigint AS d7, sum(d8)::bigint AS d8, sum(d9)::bigint AS d9,
    sum(d10)::bigint AS d10, sum(d11)::bigint AS d11, sum(d12)::bigint AS d12, sum(d13)::bigint AS d13,
    sum(d14)::bigint AS d14, sum(d15)::bigint AS d15, sum(d16)::bigint AS d16, sum(d17)::bigint AS d17,
    sum(d18)::bigint AS d18, sum(d19)::bigint AS d19, sum(d20)::bigint AS d20, sum(d21)::bigint AS d21,
    sum(d22)::bigint AS d22, sum(d23)::bigint AS d23, sum(d24)::bigint AS d24, sum(d25)::bigint AS d25,
    sum(d26)::bigint AS d26, sum(d27)::bigint AS d27, sum(d28)::bigint AS d28, sum(d29)::bigint AS d29,
    sum(d30)::bigint AS d30, sum(d31)::bigint AS d31, sum(d32)::bigint AS d32, sum(d33)::bigint AS d33,
    sum(d34)::bigint AS d34, sum(d35)::bigint AS d35, sum(d36)::bigint AS d36, sum(d37)::bigint AS d37,
    sum(d38)::bigint AS d38, sum(d39)::bigint AS d39, sum(d40)::bigint AS d40, sum(d41)::bigint AS d41,
    sum(d42)::bigint AS d42, sum(d43)::bigint AS d43, sum(d44)::bigint AS d44, sum(d45)::bigint AS d45,
    sum(d46)::bigint AS d46, sum(d47)::bigint AS d47, sum(d48)::bigint AS d48, sum(d49)::bigint AS d49,
    sum(d50)::bigint AS d50, sum(d51)::bigint AS d51, sum(d52)::bigint AS d52, sum(d53)::bigint AS d53,
    sum(d54)::bigint AS d54, sum(d55)::bigint AS d55, sum(d56)::bigint AS d56, sum(d57)::bigint AS d57,
    sum(d58)::bigint AS d58, sum(d59)::bigint AS d59, sum(d60)::bigint AS d60, sum(d61)::bigint AS d61,
    sum(d62)::bigint AS d62, sum(d63)::bigint AS d63, sum(d64)::bigint AS d64, sum(d65)::bigint AS d65,
    sum(d66)::bigint AS d66, sum(d67)::bigint AS d67, sum(d68)::bigint AS d68, sum(d69)::bigint AS d69,
    sum(d70)::bigint AS d70, sum(d71)::bigint AS d71, sum(d72)::bigint AS d72, sum(d73)::bigint AS d73,
    sum(d74)::bigint AS d74, sum(d75)::bigint AS d75, sum(d76)::bigint AS d76, sum(d77)::bigint AS d77,
    sum(d78)::bigint AS d78, sum(d79)::bigint AS d79, sum(d80)::bigint AS d80, sum(d81)::bigint AS d81,
    sum(d82)::bigint AS d82, sum(d83)::bigint AS d83, sum(d84)::bigint AS d84, sum(d85)::bigint AS d85,
    sum(d86)::bigint AS d86, sum(d87)::bigint AS d87, sum(d88)::bigint AS d88, sum(d89)::bigint AS d89,
    sum(d90)::bigint AS d90, sum(d91)::bigint AS d91, sum(d92)::bigint AS d92, sum(d93)::bigint AS d93,
    sum(d94)::bigint AS d94, sum(d95)::bigint AS d95, sum(d96)::bigint AS d96, sum(d97)::bigint AS d97,
    sum(d98)::bigint AS d98, sum(d99)::bigint AS d99, sum(d100)::bigint AS d100, sum(d101)::bigint AS d101,
    sum(d102)::bigint AS d102, sum(d103)::bigint AS d103, sum(d104)::bigint AS d104, sum(d105)::bigint AS d105,
    sum(d106)::bigint AS d106, sum(d107)::bigint AS d107, sum(d108)::bigint AS d108, sum(d109)::bigint AS d109,
    sum(d110)::bigint AS d110, sum(d111)::bigint AS d111, sum(d112)::bigint AS d112, sum(d113)::bigint AS d113,
    sum(d114)::bigint AS d114, sum(d115)::bigint AS d115, sum(d116)::bigint AS d116, sum(d117)::bigint AS d117,
    sum(d118)::bigint AS d118, sum(d119)::bigint AS d119
FROM counts_1h
GROUP BY 1, 2;
COMMENT ON VIEW live_1d IS 'counts_1h added up by 1 day, at each query.';

CREATE VIEW counts_1d AS
SELECT * FROM rollup_1d
WHERE
    (window_start < (SELECT through FROM rollup_trust WHERE level = '1d')) IS TRUE
    AND window_start NOT IN (SELECT window_start FROM rollup_changes WHERE level = '1d')
UNION ALL
SELECT
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS window_start,
    series_id,
    sum(impressions)::bigint AS impressions,
    sum(successes)::bigint AS successes,
    sum(failures)::bigint AS failures,
    sum(cohort_successes)::bigint AS cohort_successes,
    sum(cohort_failures)::bigint AS cohort_failures,
    sum(sessions)::bigint AS sessions,
    sum(session_successes)::bigint AS session_successes,
    sum(reached)::bigint AS reached,
    sum(completed)::bigint AS completed,
    sum(d0)::bigint AS d0, sum(d1)::bigint AS d1, sum(d2)::bigint AS d2, sum(d3)::bigint AS d3, sum(d4)::bigint AS d4,
    sum(d5)::bigint AS d5, sum(d6)::bigint AS d6, sum(d7)::bigint AS d7, sum(d8)::bigint AS d8, sum(d9)::bigint AS d9,
    sum(d10)::bigint AS d10, sum(d11)::bigint AS d11, sum(d12)::bigint AS d12, sum(d13)::bigint AS d13,
    sum(d14)::bigint AS d14, sum(d15)::bigint AS d15, sum(d16)::bigint AS d16, sum(d17)::bigint AS d17,
    sum(d18)::bigint AS d18, sum(d19)::bigint AS d19, sum(d20)::bigint AS d20, sum(d21)::bigint AS d21,
    sum(d22)::bigint AS d22, sum(d23)::bigint AS d23, sum(d24)::bigint AS d24, sum(d25)::bigint AS d25,
    sum(d26)::bigint AS d26, sum(d27)::bigint AS d27, sum(d28)::bigint AS d28, sum(d29)::bigint AS d29,
    sum(d30)::bigint AS d30, sum(d31)::bigint AS d31, sum(d32)::bigint AS d32, sum(d33)::bigint AS d33,
    sum(d34)::bigint AS d34, sum(d35)::bigint AS d35, sum(d36)::bigint AS d36, sum(d37)::bigint AS d37,
    sum(d38)::bigint AS d38, sum(d39)::bigint AS d39, sum(d40)::bigint AS d40, sum(d41)::bigint AS d41,
    sum(d42)::bigint AS d42, sum(d43)::bigint AS d43, sum(d44)::bigint AS d44, sum(d45)::bigint AS d45,
    sum(d46)::bigint AS d46, sum(d47)::bigint AS d47, sum(d48)::bigint AS d48, sum(d49)::bigint AS d49,
    sum(d50)::bigint AS d50, sum(d51)::bigint AS d51, sum(d52)::bigint AS d52, sum(d53)::bigint AS d53,
    sum(d54)::bigint AS d54, sum(d55)::bigint AS d55, sum(d56)::bigint AS d56, sum(d57)::bigint AS d57,
    sum(d58)::bigint AS d58, sum(d59)::bigint AS d59, sum(d60)::bigint AS d60, sum(d61)::bigint AS d61,
    sum(d62)::bigint AS d62, sum(d63)::bigint AS d63, sum(d64)::bigint AS d64, sum(d65)::bigint AS d65,
    sum(d66)::bigint AS d66, sum(d67)::bigint AS d67, sum(d68)::bigint AS d68, sum(d69)::bigint AS d69,
    sum(d70)::bigint AS d70, sum(d71)::bigint AS d71, sum(d72)::bigint AS d72, sum(d73)::bigint AS d73,
    sum(d74)::bigint AS d74, sum(d75)::bigint AS d75, sum(d76)::bigint AS d76, sum(d77)::bigint AS d77,
    sum(d78)::bigint AS d78, sum(d79)::bigint AS d79, sum(d80)::bigint AS d80, sum(d81)::bigint AS d81,
    sum(d82)::bigint AS d82, sum(d83)::bigint AS d83, sum(d84)::bigint AS d84, sum(d85)::bigint AS d85,
    sum(d86)::bigint AS d86, sum(d87)::bigint AS d87, sum(d88)::bigint AS d88, sum(d89)::bigint AS d89,
    sum(d90)::bigint AS d90, sum(d91)::bigint AS d91, sum(d92)::bigint AS d92, sum(d93)::bigint AS d93,
    sum(d94)::bigint AS d94, sum(d95)::bigint AS d95, sum(d96)::bigint AS d96, sum(d97)::bigint AS d97,
    sum(d98)::bigint AS d98, sum(d99)::bigint AS d99, sum(d100)::bigint AS d100, sum(d101)::bigint AS d101,
    sum(d102)::bigint AS d102, sum(d103)::bigint AS d103, sum(d104)::bigint AS d104, sum(d105)::bigint AS d105,
    sum(d106)::bigint AS d106, sum(d107)::bigint AS d107, sum(d108)::bigint AS d108, sum(d109)::bigint AS d109,
    sum(d110)::bigint AS d110, sum(d111)::bigint AS d111, sum(d112)::bigint AS d112, sum(d113)::bigint AS d113,
    sum(d114)::bigint AS d114, sum(d115)::bigint AS d115, sum(d116)::bigint AS d116, sum(d117)::bigint AS d117,
    sum(d118)::bigint AS d118, sum(d119)::bigint AS d119
FROM counts_1h
WHERE
    (
        window_start >= (SELECT through FROM rollup_trust WHERE level = '1d')
        AND window_start < (SELECT timestamptz 'infinity')
        AND date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') >= (
            SELECT through FROM rollup_trust WHERE level = '1d'
        )
        AND date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') < (SELECT timestamptz 'infinity')
    )
    OR (
        window_start >= (SELECT min(window_start) FROM rollup_changes WHERE level = '1d')
        AND window_start < (SELECT max(window_start) + INTERVAL '1 day' FROM rollup_changes WHERE level = '1d')
        AND date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z') = ANY(
            ARRAY(SELECT unnest(changed) FROM rollup_trust WHERE level = '1d')
        )
    )
GROUP BY 1, 2;
COMMENT ON VIEW counts_1d IS 'window_counts added up by days, UTC.';

-- Who writes counts past funnelwatch notes nothing down: then no bucket counts as materialized any more that can be made
-- again, and the workers begin anew. Ours say so in each transaction (queries hold_closer_off, lock_rollups).
CREATE FUNCTION distrust_rollups() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM FROM rollup_progress ORDER BY level FOR UPDATE;
    UPDATE rollup_progress AS p
    SET materialized_through = least(p.materialized_through, coalesce(r.dropped_before, '-infinity'))
    FROM retention AS r
    WHERE r.level = p.source AND p.materialized_through > coalesce(r.dropped_before, '-infinity');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION distrust_rollups IS 'Takes every rollup for not materialized, as far back as its source is there.';

-- A function that runs with its owner's rights looks into temporary tables last: who calls it could put its own in the way.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION distrust_rollups() SET search_path = %I, pg_temp', current_schema());
END
$$;

CREATE TRIGGER distrust_rollups BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON window_counts
FOR EACH STATEMENT WHEN (current_setting('funnelwatch.counting', true) IS DISTINCT FROM 'on')
EXECUTE FUNCTION distrust_rollups();
