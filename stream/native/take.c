/* Takes messages from librdkafka's queue and decodes them, without a Python object for any of them.
 *
 * Nothing is linked: Python hands over the addresses of the functions of the librdkafka that confluent-kafka brings.
 */
#include <stdlib.h>
#include <string.h>

#include "decoder.h"

#define AT_ONCE 4096 /* messages of one call: enough to make the call cheap, few enough for the processor's cache */
#define AHEAD 4      /* messages whose bytes are fetched from memory while another is decoded */
#define ROOM 256     /* for rows, at first */

/* rd_kafka_message_t of rdkafka.h, the same in all of librdkafka 1 and 2 */
struct message {
    int32_t error;
    void *topic;
    int32_t partition;
    uint8_t *value;
    size_t value_size;
    uint8_t *key;
    size_t key_size;
    int64_t offset;
    void *private;
};

struct kafka {
    int64_t (*consume_batch)(void *queue, int timeout_ms, struct message **messages, size_t count);
    int64_t (*timestamp)(const struct message *message, int *kind);
    void (*destroy)(struct message *message);
    int (*add_on_new)(void *conf, const char *name, void *on_new, void *opaque);
};

/* A partition's records of this poll. */
struct partition {
    int32_t number;
    int64_t position; /* records before it are left out */
    int64_t count, size;
    struct row *rows;
    uint8_t *content; /* keys and values of records that are not plainly events of known series */
    int64_t row_room, content_room, wanted_room;
};

/* An error of a partition, or its end. */
struct error {
    int32_t partition, code;
    int64_t offset;
};

struct poll {
    int64_t records, bytes, error_count; /* of this poll; Python reads these */
    struct error *errors;
    struct partition *partitions;
    int64_t partition_count, partition_room;
    struct message *messages[AT_ONCE];
};

static struct kafka kafka;

/* ---- The handle of a client: librdkafka gives it to a plugin, which this library is as well ---- */

static __thread void *newest;

static int on_new(void *client, const void *conf, void *opaque, char *error, size_t size) {
    (void)conf, (void)opaque, (void)error, (void)size;
    newest = client;
    return 0;
}

/* librdkafka calls this for `plugin.library.paths`. */
int conf_init(void *conf, void **opaque, char *error, size_t size) {
    (void)opaque, (void)error, (void)size;
    return kafka.add_on_new ? kafka.add_on_new(conf, "funnelwatch", (void *)on_new, NULL) : -1;
}

void fw_kafka(const struct kafka *functions) { kafka = *functions; }

/* The client that this thread has made last; NULL unless that was since the last call. */
void *fw_newest_client(void) {
    void *client = newest;
    newest = NULL;
    return client;
}

/* ---- The records of a poll ---- */

struct poll *fw_poll_new(void) {
    struct poll *poll = calloc(1, sizeof *poll);
    if (poll && !(poll->errors = malloc(AT_ONCE * sizeof *poll->errors))) {
        free(poll);
        return NULL;
    }
    return poll;
}

static void free_partition(struct partition *partition) {
    free(partition->rows);
    free(partition->content);
}

void fw_poll_free(struct poll *poll) {
    for (int64_t at = 0; at < poll->partition_count; at++) free_partition(poll->partitions + at);
    free(poll->partitions);
    free(poll->errors);
    free(poll);
}

/* A partition, NULL where its records are not wanted. */
struct partition *fw_poll_partition(struct poll *poll, int32_t number) {
    for (struct partition *one = poll->partitions; one < poll->partitions + poll->partition_count; one++)
        if (one->number == number) return one;
    return NULL;
}

/* Take no more records of a partition, and drop those that it has. */
void fw_poll_drop(struct poll *poll, int32_t number) {
    struct partition *partition = fw_poll_partition(poll, number);
    if (!partition) return;
    free_partition(partition);
    *partition = poll->partitions[--poll->partition_count];
}

/* Take records of a partition from a position on. */
int fw_poll_assign(struct poll *poll, int32_t number, int64_t position) {
    fw_poll_drop(poll, number);
    if (poll->partition_count == poll->partition_room) {
        int64_t room = poll->partition_room * 2 + 8;
        struct partition *partitions = realloc(poll->partitions, (size_t)room * sizeof *partitions);
        if (!partitions) return 0;
        poll->partitions = partitions;
        poll->partition_room = room;
    }
    poll->partitions[poll->partition_count++] = (struct partition){.number = number, .position = position, .wanted_room = ROOM};
    return 1;
}

/* Python has the records of a partition, and frees them when it has done with them: begin the next poll. */
void fw_poll_clear(struct partition *partition) {
    partition->rows = NULL;
    partition->content = NULL;
    partition->wanted_room = partition->count + partition->count / 8 + ROOM; /* as many will come again */
    partition->count = partition->size = partition->row_room = partition->content_room = 0;
}

void fw_free(void *rows) { free(rows); }

/* Room for one more row, and for its bytes. */
static int make_room(struct partition *partition, int64_t bytes) {
    if (partition->count == partition->row_room) {
        int64_t room = partition->row_room ? partition->row_room * 2 : partition->wanted_room;
        struct row *rows = realloc(partition->rows, (size_t)room * sizeof *rows);
        if (!rows) return 0;
        partition->rows = rows;
        partition->row_room = room;
    }
    if (partition->size + bytes > partition->content_room) {
        int64_t room = (partition->size + bytes) * 2;
        uint8_t *content = realloc(partition->content, (size_t)room);
        if (!content) return 0;
        partition->content = content;
        partition->content_room = room;
    }
    return 1;
}

/* Take one record; without a decoder its bytes are kept and nothing else happens. False where there is no memory. */
static int add(struct poll *poll, struct partition *partition, struct decoder *decoder, struct series *series,
               const struct limits *limits, const struct message *message, int64_t log_time) {
    if (message->offset < partition->position) return 1; /* it was on its way when the partition was set back */
    int64_t key_size = message->key ? (int64_t)message->key_size : -1;
    int64_t value_size = message->value ? (int64_t)message->value_size : -1;
    struct row row = {.offset = message->offset, .log_time = log_time, .bytes_at = -1, .series = UNCOUNTABLE,
                      .outcome = UNPLANNED, .key_size = (int32_t)key_size, .value_size = (int32_t)value_size};
    if (decoder && !decode(decoder, series, limits, message->value, &row)) return 0;
    int is_plain = row.outcome >= 0 && row.series >= 0;
    int64_t kept_key = is_plain || key_size < 0 ? 0 : key_size, kept_value = is_plain || value_size < 0 ? 0 : value_size;
    if (!make_room(partition, kept_key + kept_value)) return 0;
    if (!is_plain) {
        row.bytes_at = partition->size;
        if (kept_key) memcpy(partition->content + partition->size, message->key, (size_t)kept_key);
        if (kept_value) memcpy(partition->content + partition->size + kept_key, message->value, (size_t)kept_value);
        partition->size += kept_key + kept_value;
    }
    partition->rows[partition->count++] = row;
    partition->position = message->offset + 1;
    poll->records++;
    poll->bytes += value_size < 0 ? 0 : value_size;
    return 1;
}

/* Take one record that Python has; for tests, which have no queue. */
int fw_poll_add(struct poll *poll, int32_t number, int64_t offset, int64_t log_time, uint8_t *key, int64_t key_size,
                uint8_t *value, int64_t value_size) {
    struct message message = {.offset = offset, .key = key, .key_size = (size_t)key_size, .value = value,
                              .value_size = (size_t)value_size};
    struct partition *partition = fw_poll_partition(poll, number);
    return !partition || add(poll, partition, NULL, NULL, NULL, &message, log_time);
}

/* Take up to so many messages, for which it waits no longer than the time. How many came; -1 where there is no memory. */
int64_t fw_take(struct poll *poll, struct decoder *decoder, struct series *series, const struct limits *limits,
                void *queue, int64_t timeout_ms, int64_t most) {
    if (most > AT_ONCE) most = AT_ONCE;
    int64_t count = kafka.consume_batch(queue, (int)timeout_ms, poll->messages, (size_t)most);
    struct partition *partition = NULL;
    int is_whole = 1;
    poll->error_count = 0;
    for (int64_t at = 0; at < count; at++) {
        struct message *message = poll->messages[at];
        if (at + AHEAD < count) {
            __builtin_prefetch(poll->messages[at + AHEAD]->value);
            __builtin_prefetch(poll->messages[at + AHEAD]->value + 64);
        }
        if (message->error) {
            poll->errors[poll->error_count++] = (struct error){message->partition, message->error, message->offset};
        } else {
            if (!partition || partition->number != message->partition)
                partition = fw_poll_partition(poll, message->partition);
            if (partition && is_whole)
                is_whole = add(poll, partition, decoder, series, limits, message, kafka.timestamp(message, NULL));
        }
        kafka.destroy(message);
    }
    return is_whole ? count : -1;
}
