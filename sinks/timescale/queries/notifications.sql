-- name: start_routes
-- Note routes that are new.
INSERT INTO notify_routes (route)
SELECT route FROM unnest(%(routes)s::text[]) AS r (route)
ON CONFLICT DO NOTHING
RETURNING route;

-- name: read_routes
-- Since when each route is used.
SELECT route, (extract(epoch FROM since) * 1000)::bigint AS since_ms FROM notify_routes;

-- name: queue_notification
-- Queue one message for routes, or only note it; one that is there already is left as it is. Some only where the route
-- has a message of the same alert.
INSERT INTO notifications (route, alert_id, sequence, alert, outcome, decided_at)
SELECT
    d.route, %(alert_id)s, %(sequence)s, %(alert)s::jsonb,
    d.noted_as, CASE WHEN d.noted_as IS NOT NULL THEN clock_timestamp() END
FROM unnest(%(routes)s::text[], %(only_if_known)s::boolean[], %(noted_as)s::text[])
    AS d (route, only_if_known, noted_as)
WHERE
    NOT d.only_if_known
    OR EXISTS (SELECT 1 FROM notifications AS n WHERE n.route = d.route AND n.alert_id = %(alert_id)s)
ON CONFLICT DO NOTHING
RETURNING route;

-- name: hold_route
-- One notifier has a route at a time, as long as its session lasts.
SELECT pg_try_advisory_lock(hashtextextended('funnelwatch notify ' || %(route)s, to_regclass('deployment')::oid::bigint)) AS held;

-- name: still_here
-- Something to say, so that the session does not count as idle.
SELECT 1 AS here;

-- name: supersede
-- Of an alert only the newest message is still worth being told.
UPDATE notifications AS n
SET outcome = 'superseded', decided_at = clock_timestamp()
WHERE
    n.route = %(route)s
    AND n.outcome IS NULL
    AND EXISTS (
        SELECT 1
        FROM notifications AS newer
        WHERE newer.route = n.route AND newer.alert_id = n.alert_id AND newer.sequence > n.sequence
    );

-- name: pass_over_resolved
-- That an alert resolved is news only to a route that it fired on, as far as the receiver can know.
UPDATE notifications AS n
SET outcome = 'not_notified', decided_at = clock_timestamp()
WHERE
    n.route = %(route)s
    AND n.outcome IS NULL
    AND n.alert ->> 'state' = 'resolved'
    AND NOT EXISTS (
        SELECT 1
        FROM notifications AS older
        WHERE
            older.route = n.route AND older.alert_id = n.alert_id AND older.sequence < n.sequence
            AND older.perhaps_notified
    );

-- name: try_given_up_again
-- Giving a message up does not give its alert up: the newest message of one that still fires is tried again.
UPDATE notifications AS n
SET outcome = NULL, decided_at = NULL, tried_since = NULL, not_before = NULL
WHERE
    n.route = %(route)s
    AND n.outcome = 'given_up'
    AND n.alert ->> 'state' = 'firing'
    AND n.decided_at < clock_timestamp() - make_interval(secs => %(after_s)s)
    AND NOT EXISTS (
        SELECT 1
        FROM notifications AS newer
        WHERE newer.route = n.route AND newer.alert_id = n.alert_id AND newer.sequence > n.sequence
    )
RETURNING n.alert_id;

-- name: next_notification
-- What to send next: what was tried least, then what has waited longest; with what the route told of the alert before.
SELECT
    n.alert, n.attempts, n.unanswered,
    extract(epoch FROM clock_timestamp() - coalesce(n.tried_since, clock_timestamp()))::double precision AS age_s,
    (
        SELECT told.alert
        FROM notifications AS told
        WHERE
            told.route = n.route AND told.alert_id = n.alert_id AND told.sequence < n.sequence AND told.perhaps_notified
        ORDER BY told.sequence DESC
        LIMIT 1
    ) AS previous
FROM notifications AS n
WHERE n.route = %(route)s AND n.outcome IS NULL AND (n.not_before IS NULL OR n.not_before <= clock_timestamp())
ORDER BY n.attempts, n.place
LIMIT 1;

-- name: begin_attempt
-- An attempt is noted before anything is sent; its number, or no row where the message is decided by now.
UPDATE notifications
SET attempts = attempts + 1, under_way = true, tried_since = coalesce(tried_since, clock_timestamp())
WHERE route = %(route)s AND alert_id = %(alert_id)s AND sequence = %(sequence)s AND outcome IS NULL
RETURNING attempts;

-- name: note_attempt
-- What came of an attempt; without an outcome it is to be tried again. Where another notifier has begun an attempt since,
-- or the message is decided, only that this attempt was sent still counts.
UPDATE notifications
SET
    under_way = under_way AND attempts <> %(attempt)s,
    unanswered = unanswered + %(unanswered)s::boolean::integer,
    outcome = CASE WHEN outcome IS NULL OR %(outcome)s::text = 'sent' THEN %(outcome)s::text ELSE outcome END,
    decided_at = CASE
        WHEN %(outcome)s::text IS NOT NULL AND (outcome IS NULL OR %(outcome)s::text = 'sent') THEN clock_timestamp()
        ELSE decided_at
    END,
    not_before = clock_timestamp() + make_interval(secs => %(pause_s)s),
    answer = %(answer)s
WHERE
    route = %(route)s AND alert_id = %(alert_id)s AND sequence = %(sequence)s
    AND ((under_way AND attempts = %(attempt)s) OR (%(outcome)s::text = 'sent' AND outcome IS DISTINCT FROM 'sent'));

-- name: notified_firing
-- The alerts that fire as far as a route was told, without those of which it is known that they are over.
SELECT n.alert
FROM notified_alerts AS t
INNER JOIN notifications AS n ON n.route = t.route AND n.alert_id = t.alert_id AND n.sequence = t.sequence
WHERE t.route = %(route)s AND t.firing
ORDER BY t.alert_id;

-- name: waiting_notifications
-- How many messages each route has still to tell, and for how long the oldest has waited.
SELECT
    route,
    count(*) AS waiting,
    extract(epoch FROM clock_timestamp() - min(queued_at))::double precision AS oldest_s
FROM notifications
WHERE outcome IS NULL
GROUP BY route;

-- name: recent_notifications
-- The newest of the log, newest first; of one route, or of all.
SELECT
    route, alert, attempts, outcome, answer,
    (extract(epoch FROM queued_at) * 1000)::bigint AS queued_ms,
    (extract(epoch FROM decided_at) * 1000)::bigint AS decided_ms
FROM notifications
WHERE %(route)s::text IS NULL OR route = %(route)s
ORDER BY coalesce(decided_at, queued_at) DESC, place DESC
LIMIT %(limit)s;
