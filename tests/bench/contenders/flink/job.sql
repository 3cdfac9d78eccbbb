-- Source: events of the topic, decoded from both framings by EventFormat.
CREATE TABLE events (
    step STRING, os STRING, browser STRING, app_version STRING, phase STRING, status STRING, ts BIGINT
) WITH (
    'connector' = 'kafka',
    'properties.bootstrap.servers' = '${servers}',
    'properties.group.id' = '${group}',
    'topic' = '${topic}',
    'scan.startup.mode' = 'earliest-offset',
    'properties.max.poll.records' = '5000',
    'format' = 'funnel-event',
    'funnel-event.schema' = '${schema}'
    ${login}
);

-- Sink: upserts by primary key, at least every 100 ms and with each checkpoint.
CREATE TABLE counts (
    window_ms BIGINT, step STRING, os STRING, browser STRING, app_version STRING, phase STRING, status STRING, n BIGINT,
    PRIMARY KEY (window_ms, step, os, browser, app_version, phase, status) NOT ENFORCED
) WITH (
    'connector' = 'jdbc',
    'url' = '${url}?reWriteBatchedInserts=true',
    'username' = '${user}',
    'password' = '${password}',
    'table-name' = 'counts',
    'sink.buffer-flush.max-rows' = '5000',
    'sink.buffer-flush.interval' = '100 ms'
);

-- Counts a minute; each mini-batch sends the counts that it changed.
INSERT INTO counts
SELECT ts - MOD(ts, 60000), step, os, browser, app_version, phase, COALESCE(status, ''), COUNT(*)
FROM events
GROUP BY ts - MOD(ts, 60000), step, os, browser, app_version, phase, COALESCE(status, '');
