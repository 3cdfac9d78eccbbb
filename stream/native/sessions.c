/* The sessions of one partition within the session window; stream/intake/sessions.py says what is promised.
 *
 *     a session   |start ... counted for the session window ...| ... goes on, counts nothing ... last|  gap >= window  |start
 *
 * A session has a slot of a table (16 bytes, at most two thirds full), 56 bytes of its own and 24 for each step that it has
 * seen and not succeeded at. */
#include "sessions.h"

#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "table.h"

#define NOBODY (-1)
#define AHEAD 16
#define BEFORE_ALL (-(INT64_C(1) << 62)) /* a start that no event is within the window of */

struct session {
    int64_t start, last; /* Kafka timestamps, ms */
    int64_t entry;       /* ts of the entry */
    uint64_t saw, succeeded; /* steps, a bit each */
    int32_t entry_first; /* `first` of the entry's series */
    int32_t waiting;     /* the first impressions of steps without success; NOBODY: none */
    int32_t furthest;    /* how many steps were reached in order */
};

/* The first impression of a step that the session has not succeeded at yet. */
struct impression {
    int64_t ts;
    int32_t series, step, next;
};

struct generation {
    struct table table; /* digest of funnel and session -> place in `sessions` */
    struct session *sessions;
    size_t room;
    struct impression *impressions;
    int32_t impression_count, impression_room, unused; /* unused: first of a list; NOBODY: none */
};

struct sessions {
    struct generation young, old;
    int64_t young_since, span_ms, limit, shortened;
    int is_begun;
};

static void drop(struct generation *generation) {
    clear(&generation->table);
    free(generation->sessions);
    free(generation->impressions);
    *generation = (struct generation){.unused = NOBODY};
}

void fw_sessions_free(struct sessions *sessions) {
    drop(&sessions->young);
    drop(&sessions->old);
    free(sessions);
}

struct sessions *fw_sessions_new(int64_t span_ms, int64_t limit) {
    struct sessions *sessions = calloc(1, sizeof *sessions);
    if (!sessions) return NULL;
    sessions->span_ms = span_ms;
    sessions->limit = limit;
    drop(&sessions->young);
    drop(&sessions->old);
    if (reserve(&sessions->young.table, 0) && reserve(&sessions->old.table, 0)) return sessions;
    fw_sessions_free(sessions);
    return NULL;
}

int64_t fw_sessions_shortened(const struct sessions *sessions) { return sessions->shortened; }

int64_t fw_sessions_size(const struct sessions *sessions) {
    return (int64_t)(sessions->young.table.held + sessions->old.table.held);
}

/* As with ids (seen.c): the young generation becomes the old one where it spans so much time, or is full. */
static int begin(struct sessions *sessions, int64_t t) {
    if (!sessions->is_begun) {
        sessions->is_begun = 1;
        sessions->young_since = t;
    }
    int is_full = (int64_t)sessions->young.table.held >= sessions->limit;
    if (!is_full && t - sessions->young_since <= sessions->span_ms) return 1;
    struct generation young = {.unused = NOBODY};
    if (!reserve(&young.table, 0)) return 0;
    sessions->shortened += is_full;
    drop(&sessions->old);
    sessions->old = sessions->young;
    sessions->young = young;
    sessions->young_since = t;
    return 1;
}

/* Keep the first impression of a step; false where there is no memory. */
static int keep(struct generation *generation, struct session *session, int64_t ts, int32_t series, int32_t step) {
    int32_t at = generation->unused;
    if (at != NOBODY) {
        generation->unused = generation->impressions[at].next;
    } else {
        if (generation->impression_count == generation->impression_room) {
            int32_t room = generation->impression_room + generation->impression_room / 2 + 256;
            struct impression *grown = realloc(generation->impressions, (size_t)room * sizeof *grown);
            if (!grown) return 0;
            generation->impressions = grown;
            generation->impression_room = room;
        }
        at = generation->impression_count++;
    }
    generation->impressions[at] = (struct impression){ts, series, step, session->waiting};
    session->waiting = at;
    return 1;
}

/* Take the first impression of a step out; it must be there. */
static struct impression take(struct generation *generation, struct session *session, int32_t step) {
    int32_t *link = &session->waiting;
    while (generation->impressions[*link].step != step) link = &generation->impressions[*link].next;
    int32_t at = *link;
    struct impression found = generation->impressions[at];
    *link = found.next;
    generation->impressions[at].next = generation->unused;
    generation->unused = at;
    return found;
}

static void forget_impressions(struct generation *generation, struct session *session) {
    while (session->waiting != NOBODY) {
        int32_t at = session->waiting;
        session->waiting = generation->impressions[at].next;
        generation->impressions[at].next = generation->unused;
        generation->unused = at;
    }
}

/* The session of a digest in the young generation, to which it moves; new ones have a `last` before all times. There must
 * be room in its table. NULL where there is no memory. */
static struct session *session_of(struct sessions *sessions, uint64_t digest) {
    struct generation *young = &sessions->young, *old = &sessions->old;
    struct slot *slot = slot_of(&young->table, digest);
    if (slot->digest) return young->sessions + slot->number;
    size_t at = young->table.held;
    if (at == young->room) {
        size_t room = young->room + young->room / 2 + 256;
        struct session *grown = realloc(young->sessions, room * sizeof *grown);
        if (!grown) return NULL;
        young->sessions = grown;
        young->room = room;
    }
    struct session *session = young->sessions + at;
    *session = (struct session){.last = BEFORE_ALL, .waiting = NOBODY};
    const struct slot *before = slot_of(&old->table, digest);
    if (before->digest) {
        *session = old->sessions[before->number];
        session->waiting = NOBODY;
        for (int32_t one = old->sessions[before->number].waiting; one != NOBODY; one = old->impressions[one].next) {
            const struct impression *kept = old->impressions + one;
            if (!keep(young, session, kept->ts, kept->series, kept->step)) return NULL;
        }
    }
    fill(&young->table, slot, digest, (int64_t)at);
    return session;
}

static uint64_t digest_of(const struct row *row, const struct place *place) {
    return finish(row->session + place->funnel);
}

/* What an event adds by its session; how many credits, at most 4. Negative where there is no memory. */
static int64_t credits_of(struct sessions *sessions, const struct row *row, const struct place *place, int64_t now_ms,
                          struct credit *credits) {
    int64_t t = row->log_time < now_ms ? row->log_time : now_ms, count = 0;
    if (t < 0) t = 0;
    if (!begin(sessions, t)) return -1;
    struct session *session = session_of(sessions, digest_of(row, place));
    if (!session) return -1;
    struct generation *young = &sessions->young;
    if (session->last == BEFORE_ALL || t - session->last >= place->window_ms) {
        forget_impressions(young, session);
        *session = (struct session){.start = t, .last = t, .waiting = NOBODY};
    }
    if (t > session->last) session->last = t;
    if (t - session->start >= place->window_ms) return 0;
    int32_t step = place->step;
    uint64_t bit = UINT64_C(1) << step;
    int is_ordered = place->first >= 0;
#define CREDIT(MOMENT, SERIES, COLUMN) credits[count++] = (struct credit){row->offset, MOMENT, SERIES, COLUMN}
    if (row->outcome == IMPRESSION) {
        int had_succeeded = (session->succeeded & bit) != 0;
        if (!(session->saw & bit)) {
            session->saw |= bit;
            CREDIT(row->ts, row->series, SESSIONS);
            if (had_succeeded)
                CREDIT(row->ts, row->series, SESSION_SUCCESSES);
            else if (!keep(young, session, row->ts, row->series, step))
                return -1;
        }
        if (is_ordered && step == session->furthest) {
            if (step == 0) {
                session->entry = row->ts;
                session->entry_first = place->first;
            }
            session->furthest++;
            CREDIT(session->entry, session->entry_first + step, REACHED);
            if (had_succeeded) CREDIT(session->entry, session->entry_first + step, COMPLETED);
        }
    } else if (row->outcome == SUCCESS && !(session->succeeded & bit)) {
        session->succeeded |= bit;
        if (session->saw & bit) {
            struct impression first = take(young, session, step);
            CREDIT(first.ts, first.series, SESSION_SUCCESSES);
        }
        if (is_ordered && step < session->furthest) CREDIT(session->entry, session->entry_first + step, COMPLETED);
    }
#undef CREDIT
    return count;
}

/* What events add by their sessions, which are remembered; there is room for four credits an event. A timestamp ahead of the
 * clock counts as now. How many credits; -1 where there is no memory. */
int64_t fw_sessions_credits(struct sessions *sessions, int64_t count, const struct row *rows, const struct place *places,
                            int64_t now_ms, struct credit *credits) {
    int64_t found = 0;
    for (int64_t first = 0; first < count; first += AHEAD) {
        int64_t until = first + AHEAD < count ? first + AHEAD : count;
        if (!reserve(&sessions->young.table, AHEAD)) return -1;
        for (int64_t at = first; at < until; at++)
            prefetch(&sessions->young.table, digest_of(rows + at, places + rows[at].series));
        for (int64_t at = first; at < until; at++) {
            const struct place *place = places + rows[at].series;
            if (place->step == NO_STEP) continue;
            int64_t more = credits_of(sessions, rows + at, place, now_ms, credits + found);
            if (more < 0) return -1;
            found += more;
        }
    }
    return found;
}

/* The sessions of events that could not be counted count nothing more. */
int fw_sessions_void(struct sessions *sessions, int64_t count, const struct row *rows, const struct place *places) {
    for (int64_t at = 0; at < count; at++) {
        const struct place *place = places + rows[at].series;
        if (place->step == NO_STEP) continue;
        if (!reserve(&sessions->young.table, 1)) return 0;
        struct session *session = session_of(sessions, digest_of(rows + at, place));
        if (!session) return 0;
        session->start = BEFORE_ALL;
    }
    return 1;
}
