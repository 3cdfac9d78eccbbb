"""A refresh beside another one waits, tells so, and gives up in the end; `rebuild rollups` says what it is."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from funnelwatch.cli import rebuild
from funnelwatch.cli.errors import database_error
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.refreshing import RefreshBusyError, RefreshWait, refresh_rollups
from tests.command import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

END_MS = 20_000 * 86_400_000
ROLLUPS = [f"{what}_{level}" for level in ("5m", "1h", "1d") for what in ("counts", "durations")]


class Busy(Database):
    """A TimescaleDB of which another session is refreshing; errors are raised for one refresh after the other."""

    def __init__(self, errors: list[psycopg.Error], running: int = 0) -> None:
        super().__init__("")
        self.errors, self.running = errors, running
        self.refreshed: list[str] = []
        self.description: None = None

    def query(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Nothing was dropped, and no chunk is there; ``running`` times a job runs."""
        if name == "refresh_runs":
            self.running -= 1
            return [{"job_id": 1000}] if self.running >= 0 else []
        return {"first_chunk": [{"first_ms": None}], "refresh_range": [{"start_ms": None, "end_ms": END_MS}]}[name]

    @contextmanager
    def outside_transaction(self) -> Iterator[Any]:
        """This is its own cursor."""
        yield self

    def execute(self, statement: str, parameters: Mapping[str, Any]) -> None:
        """Refresh, or raise the next error."""
        assert "refresh_continuous_aggregate" in statement
        if self.errors:
            raise self.errors.pop(0)
        self.refreshed.append(parameters["relation"])


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def wait(self, limit_s: float = 60.0) -> RefreshWait:
        """Waiting by this clock."""
        return RefreshWait(limit_s, self.told.append, self.sleep, lambda: self.now)


CONCURRENT = psycopg.errors.LockNotAvailable('could not refresh "counts_5m" due to a concurrent refresh')


@pytest.mark.parametrize(
    "error",
    [
        CONCURRENT,
        psycopg.errors.DeadlockDetected("deadlock detected"),
        psycopg.errors.SerializationFailure("could not serialize access"),
        psycopg.errors.InternalError_("tuple concurrently updated"),
    ],
)
def test_a_refresh_that_another_one_is_in_the_way_of_is_tried_again(error: psycopg.Error) -> None:
    """Every rollup is refreshed once in the end, and each wait is told."""
    clock, database = Clock(), Busy([error] * 3)
    refresh_rollups(database, clock.wait())
    assert database.refreshed == ROLLUPS
    assert [line for line in clock.told if "waiting" in line] == [
        f"counts_5m is being refreshed by another session: waiting ({error.sqlstate})"
    ] * 3
    assert clock.now == 6.0


def test_a_job_that_is_refreshing_is_waited_for() -> None:
    """Some versions of the extension say that there is nothing left to do while a job is at it."""
    clock, database = Clock(), Busy([], running=4)
    refresh_rollups(database, clock.wait())
    assert database.refreshed == ROLLUPS
    assert clock.told[:4] == ["a job of the database is refreshing counts_5m: waiting for it"] * 4


@pytest.mark.parametrize("database", [Busy([CONCURRENT] * 99), Busy([], running=99)])
def test_after_a_limit_it_is_told_what_is_in_the_way(database: Busy) -> None:
    """Not that the database does not answer."""
    with pytest.raises(RefreshBusyError, match="counts_5m has been refreshed by another session, probably by a job"):
        refresh_rollups(database, Clock().wait())
    assert database.refreshed == []


def test_another_error_is_not_tried_again() -> None:
    """Only what another refresh may be the cause of is worth it."""
    clock = Clock()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        refresh_rollups(Busy([psycopg.errors.InsufficientPrivilege("must be owner")]), clock.wait())
    assert clock.now == 0.0


def test_the_command_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, and no word of starting a database that answers."""

    def refresh(_: Database, wait: RefreshWait) -> None:
        for _ in range(3):
            wait.report("refreshing counts_5m")
        raise RefreshBusyError("counts_5m", 600.0)

    monkeypatch.setattr(rebuild, "refresh", refresh)
    result = run(Settings(), "rebuild", "rollups")
    assert result.exit_code == 1
    assert "the rollups are not all up to date: counts_5m has been refreshed by another session" in result.stderr
    assert result.stderr.count("refreshing counts_5m\n") == 1
    assert "Start it" not in result.output


@pytest.mark.parametrize(
    ("error", "told", "start"),
    [
        (CONCURRENT, "is busy: could not refresh", False),
        (psycopg.errors.DeadlockDetected("deadlock detected"), "is busy: deadlock detected. Another session", False),
        (psycopg.errors.ObjectInUse("in use"), "is busy: in use", False),
        (psycopg.errors.QueryCanceled("statement timeout"), "ended this for taking too long", False),
        (psycopg.errors.DiskFull("no space left on device"), "has no space left", False),
        (psycopg.errors.TooManyConnections("too many clients"), "takes no more connections", False),
        (psycopg.errors.ConfigurationLimitExceeded("tuple decompression limit"), "is at one of its limits", False),
        (psycopg.errors.SyntaxError("at or near"), "rejects this: at or near. Is DATABASE_URL right?", False),
        (psycopg.errors.AdminShutdown("terminating connection"), "does not answer: terminating", True),
        (psycopg.errors.ConnectionFailure("lost"), "does not answer: lost", True),
        (psycopg.OperationalError("connection failed: Connection refused"), "does not answer: connection failed", True),
        (psycopg.OperationalError("FATAL: the database system is starting up"), "does not answer: FATAL", True),
        (psycopg.OperationalError('FATAL: password authentication failed for user "me"'), "rejects the conn", False),
        (psycopg.OperationalError('FATAL: database "funel" does not exist'), "rejects the connection: FATAL", False),
        (psycopg.InterfaceError("the connection is closed"), "does not answer: the connection is closed", True),
    ],
)
def test_only_a_server_that_does_not_answer_is_to_be_started(error: psycopg.Error, told: str, start: bool) -> None:
    """Whatever has an SQLSTATE was said by a server that answers, unless it says that it is going."""
    found = database_error(error, "DATABASE_URL")
    assert found.startswith(told)
    assert ("Start it" in found) is start
