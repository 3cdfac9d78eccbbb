-- The last message that each route was sent of each alert, so that the alerts that fire there are found without sorting the log.

CREATE TABLE told_alerts (
    route text NOT NULL,
    alert_id text NOT NULL,
    sequence integer NOT NULL,
    firing boolean NOT NULL,
    PRIMARY KEY (route, alert_id)
);
CREATE INDEX told_alerts_firing ON told_alerts (route, alert_id) WHERE firing;
COMMENT ON TABLE told_alerts IS 'The number of the last message of an alert that a route was sent, and whether that said firing. Kept by a trigger on notifications.';

CREATE FUNCTION note_told_alert() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO told_alerts AS t (route, alert_id, sequence, firing)
    VALUES (new.route, new.alert_id, new.sequence, coalesce(new.alert ->> 'state', '') = 'firing')
    ON CONFLICT (route, alert_id) DO UPDATE SET sequence = excluded.sequence, firing = excluded.firing
    WHERE excluded.sequence >= t.sequence;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION note_told_alert IS 'Keeps told_alerts.';

CREATE TRIGGER note_told_alert AFTER INSERT OR UPDATE OF outcome ON notifications
FOR EACH ROW WHEN (new.outcome = 'sent') EXECUTE FUNCTION note_told_alert();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION note_told_alert() SET search_path = %I, pg_temp', current_schema());
END
$$;

INSERT INTO told_alerts (route, alert_id, sequence, firing)
SELECT DISTINCT ON (route, alert_id) route, alert_id, sequence, coalesce(alert ->> 'state', '') = 'firing'
FROM notifications
WHERE outcome = 'sent'
ORDER BY route, alert_id, sequence DESC;

CREATE INDEX notifications_recent ON notifications (coalesce(decided_at, queued_at) DESC, place DESC);
CREATE INDEX notifications_of_route ON notifications (route, coalesce(decided_at, queued_at) DESC, place DESC);
CREATE INDEX silences_ends ON silences (ends_at);
CREATE INDEX late_windows_changed ON late_windows (changed_at) WHERE published;
