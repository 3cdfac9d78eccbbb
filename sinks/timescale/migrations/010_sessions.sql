-- Views for people, of sessions instead of events: who saw a step and completed it, and how far those came who entered a funnel.
-- They join the series from the left, as the views of events do.

CREATE VIEW session_maturity AS
SELECT
    p.funnel,
    d.window_ms * INTERVAL '1 millisecond' AS window_length,
    coalesce(f.session_window, d.session_window) AS session_window,
    p.closed_through - coalesce(f.session_window, d.session_window) AS mature_through
FROM funnel_progress AS p
CROSS JOIN deployment AS d
LEFT JOIN declared_funnels AS f ON f.funnel = p.funnel;
COMMENT ON VIEW session_maturity IS 'Each funnel''s session window. Sessions that began in windows which end by mature_through have had all of it; the counts of younger ones still grow (is_open). null: no window is complete.';

CREATE VIEW session_conversion AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.sessions,
    c.session_successes,
    c.session_successes::double precision / nullif(c.sessions, 0) AS rate,
    wilson_low(c.session_successes, c.sessions) AS rate_low,
    wilson_high(c.session_successes, c.sessions) AS rate_high,
    coalesce(c.window_start + m.window_length > m.mature_through, true) AS is_open,
    c.series_id
FROM window_counts AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN session_maturity AS m ON m.funnel = s.funnel
WHERE c.sessions > 0;
COMMENT ON VIEW session_conversion IS 'Of the sessions that first saw the step in the window, how many completed it, each once, whenever that was. While is_open, session_successes still grow. rate_low and rate_high enclose the rate with 95 % coverage. To add up, add the counts and divide.';

CREATE VIEW session_conversion_5m AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.sessions,
    c.session_successes,
    c.session_successes::double precision / nullif(c.sessions, 0) AS rate,
    wilson_low(c.session_successes, c.sessions) AS rate_low,
    wilson_high(c.session_successes, c.sessions) AS rate_high,
    coalesce(c.window_start + INTERVAL '5 minutes' > m.mature_through, true) AS is_open,
    c.series_id
FROM counts_5m AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN session_maturity AS m ON m.funnel = s.funnel
WHERE c.sessions > 0;
COMMENT ON VIEW session_conversion_5m IS 'As session_conversion, by 5 minutes.';

CREATE VIEW session_conversion_1h AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.sessions,
    c.session_successes,
    c.session_successes::double precision / nullif(c.sessions, 0) AS rate,
    wilson_low(c.session_successes, c.sessions) AS rate_low,
    wilson_high(c.session_successes, c.sessions) AS rate_high,
    coalesce(c.window_start + INTERVAL '1 hour' > m.mature_through, true) AS is_open,
    c.series_id
FROM counts_1h AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN session_maturity AS m ON m.funnel = s.funnel
WHERE c.sessions > 0;
COMMENT ON VIEW session_conversion_1h IS 'As session_conversion, by hour.';

CREATE VIEW session_conversion_1d AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.sessions,
    c.session_successes,
    c.session_successes::double precision / nullif(c.sessions, 0) AS rate,
    wilson_low(c.session_successes, c.sessions) AS rate_low,
    wilson_high(c.session_successes, c.sessions) AS rate_high,
    coalesce(c.window_start + INTERVAL '1 day' > m.mature_through, true) AS is_open,
    c.series_id
FROM counts_1d AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN session_maturity AS m ON m.funnel = s.funnel
WHERE c.sessions > 0;
COMMENT ON VIEW session_conversion_1d IS 'As session_conversion, by day, UTC.';

CREATE VIEW session_funnel AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    d.position,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.reached,
    c.completed,
    coalesce(c.window_start + m.window_length > m.mature_through, true) AS is_open,
    c.series_id
FROM window_counts AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN declared_steps AS d ON d.funnel = s.funnel AND d.step = s.step
LEFT JOIN session_maturity AS m ON m.funnel = s.funnel
WHERE c.reached > 0;
COMMENT ON VIEW session_funnel IS 'Of the sessions that entered a declared funnel in the window, how many reached the step in order (reached) and completed it (completed), with the dimensions at their entry. While is_open, both still grow. position: the place of the step, from 1; null where it is not declared any more. The share of a step is its reached over the reached of the first step.';

CREATE VIEW session_funnel_5m AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    d.position,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.reached,
    c.completed,
    coalesce(c.window_start + INTERVAL '5 minutes' > m.mature_through, true) AS is_open,
    c.series_id
FROM counts_5m AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN declared_steps AS d ON d.funnel = s.funnel AND d.step = s.step
LEFT JOIN session_maturity AS m ON m.funnel = s.funnel
WHERE c.reached > 0;
COMMENT ON VIEW session_funnel_5m IS 'As session_funnel, by 5 minutes.';

CREATE VIEW session_funnel_1h AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    d.position,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.reached,
    c.completed,
    coalesce(c.window_start + INTERVAL '1 hour' > m.mature_through, true) AS is_open,
    c.series_id
FROM counts_1h AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN declared_steps AS d ON d.funnel = s.funnel AND d.step = s.step
LEFT JOIN session_maturity AS m ON m.funnel = s.funnel
WHERE c.reached > 0;
COMMENT ON VIEW session_funnel_1h IS 'As session_funnel, by hour.';

CREATE VIEW session_funnel_1d AS
SELECT
    c.window_start,
    coalesce(s.funnel, '') AS funnel,
    d.position,
    coalesce(s.step, '') AS step,
    coalesce(s.dimensions ->> 'os', '') AS os,
    coalesce(s.dimensions ->> 'browser', '') AS browser,
    coalesce(s.dimensions ->> 'app_version', '') AS app_version,
    coalesce(s.dimensions, '{}') AS dimensions,
    c.reached,
    c.completed,
    coalesce(c.window_start + INTERVAL '1 day' > m.mature_through, true) AS is_open,
    c.series_id
FROM counts_1d AS c
LEFT JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN declared_steps AS d ON d.funnel = s.funnel AND d.step = s.step
LEFT JOIN session_maturity AS m ON m.funnel = s.funnel
WHERE c.reached > 0;
COMMENT ON VIEW session_funnel_1d IS 'As session_funnel, by day, UTC.';
