-- name: forget_alerts
-- Delete alerts that ended before a time, with all their messages, at most so many; not one with unpublished messages.
WITH old AS (
    SELECT s.alert_id
    FROM alert_summaries AS s
    WHERE
        s.ended_at < %(before)s
        AND NOT EXISTS (SELECT FROM alerts AS a WHERE a.alert_id = s.alert_id AND a.published_at IS NULL)
    ORDER BY s.ended_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), messages AS (
    DELETE FROM alerts AS a USING old WHERE a.alert_id = old.alert_id
)
DELETE FROM alert_summaries AS s USING old WHERE s.alert_id = old.alert_id
RETURNING s.alert_id;

-- name: forget_notifications
-- Delete notifications from before a time, at most so many; none of an alert that fires, or fires for its route.
WITH old AS (
    SELECT n.route, n.alert_id, n.sequence
    FROM notifications AS n
    WHERE
        n.outcome IS NOT NULL
        AND n.decided_at < %(before)s
        AND NOT EXISTS (
            SELECT FROM notified_alerts AS t WHERE t.route = n.route AND t.alert_id = n.alert_id AND t.firing
        )
        AND NOT EXISTS (
            SELECT FROM alert_summaries AS s WHERE s.alert_id = n.alert_id AND s.ended_at >= %(before)s
        )
    ORDER BY n.decided_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM notifications AS n
    USING old
    WHERE n.route = old.route AND n.alert_id = old.alert_id AND n.sequence = old.sequence
    RETURNING n.route, n.alert_id, n.sequence
), notified AS (
    DELETE FROM notified_alerts AS t
    USING gone
    WHERE t.route = gone.route AND t.alert_id = gone.alert_id AND t.sequence = gone.sequence
)
SELECT route, alert_id, sequence FROM gone;

-- name: forget_silences
-- Delete silences that ended before a time.
DELETE FROM silences WHERE ends_at < %(before)s;

-- name: forget_late_windows
-- Delete revisions of closed windows that begin before a time and whose changes are published.
DELETE FROM late_windows WHERE published AND changed_at < %(before)s AND window_start < %(before)s;

-- name: forget_replays
-- Delete replays of records that are older than the maximum event age.
DELETE FROM replayed_letters WHERE record_time < %(before)s AND replayed_at < %(before)s;
