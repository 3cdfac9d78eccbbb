-- Messages of one window come from its judgement and from those of its revisions: their order is not in their contents.
ALTER TABLE alerts ADD COLUMN place bigint GENERATED ALWAYS AS IDENTITY;
COMMENT ON COLUMN alerts.place IS 'Grows in the order in which the detector said the messages, which is that in which they are published.';
