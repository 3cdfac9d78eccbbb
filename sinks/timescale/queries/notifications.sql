-- name: start_routes
-- Record new routes.
INSERT INTO notify_routes (route)
SELECT route FROM unnest(%(routes)s::text[]) AS r (route)
ON CONFLICT DO NOTHING
RETURNING route;

-- name: read_routes
-- Since when each route is used.
SELECT route, (extract(epoch FROM since) * 1000)::bigint AS since_ms FROM notify_routes;

-- name: queue_notification
-- Queue one message for routes, or only record it; a message that is there already stays unchanged. For some routes only
-- where they have a message of the same alert.
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
-- One notifier owns a route at a time, as long as its session lasts.
SELECT pg_try_advisory_lock(hashtextextended('funnelwatch notify ' || %(route)s, to_regclass('deployment')::oid::bigint)) AS held;

-- name: keep_session
-- Any statement, so that the session does not count as idle.
SELECT 1 AS alive;

-- name: supersede
-- Only the newest message of an alert is worth sending.
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

-- name: skip_resolved
-- A resolved message is news only where the receiver has, or may have, the firing message.
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

-- name: retry_given_up
-- Queue the newest message of an alert again that was given up while the alert still fires.
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
-- The message to send next: the one tried least, then the oldest; with the last message of its alert that was sent.
SELECT
    n.alert, n.attempts, n.unanswered,
    extract(epoch FROM clock_timestamp() - coalesce(n.tried_since, clock_timestamp()))::double precision AS age_s,
    (
        SELECT sent.alert
        FROM notifications AS sent
        WHERE
            sent.route = n.route AND sent.alert_id = n.alert_id AND sent.sequence < n.sequence AND sent.perhaps_notified
        ORDER BY sent.sequence DESC
        LIMIT 1
    ) AS previous
FROM notifications AS n
WHERE n.route = %(route)s AND n.outcome IS NULL AND (n.not_before IS NULL OR n.not_before <= clock_timestamp())
ORDER BY n.attempts, n.place
LIMIT 1;

-- name: begin_attempt
-- Record an attempt before anything is sent; its number, or no row where the message is decided meanwhile.
UPDATE notifications
SET attempts = attempts + 1, under_way = true, tried_since = coalesce(tried_since, clock_timestamp())
WHERE route = %(route)s AND alert_id = %(alert_id)s AND sequence = %(sequence)s AND outcome IS NULL
RETURNING attempts;

-- name: note_attempt
-- Record the result of an attempt; a message without an outcome is retried. Where another notifier has begun an attempt
-- since, or the message is decided, only the outcome "sent" still counts.
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
-- The alerts whose last message to a route was firing, without alerts that are known to be over.
SELECT n.alert
FROM notified_alerts AS t
INNER JOIN notifications AS n ON n.route = t.route AND n.alert_id = t.alert_id AND n.sequence = t.sequence
WHERE t.route = %(route)s AND t.firing
ORDER BY t.alert_id;

-- name: waiting_notifications
-- How many messages wait for each route, and for how long the oldest has waited.
SELECT
    route,
    count(*) AS waiting,
    extract(epoch FROM clock_timestamp() - min(queued_at))::double precision AS oldest_s
FROM notifications
WHERE outcome IS NULL
GROUP BY route;

-- name: recent_notifications
-- The newest entries of the log, newest first; of one route, or of all.
SELECT
    route, alert, attempts, outcome, answer,
    (extract(epoch FROM queued_at) * 1000)::bigint AS queued_ms,
    (extract(epoch FROM decided_at) * 1000)::bigint AS decided_ms
FROM notifications
WHERE %(route)s::text IS NULL OR route = %(route)s
ORDER BY coalesce(decided_at, queued_at) DESC, place DESC
LIMIT %(limit)s;
