-- Counters and timers beside the events of funnels.

ALTER TABLE stream_progress ADD COLUMN holds text NOT NULL DEFAULT 'events' CHECK (holds IN ('events', 'metrics'));
COMMENT ON COLUMN stream_progress.holds IS 'What the records of the topic are: events of funnels, or samples of counters and timers.';

CREATE TABLE metric_series (
    series integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('COUNTER', 'TIMER')),
    dimensions jsonb NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (name, dimensions)
);
COMMENT ON TABLE metric_series IS 'Each combination of dimensions that a counter or timer was seen with; how many there may be is bounded.';

CREATE TABLE metric_counts (
    window_start timestamptz NOT NULL,
    series integer NOT NULL,
    samples bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (series, window_start)
)
WITH (fillfactor = 60);
COMMENT ON TABLE metric_counts IS 'Counters and timers by window, dated by their ts. total: the sum of the increments, or of the milliseconds.';

CREATE TABLE metric_durations (
    window_start timestamptz NOT NULL,
    series integer NOT NULL,
    octave smallint NOT NULL CHECK (octave BETWEEN 0 AND 60),
    n0 bigint NOT NULL DEFAULT 0,
    n1 bigint NOT NULL DEFAULT 0,
    n2 bigint NOT NULL DEFAULT 0,
    n3 bigint NOT NULL DEFAULT 0,
    n4 bigint NOT NULL DEFAULT 0,
    n5 bigint NOT NULL DEFAULT 0,
    n6 bigint NOT NULL DEFAULT 0,
    n7 bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (series, window_start, octave)
)
WITH (fillfactor = 60);
COMMENT ON TABLE metric_durations IS 'Histograms of timers: how many in each of the eight slots of an octave, as window_durations.';
