/* What the loop shares: a row for each record, the limits that it is held against, and the decoder of one record. */
#ifndef EVENT_H
#define EVENT_H

#include <stddef.h>
#include <stdint.h>

#define NONE INT64_MIN /* null; no varint that is read here is as small */

enum { IMPRESSION, SUCCESS, FAILURE }; /* outcomes */
/* In the place of an outcome: the record is decided by itself; likewise, and its header has no plan yet. */
enum { DOUBTFUL = -1, UNPLANNED = -2 };
/* In the place of a series; PROVISIONAL - n is the n-th of the series that Python has not decided about yet. */
enum { UNCOUNTABLE = -1, PROVISIONAL = -2 };

/* One record: a line of the processor's cache. Only of a record that is not plainly an event of a known series the bytes
 * are kept: `bytes_at` is where they begin in the bytes of its batch, first the key, then the value; else -1. */
struct row {
    int64_t offset, log_time; /* Kafka's offset and timestamp, ms */
    uint64_t id, session;     /* digests */
    int64_t ts, duration;     /* ms; duration may be NONE */
    int32_t series, outcome;
    int64_t bytes_at;
    int32_t key_size, value_size; /* -1: null */
};

/* How many rows there are of some kinds, so that Python looks for none in vain; ms. */
struct survey {
    int64_t unplanned, doubtful, provisional, earliest, latest;
};

/* schemas/validation.py: what an event's times and its record's size must be within. */
struct limits {
    int64_t oldest_ms, newest_ms, dropped_ms, longest_ms, most_bytes;
};

struct decoder;
struct series;

/* Decode a value into a row, whose outcome says what became of it. False where there is no memory. */
int decode(struct decoder *decoder, struct series *series, const struct limits *limits, const uint8_t *value,
           struct row *row);

#endif
