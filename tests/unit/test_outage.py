"""Waiting out an outage."""

from __future__ import annotations

import threading

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from funnelwatch.schemas.codec import RegistryUnavailable
from funnelwatch.sinks import retry, servers
from funnelwatch.sinks.retry import StoppedError, may_pass, until_done


class Server:
    """Is away for some calls."""

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


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)


def is_outage(error: Exception) -> bool:
    """Only a lost connection is one."""
    return isinstance(error, ConnectionError)


def test_an_outage_is_waited_out_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure counts for the metric; the log says in one line that it waits, and that it works again."""
    retries: list[int] = []
    server = Server(4)
    answer = until_done(
        server,
        what="Broker",  # of no other test: what is told once is told once in a process
        is_outage=is_outage,
        stopping=threading.Event(),
        on_retry=lambda: retries.append(1),
    )
    assert (answer, server.calls, len(retries)) == ("answer", 5, 4)
    told = [record for record in caplog.records if record.name == servers.log.name]
    assert [record.getMessage().split(",")[0] for record in told] == [
        "Broker: waiting",
        "Broker: works again",
    ]
    assert "rejected by nobody" in caplog.text


def test_what_is_no_outage_is_raised_at_once() -> None:
    """A fault of ours is not waited for."""
    server = Server(1, ValueError("ours"))
    with pytest.raises(ValueError, match="ours"):
        until_done(server, what="Server", is_outage=is_outage, stopping=threading.Event())
    assert server.calls == 1


def test_a_worker_that_stops_gives_up_waiting_but_not_what_succeeds() -> None:
    """With the stop asked for, one more try is made; only its failure gives up."""
    stopping = threading.Event()
    stopping.set()
    assert until_done(Server(0), what="Server", is_outage=is_outage, stopping=stopping) == "answer"
    with pytest.raises(StoppedError, match="Server"):
        until_done(Server(1), what="Server", is_outage=is_outage, stopping=stopping)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (psycopg.errors.AdminShutdown("it is shut down"), True),
        (psycopg.errors.QueryCanceled("statement timeout"), True),
        (psycopg.errors.ConfigurationLimitExceeded("temporary file size exceeds temp_file_limit"), True),
        (psycopg.errors.RaiseException("of a trigger"), True),
        (psycopg.errors.InternalError_("tuple concurrently updated"), True),
        (KafkaException(KafkaError(KafkaError._TRANSPORT)), True),
        (RegistryUnavailable("away"), True),
        (psycopg.errors.UndefinedTable("window_counts"), False),
        (KeyError("a bug of ours"), False),
    ],
)
def test_what_the_database_rejects_of_closing_or_upkeep_does_not_end_the_counting(
    error: Exception, passes: bool
) -> None:
    """A fresh worker would meet the same, and the counting would stop with each; only a bug ends the worker."""
    assert may_pass(error) is passes
