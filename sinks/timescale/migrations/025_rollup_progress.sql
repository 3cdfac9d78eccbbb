-- Up to where rollups are materialized, and what has changed since. Empty with TimescaleDB, which sees to this itself.

CREATE TABLE rollup_progress (
    level text PRIMARY KEY CHECK (level IN ('5m', '1h', '1d')),
    width interval NOT NULL,
    materializing_through timestamptz NOT NULL DEFAULT '-infinity',
    materialized_through timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE rollup_progress IS 'Buckets of a level that begin before materialized_through stand in its tables. Who changes one that begins before materializing_through says so in rollup_invalidations.';

CREATE TABLE rollup_invalidations (
    level text NOT NULL,
    window_start timestamptz NOT NULL
);
COMMENT ON TABLE rollup_invalidations IS 'Buckets that have changed since they were materialized, noted in the transaction that changes them, and taken away by the one that materializes them again. A row a change: none waits for another.';
