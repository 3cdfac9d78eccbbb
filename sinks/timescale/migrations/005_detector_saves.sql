-- By this a detector notices that another has gone on with its funnel while it was frozen.

ALTER TABLE detector_progress ADD COLUMN saves bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN detector_progress.saves IS 'How often anything was saved for this funnel; a detector that does not know the last number writes nothing.';
