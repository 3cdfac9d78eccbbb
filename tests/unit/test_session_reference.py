"""The reference for session counts, on ledgers made by hand; docs/sessions.md has the definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reference.events import Event, without_duplicates
from tests.reference.hand_ledger import MINUTE_MS, counted_rows, events_of, expected_rows, time_of
from tests.reference.session_cases import CASES
from tests.reference.sessions import HOUR_MS, Funnel, count_sessions, sessions_of

FUNNELS = {"sign_up": Funnel(("PHONE", "CODE", "NAME"), ("os",))}
HORIZON_MS = 10 * MINUTE_MS


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
