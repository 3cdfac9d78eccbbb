-- Totals of counters and timers since the beginning, as running_totals: they only grow.

CREATE TABLE running_metrics (
    series integer PRIMARY KEY,
    samples bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL DEFAULT 0
)
WITH (fillfactor = 50);
COMMENT ON TABLE running_metrics IS 'Samples of each counter and timer since the beginning, and the sum of their increments or milliseconds. Added to by each flush and by nothing else.';

CREATE TABLE running_metric_durations (
    series integer NOT NULL,
    octave smallint NOT NULL,
    samples bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (series, octave)
)
WITH (fillfactor = 50);
COMMENT ON TABLE running_metric_durations IS 'Samples of each timer since the beginning, by octave of the duration (schemas/histogram.py).';

INSERT INTO running_metrics (series, samples, total)
SELECT series, sum(samples), sum(total) FROM metric_counts GROUP BY 1;

INSERT INTO running_metric_durations (series, octave, samples)
SELECT series, octave, sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7) FROM metric_durations GROUP BY 1, 2;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        GRANT SELECT ON running_metrics, running_metric_durations TO funnelwatch_reader;
    END IF;
END
$$;
