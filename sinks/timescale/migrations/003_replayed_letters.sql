-- Which rejected records were produced again, so that no command produces them a second time.

CREATE TABLE replayed_letters (
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    record_time timestamptz NOT NULL,
    replayed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, record_offset, record_time)
);
COMMENT ON TABLE replayed_letters IS 'The places (in the events topic) of rejected records that `funnelwatch dead-letters replay` has produced again. record_time is the record''s Kafka timestamp, by which a topic is told from an earlier one of its name.';
