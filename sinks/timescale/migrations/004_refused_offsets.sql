-- Which records of the duplicate horizon were refused, though they, or a repetition of them, may be accepted one day.

CREATE TABLE refused_offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    log_time timestamptz NOT NULL,
    offsets bigint[] NOT NULL
);
CREATE INDEX refused_offsets_time ON refused_offsets (topic, partition, log_time);
COMMENT ON TABLE refused_offsets IS 'Offsets refused by one flush. A worker that reads the duplicate horizon again must not take their event ids for counted: rules of acceptance change (a step is declared, a clock catches up), and what is replayed then would be dropped as a duplicate.';
