-- How far back counts are gone for good, so that nothing that outlives them is made again from what is left.

ALTER TABLE retention
    ADD COLUMN dropped_before timestamptz,
    ADD COLUMN set_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN retention.dropped_before IS 'Counts of the level that start before this may have been dropped for their age; null: none were. It only ever moves forward, whatever keep becomes: no rollup that is made of the level is refreshed before it.';
COMMENT ON COLUMN retention.set_at IS 'When keep was changed: jobs of the database that follow it have been there at least since then.';
