/* Reads Avro's binary encoding (avro.apache.org/docs/1.12.0/specification), and only what is plain: where a reader returns
 * false, fastavro decides about the whole record. No reader looks at a byte at `end` or behind it.
 */
#ifndef WIRE_H
#define WIRE_H

#include "digest.h"

#define LONGEST_TEXT 2048 /* bytes of a string */
#define LONGEST_MAP 64    /* entries of a map */

struct text {
    const uint8_t *at;
    size_t size;
    uint64_t sum; /* unfinished digest */
};

/* A long: zigzag varint of up to eight bytes, the lowest seven bits first. */
static inline int read_long(const uint8_t **at, const uint8_t *end, int64_t *number) {
    uint64_t bits = 0;
    for (int shift = 0; shift < 56 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        bits |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *number = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
            return 1;
        }
    }
    return 0;
}

/* The index of an enum's symbol or of a union's branch, 0 to 63: one byte. */
static inline int read_small(const uint8_t **at, const uint8_t *end, int64_t *number) {
    if (*at >= end || (**at & 0x81)) return 0;
    *number = *(*at)++ >> 1;
    return 1;
}

int is_utf8(const uint8_t *at, size_t size);

/* A string: its length, then UTF-8. */
static inline int read_text(const uint8_t **at, const uint8_t *end, struct text *text) {
    int64_t size;
    if (!read_long(at, end, &size) || size < 0 || size > LONGEST_TEXT || size > end - *at) return 0;
    uint64_t seen = 0;
    *text = (struct text){*at, (size_t)size, sum_of(*at, (size_t)size, &seen)};
    *at += size;
    return !(seen & UINT64_C(0x8080808080808080)) || is_utf8(text->at, text->size);
}

#endif
