-- What was told to whom: the queue and the log of the notifier in one.

CREATE TABLE notify_routes (
    route text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE notify_routes IS 'Routes that were ever used, and since when: that an alert resolved before is not told there.';

CREATE TABLE notifications (
    route text NOT NULL,
    alert_id text NOT NULL,
    sequence integer NOT NULL,
    place bigint GENERATED ALWAYS AS IDENTITY,
    alert jsonb NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    outcome text CHECK (outcome IN ('sent', 'rejected', 'given_up', 'superseded', 'history')),
    decided_at timestamptz,
    answer text NOT NULL DEFAULT '',
    PRIMARY KEY (route, alert_id, sequence)
);
CREATE INDEX notifications_waiting ON notifications (route, attempts, place) WHERE outcome IS NULL;
CREATE INDEX notifications_decided ON notifications (decided_at);
COMMENT ON TABLE notifications IS 'Every message that a route tells; without an outcome it is still to be sent. superseded: a newer message of the alert was told instead; history: it had resolved before the route was there.';
