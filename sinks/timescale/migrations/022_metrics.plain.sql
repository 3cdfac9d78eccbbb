-- Ranges of time over all series are found by small indexes of block ranges.
CREATE INDEX metric_counts_time ON metric_counts USING brin (window_start);
CREATE INDEX metric_durations_time ON metric_durations USING brin (window_start);
