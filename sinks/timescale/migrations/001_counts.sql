-- The counts of record and how far each partition, window and funnel has got.

CREATE TABLE deployment (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    window_ms integer NOT NULL CHECK (window_ms > 0)
);
COMMENT ON TABLE deployment IS 'What may not change once there are counts: the length of a window.';

CREATE TABLE window_counts (
    window_start timestamptz NOT NULL,
    funnel text NOT NULL,
    step text NOT NULL,
    os text NOT NULL,
    browser text NOT NULL,
    app_version text NOT NULL,
    impressions bigint NOT NULL DEFAULT 0,
    successes bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    cohort_successes bigint NOT NULL DEFAULT 0,
    cohort_failures bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (funnel, window_start, step, os, browser, app_version)
);
COMMENT ON TABLE window_counts IS 'Counts of a series in the window [window_start, window_start + window). successes and failures are dated by their own ts, the cohort columns by the impression that they answer.';

CREATE TABLE stream_progress (
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    log_time timestamptz,
    watermark timestamptz,
    idle boolean NOT NULL DEFAULT false,
    accepted bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE stream_progress IS 'How far a partition of the events topic is counted; moved on in the transaction that counts. log_time is the largest Kafka timestamp seen, watermark the event time before which nothing more is expected.';

CREATE TABLE funnel_progress (
    funnel text PRIMARY KEY,
    closing_through timestamptz,
    closed_through timestamptz
);
COMMENT ON TABLE funnel_progress IS 'Windows that start before closing_through are closed or being closed: an event for one of them is late. Those before closed_through have been published.';

CREATE TABLE late_windows (
    funnel text NOT NULL,
    window_start timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published boolean NOT NULL DEFAULT false,
    PRIMARY KEY (funnel, window_start)
);
CREATE INDEX late_windows_unpublished ON late_windows (funnel, window_start) WHERE NOT published;
COMMENT ON TABLE late_windows IS 'Closed windows that late events have changed; each is published again with its revision once it is quiet.';

CREATE TABLE detector_progress (
    funnel text PRIMARY KEY,
    last_window timestamptz NOT NULL
);
COMMENT ON TABLE detector_progress IS 'The newest closed window that the detector has judged.';

CREATE TABLE alert_states (
    funnel text NOT NULL,
    state_key text NOT NULL,
    state jsonb NOT NULL,
    PRIMARY KEY (funnel, state_key)
);
COMMENT ON TABLE alert_states IS 'The state of each rule on each series it judges, so that a restart forgets nothing.';

CREATE TABLE alerts (
    alert_id text NOT NULL,
    sequence integer NOT NULL,
    alert jsonb NOT NULL,
    published_at timestamptz,
    PRIMARY KEY (alert_id, sequence)
);
CREATE INDEX alerts_outbox ON alerts (alert_id, sequence) WHERE published_at IS NULL;
COMMENT ON TABLE alerts IS 'Every message of every alert; those without published_at are still to be published (outbox).';

CREATE VIEW conversion AS
SELECT
    window_start,
    funnel,
    step,
    os,
    browser,
    app_version,
    impressions,
    successes,
    failures,
    successes::double precision / nullif(impressions, 0) AS rate,
    cohort_successes,
    cohort_failures,
    cohort_successes::double precision / nullif(impressions, 0) AS cohort_rate
FROM window_counts;
COMMENT ON VIEW conversion IS 'window_counts with its rates: rate by window, cohort_rate of those shown the step in the window; null where nobody was.';
