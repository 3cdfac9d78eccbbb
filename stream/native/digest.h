/* Keyed 64-bit digests of strings.
 *
 * The sum over pairs of words (w0 + k0) * (w1 + k1), in 128 bits, is the hash NH of UMAC (Black, Halevi, Krawczyk, Krovetz
 * and Rogaway, 1999): two different strings collide with a probability of about 2^-63, whoever chose them, since the keys
 * are random for each process. `finish` makes every bit depend on all of the sum, and no two sums the same.
 */
#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WORD_KEYS 256 /* of 2,048 bytes each word has a key of its own */
#define PART_KEYS 130 /* factors of the parts of a joined digest */

struct keys {
    uint64_t word[WORD_KEYS];
    uint64_t part[PART_KEYS];
    uint64_t size, fold;
};
extern struct keys keys;

static inline uint64_t word_at(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

/* The last `size` < 8 bytes of a string as a word; reads no byte beyond them. */
static inline uint64_t rest_at(const uint8_t *at, size_t size) {
    if (size >= 4) {
        uint32_t low, high;
        memcpy(&low, at, 4);
        memcpy(&high, at + size - 4, 4);
        return low | (uint64_t)high << (8 * (size - 4));
    }
    if (size >= 2) {
        uint16_t low;
        memcpy(&low, at, 2);
        return low | (uint64_t)at[size - 1] << (8 * (size - 1));
    }
    return size ? *at : 0;
}

/* The unfinished digest of a string; `seen` collects its bits, so that a string of ASCII shows. */
static inline uint64_t sum_of(const uint8_t *at, size_t size, uint64_t *seen) {
    unsigned __int128 sum = 0;
    size_t left = size, key = 0;
    for (; left >= 16; left -= 16, at += 16, key = (key + 2) % WORD_KEYS) {
        uint64_t first = word_at(at), second = word_at(at + 8);
        *seen |= first | second;
        sum += (unsigned __int128)(first + keys.word[key]) * (second + keys.word[key + 1]);
    }
    if (left) {
        uint64_t first = left >= 8 ? word_at(at) : rest_at(at, left);
        uint64_t second = left > 8 ? rest_at(at + 8, left - 8) : 0;
        *seen |= first | second;
        sum += (unsigned __int128)(first + keys.word[key]) * (second + keys.word[key + 1]);
    }
    return (uint64_t)sum + (uint64_t)(sum >> 64) * keys.fold + size * keys.size;
}

/* The finalizer of MurmurHash3 (Appleby, 2011): a bijection. */
static inline uint64_t finish(uint64_t sum) {
    sum ^= sum >> 33;
    sum *= UINT64_C(0xFF51AFD7ED558CCD);
    sum ^= sum >> 33;
    sum *= UINT64_C(0xC4CEB9FE1A85EC53);
    return sum ^ sum >> 33;
}

#endif
