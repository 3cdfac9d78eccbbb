-- Silences: what is not to be notified, for a time.

CREATE TABLE silences (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule text,
    funnel text,
    step text,
    os text,
    browser text,
    app_version text,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    comment text NOT NULL DEFAULT '',
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (starts_at <= ends_at),
    CHECK (num_nonnulls(rule, funnel, step, os, browser, app_version) > 0)
);
COMMENT ON TABLE silences IS 'Firing alerts within all that is named here are published as silenced_by this silence during [starts_at, ends_at); null is any. Kept after they have ended.';

CREATE INDEX alerts_silenced ON alerts (alert_id, sequence) WHERE alert ->> 'silenced_by' <> '';
