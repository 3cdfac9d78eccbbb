"""Ledgers made by hand, and the session counts that follow from them; docs/sessions.md has the definitions."""

from __future__ import annotations

CASES = {
    "a reload counts once": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 10:01 | anna | iOS | PHONE shown
        c | Mon 10:02 | Mon 10:02 | anna | iOS | PHONE success
        d | Mon 10:03 | Mon 10:03 | anna | iOS | PHONE success
        """,
        "Mon 10:00 | PHONE | iOS | 1 | 1 | 1 | 1",
    ),
    "a reload in a later window changes nothing": (
        """
        a | Mon 10:50 | Mon 10:50 | anna | iOS | PHONE shown
        b | Mon 11:01 | Mon 11:01 | anna | Android | PHONE shown
        c | Mon 11:02 | Mon 11:02 | anna | Android | PHONE success
        """,
        "Mon 10:00 | PHONE | iOS | 1 | 1 | 1 | 1",
    ),
    "a failure and a retry are one session": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 10:01 | anna | iOS | PHONE failure
        c | Mon 10:02 | Mon 10:02 | anna | iOS | PHONE success
        """,
        "Mon 10:00 | PHONE | iOS | 1 | 1 | 1 | 1",
    ),
    "a failure alone completes nothing": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 10:01 | anna | iOS | PHONE failure
        """,
        "Mon 10:00 | PHONE | iOS | 1 | 0 | 1 | 0",
    ),
    "a step behind a skipped one is seen and not reached": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 10:01 | anna | iOS | NAME shown
        c | Mon 10:02 | Mon 10:02 | anna | iOS | NAME success
        """,
        """
        Mon 10:00 | PHONE | iOS | 1 | 0 | 1 | 0
        Mon 10:00 | NAME | iOS | 1 | 1 | 0 | 0
        """,
    ),
    "what was skipped must be seen again": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 10:01 | anna | iOS | NAME shown
        c | Mon 10:02 | Mon 10:02 | anna | iOS | CODE shown
        d | Mon 11:00 | Mon 10:59 | ben | iOS | PHONE shown
        e | Mon 11:01 | Mon 11:01 | ben | iOS | NAME shown
        f | Mon 11:02 | Mon 11:02 | ben | iOS | CODE shown
        g | Mon 11:03 | Mon 11:03 | ben | iOS | NAME shown
        """,
        """
        Mon 10:00 | PHONE | iOS | 2 | 0 | 2 | 0
        Mon 10:00 | CODE | iOS | 1 | 0 | 2 | 0
        Mon 10:00 | NAME | iOS | 1 | 0 | 1 | 0
        Mon 11:00 | CODE | iOS | 1 | 0 | 0 | 0
        Mon 11:00 | NAME | iOS | 1 | 0 | 0 | 0
        """,
    ),
    "steps before the entry are not reached": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | CODE shown
        b | Mon 10:01 | Mon 10:01 | anna | iOS | CODE success
        c | Mon 10:02 | Mon 10:02 | anna | iOS | PHONE shown
        """,
        """
        Mon 10:00 | CODE | iOS | 1 | 1 | 0 | 0
        Mon 10:00 | PHONE | iOS | 1 | 0 | 1 | 0
        """,
    ),
    "a success before a step is reached completes it": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | CODE success
        b | Mon 10:02 | Mon 10:02 | anna | iOS | PHONE shown
        c | Mon 10:03 | Mon 10:03 | anna | iOS | CODE shown
        """,
        """
        Mon 10:00 | PHONE | iOS | 1 | 0 | 1 | 0
        Mon 10:00 | CODE | iOS | 1 | 1 | 1 | 1
        """,
    ),
    "a reached step may succeed after later ones": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 10:01 | anna | iOS | CODE shown
        c | Mon 10:02 | Mon 10:02 | anna | iOS | NAME shown
        d | Mon 10:03 | Mon 10:03 | anna | iOS | NAME success
        e | Mon 10:04 | Mon 10:04 | anna | iOS | PHONE success
        """,
        """
        Mon 10:00 | PHONE | iOS | 1 | 1 | 1 | 1
        Mon 10:00 | CODE | iOS | 1 | 0 | 1 | 0
        Mon 10:00 | NAME | iOS | 1 | 1 | 1 | 1
        """,
    ),
    "a success without an impression counts nothing": (
        "a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE success",
        "",
    ),
    "interleaved devices are told apart": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:00 | Mon 10:00 | ben | Android | PHONE shown
        c | Mon 10:01 | Mon 10:01 | ben | Android | PHONE success
        d | Mon 10:01 | Mon 10:01 | anna | iOS | CODE shown
        e | Mon 10:02 | Mon 10:02 | ben | Android | NAME shown
        f | Mon 10:02 | Mon 10:02 | anna | iOS | CODE success
        """,
        """
        Mon 10:00 | PHONE | iOS | 1 | 0 | 1 | 0
        Mon 10:00 | PHONE | Android | 1 | 1 | 1 | 1
        Mon 10:00 | CODE | iOS | 1 | 1 | 1 | 1
        Mon 10:00 | NAME | Android | 1 | 0 | 0 | 0
        """,
    ),
    "an os that changes counts steps where they were seen and the funnel where it was entered": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 10:01 | anna | Desktop | PHONE success
        c | Mon 10:02 | Mon 10:02 | anna | Desktop | PHONE shown
        d | Mon 10:03 | Mon 10:03 | anna | Desktop | CODE shown
        e | Mon 10:04 | Mon 10:04 | anna | iOS | CODE success
        """,
        """
        Mon 10:00 | PHONE | iOS | 1 | 1 | 1 | 1
        Mon 10:00 | CODE | iOS | 0 | 0 | 1 | 1
        Mon 10:00 | CODE | Desktop | 1 | 1 | 0 | 0
        """,
    ),
    "a session across midnight belongs to the day of its entry": (
        """
        a | Mon 23:59 | Mon 23:59 | anna | iOS | PHONE shown
        b | Tue 00:01 | Tue 00:01 | anna | Android | CODE shown
        c | Tue 00:02 | Tue 00:02 | anna | Android | CODE success
        """,
        """
        Mon 23:00 | PHONE | iOS | 1 | 0 | 1 | 0
        Mon 23:00 | CODE | iOS | 0 | 0 | 1 | 1
        Tue 00:00 | CODE | Android | 1 | 1 | 0 | 0
        """,
    ),
    "a late impression counts in the window in which it happened": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE success
        b | Mon 10:01 | Mon 04:30 | anna | iOS | PHONE shown
        c | Mon 10:02 | Mon 04:10 | anna | iOS | PHONE shown
        """,
        "Mon 04:00 | PHONE | iOS | 1 | 1 | 1 | 1",
    ),
    "times of events do not end a session": (
        """
        a | Mon 10:00 | Mon 01:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 09:00 | anna | iOS | CODE shown
        """,
        """
        Mon 01:00 | PHONE | iOS | 1 | 0 | 1 | 0
        Mon 01:00 | CODE | iOS | 0 | 0 | 1 | 0
        Mon 09:00 | CODE | iOS | 1 | 0 | 0 | 0
        """,
    ),
    "a duplicate changes nothing and keeps no session alive": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:55 | Mon 10:55 | ben | iOS | PHONE shown
        a | Mon 10:05 | Mon 10:00 | anna | iOS | PHONE shown
        c | Mon 11:02 | Mon 11:02 | anna | iOS | PHONE success
        """,
        "Mon 10:00 | PHONE | iOS | 2 | 0 | 2 | 0",
    ),
    "a repetition beyond the horizon is an event": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        a | Mon 11:00 | Mon 10:00 | anna | iOS | PHONE shown
        """,
        "Mon 10:00 | PHONE | iOS | 2 | 0 | 2 | 0",
    ),
    "nothing counts after the window of a session that goes on": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:40 | Mon 10:40 | anna | iOS | CODE shown
        c | Mon 11:00 | Mon 11:00 | anna | iOS | PHONE success
        d | Mon 11:30 | Mon 10:30 | anna | iOS | NAME shown
        e | Mon 12:29 | Mon 12:29 | anna | iOS | PHONE shown
        """,
        """
        Mon 10:00 | PHONE | iOS | 1 | 0 | 1 | 0
        Mon 10:00 | CODE | iOS | 1 | 0 | 1 | 0
        """,
    ),
    "the last minute of the window counts": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:59 | Mon 10:59 | anna | iOS | PHONE success
        """,
        "Mon 10:00 | PHONE | iOS | 1 | 1 | 1 | 1",
    ),
    "who returns after the window begins a new session": (
        """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:30 | Mon 10:30 | anna | iOS | PHONE failure
        c | Mon 11:30 | Mon 11:30 | anna | Android | PHONE shown
        d | Mon 11:31 | Mon 11:31 | anna | Android | PHONE success
        """,
        """
        Mon 10:00 | PHONE | iOS | 1 | 0 | 1 | 0
        Mon 11:00 | PHONE | Android | 1 | 1 | 1 | 1
        """,
    ),
    "an undeclared funnel has no order": (
        """
        a | Mon 10:00 | Mon 10:00 | anna/shop | iOS | CART shown
        b | Mon 10:01 | Mon 10:01 | anna/shop | iOS | PAY shown
        c | Mon 10:02 | Mon 10:02 | anna/shop | iOS | PAY success
        d | Mon 10:02 | Mon 10:02 | anna | iOS | PHONE shown
        """,
        """
        Mon 10:00 | CART | iOS | 1 | 0 | 0 | 0
        Mon 10:00 | PAY | iOS | 1 | 1 | 0 | 0
        Mon 10:00 | PHONE | iOS | 1 | 0 | 1 | 0
        """,
    ),
}
"""Name to ledger and rows in the form of ``hand_ledger``; the funnel has the steps PHONE, CODE, NAME; W is an hour."""
