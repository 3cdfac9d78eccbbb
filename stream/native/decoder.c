/* Sets the decoder up, as native/decoder.py asks. A function that has no memory for it returns NULL, or false. */
#include "decoder.h"

#include <stdlib.h>

/* The digest of the sources, which Python compares with those that it finds beside this library. */
const char fw_sources[] = SOURCES;

struct keys keys;

void fw_seed(const struct keys *chosen) { keys = *chosen; }

/* The digest of each string; string n is the bytes [ends[n - 1], ends[n]). */
void fw_digests(int64_t count, const uint8_t *bytes, const int64_t *ends, uint64_t *digests) {
    uint64_t seen = 0;
    for (int64_t at = 0, start = 0; at < count; start = ends[at++])
        digests[at] = finish(sum_of(bytes + start, (size_t)(ends[at] - start), &seen));
}

static void *copy_of(const void *from, size_t size) {
    void *copy = malloc(size + 1);
    if (copy && size) memcpy(copy, from, size);
    return copy;
}

void fw_decoder_free(struct decoder *decoder) {
    for (int64_t at = 0; at < decoder->plan_count; at++) {
        free(decoder->plans[at].program);
        free(decoder->plans[at].defaults);
    }
    for (int64_t at = 0; at < decoder->context_count; at++) free(decoder->contexts[at].name);
    clear(&decoder->funnels);
    free(decoder->lists);
    free(decoder);
}

/* A decoder for some dimensions: so many fields, then the names of contexts, one after the other as in fw_digests. */
struct decoder *fw_decoder_new(int64_t fields, int64_t contexts, const uint8_t *names, const int64_t *ends,
                               const int64_t *lists, int64_t lists_size, int64_t longest_id) {
    struct decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) return NULL;
    decoder->field_count = fields;
    decoder->longest_id = longest_id;
    decoder->lists = copy_of(lists, (size_t)lists_size * sizeof *lists);
    int is_whole = decoder->lists && reserve(&decoder->funnels, 0);
    for (int64_t at = 0, start = 0; is_whole && at < contexts; start = ends[at++]) {
        struct context *context = decoder->contexts + at;
        context->size = (size_t)(ends[at] - start);
        context->name = copy_of(names + start, context->size);
        is_whole = context->name != NULL;
        decoder->context_count++;
    }
    if (is_whole) return decoder;
    fw_decoder_free(decoder);
    return NULL;
}

/* A declared funnel, by the digest of its name; its list of dimensions begins there in the lists. */
int fw_decoder_funnel(struct decoder *decoder, uint64_t digest, int64_t list) {
    if (!reserve(&decoder->funnels, 1)) return 0;
    struct slot *slot = slot_of(&decoder->funnels, digest);
    if (!slot->digest) fill(&decoder->funnels, slot, digest, list);
    return 1;
}

/* The plan for a header; of the size 0: records with this header are decided about one by one. There must be room. */
int fw_decoder_plan(struct decoder *decoder, const uint8_t *header, int64_t header_size, const int64_t *program,
                    int64_t size, const uint8_t *defaults, int64_t defaults_size) {
    struct plan *plan = decoder->plans + decoder->plan_count;
    *plan = (struct plan){.header_size = header_size};
    memcpy(plan->header, header, (size_t)header_size);
    if (size) {
        plan->program = copy_of(program, (size_t)size * sizeof *program);
        plan->defaults = copy_of(defaults, (size_t)defaults_size);
        if (!plan->program || !plan->defaults) {
            free(plan->program);
            free(plan->defaults);
            return 0;
        }
    }
    decoder->plan_count++;
    return 1;
}

void fw_series_free(struct series *series) {
    clear(&series->by_digest);
    free(series->numbers);
    free(series);
}

struct series *fw_series_new(void) {
    struct series *series = calloc(1, sizeof *series);
    if (!series) return NULL;
    series->room = 1024;
    series->numbers = malloc(series->room * sizeof *series->numbers);
    if (series->numbers && reserve(&series->by_digest, 0)) return series;
    fw_series_free(series);
    return NULL;
}

int64_t fw_series_size(const struct series *series) { return (int64_t)series->by_digest.held; }

/* The numbers of all series so far; they move when more come. Python decides about a series by writing its number. */
int32_t *fw_series_numbers(struct series *series) { return series->numbers; }

int number_of(struct series *series, uint64_t digest, int32_t *number) {
    struct slot *slot = slot_of(&series->by_digest, digest);
    if (!slot->digest) {
        if (!reserve(&series->by_digest, 1)) return 0;
        if (series->by_digest.held == series->room) {
            int32_t *numbers = realloc(series->numbers, series->room * 2 * sizeof *numbers);
            if (!numbers) return 0;
            series->numbers = numbers;
            series->room *= 2;
        }
        int64_t at = (int64_t)series->by_digest.held;
        series->numbers[at] = PROVISIONAL - (int32_t)at;
        slot = slot_of(&series->by_digest, digest);
        fill(&series->by_digest, slot, digest, at);
    }
    *number = series->numbers[slot->number];
    return 1;
}

/* What there is among rows; and the earliest and the latest Kafka timestamp, where there are any. */
void fw_survey(int64_t count, const struct row *rows, struct survey *survey) {
    struct survey found = {0, 0, 0, INT64_MAX, INT64_MIN};
    for (const struct row *row = rows; row < rows + count; row++) {
        found.unplanned += row->outcome == UNPLANNED;
        found.doubtful += row->outcome < 0;
        found.provisional += row->series <= PROVISIONAL;
        if (row->log_time < found.earliest) found.earliest = row->log_time;
        if (row->log_time > found.latest) found.latest = row->log_time;
    }
    *survey = found;
}

/* Decode rows whose records have bytes and that are of one outcome, in place; the other driver is in take.c. */
int fw_decode(struct decoder *decoder, struct series *series, const struct limits *limits, int64_t count,
              struct row *rows, const uint8_t *bytes, int64_t outcome) {
    for (int64_t at = 0; at < count; at++) {
        struct row *row = rows + at;
        if (row->outcome != outcome || row->bytes_at < 0 || row->value_size < 0) continue;
        const uint8_t *value = bytes + row->bytes_at + (row->key_size > 0 ? row->key_size : 0);
        if (!decode(decoder, series, limits, value, row)) return 0;
    }
    return 1;
}
