-- Who counts, closes and judges, and when each of them last did: so that nobody takes old figures for new ones.

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
    fault text
);
COMMENT ON TABLE worker_heartbeats IS 'One row per worker process. A worker updates seen_at every 5 seconds; fault says what is wrong with it, null: nothing. ended_at is set when it ends on purpose.';

ALTER TABLE funnel_progress
    ADD COLUMN counted_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN closed_at timestamptz,
    ADD COLUMN published_window timestamptz,
    ADD COLUMN unevaluated_since timestamptz;
COMMENT ON COLUMN funnel_progress.counted_since IS 'When an event of the funnel was counted first, wall clock.';
COMMENT ON COLUMN funnel_progress.closed_at IS 'When closed_through last moved, wall clock.';
COMMENT ON COLUMN funnel_progress.published_window IS 'The newest window that was published to the detector.';
COMMENT ON COLUMN funnel_progress.unevaluated_since IS 'When a window was published while everything before it was judged, wall clock.';

ALTER TABLE detector_progress ADD COLUMN evaluated_at timestamptz;
COMMENT ON COLUMN detector_progress.evaluated_at IS 'When last_window last moved, wall clock.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        GRANT SELECT ON worker_heartbeats, detector_progress TO funnelwatch_reader;
    END IF;
END
$$;
