-- What is needed to repair counts from the log: since when they come from it alone, and which repairs there were.

CREATE TABLE progress_resets (
    topic text NOT NULL,
    partition integer NOT NULL,
    reset_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    from_topic_id text NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL
);
COMMENT ON TABLE progress_resets IS 'When a person has set the progress of a partition (`funnelwatch rebuild progress`). What was counted before is not what the log has now.';

CREATE TABLE window_repairs (
    repair bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    range_start timestamptz NOT NULL,
    range_end timestamptz NOT NULL,
    changed_series bigint NOT NULL,
    repaired_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE window_repairs IS 'Each `funnelwatch rebuild windows` that changed counts: the windows that start in [range_start, range_end), and how many series of windows it corrected.';
