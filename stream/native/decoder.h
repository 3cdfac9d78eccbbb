/* What the decoder knows: the plans of the writers, the dimensions of the funnels, the series so far. decoder.c sets it up. */
#ifndef DECODER_H
#define DECODER_H

#include "digest.h"
#include "event.h"
#include "table.h"

#define MOST_PLANS 32
#define MOST_DIMENSIONS 124

enum { TEXT_ID, TEXT_SESSION, TEXT_FUNNEL, TEXT_STEP, TEXT_DIMENSION, TEXTS = TEXT_DIMENSION + MOST_DIMENSIONS + 1 };
enum { NUMBER_TS, NUMBER_DURATION, NUMBER_PHASE, NUMBER_STATUS, NUMBERS = NUMBER_STATUS + 2 };

struct plan {
    int64_t header_size; /* 5 or 10 */
    uint8_t header[10];
    int64_t *program; /* of plans.py; NULL: no record with this header is plainly an event */
    uint8_t *defaults;
};

struct context {
    uint8_t *name; /* of a key of contexts that is a dimension */
    size_t size;
};

struct decoder {
    struct plan plans[MOST_PLANS], *last;
    int64_t plan_count;
    struct context contexts[MOST_DIMENSIONS];
    int64_t field_count, context_count; /* dimensions that are fields come first, then those that are contexts */
    struct table funnels;               /* digest of a declared funnel -> where its list begins in `lists` */
    int64_t *lists;                     /* how many dimensions, then which; the first list is for all other funnels */
    int64_t longest_id;
};

/* Series by digest, each provisional until Python has decided about it. */
struct series {
    struct table by_digest; /* -> its place in `numbers` */
    int32_t *numbers;
    size_t room;
};

/* The number of a series, which is provisional if it is new. False where there is no memory. */
int number_of(struct series *series, uint64_t digest, int32_t *number);

#endif
