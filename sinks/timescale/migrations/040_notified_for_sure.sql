-- An attempt is noted before it begins, and what a receiver may have got is known, also where no answer came.

ALTER TABLE notifications
    ADD COLUMN under_way boolean NOT NULL DEFAULT false,
    ADD COLUMN unanswered integer NOT NULL DEFAULT 0,
    ADD COLUMN tried_since timestamptz,
    ADD COLUMN not_before timestamptz;
ALTER TABLE notifications
    ADD COLUMN perhaps_notified boolean NOT NULL
        GENERATED ALWAYS AS (coalesce(outcome = 'sent', false) OR under_way OR unanswered > 0) STORED,
    DROP CONSTRAINT notifications_outcome_check,
    ADD CONSTRAINT notifications_outcome_check CHECK (
        outcome IN (
            'sent', 'rejected', 'given_up', 'unanswered', 'superseded', 'history', 'silenced', 'filtered', 'not_notified'
        )
    );
CREATE INDEX notifications_given_up ON notifications (route) WHERE outcome = 'given_up';
COMMENT ON COLUMN notifications.under_way IS 'An attempt has begun and its result is not noted: its notifier is sending, or ended meanwhile.';
COMMENT ON COLUMN notifications.unanswered IS 'Attempts of which all was sent and no answer came: the receiver may have the message.';
COMMENT ON COLUMN notifications.tried_since IS 'First attempt; give_up_after counts from here.';
COMMENT ON COLUMN notifications.not_before IS 'The next attempt is not made before this.';
COMMENT ON COLUMN notifications.perhaps_notified IS 'The receiver has the message, or may have it.';
COMMENT ON TABLE notifications IS 'Every message that a route tells; without an outcome it is still to be sent. superseded: a newer message of the alert counts instead; history: it had resolved before the route was there; silenced, filtered: noted because an older message of the alert waited; not_notified: it resolves an alert whose firing never reached the route; unanswered: sent several times without any answer; given_up: sent again while the alert still fires.';
