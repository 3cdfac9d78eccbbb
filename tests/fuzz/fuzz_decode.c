/* Fuzzes the decoder: any bytes, below any of some plans, must be decoded or left without a byte read or written elsewhere.
 *
 * `LLVMFuzzerTestOneInput` is libFuzzer's entry. Without libFuzzer the `main` below changes the values of a corpus at random:
 * fuzz_decode PLANS CORPUS SECONDS SEED. Both files are of 4-byte lengths, each followed by so many bytes; PLANS has, for each
 * plan, a header, a program and the defaults, CORPUS whole values. tests/fuzz/__main__.py writes them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "decoder.h"

struct decoder *fw_decoder_new(int64_t, int64_t, const uint8_t *, const int64_t *, const int64_t *, int64_t, int64_t);
int fw_decoder_plan(struct decoder *, const uint8_t *, int64_t, const int64_t *, int64_t, const uint8_t *, int64_t);
int fw_decode(struct decoder *, struct series *, const struct limits *, int64_t, struct row *, const uint8_t *, int64_t);
struct series *fw_series_new(void);
void fw_series_free(struct series *);
void fw_decoder_free(struct decoder *);
void fw_seed(const struct keys *);

#define MOST 4096

static struct decoder *decoder;
static struct series *series;
static uint8_t *parts[MOST];
static uint32_t sizes[MOST];
static uint64_t plain, decoded;

static int read_parts(const char *path) {
    FILE *file = fopen(path, "rb");
    int count = 0;
    if (!file) return 0;
    while (count < MOST && fread(&sizes[count], 4, 1, file) == 1) {
        parts[count] = malloc(sizes[count] + 1);
        if (fread(parts[count], 1, sizes[count], file) != sizes[count]) abort();
        count++;
    }
    fclose(file);
    return count;
}

static void prepare(const char *plans) {
    static struct keys chosen;
    memset(&chosen, 0x5b, sizeof chosen);
    fw_seed(&chosen);
    const char *names = "countryplan";
    int64_t ends[] = {7, 11}, lists[] = {5, 0, 1, 2, 3, 4};
    decoder = fw_decoder_new(3, 2, (const uint8_t *)names, ends, lists, 6, 500);
    series = fw_series_new();
    int count = read_parts(plans);
    if (count == 0 || count % 3) abort();
    for (int at = 0; at < count; at += 3) {
        if (!fw_decoder_plan(decoder, parts[at], sizes[at], (int64_t *)(void *)parts[at + 1], sizes[at + 1] / 8, parts[at + 2],
                             sizes[at + 2]))
            abort();
    }
    for (int at = 0; at < count; at++) free(parts[at]);
}

int LLVMFuzzerTestOneInput(const uint8_t *value, size_t size) {
    if (!decoder) prepare(getenv("FUZZ_PLANS"));
    struct limits limits = {-(INT64_C(1) << 60), INT64_C(1) << 60, -(INT64_C(1) << 60), INT64_C(1) << 60, 1 << 20};
    /* A copy of exactly this size, so that a byte beyond it is noticed. */
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, value, size);
    struct row row = {.bytes_at = 0, .key_size = -1, .value_size = (int32_t)size, .outcome = UNPLANNED};
    if (!fw_decode(decoder, series, &limits, 1, &row, copy, UNPLANNED)) abort();
    if (row.outcome > FAILURE || row.outcome < UNPLANNED || (row.outcome >= 0 && row.series >= 0)) abort();
    plain += row.outcome >= 0;
    decoded++;
    free(copy);
    return 0;
}

#ifndef LIBFUZZER
static uint64_t state;

static uint64_t chance(uint64_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % below;
}

/* Change a value: bits, bytes, lengths, ends; parts of itself or of another value. */
static size_t change(uint8_t *value, size_t size, size_t room, int corpus) {
    static const uint8_t telling[] = {0x00, 0x01, 0x02, 0x7e, 0x7f, 0x80, 0x81, 0xc0, 0xed, 0xf4, 0xfe, 0xff};
    for (uint64_t times = 1 + chance(4); times && size; times--) {
        size_t at = chance(size);
        switch (chance(7)) {
        case 0: value[at] ^= (uint8_t)(1 << chance(8)); break;
        case 1: value[at] = telling[chance(sizeof telling)]; break;
        case 2: value[at] = (uint8_t)chance(256); break;
        case 3: size = at; break;
        case 4: {
            size_t more = 1 + chance(9);
            if (size + more > room) break;
            memmove(value + at + more, value + at, size - at);
            memset(value + at, telling[chance(sizeof telling)], more);
            size += more;
            break;
        }
        case 5: {
            size_t less = 1 + chance(9) % (size - at);
            memmove(value + at, value + at + less, size - at - less);
            size -= less;
            break;
        }
        default: {
            int other = (int)chance((uint64_t)corpus);
            if (!sizes[other]) break;
            size_t from = chance(sizes[other]), much = 1 + chance(sizes[other] - from);
            if (at + much > room) break;
            memcpy(value + at, parts[other] + from, much);
            if (at + much > size) size = at + much;
        }
        }
    }
    return size;
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    prepare(arguments[1]);
    int corpus = read_parts(arguments[2]);
    state = strtoull(arguments[4], NULL, 10) | 1;
    static uint8_t value[1 << 16];
    time_t end = time(NULL) + atoi(arguments[3]);
    do {
        for (int round = 0; round < 10000; round++) {
            int one = (int)chance((uint64_t)corpus);
            size_t size = sizes[one] < sizeof value ? sizes[one] : sizeof value;
            memcpy(value, parts[one], size);
            LLVMFuzzerTestOneInput(value, change(value, size, sizeof value, corpus));
        }
        if (series->by_digest.held > 100000) {
            fw_series_free(series);
            series = fw_series_new();
        }
    } while (time(NULL) < end);
    printf("%llu values, %llu of them plain events\n", (unsigned long long)decoded, (unsigned long long)plain);
    for (int at = 0; at < corpus; at++) free(parts[at]);
    fw_decoder_free(decoder);
    fw_series_free(series);
    return 0;
}
#endif
