-- What was notified to whom: the queue and the log of the notifier in one.

CREATE TABLE notify_routes (
    route text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE notify_routes IS 'Routes that were ever used, and since when: an alert that resolved before is not notified there.';

CREATE TABLE notifications (
    route text NOT NULL,
    alert_id text NOT NULL,
    sequence integer NOT NULL,
    place bigint GENERATED ALWAYS AS IDENTITY,
    alert jsonb NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    under_way boolean NOT NULL DEFAULT false,
    unanswered integer NOT NULL DEFAULT 0,
    tried_since timestamptz,
    not_before timestamptz,
    outcome text CHECK (
        outcome IN (
            'sent', 'rejected', 'given_up', 'unanswered', 'superseded', 'history', 'silenced', 'filtered', 'not_notified'
        )
    ),
    decided_at timestamptz,
    answer text NOT NULL DEFAULT '',
    perhaps_notified boolean NOT NULL
        GENERATED ALWAYS AS (coalesce(outcome = 'sent', false) OR under_way OR unanswered > 0) STORED,
    PRIMARY KEY (route, alert_id, sequence)
);
CREATE INDEX notifications_waiting ON notifications (route, attempts, place) WHERE outcome IS NULL;
CREATE INDEX notifications_decided ON notifications (decided_at);
CREATE INDEX notifications_given_up ON notifications (route) WHERE outcome = 'given_up';
CREATE INDEX notifications_recent ON notifications (coalesce(decided_at, queued_at) DESC, place DESC);
CREATE INDEX notifications_of_route ON notifications (route, coalesce(decided_at, queued_at) DESC, place DESC);
COMMENT ON TABLE notifications IS 'Every message for a route; without an outcome it is still to be sent. superseded: a newer message of the alert counts instead; history: it had resolved before the route was there; silenced, filtered: noted because an older message of the alert waited; not_notified: it resolves an alert whose firing never reached the route; unanswered: sent several times without any answer; given_up: sent again while the alert still fires.';
COMMENT ON COLUMN notifications.under_way IS 'An attempt has begun and its result is not noted: its notifier is sending, or ended meanwhile.';
COMMENT ON COLUMN notifications.unanswered IS 'Attempts of which all was sent and no answer came: the receiver may have the message.';
COMMENT ON COLUMN notifications.tried_since IS 'First attempt; give_up_after counts from here.';
COMMENT ON COLUMN notifications.not_before IS 'The next attempt is not made before this.';
COMMENT ON COLUMN notifications.perhaps_notified IS 'The receiver has the message, or may have it.';

CREATE TABLE notified_alerts (
    route text NOT NULL,
    alert_id text NOT NULL,
    sequence integer NOT NULL,
    firing boolean NOT NULL,
    PRIMARY KEY (route, alert_id)
);
CREATE INDEX notified_alerts_firing ON notified_alerts (route, alert_id) WHERE firing;
COMMENT ON TABLE notified_alerts IS 'The number of the last message of an alert that a route has sent, or may have, and whether the alert fires as far as the receiver can know. Kept by a trigger on notifications.';

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
