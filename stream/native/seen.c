/* The event ids of one partition within the duplicate horizon; stream/intake/duplicates.py says what is promised. */
#include <stdlib.h>

#include "event.h"
#include "table.h"

#define NEVER (-(INT64_C(1) << 62))
#define AHEAD 16 /* ids whose slots are fetched from memory while others are looked up */

struct seen {
    struct table young, old; /* digest of an id -> Kafka timestamp of its latest record */
    int64_t young_since, horizon_ms, limit, shortened;
    int is_begun;
};

struct seen *fw_seen_new(int64_t horizon_ms, int64_t limit) {
    struct seen *seen = calloc(1, sizeof *seen);
    if (!seen) return NULL;
    seen->horizon_ms = horizon_ms;
    seen->limit = limit;
    if (reserve(&seen->young, 0) && reserve(&seen->old, 0)) return seen;
    clear(&seen->young);
    free(seen);
    return NULL;
}

void fw_seen_free(struct seen *seen) {
    clear(&seen->young);
    clear(&seen->old);
    free(seen);
}

int64_t fw_seen_shortened(const struct seen *seen) { return seen->shortened; }

int64_t fw_seen_size(const struct seen *seen) { return (int64_t)(seen->young.held + seen->old.held); }

/* End the young generation where it spans a horizon, or is full: it becomes the old one, which is forgotten. */
static int begin(struct seen *seen, int64_t log_time) {
    if (!seen->is_begun) {
        seen->is_begun = 1;
        seen->young_since = log_time;
    }
    int is_full = (int64_t)seen->young.held >= seen->limit;
    if (!is_full && log_time - seen->young_since <= seen->horizon_ms) return 1;
    struct table young = {0};
    if (!reserve(&young, 0)) return 0;
    seen->shortened += is_full;
    clear(&seen->old);
    seen->old = seen->young;
    seen->young = young;
    seen->young_since = log_time;
    return 1;
}

/* Remember an id; whether it is new, -1 where there is no memory. There must be room in the young generation. */
static int is_new(struct seen *seen, uint64_t id, int64_t log_time) {
    if (!begin(seen, log_time)) return -1;
    struct slot *young = slot_of(&seen->young, id);
    int64_t last = young->digest ? young->number : NEVER;
    if (last == NEVER) {
        /* An id that is seen again moves to the young generation, so the old one never has a later time. */
        const struct slot *old = slot_of(&seen->old, id);
        if (old->digest) last = old->number;
    }
    int64_t latest = last > log_time ? last : log_time;
    if (young->digest)
        young->number = latest;
    else
        fill(&seen->young, young, id, latest);
    return log_time - last > seen->horizon_ms;
}

/* Remember the ids of rows one after the other; false for each that is a duplicate. A timestamp ahead of the clock counts
 * as now: it must not end the generation early for all other events. Returns how many are new, -1 without memory. */
int64_t fw_seen_are_new(struct seen *seen, int64_t count, const struct row *rows, int64_t now_ms, uint8_t *are_new) {
    int64_t found = 0;
    for (int64_t first = 0; first < count; first += AHEAD) {
        int64_t until = first + AHEAD < count ? first + AHEAD : count;
        if (!reserve(&seen->young, AHEAD)) return -1;
        for (int64_t at = first; at < until; at++) {
            prefetch(&seen->young, rows[at].id);
            prefetch(&seen->old, rows[at].id);
        }
        for (int64_t at = first; at < until; at++) {
            int new = is_new(seen, rows[at].id, rows[at].log_time < now_ms ? rows[at].log_time : now_ms);
            if (new < 0) return -1;
            are_new[at] = (uint8_t)new;
            found += new;
        }
    }
    return found;
}

/* Forget ids whose events could not be counted. */
void fw_seen_forget(struct seen *seen, int64_t count, const uint64_t *ids) {
    for (int64_t at = 0; at < count; at++) {
        struct slot *young = slot_of(&seen->young, ids[at]), *old = slot_of(&seen->old, ids[at]);
        if (young->digest) young->number = NEVER;
        if (old->digest) old->number = NEVER;
    }
}
