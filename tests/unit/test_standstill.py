"""When a worker that lives must be taken for dead."""

from __future__ import annotations

from funnelwatch.stream.worker.health import DeadClient, Standstill

EVENTS = ("events", 0)
WINDOWS = ("windows", 3)


def test_a_partition_with_unread_records_that_is_not_read_on_is_an_error_after_a_while() -> None:
    """Lag grows and the position stands: an error from the stated time on, which names the partition."""
    still = Standstill(60.0)
    for now in range(0, 61, 10):
        still.update(now, {EVENTS: (100, 200 + now)})
        assert still.problem() is None
    still.update(61, {EVENTS: (100, 300)})
    assert still.problem() == "partition 0 of events: unread records, and nothing was read for 61 s"
    assert still.longest_s == 61


def test_slow_reading_is_no_error_however_long_the_lag() -> None:
    """One record a look is progress."""
    still = Standstill(60.0)
    for now in range(0, 1000, 10):
        still.update(now, {EVENTS: (now, 1_000_000)})
    assert still.problem() is None
    assert still.longest_s == 0


def test_a_partition_that_is_read_to_its_end_may_stand_for_ever() -> None:
    """A quiet night is no error, and the time counts from the first record that is unread."""
    still = Standstill(60.0)
    for now in range(0, 1000, 10):
        still.update(now, {EVENTS: (5, 5)})
    assert still.problem() is None
    still.update(1000, {EVENTS: (5, 6)})
    still.update(1050, {EVENTS: (5, 6)})
    assert still.problem() is None
    still.update(1061, {EVENTS: (5, 6)})
    assert still.problem() is not None


def test_what_is_given_away_or_not_known_is_forgotten() -> None:
    """A partition that comes back begins anew; while the broker is away nothing is held against the worker."""
    still = Standstill(60.0)
    still.update(0, {EVENTS: (1, 2), WINDOWS: (1, 2)})
    still.update(50, {WINDOWS: (1, 2)})
    still.update(70, {EVENTS: (1, 2), WINDOWS: (1, 2)})
    assert still.problem() == "partition 3 of windows: unread records, and nothing was read for 70 s"
    still.unknown()
    assert still.problem() is None
    still.update(100, {EVENTS: (1, 2), WINDOWS: (1, 2)})
    assert still.problem() is None


def test_the_longest_of_several_standstills_is_named() -> None:
    """The one that began first, and how many more there are."""
    still = Standstill(10.0)
    still.update(0, {WINDOWS: (1, 2)})
    still.update(5, {WINDOWS: (1, 2), EVENTS: (1, 2)})
    still.update(20, {WINDOWS: (1, 2), EVENTS: (1, 2)})
    assert still.problem() == "partition 3 of windows, and 1 more: unread records, and nothing was read for 20 s"


def test_a_client_that_is_silent_while_kafka_answers_others_is_dead_after_a_while() -> None:
    """It is named once the stated time is over, and forgotten if it comes back before."""
    dead = DeadClient(15.0)
    assert dead.check(0, ["the events"], lambda: True) is None
    assert dead.check(10, [], lambda: True) is None
    assert dead.check(20, ["the events", "the alerts"], lambda: True) is None
    assert dead.check(30, ["the alerts"], lambda: True) is None
    assert dead.check(34.9, ["the alerts", "the events"], lambda: True) is None
    said = dead.check(35, ["the alerts", "the events"], lambda: True)
    assert said == "the client of Kafka for the alerts does not come back, and Kafka is there"


def test_no_client_is_dead_while_kafka_is_away() -> None:
    """An outage is waited out, however long; the time counts from when Kafka answers again."""
    dead = DeadClient(15.0)
    for now in range(0, 1000, 5):
        assert dead.check(now, ["the events"], lambda: False) is None
    assert dead.check(1000, ["the events"], lambda: True) is None
    assert dead.check(1010, ["the events"], lambda: True) is None
    assert dead.check(1015, ["the events"], lambda: True) is not None
