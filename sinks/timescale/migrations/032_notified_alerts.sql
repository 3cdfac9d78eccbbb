-- The last message of each alert that a route has sent, or may have, so that the alerts that fire there are found without
-- sorting the log.

CREATE TABLE notified_alerts (
    route text NOT NULL,
    alert_id text NOT NULL,
    sequence integer NOT NULL,
    firing boolean NOT NULL,
    PRIMARY KEY (route, alert_id)
);
CREATE INDEX notified_alerts_firing ON notified_alerts (route, alert_id) WHERE firing;
COMMENT ON TABLE notified_alerts IS 'The number of the last message of an alert that a route has sent, or may have, and whether the alert fires as far as the receiver can know. Kept by a trigger on notifications.';

-- perhaps_notified comes with migration 040; the function is looked into when it is first called.
CREATE FUNCTION note_notified_alert() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    told record;
BEGIN
    IF NOT new.perhaps_notified AND new.outcome IS NULL AND (tg_op = 'INSERT' OR NOT old.perhaps_notified) THEN
        RETURN NULL;
    END IF;
    -- One at a time for an alert: who comes second must see what the first has written.
    PERFORM pg_advisory_xact_lock(hashtextextended(new.route || ' ' || new.alert_id, tg_relid::bigint));
    SELECT
        n.sequence,
        n.alert ->> 'state' = 'firing' AND NOT EXISTS (
            SELECT FROM notifications AS over
            WHERE
                over.route = n.route AND over.alert_id = n.alert_id AND over.sequence > n.sequence
                AND over.alert ->> 'state' = 'resolved' AND over.outcome IS NOT NULL
        ) AS firing
    INTO told
    FROM notifications AS n
    WHERE n.route = new.route AND n.alert_id = new.alert_id AND n.perhaps_notified
    ORDER BY n.sequence DESC
    LIMIT 1;
    IF told.sequence IS NULL THEN
        DELETE FROM notified_alerts WHERE route = new.route AND alert_id = new.alert_id;
    ELSE
        INSERT INTO notified_alerts AS t (route, alert_id, sequence, firing)
        VALUES (new.route, new.alert_id, told.sequence, coalesce(told.firing, false))
        ON CONFLICT (route, alert_id) DO UPDATE SET sequence = excluded.sequence, firing = excluded.firing
        WHERE (t.sequence, t.firing) IS DISTINCT FROM (excluded.sequence, excluded.firing);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION note_notified_alert IS 'Keeps notified_alerts.';

CREATE TRIGGER note_notified_alert AFTER INSERT OR UPDATE ON notifications
FOR EACH ROW EXECUTE FUNCTION note_notified_alert();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION note_notified_alert() SET search_path = %I, pg_temp', current_schema());
END
$$;

INSERT INTO notified_alerts (route, alert_id, sequence, firing)
SELECT DISTINCT ON (route, alert_id) route, alert_id, sequence, coalesce(alert ->> 'state', '') = 'firing'
FROM notifications
WHERE outcome = 'sent'
ORDER BY route, alert_id, sequence DESC;

CREATE INDEX notifications_recent ON notifications (coalesce(decided_at, queued_at) DESC, place DESC);
CREATE INDEX notifications_of_route ON notifications (route, coalesce(decided_at, queued_at) DESC, place DESC);
CREATE INDEX silences_ends ON silences (ends_at);
CREATE INDEX late_windows_changed ON late_windows (changed_at) WHERE published;
