-- name: funnel_size
-- The series of a funnel: how many, how many of them are folded in any dimension, and their events.
SELECT
    count(*) AS series,
    count(*) FILTER (WHERE f.folded) AS folded_series,
    coalesce(sum(t.impressions + t.successes + t.failures), 0)::bigint AS events,
    coalesce(sum(t.impressions + t.successes + t.failures) FILTER (WHERE f.folded), 0)::bigint AS folded_events
FROM series AS s
LEFT JOIN series_totals AS t USING (series_id)
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM jsonb_each_text(s.dimensions) AS d WHERE d.value = '(other)') AS folded
) AS f
WHERE s.funnel = %(funnel)s;

-- name: funnel_values
-- By dimension: how many values a funnel has, and how many events count under (other).
SELECT
    d.key AS dimension,
    count(DISTINCT d.value) FILTER (WHERE d.value <> '(other)') AS names,
    coalesce(sum(t.impressions + t.successes + t.failures) FILTER (WHERE d.value = '(other)'), 0)::bigint
        AS folded_events
FROM series AS s
LEFT JOIN series_totals AS t USING (series_id)
CROSS JOIN LATERAL jsonb_each_text(s.dimensions) AS d
WHERE s.funnel = %(funnel)s
GROUP BY d.key
ORDER BY d.key;
