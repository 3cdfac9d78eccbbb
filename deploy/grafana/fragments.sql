-- name: funnel
-- The chosen funnel. Grafana's sqlstring puts a backslash before each double quote; SQL takes it for a part of the name.
replace(${funnel:sqlstring}, '\"', '"')

-- name: level
-- Where counts are read from: windows, 5m, 1h or 1d.
'${level:raw}'

-- name: width
-- The length of a bucket of the level.
level_width('${level:raw}')

-- name: range
-- The range of the dashboard, as two arguments.
$__timeFrom()::timestamptz, $__timeTo()::timestamptz

-- name: closed
-- Windows of the chosen funnel that start before this are closed.
(SELECT p.closed_through FROM funnel_progress AS p WHERE p.funnel = @funnel)

-- name: open
-- Whether sessions of a bucket of counts_of are younger than the session window, and may go on.
coalesce(start + @width > (SELECT m.mature_through FROM session_maturity AS m WHERE m.funnel = @funnel), true)

-- name: people
-- The declared steps in order, with the sessions that entered in the range; all steps, because the first one is what they are compared with.
WITH counted AS (
    SELECT
        step,
        sum(reached)::bigint AS sessions,
        sum(completed)::bigint AS completed,
        coalesce(sum(reached) FILTER (WHERE @open), 0)::bigint AS still_open
    FROM counts_of(
        @level, @funnel, @range, @width,
        @chosen - 'step'
    )
    GROUP BY step
),

funnel AS (
    SELECT
        d.position,
        d.step,
        coalesce(c.sessions, 0) AS sessions,
        coalesce(c.completed, 0) AS completed,
        coalesce(c.still_open, 0) AS still_open,
        first_value(coalesce(c.sessions, 0)) OVER by_position AS entered,
        lag(coalesce(c.sessions, 0)) OVER by_position AS before,
        lead(coalesce(c.sessions, 0)) OVER by_position AS next
    FROM declared_steps AS d LEFT JOIN counted AS c ON c.step = d.step
    WHERE d.funnel = @funnel
    WINDOW by_position AS (ORDER BY d.position)
)

-- name: choice
-- One dimension, or the step, with what is chosen of it; All is NULL.
('@name', ARRAY[${@variable:sqlstring}]::text[])

-- name: chosen
-- The choice of steps and dimensions, as counts_of takes it. All filters nothing, and neither does a dimension that no series of the funnel has.
(
    SELECT coalesce(jsonb_object_agg(name, accepted), '{}')
    FROM (
        SELECT c.name, jsonb_agg(replace(v.value, '\"', '"')) AS accepted
        FROM (VALUES
            @choices
        ) AS c (name, choice)
        CROSS JOIN unnest(c.choice) AS v (value)
        WHERE
            v.value IS NOT NULL
            AND (c.name = 'step' OR EXISTS (SELECT FROM series AS s WHERE s.funnel = @funnel AND s.dimensions ? c.name))
        GROUP BY c.name
    ) AS chosen
)

-- name: by
-- The dimensions that a panel breaks down by.
ARRAY[${@by_variable:sqlstring}]::text[]

-- name: by_value
-- The values of these dimensions, in their order, of a row of counts_of.
(
    SELECT string_agg(coalesce(c.dimensions ->> b.name, '(none)'), ' · ' ORDER BY b.place)
    FROM unnest(@by) WITH ORDINALITY AS b (name, place)
)

-- name: offered
-- Grafana expands macros in chosen values too, and so a value could leave its quotes: what reads like a macro is not offered.
!~ '[$]\w+[(]'

-- name: concerned
-- Alerts about what is chosen. An alert that tells no values of a dimension apart is about all; concerns says NULL of all steps.
funnel IN (@funnel, '*')
AND concerns(
    step, steps, VARIADIC (
        SELECT array_agg(replace(v.value, '\"', '"')) FROM unnest(ARRAY[${step:sqlstring}]::text[]) AS v (value)
        WHERE v.value IS NOT NULL
    )
) IS NOT false
AND NOT EXISTS (
    SELECT FROM jsonb_each(
        @chosen
    ) AS chosen (name, accepted)
    WHERE chosen.name <> 'step' AND dimensions ->> chosen.name <> '' AND NOT chosen.accepted ? (dimensions ->> chosen.name)
)

-- name: of_alert
-- The dimensions of an alert; NULL: it is about all.
(SELECT string_agg(d.name || ' = ' || d.value, ', ' ORDER BY d.name) FROM jsonb_each_text(dimensions) AS d (name, value))

-- name: link
-- What a link chooses of a dimension.
CASE WHEN dimensions ->> '@name' <> '' AND dimensions ->> '@name' @offered THEN dimensions ->> '@name' ELSE 'All' END AS of_@name

-- name: in_range
-- Alerts of the range of the dashboard.
started_at <= $__timeTo()::timestamptz
AND coalesce(resolved_at, $__timeTo()::timestamptz) >= $__timeFrom()::timestamptz

-- name: with_gaps
-- Lines that break (NULL) or fall to 0 where windows are missing.
WITH counted AS (
    @counted
),

neighbours AS (
    SELECT *, lead(time) OVER (@neighbouring) AS next FROM counted
)

SELECT @columns FROM counted
UNION
SELECT edge, @missing
FROM neighbours
CROSS JOIN LATERAL (VALUES (time + @width), (next - @width)) AS gap (edge)
WHERE next > time + @width
ORDER BY @order
