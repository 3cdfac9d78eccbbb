-- Without the extension: a range of time of any rollup is found by the block ranges that hold it. The expressions are those
-- of the views: what is not materialized is added up level by level, from the finest.
CREATE INDEX window_counts_time ON window_counts USING brin (
    window_start,
    date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 hour', date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'), TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 day', date_bin(INTERVAL '1 hour', date_bin(INTERVAL '5 minutes', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'), TIMESTAMPTZ '2000-01-01 00:00:00Z'), TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX ON rollup_5m USING brin (
    window_start,
    date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
    date_bin(INTERVAL '1 day', date_bin(INTERVAL '1 hour', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z'), TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX ON rollup_1h USING brin (
    window_start,
    date_bin(INTERVAL '1 day', window_start, TIMESTAMPTZ '2000-01-01 00:00:00Z')
) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX ON rollup_1d USING brin (window_start) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX metric_counts_time ON metric_counts USING brin (window_start);
