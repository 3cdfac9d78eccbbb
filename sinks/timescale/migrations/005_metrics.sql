-- Counters and timers beside the events of funnels.

CREATE TABLE metric_series (
    series integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('COUNTER', 'TIMER')),
    dimensions jsonb NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (name, dimensions)
);
COMMENT ON TABLE metric_series IS 'Each combination of dimensions that a counter or timer was seen with; how many there may be is bounded.';

CREATE TABLE metric_counts (
    window_start timestamptz NOT NULL,
    series integer NOT NULL,
    samples bigint NOT NULL,
    total bigint NOT NULL,
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
    PRIMARY KEY (series, window_start)
)
WITH (fillfactor = 70);
COMMENT ON TABLE metric_counts IS 'Counters and timers by window, dated by their ts. total: the sum of the increments, or of the milliseconds; d0, d1, …: the samples of timers by their value, as in window_counts.';

CREATE TABLE metric_totals (
    series integer PRIMARY KEY,
    samples bigint NOT NULL,
    total bigint NOT NULL,
    b0 bigint, b1 bigint, b2 bigint, b3 bigint, b4 bigint, b5 bigint, b6 bigint, b7 bigint, b8 bigint, b9 bigint, b10 bigint,
    b11 bigint, b12 bigint, b13 bigint, b14 bigint, b15 bigint
)
WITH (fillfactor = 50);
COMMENT ON TABLE metric_totals IS 'Samples of each counter and timer since the beginning, the sum of their increments or milliseconds, and buckets of timers; as series_totals.';

CREATE VIEW metrics AS
SELECT c.window_start, s.name, s.kind, s.dimensions, c.samples, c.total, c.series
FROM metric_counts AS c INNER JOIN metric_series AS s ON s.series = c.series;
COMMENT ON VIEW metrics IS 'Counters and timers by window: samples, and the total of their increments or milliseconds.';

CREATE VIEW timers AS
SELECT
    c.window_start,
    s.name,
    s.dimensions,
    c.samples,
    duration_quantile(0.5, c.slots) AS p50_ms,
    duration_quantile(0.9, c.slots) AS p90_ms,
    duration_quantile(0.99, c.slots) AS p99_ms,
    c.series,
    c.slots
FROM (
    SELECT window_start, series, samples, ARRAY[
        d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15, d16, d17, d18, d19, d20, d21, d22, d23, d24, d25,
        d26, d27, d28, d29, d30, d31, d32, d33, d34, d35, d36, d37, d38, d39, d40, d41, d42, d43, d44, d45, d46, d47, d48, d49,
        d50, d51, d52, d53, d54, d55, d56, d57, d58, d59, d60, d61, d62, d63, d64, d65, d66, d67, d68, d69, d70, d71, d72, d73,
        d74, d75, d76, d77, d78, d79, d80, d81, d82, d83, d84, d85, d86, d87, d88, d89, d90, d91, d92, d93, d94, d95, d96, d97,
        d98, d99, d100, d101, d102, d103, d104, d105, d106, d107, d108, d109, d110, d111, d112, d113, d114, d115, d116, d117,
        d118, d119
    ]::bigint[] AS slots
    FROM metric_counts
) AS c
INNER JOIN metric_series AS s ON s.series = c.series
WHERE s.kind = 'TIMER';
COMMENT ON VIEW timers IS 'Quantiles of timers by window, ms; at most 12.5 % off. To add series up, add slots up and use duration_quantile.';
