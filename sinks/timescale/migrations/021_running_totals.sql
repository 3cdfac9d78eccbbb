-- Totals since the beginning, for Prometheus: they only grow.

CREATE TABLE running_totals (
    funnel text NOT NULL,
    step text NOT NULL,
    os text NOT NULL,
    browser text NOT NULL,
    place bigint GENERATED ALWAYS AS IDENTITY,
    impressions bigint NOT NULL DEFAULT 0,
    successes bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (funnel, step, os, browser)
)
-- Each flush writes them anew: room for new versions of rows on their own page.
WITH (fillfactor = 50);
COMMENT ON TABLE running_totals IS 'Events counted since the beginning, by series without app version. Added to by each flush and by nothing else: retention, repairs and rebuilds leave it alone, so that no count ever falls. place orders series by their first event.';

CREATE TABLE running_durations (
    funnel text NOT NULL,
    step text NOT NULL,
    os text NOT NULL,
    octave smallint NOT NULL,
    successes bigint NOT NULL DEFAULT 0,
    total_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (funnel, step, os, octave)
)
WITH (fillfactor = 50);
COMMENT ON TABLE running_durations IS 'Successes with a known duration since the beginning, by octave of the duration (schemas/histogram.py). total_ms adds up the middles of their buckets. Added to as running_totals.';

INSERT INTO running_totals (funnel, step, os, browser, impressions, successes, failures)
SELECT funnel, step, os, browser, sum(impressions), sum(successes), sum(failures)
FROM counts_1d
GROUP BY 1, 2, 3, 4
ORDER BY min(window_start), 1, 2, 3, 4;

INSERT INTO running_durations (funnel, step, os, octave, successes, total_ms)
SELECT
    funnel, step, os, octave,
    sum(n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7),
    sum(
        CASE WHEN octave = 0 THEN n1 + 2 * n2 + 3 * n3 + 4 * n4 + 5 * n5 + 6 * n6 + 7 * n7
        ELSE (
            (17 * n0 + 19 * n1 + 21 * n2 + 23 * n3 + 25 * n4 + 27 * n5 + 29 * n6 + 31 * n7)
            * power(2::numeric, octave - 1) - (n0 + n1 + n2 + n3 + n4 + n5 + n6 + n7)
        ) / 2
        END
    )::bigint
FROM durations_1d
GROUP BY 1, 2, 3, 4;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') THEN
        GRANT SELECT ON running_totals, running_durations, notify_routes, notifications TO funnelwatch_reader;
    END IF;
END
$$;
