"""The reference for session counts, on ledgers made by hand; docs/sessions.md has the definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reference.events import Event, without_duplicates
from tests.reference.hand_ledger import MINUTE_MS, counted_rows, events_of, expected_rows, time_of
from tests.reference.sessions import HOUR_MS, Funnel, count_sessions, sessions_of

FUNNELS = {"sign_up": Funnel(("PHONE", "CODE", "NAME"), ("os",))}
HORIZON_MS = 10 * MINUTE_MS

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


def accepted(ledger: str) -> list[Event]:
    """The events of a ledger without duplicates."""
    return list(without_duplicates(events_of(ledger), HORIZON_MS))


@pytest.mark.parametrize(("ledger", "expected"), CASES.values(), ids=CASES)
def test_a_ledger_has_the_counts_that_follow_by_hand(ledger: str, expected: str) -> None:
    """All four columns of all rows."""
    assert counted_rows(count_sessions(accepted(ledger), FUNNELS, HOUR_MS)) == expected_rows(expected)


def test_a_timestamp_behind_an_earlier_one_neither_ends_nor_prolongs_a_session() -> None:
    """Kafka's timestamps of two producers are not in order; silence counts from the latest one."""
    ledger = """
        a | Mon 10:30 | Mon 10:30 | anna | iOS | PHONE shown
        b | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE failure
        c | Mon 11:29 | Mon 11:29 | anna | iOS | PHONE success
    """
    [session] = sessions_of(accepted(ledger), FUNNELS)
    assert (session.start, session.last) == (time_of("Mon 10:30"), time_of("Mon 11:29"))


def test_a_session_ends_after_exactly_its_window_of_silence() -> None:
    """One millisecond less and it goes on."""
    first, second = accepted("""
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 11:00 | Mon 11:00 | anna | iOS | PHONE success
    """)
    assert len(sessions_of([first, second], FUNNELS)) == 2
    before = replace(second, log_time=second.log_time - 1)
    assert len(sessions_of([first, before], FUNNELS)) == 1
    [(_, counts)] = count_sessions([first, before], FUNNELS, HOUR_MS).items()
    assert counts == (1, 1, 1, 1)


def test_each_funnel_has_a_window_of_its_own() -> None:
    """The same silence ends the session of the quicker funnel only."""
    funnels = {"sign_up": Funnel(("PHONE",), ("os",), 10 * MINUTE_MS)}
    ledger = """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:00 | Mon 10:00 | anna/shop | iOS | PHONE shown
        c | Mon 10:10 | Mon 10:10 | anna | iOS | PHONE success
        d | Mon 10:10 | Mon 10:10 | anna/shop | iOS | PHONE success
    """
    found = {key[1]: counts for key, counts in count_sessions(accepted(ledger), funnels, HOUR_MS).items()}
    assert found == {"sign_up": (1, 0, 1, 0), "shop": (1, 1, 0, 0)}


def test_the_same_session_in_two_partitions_is_two() -> None:
    """Records that a producer did not key by session are counted partition by partition."""
    [shown, success] = accepted("""
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        b | Mon 10:01 | Mon 10:01 | anna | iOS | PHONE success
    """)
    [counts] = count_sessions([shown, replace(success, partition=1)], FUNNELS, HOUR_MS).values()
    assert counts == (1, 0, 1, 0)


def test_dimensions_come_from_fields_and_contexts() -> None:
    """A dimension without a value has no entry in the key; what is not declared is left out."""
    [event] = accepted("a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown")
    event = replace(event, app_version="2", contexts={"country": "DE", "plan": "", "os": "none", "request": "7"})
    funnels = {"sign_up": Funnel(("PHONE",), ("plan", "os", "country"))}
    [key] = count_sessions([event], funnels, HOUR_MS)
    assert key == (time_of("Mon 10:00"), "sign_up", "PHONE", (("country", "DE"), ("os", "iOS")))
    [key] = count_sessions([replace(event, funnel="shop")], funnels, HOUR_MS)
    assert key[3] == (("app_version", "2"), ("os", "iOS"))


def test_a_duplicate_prolongs_the_horizon_of_its_id() -> None:
    """An id repeated every few minutes is one event, however long that goes on; a horizon of 0 finds no duplicate."""
    ledger = """
        a | Mon 10:00 | Mon 10:00 | anna | iOS | PHONE shown
        a | Mon 10:10 | Mon 10:00 | anna | iOS | PHONE shown
        a | Mon 10:20 | Mon 10:00 | anna | iOS | PHONE shown
        a | Mon 10:31 | Mon 10:00 | anna | iOS | PHONE shown
    """
    assert [event.offset for event in accepted(ledger)] == [0, 3]
    assert len(list(without_duplicates(events_of(ledger), 0))) == 4
