-- How far each partition, window and funnel has got, and what people and workers say of themselves.

CREATE TABLE deployment (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    window_ms integer NOT NULL CHECK (window_ms > 0),
    maturity interval NOT NULL DEFAULT INTERVAL '2 minutes',
    session_window interval NOT NULL DEFAULT INTERVAL '1 hour'
);
COMMENT ON TABLE deployment IS 'What may not change once there are counts: the length of a window.';
COMMENT ON COLUMN deployment.maturity IS 'A cohort is mature when all windows are closed that end at most this long after its own: a time within which nearly every success has come.';
COMMENT ON COLUMN deployment.session_window IS 'The session window of funnels that are not declared.';

CREATE TABLE stream_progress (
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    holds text NOT NULL DEFAULT 'events' CHECK (holds IN ('events', 'metrics')),
    next_offset bigint NOT NULL,
    log_time timestamptz,
    watermark timestamptz,
    idle boolean NOT NULL DEFAULT false,
    accepted bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    undeclared bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE stream_progress IS 'How far a partition is counted; moved on in the transaction that counts. log_time is the largest Kafka timestamp seen, watermark the event time before which nothing more is expected.';
COMMENT ON COLUMN stream_progress.undeclared IS 'How many of the rejected records are of funnels that nobody has declared.';
COMMENT ON COLUMN stream_progress.holds IS 'What the records of the topic are: events of funnels, or samples of counters and timers.';

CREATE TABLE rejected_offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    log_time timestamptz NOT NULL,
    offsets bigint[] NOT NULL
);
CREATE INDEX rejected_offsets_time ON rejected_offsets (topic, partition, log_time);
COMMENT ON TABLE rejected_offsets IS 'Offsets rejected by one flush. A worker that reads the duplicate horizon again must not take their event ids for counted: rules of acceptance change (a step is declared, a clock catches up), and what is replayed then would be dropped as a duplicate.';

CREATE TABLE replayed_letters (
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    record_time timestamptz NOT NULL,
    replayed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, record_offset, record_time)
);
COMMENT ON TABLE replayed_letters IS 'The places (in the events topic) of rejected records that `funnelwatch dead-letters replay` has produced again. record_time is the record''s Kafka timestamp, by which a topic is told from an earlier one of its name.';

CREATE TABLE progress_resets (
    topic text NOT NULL,
    partition integer NOT NULL,
    reset_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    from_topic_id text NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL
);
COMMENT ON TABLE progress_resets IS 'When a person has set the progress of a partition (`funnelwatch rebuild progress`). The counts from before do not come from the present log.';

CREATE TABLE window_repairs (
    repair bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    range_start timestamptz NOT NULL,
    range_end timestamptz NOT NULL,
    changed_series bigint NOT NULL,
    repaired_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE window_repairs IS 'Each `funnelwatch rebuild windows` that changed counts: the windows that start in [range_start, range_end), and how many series of windows it corrected.';

CREATE TABLE funnel_progress (
    funnel text PRIMARY KEY,
    closing_through timestamptz,
    closed_through timestamptz,
    counted_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    newest_window timestamptz,
    published_window timestamptz,
    unevaluated_since timestamptz
);
COMMENT ON TABLE funnel_progress IS 'Windows that start before closing_through are closed or being closed: an event for one of them is late. Those before closed_through have been published.';
COMMENT ON COLUMN funnel_progress.counted_since IS 'When an event of the funnel was counted first, wall clock.';
COMMENT ON COLUMN funnel_progress.closed_at IS 'When closed_through last moved, wall clock.';
COMMENT ON COLUMN funnel_progress.newest_window IS 'The newest window that has counts.';
COMMENT ON COLUMN funnel_progress.published_window IS 'The newest window that was published to the detector.';
COMMENT ON COLUMN funnel_progress.unevaluated_since IS 'When a window was published while everything before it was evaluated, wall clock.';

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
CREATE INDEX late_windows_changed ON late_windows (changed_at) WHERE published;
COMMENT ON TABLE late_windows IS 'Closed windows that late events have changed; each is published again with its revision once it is quiet.';

CREATE TABLE declared_steps (
    funnel text NOT NULL,
    position integer NOT NULL CHECK (position > 0),
    step text NOT NULL,
    PRIMARY KEY (funnel, position),
    UNIQUE (funnel, step)
);
COMMENT ON TABLE declared_steps IS 'The steps of declared funnels in their order, from 1; as the worker that was started last knows them.';

CREATE TABLE declared_funnels (
    funnel text PRIMARY KEY,
    session_window interval NOT NULL
);
COMMENT ON TABLE declared_funnels IS 'The declared funnels; as the worker that was started last knows them.';
COMMENT ON COLUMN declared_funnels.session_window IS 'A session counts for steps within this time of its first event.';

CREATE TABLE worker_heartbeats (
    worker text PRIMARY KEY,
    topic text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    assigned integer NOT NULL DEFAULT 0,
    error text
);
COMMENT ON TABLE worker_heartbeats IS 'One row per worker process. A worker updates seen_at every 5 seconds; error is the problem that it reports, null: none. ended_at is set when it ends on purpose.';

-- Readers have a role that may read and nothing else.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        CREATE ROLE funnelwatch_reader NOLOGIN;
    END IF;
EXCEPTION
    -- Another database of this server was faster, or this user may not make roles: an administrator makes it, and the next
    -- worker that starts grants it what is for reading (query grant_reading).
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END
$$;
