-- A year, or as many days as are asked for, of minutes of each series, in the order in which workers write them.
INSERT INTO window_counts
SELECT
    to_timestamp(%(end)s) - m * interval '1 minute', 'sign_up', s.step, p.os, p.browser, v.app_version,
    100 + m %% 50, 80 + m %% 40, 10, 80 + m %% 40, 10
FROM generate_series(%(days)s * 1440, 1, -1) AS m (m),
    unnest(%(steps)s::text[]) AS s (step),
    unnest(%(os)s::text[], %(browsers)s::text[]) AS p (os, browser),
    unnest(%(versions)s::text[]) AS v (app_version)
