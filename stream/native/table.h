/* 64-bit digests, each with a number: open addressing with linear probing.
 *
 * The high bits of a digest are its place, so that growing reads and writes both tables from their beginning to their end.
 * The digest 0 stands for an empty slot; it is kept as a 1.
 */
#ifndef TABLE_H
#define TABLE_H

#include <stddef.h>
#include <stdint.h>

struct slot {
    uint64_t digest;
    int64_t number;
};

struct table {
    struct slot *slots;
    size_t capacity, held;
};

static inline size_t place_of(const struct table *table, uint64_t digest) {
    return (size_t)((unsigned __int128)digest * table->capacity >> 64);
}

/* The slot of a digest, or the empty one where it belongs. There must be an empty slot: reserve first. */
static inline struct slot *slot_of(const struct table *table, uint64_t digest) {
    digest += digest == 0;
    struct slot *slot = table->slots + place_of(table, digest), *end = table->slots + table->capacity;
    while (slot->digest != digest && slot->digest != 0)
        if (++slot == end) slot = table->slots;
    return slot;
}

static inline void prefetch(const struct table *table, uint64_t digest) {
    __builtin_prefetch(table->slots + place_of(table, digest));
}

/* Put a digest into the empty slot where it belongs. */
static inline void fill(struct table *table, struct slot *slot, uint64_t digest, int64_t number) {
    slot->digest = digest + (digest == 0);
    slot->number = number;
    table->held++;
}

/* Make room for more digests; false where there is no memory, and then nothing has changed. */
int reserve(struct table *table, size_t more);
void clear(struct table *table);

#endif
