/* Events and credits added up to rows of one series and window each, durations of successes to cells of one slot each. */
#include <stdlib.h>

#include "digest.h"
#include "event.h"
#include "sessions.h"
#include "table.h"

#define WIDTH 9   /* impressions, successes, failures, successes and failures by cohort, and what sessions add */
#define COHORT 2  /* how far a cohort's column is from the outcome's own */
#define SLOTS 120 /* of a histogram: schemas/histogram.py */

/* Python reads the arrays where they are, then frees them. Keys are in the order in which they came. */
struct counts {
    int64_t rows, cells;
    int64_t *row_keys;  /* (window - first window) * spread + series */
    int64_t *numbers;   /* WIDTH for each row */
    int64_t *cell_keys; /* row * SLOTS + slot */
    int64_t *times;     /* successes of each cell */
    int64_t first, spread; /* the first window, and more than the largest number of a series */
    struct table by_row, by_cell;
};

void fw_counts_free(struct counts *counts) {
    if (!counts) return;
    free(counts->row_keys);
    free(counts->numbers);
    free(counts->cell_keys);
    free(counts->times);
    clear(&counts->by_row);
    clear(&counts->by_cell);
    free(counts);
}

static int64_t window_of(int64_t ts, int64_t window_ms) {
    int64_t window = ts / window_ms;
    return window - (window * window_ms > ts);
}

/* Make room for `count` more of a group, whose arrays are as large as its table. */
static int grow(struct table *table, int64_t **keys_of, int64_t **values, size_t width) {
    size_t before = table->capacity;
    if (!reserve(table, 1)) return 0;
    if (table->capacity == before) return 1;
    int64_t *own = realloc(*keys_of, table->capacity * sizeof **keys_of);
    if (own) *keys_of = own;
    int64_t *all = realloc(*values, table->capacity * width * sizeof **values);
    if (all) *values = all;
    return own && all;
}

/* The place of a key in its group, which is new there perhaps; -1 where there is no memory. */
static int64_t place(struct table *table, int64_t key, int64_t **keys_of, int64_t **values, size_t width) {
    /* `finish` is a bijection: different keys have different digests. */
    uint64_t digest = finish((uint64_t)key + 1);
    struct slot *slot = slot_of(table, digest);
    if (slot->digest) return slot->number;
    if (!grow(table, keys_of, values, width)) return -1;
    slot = slot_of(table, digest);
    int64_t at = (int64_t)table->held;
    fill(table, slot, digest, at);
    (*keys_of)[at] = key;
    memset(*values + (size_t)at * width, 0, width * sizeof **values);
    return at;
}

static int64_t slot_of_duration(int64_t duration) {
    if (duration > INT32_MAX) duration = INT32_MAX;
    if (duration < 8) return duration;
    int shift = 61 - __builtin_clzll((uint64_t)duration);
    return (shift << 2) + (duration >> shift);
}

struct counts *fw_counts_of(int64_t count, const struct row *events, int64_t credit_count, const struct credit *credits,
                            int64_t window_ms) {
    struct counts *counts = calloc(1, sizeof *counts);
    if (!counts || !grow(&counts->by_row, &counts->row_keys, &counts->numbers, WIDTH) ||
        !grow(&counts->by_cell, &counts->cell_keys, &counts->times, 1)) {
        fw_counts_free(counts);
        return NULL;
    }
    int64_t earliest = INT64_MAX, spread = 0;
    for (const struct row *event = events; event < events + count; event++) {
        int64_t moment = event->ts - (event->duration > 0 ? event->duration : 0);
        if (moment < earliest) earliest = moment;
        if (event->series >= spread) spread = event->series + 1;
    }
    for (const struct credit *credit = credits; credit < credits + credit_count; credit++) {
        if (credit->moment < earliest) earliest = credit->moment;
        if (credit->series >= spread) spread = credit->series + 1;
    }
    int64_t first = counts->first = window_of(earliest, window_ms);
    counts->spread = spread;
    int64_t begin = 0, end = 0, window = 0; /* of the last window: events of one window come together */
    for (const struct row *event = events; event < events + count; event++) {
        int64_t outcome = event->outcome, duration = event->duration;
        int64_t moments[2] = {event->ts, event->ts - (duration == NONE ? 0 : duration)}, rows[2];
        int both = outcome != IMPRESSION;
        for (int one = 0; one <= both; one++) {
            if (moments[one] < begin || moments[one] >= end) {
                window = window_of(moments[one], window_ms);
                begin = window * window_ms;
                end = begin + window_ms;
            }
            rows[one] = place(&counts->by_row, (window - first) * spread + event->series, &counts->row_keys,
                              &counts->numbers, WIDTH);
            if (rows[one] < 0) {
                fw_counts_free(counts);
                return NULL;
            }
            counts->numbers[rows[one] * WIDTH + outcome + one * COHORT]++;
        }
        if (outcome == SUCCESS && duration != NONE) {
            int64_t cell = place(&counts->by_cell, rows[0] * SLOTS + slot_of_duration(duration), &counts->cell_keys,
                                 &counts->times, 1);
            if (cell < 0) {
                fw_counts_free(counts);
                return NULL;
            }
            counts->times[cell]++;
        }
    }
    for (const struct credit *credit = credits; credit < credits + credit_count; credit++) {
        if (credit->moment < begin || credit->moment >= end) {
            window = window_of(credit->moment, window_ms);
            begin = window * window_ms;
            end = begin + window_ms;
        }
        int64_t row = place(&counts->by_row, (window - first) * spread + credit->series, &counts->row_keys,
                            &counts->numbers, WIDTH);
        if (row < 0) {
            fw_counts_free(counts);
            return NULL;
        }
        counts->numbers[row * WIDTH + credit->column]++;
    }
    counts->rows = (int64_t)counts->by_row.held;
    counts->cells = (int64_t)counts->by_cell.held;
    return counts;
}
