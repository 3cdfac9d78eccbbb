-- Without the extension: ranges of time over all funnels are found by a small index of block ranges.
CREATE INDEX window_counts_time ON window_counts USING brin (window_start);
