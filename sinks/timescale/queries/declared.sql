-- name: forget_declared
-- Forget which funnels were declared, and their steps.
WITH forgotten AS (DELETE FROM declared_funnels)
DELETE FROM declared_steps;

-- name: declare
-- The steps of the declared funnels, in order.
INSERT INTO declared_steps (funnel, position, step)
SELECT funnel, position, step
FROM unnest(%(funnel)s::text[], %(position)s::integer[], %(step)s::text[]) AS d (funnel, position, step);

-- name: declare_funnels
-- The declared funnels, with their session windows.
INSERT INTO declared_funnels (funnel, session_window)
SELECT d.funnel, d.session_window_ms * interval '1 millisecond'
FROM unnest(%(funnel)s::text[], %(session_window_ms)s::bigint[]) AS d (funnel, session_window_ms);
