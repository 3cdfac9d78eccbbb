/* One record from bytes to a row.
 *
 * An event as a producer without a schema registry writes it, 54 bytes:
 *
 *     c3 01                      single-object encoding,
 *     xx xx xx xx xx xx xx xx    fingerprint of the writer's schema: the first ten bytes choose the plan
 *     04 65 31                   event_id "e1": the length, 2, as a zigzag varint (2 -> 4), then UTF-8
 *     0e 73 69 67 6e 5f 75 70    funnel "sign_up"
 *     04 73 31                   sign_up_session_id "s1"
 *     02 41                      step "A"
 *     06 69 4f 53                os "iOS"
 *     00                         browser ""
 *     02 31                      app_version "1"
 *     02                         phase: symbol 1 (zigzag 2), POST_VERIFICATION
 *     02 00                      status: branch 1 of [null, Status], then symbol 0, SUCCESS
 *     80 a0 ab fe f9 62          ts 1700000000000: varint, seven bits a byte, the lowest first
 *     02 d0 0f                   duration_ms: branch 1 of [null, long], then 1000 (zigzag 2000)
 *     02 08 70 6c 61 6e 02 78 00 contexts {"plan": "x"}: a block of 1 entry, "plan", "x"; a block of 0 entries ends it
 *
 * With a registry the header is `00` and four bytes of a schema id. A plan is a program, made by plans.py of the writer's
 * schema and ours: an operation for each field in the writer's order, then the defaults of fields that are not written.
 */
#include "wire.h"

#include "decoder.h"

/* Operations, each with its operands; plans.py has the same numbers. A field that is not
 * wanted has a target all the same: the last text, the last number. */
enum {
    OP_END,     /* */
    OP_TEXT,    /* target */
    OP_LONG,    /* target */
    OP_ENUM,    /* target, number of symbols, our index of each of the writer's symbols, -1 for one that is new */
    OP_OPTION,  /* target: of the operation that follows, which a branch of 0 leaves out */
    OP_MAP,     /* 1: its values are dimensions; 0: passed over */
    OP_DEFAULT, /* target, where the text begins in the defaults, its size */
    OP_NUMBER,  /* target, number */
};

struct event {
    struct text texts[TEXTS];
    int64_t numbers[NUMBERS];
};

int is_utf8(const uint8_t *at, size_t size) {
    const uint8_t *end = at + size;
    while (at < end) {
        uint8_t first = *at++;
        if (first < 0x80) continue;
        int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || end - at < more) return 0;
        /* Overlong forms, surrogates, and what is beyond U+10FFFF show in the second byte. */
        uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (*at < low || *at > high) return 0;
        for (at++; --more; at++)
            if ((*at & 0xc0) != 0x80) return 0;
    }
    return 1;
}

/* A map of strings, in blocks: how many entries, or their negative number and their bytes; a block of 0 ends it. Where a
 * key stands twice the last value counts, as fastavro has it. */
static int read_map(const struct decoder *decoder, const uint8_t **at, const uint8_t *end, int wanted,
                    struct event *event) {
    int64_t left, size, total = 0;
    for (;;) {
        if (!read_long(at, end, &left)) return 0;
        if (left == 0) return 1;
        if (left < 0) {
            left = -left;
            if (!read_long(at, end, &size)) return 0;
        }
        if (left > LONGEST_MAP || (total += left) > LONGEST_MAP) return 0;
        for (; left; left--) {
            struct text name, value;
            if (!read_text(at, end, &name) || !read_text(at, end, &value)) return 0;
            for (int64_t one = 0; wanted && one < decoder->context_count; one++) {
                const struct context *key = decoder->contexts + one;
                if (key->size == name.size && !memcmp(key->name, name.at, name.size))
                    event->texts[TEXT_DIMENSION + decoder->field_count + one] = value;
            }
        }
    }
}

/* Run a plan's program over a record's body; false where it is not plainly a record of that writer. */
static int run(const struct decoder *decoder, const struct plan *plan, const uint8_t *at, const uint8_t *end,
               struct event *event) {
    int64_t branch, symbol;
    for (const int64_t *op = plan->program;;) {
        switch (op[0]) {
        case OP_TEXT:
            if (!read_text(&at, end, event->texts + op[1])) return 0;
            op += 2;
            break;
        case OP_LONG:
            if (!read_long(&at, end, event->numbers + op[1])) return 0;
            op += 2;
            break;
        case OP_ENUM:
            if (!read_small(&at, end, &symbol) || symbol >= op[2] || op[3 + symbol] < 0) return 0;
            event->numbers[op[1]] = op[3 + symbol];
            op += 3 + op[2];
            break;
        case OP_OPTION:
            if (!read_small(&at, end, &branch) || branch > 1) return 0;
            if (branch == 0) event->numbers[op[1]] = NONE;
            op += 2;
            if (branch == 0) op += op[0] == OP_ENUM ? 3 + op[2] : 2;
            break;
        case OP_MAP:
            if (!read_map(decoder, &at, end, op[1] != 0, event)) return 0;
            op += 2;
            break;
        case OP_DEFAULT: {
            uint64_t seen = 0;
            const uint8_t *text = plan->defaults + op[2];
            event->texts[op[1]] = (struct text){text, (size_t)op[3], sum_of(text, (size_t)op[3], &seen)};
            op += 4;
            break;
        }
        case OP_NUMBER:
            event->numbers[op[1]] = op[2];
            op += 3;
            break;
        default:
            return at == end;
        }
    }
}

/* The plan of a value's header, NULL for one that is none; `outcome` says which kind of none. */
static struct plan *plan_of(struct decoder *decoder, const uint8_t *value, int64_t size, int32_t *outcome) {
    struct plan *last = decoder->last;
    if (last && size >= last->header_size && !memcmp(value, last->header, (size_t)last->header_size)) return last;
    int64_t header = size >= 10 && value[0] == 0xc3 && value[1] == 0x01 ? 10 : size >= 5 && value[0] == 0 ? 5 : 0;
    for (int64_t at = 0; header && at < decoder->plan_count; at++) {
        struct plan *plan = decoder->plans + at;
        if (plan->header_size == header && !memcmp(value, plan->header, (size_t)header)) return decoder->last = plan;
    }
    *outcome = header && decoder->plan_count < MOST_PLANS ? UNPLANNED : DOUBTFUL;
    return NULL;
}

/* The digest of the names that an event is counted by: of its funnel's dimensions, and of no other. */
static uint64_t series_digest(const struct decoder *decoder, const struct event *event) {
    uint64_t funnel = event->texts[TEXT_FUNNEL].sum;
    uint64_t sum = funnel * keys.part[0] + event->texts[TEXT_STEP].sum * keys.part[1];
    const struct slot *declared = slot_of(&decoder->funnels, finish(funnel));
    const int64_t *list = decoder->lists + (declared->digest ? declared->number : 0);
    for (int64_t at = 1; at <= list[0]; at++) sum += event->texts[TEXT_DIMENSION + list[at]].sum * keys.part[2 + list[at]];
    return finish(sum);
}

int decode(struct decoder *decoder, struct series *series, const struct limits *limits, const uint8_t *value,
           struct row *row) {
    int64_t size = row->value_size;
    row->series = UNCOUNTABLE;
    row->outcome = DOUBTFUL;
    if (!value || size > limits->most_bytes) return 1;
    const struct plan *plan = plan_of(decoder, value, size, &row->outcome);
    if (!plan || !plan->program) return 1;
    struct event event;
    event.texts[TEXT_ID] = event.texts[TEXT_SESSION] = (struct text){0};
    memset(event.texts + TEXT_DIMENSION, 0, (size_t)(decoder->field_count + decoder->context_count) * sizeof(struct text));
    if (!run(decoder, plan, value + plan->header_size, value + size, &event)) return 1;
    const struct text *id = event.texts + TEXT_ID, *session = event.texts + TEXT_SESSION;
    int64_t ts = event.numbers[NUMBER_TS], duration = event.numbers[NUMBER_DURATION];
    int64_t status = event.numbers[NUMBER_STATUS];
    /* The checks of schemas/validation.py; what does not pass here is checked there, with a reason in the end. */
    if (id->size == 0 || (int64_t)id->size > decoder->longest_id) return 1;
    if (session->size == 0 || (int64_t)session->size > decoder->longest_id) return 1;
    if (ts < limits->oldest_ms || ts > limits->newest_ms) return 1;
    if (duration != NONE && (duration < 0 || duration > limits->longest_ms || ts - duration < limits->dropped_ms)) return 1;
    if (event.numbers[NUMBER_PHASE] != 0 && status == NONE) return 1;
    row->id = finish(id->sum);
    row->session = finish(session->sum);
    row->ts = ts;
    row->duration = duration;
    if (!number_of(series, series_digest(decoder, &event), &row->series)) return 0;
    if (row->series != UNCOUNTABLE) row->outcome = event.numbers[NUMBER_PHASE] == 0 ? IMPRESSION : (int32_t)status + 1;
    return 1;
}
