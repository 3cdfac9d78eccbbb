-- A year, or as many days as are asked for, of minutes of each series, in the order in which workers write them.
INSERT INTO window_counts
SELECT
    to_timestamp(%(end)s) - m * interval '1 minute', s.series_id,
    100 + m %% 50, 80 + m %% 40, 10, 80 + m %% 40, 10
FROM generate_series(%(days)s * 1440, 1, -1) AS m (m), unnest(%(ids)s::integer[]) AS s (series_id)
