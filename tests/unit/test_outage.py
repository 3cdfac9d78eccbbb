"""One retry policy and one classifier: outages are waited out, everything else is raised."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka import KafkaError, KafkaException

from funnelwatch.producers.kafka.topics import KafkaUnreachable
from funnelwatch.schemas.codec import RegistryUnavailable
from funnelwatch.sinks import servers
from funnelwatch.sinks.errors import BusyError, ErrorClass, classify, is_transient_for_reader
from funnelwatch.sinks.retry import Backoff, RetryPolicy, StoppedError
from funnelwatch.sinks.timescale.alerts import OvertakenError

ROOT = Path(__file__).parents[2]


class Server:
    """Fails for some calls."""

    def __init__(self, away: int, error: Exception | None = None) -> None:
        self.away = away
        self.error = error or ConnectionError("rejected\n  by nobody")
        self.calls = 0

    def __call__(self) -> str:
        """An answer, once it is back."""
        self.calls += 1
        if self.calls <= self.away:
            raise self.error
        return "answer"


class Clock:
    """Advances instead of sleeping."""

    def __init__(self, stops_after: int = 10**9) -> None:
        self.pauses: list[float] = []
        self._stops_after = stops_after

    def wait(self, seconds: float) -> bool:
        """Note a pause; whether the process stops during it."""
        self.pauses.append(seconds)
        return len(self.pauses) >= self._stops_after


def policy(clock: Clock, on_retry: list[int] | None = None) -> RetryPolicy:
    """A policy without jitter on a clock that only advances."""
    noted = on_retry if on_retry is not None else []
    return RetryPolicy(threading.Event(), lambda: noted.append(1), wait=clock.wait, chance=lambda: 1.0)


def test_an_outage_is_waited_out_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure counts for the metric; the log says in one line that it waits, and that it works again."""
    retries: list[int] = []
    server, clock = Server(4), Clock()
    # No other test has a task of this name: the log has one line for each outage of a process.
    answer = policy(clock, retries)("Broker", server)
    assert (answer, server.calls, len(retries)) == ("answer", 5, 4)
    assert clock.pauses == [0.1, 0.2, 0.4, 0.8]
    lines = [record.getMessage() for record in caplog.records if record.name == servers.log.name]
    assert [line.split(",")[0] for line in lines] == ["Broker: waiting", "Broker: works again"]
    assert "rejected by nobody" in caplog.text


def test_an_error_that_is_not_transient_is_raised_at_once() -> None:
    """Waiting cannot help after a bug."""
    server, clock = Server(1, ValueError("ours")), Clock()
    with pytest.raises(ValueError, match="ours"):
        policy(clock)("Server", server)
    assert (server.calls, clock.pauses) == (1, [])


def test_a_caller_may_choose_which_errors_it_retries() -> None:
    """Detection repeats after a bug as well, and a flush of several events splits instead of repeating."""
    clock = Clock()
    assert policy(clock)("Server", Server(2, ValueError("ours")), is_retried=lambda _: True) == "answer"
    with pytest.raises(ConnectionError):
        policy(clock)("Server", Server(1), is_retried=lambda _: False)


def test_a_process_that_stops_gives_up_waiting_but_not_what_succeeds() -> None:
    """With the stop asked for, one more try is made; only its failure gives up."""
    stopping = threading.Event()
    stopping.set()
    assert RetryPolicy(stopping)("Server", Server(0)) == "answer"
    with pytest.raises(StoppedError, match="Server"):
        RetryPolicy(stopping)("Server", Server(1))


def test_a_stop_ends_a_pause_within_a_tenth_of_a_second() -> None:
    """The pause waits for the event, so a long back-off delays no shutdown."""
    stopping, asleep = threading.Event(), threading.Event()
    ended: list[float] = []

    def run() -> None:
        retry = RetryPolicy(stopping, asleep.set, backoff=Backoff(first_s=60.0, longest_s=60.0))
        with pytest.raises(StoppedError):
            retry("Server", Server(10))
        ended.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    assert asleep.wait(5)
    time.sleep(0.05)
    stopped = time.monotonic()
    stopping.set()
    thread.join(5)
    assert ended[0] - stopped < 0.1


def test_pauses_double_with_jitter_and_are_at_least_as_long_as_a_server_asks_for() -> None:
    """A server may ask for more than the longest pause, but not for days."""
    backoff = Backoff(first_s=1.0, longest_s=60.0)
    assert [backoff.pause(n, 1.0) for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert backoff.pause(3, 0.0) == 2
    assert backoff.pause(1, 0.5, 90.0) == 90
    assert backoff.pause(1, 0.5, 1e9) == 3600


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.AdminShutdown("it is shut down"), ErrorClass.OUTAGE),
        (psycopg.errors.QueryCanceled("statement timeout"), ErrorClass.BUSY),
        (psycopg.errors.ConfigurationLimitExceeded("exceeds temp_file_limit"), ErrorClass.REJECTED),
        (psycopg.errors.RaiseException("of a trigger"), ErrorClass.REJECTED),
        (psycopg.errors.InternalError_("tuple concurrently updated"), ErrorClass.REJECTED),
        (psycopg.errors.UndefinedTable("window_counts"), ErrorClass.BUG),
        (KafkaException(KafkaError(KafkaError._TRANSPORT)), ErrorClass.OUTAGE),
        (KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)), ErrorClass.OUTAGE),
        (KafkaUnreachable("no broker answers"), ErrorClass.OUTAGE),
        (RegistryUnavailable("away"), ErrorClass.OUTAGE),
        (redis.ConnectionError("refused"), ErrorClass.OUTAGE),
        (redis.ResponseError("OOM command not allowed"), ErrorClass.OUTAGE),
        (redis.DataError("Invalid input of type: 'object'"), ErrorClass.BUG),
        (ConnectionResetError("by peer"), ErrorClass.OUTAGE),
        (BusyError("in use"), ErrorClass.BUSY),
        (OvertakenError("sign_up"), ErrorClass.BUSY),
        (KeyError("a bug of ours"), ErrorClass.BUG),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_has_one_class_everywhere(error: Exception, expected: ErrorClass) -> None:
    """The worker, the board, the exporter and the notifier react to it in the same way."""
    assert classify(error) is expected


def test_a_reader_waits_for_tables_that_no_worker_has_created_yet() -> None:
    """A writer creates them at its start, so to a writer a missing table is a bug."""
    assert is_transient_for_reader(psycopg.errors.UndefinedTable("window_counts"))
    assert not is_transient_for_reader(psycopg.errors.UndefinedColumn("no such column"))


def test_no_module_decides_by_itself_which_errors_are_outages() -> None:
    """Lists of SQLSTATEs or of psycopg's connection errors beside the classifier would drift apart from it."""
    places = [*(ROOT / "sinks").rglob("*.py"), *(ROOT / "stream").rglob("*.py")]
    deciding = {
        path.relative_to(ROOT).as_posix()
        for path in places
        if "isinstance(error, psycopg.OperationalError" in path.read_text(encoding="utf-8")
    }
    assert deciding == {"sinks/errors.py"}
