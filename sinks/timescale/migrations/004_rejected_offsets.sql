-- Which records of the duplicate horizon were rejected, though they, or a repetition of them, may be accepted one day.

CREATE TABLE rejected_offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    log_time timestamptz NOT NULL,
    offsets bigint[] NOT NULL
);
CREATE INDEX rejected_offsets_time ON rejected_offsets (topic, partition, log_time);
COMMENT ON TABLE rejected_offsets IS 'Offsets rejected by one flush. A worker that reads the duplicate horizon again must not take their event ids for counted: rules of acceptance change (a step is declared, a clock catches up), and what is replayed then would be dropped as a duplicate.';
