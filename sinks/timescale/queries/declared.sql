-- name: forget_declared
-- Forget which steps were declared.
DELETE FROM declared_steps;

-- name: declare
-- The steps of the declared funnels, in order.
INSERT INTO declared_steps (funnel, position, step)
SELECT funnel, position, step
FROM unnest(%(funnel)s::text[], %(position)s::integer[], %(step)s::text[]) AS d (funnel, position, step);
