#include "table.h"

#include <stdlib.h>

#define SMALLEST 1024
#define LARGE ((size_t)1 << 20) /* from here on a table grows by half, not to twice its size */

int reserve(struct table *table, size_t more) {
    size_t wanted = (table->held + more) / 2 * 3 + 3, capacity = table->capacity ? table->capacity : SMALLEST;
    if (table->slots && wanted <= capacity) return 1;
    while (wanted > capacity) capacity += capacity < LARGE ? capacity : capacity / 2;
    struct table grown = {calloc(capacity, sizeof(struct slot)), capacity, 0};
    if (!grown.slots) return 0;
    for (size_t at = 0; at < table->capacity; at++) {
        struct slot *old = table->slots + at;
        if (old->digest) fill(&grown, slot_of(&grown, old->digest), old->digest, old->number);
    }
    free(table->slots);
    *table = grown;
    return 1;
}

void clear(struct table *table) {
    free(table->slots);
    *table = (struct table){0};
}
