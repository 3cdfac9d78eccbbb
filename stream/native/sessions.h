/* What sessions add to the counts: docs/sessions.md has the definitions. */
#ifndef SESSIONS_H
#define SESSIONS_H

#include "event.h"

#define NO_STEP (-1)
#define MOST_STEPS 64 /* of a funnel: a bit each */

/* Columns of counts; schemas/counts.py. */
enum { SESSIONS = 5, SESSION_SUCCESSES, REACHED, COMPLETED };

/* Where a series stands in its funnel; Python has one for each number. */
struct place {
    uint64_t funnel;   /* digest of its name */
    int64_t window_ms; /* the session window */
    int32_t step;      /* from 0 on; NO_STEP: its sessions are not counted */
    int32_t first;     /* the number of the first step's series with the same dimensions, those of the other steps follow;
                        * -1: the steps have no order */
};

/* One more in a column of counts, in the window of a moment; owed to the event at an offset. */
struct credit {
    int64_t offset, moment;
    int32_t series, column;
};

#endif
