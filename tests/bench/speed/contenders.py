"""The contenders: how each is run over a topic, what it found, and how long it took."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import psycopg

from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.timescale.database import Database
from tests.bench.contenders.work import Key, Task
from tests.bench.speed.usage import Usage, server_s
from tests.stack import wait_until
from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from funnelwatch.schemas.settings import Settings


PROGRAMS = Path(__file__).parents[1] / "contenders"
TABLE = """
CREATE TABLE counts (
    window_ms bigint, step text, os text, browser text, app_version text, phase text, status text, n bigint NOT NULL,
    PRIMARY KEY (window_ms, step, os, browser, app_version, phase, status)
)
"""


GIVEN = re.compile(r"assigned: partitions \[\d")
"""In the log of a worker that has been given some; the first assignment of a second one may be of none."""


class ContenderError(RuntimeError):
    """A contender failed, or took too long."""


@dataclass(frozen=True)
class Took:
    """How a contender did.

    Attributes:
        seconds: from its first record until everything was committed.
        cpu_s: processor time of its process meanwhile, s.
        memory_mb: the most that its process had resident; of several processes, the largest.
        found: the counts in the database; None where it writes none.
        before: events that were counted before the time began.
        database_s: processor time of the database's server meanwhile, s; None where it was not measured.
    """

    seconds: float
    cpu_s: float
    memory_mb: float
    found: dict[Key, int] | None
    before: int = 0
    database_s: float | None = None


@dataclass
class Race:
    """One contender's run.

    Attributes:
        settings: servers, topic and an empty database.
        events: how many events the topic has.
        folder: for logs and state, its own.
        timeout_s: after this long it has failed.
        since_ms: windows before this were in the database already.
    """

    settings: Settings
    events: int
    folder: Path
    timeout_s: float
    since_ms: int = 0


def ours(race: Race, workers: int = 1, **settings: object) -> Took:
    """Funnelwatch workers as they are run in production, with these settings.

    Time and events count from when each of several has partitions; until then one had those of the others.
    """
    own = race.settings.model_copy(update=settings)
    running = [
        Worker(own, race.folder / f"worker-{number}.log", more={"rules_path": None}).start()
        for number in range(workers)
    ]
    database = Database(own.timescale_url)

    def counted() -> int:
        return int(database.query("dealt_with", {"topic": own.events_topic})[0]["accepted"])

    try:
        for worker in running:
            worker.wait_assigned()
        if workers > 1:
            wait_until(lambda: all(GIVEN.search(one.text()) for one in running), "each worker has partitions", 60)
        before = counted() if workers > 1 else 0
        began, usages = time.monotonic(), [Usage(worker.pid) for worker in running]
        database_s = server_s(database)
        while True:
            for usage in usages:
                usage.look()
            if (found := counted()) >= race.events:
                break
            if not all(worker.running for worker in running) or time.monotonic() - began > race.timeout_s:
                logs = "\n".join(worker.text()[-3000:] for worker in running)
                raise ContenderError(f"funnelwatch counted {found} of {race.events}:\n{logs}")
            time.sleep(0.02)
        seconds = time.monotonic() - began
        for usage in usages:
            usage.look()
        return Took(
            seconds,
            sum(usage.cpu_s for usage in usages),
            max(usage.memory_mb for usage in usages),
            _ours(revealed(own.timescale_url), race.since_ms),
            before,
            server_s(database) - database_s,
        )
    finally:
        for worker in running:
            worker.kill()
        database.close()


def logins(settings: Settings) -> dict[str, str]:
    """The passwords for a program in Java, which reads no librdkafka properties."""
    own = settings.revealed_kafka_config
    found = {"PGPASSWORD": unquote(urlsplit(revealed(settings.timescale_url)).password or "")}
    if own:
        login = f'username="{own["sasl.username"]}" password="{own["sasl.password"]}"'
        found |= {
            "KAFKA_PROTOCOL": own["security.protocol"],
            "KAFKA_MECHANISM": own["sasl.mechanism"],
            "KAFKA_JAAS": f"org.apache.kafka.common.security.scram.ScramLoginModule required {login};",
        }
    return found


def program(command: Sequence[str], *, writes: bool = True, says_end: bool = True) -> Callable[[Race], Took]:
    """A program that keeps the contract of ``tests.bench.contenders.work``.

    Args:
        command: how it is started.
        writes: whether it writes counts.
        says_end: whether it prints ``END``. A sink may report no commits: the time then ends when the table shows all
            events.
    """

    def run(race: Race) -> Took:
        own = race.settings
        url = revealed(own.timescale_url)
        task = Task(
            own.kafka_bootstrap_servers,
            own.revealed_kafka_config,
            own.events_topic,
            own.topic_partitions,
            own.consumer_group,
            url,
            race.events,
            str(race.folder),
        )
        log = race.folder / "log"
        with closing(psycopg.connect(url, autocommit=True)) as database:
            if writes:
                database.execute(TABLE)
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command,
                    cwd=PROGRAMS,
                    env=os.environ | {"BENCH": json.dumps(asdict(task)), "PYTHONPATH": str(PROGRAMS), **logins(own)},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            usage, deadline = Usage(process.pid), time.monotonic() + race.timeout_s
            try:
                while "END" not in (said := _said(log)):
                    usage.look()
                    if "BEGIN" not in said:
                        usage.begin()
                    elif not says_end and _written(database) >= race.events:
                        said["END"] = time.time()
                        break
                    if process.poll() not in (None, 0) or time.monotonic() > deadline:
                        raise ContenderError(f"{' '.join(command)} did not come to its end:\n{log.read_text()[-3000:]}")
                    time.sleep(0.05 if says_end else 0.02)
                usage.look()
            finally:
                _end(process)
            seconds = said["END"] - said["BEGIN"]
            return Took(seconds, usage.cpu_s, usage.memory_mb, _theirs(database) if writes else None)

    return run


def python(
    name: str, interpreter: str = sys.executable, *more: str, writes: bool = True, says_end: bool = True
) -> Callable[[Race], Took]:
    """One of the programs beside ``work``."""
    return program([interpreter, str(PROGRAMS / f"{name}.py"), *more], writes=writes, says_end=says_end)


def _said(log: Path) -> dict[str, float]:
    lines = (line.split() for line in log.read_text(errors="replace").splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) == 2 and words[0] in ("BEGIN", "END")}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _written(database: psycopg.Connection) -> int:
    [row] = database.execute("SELECT coalesce(sum(n), 0)::bigint FROM counts").fetchall()
    return int(row[0])


def _theirs(database: psycopg.Connection) -> dict[Key, int]:
    rows = database.execute("SELECT * FROM counts").fetchall()
    return {(row[0], row[1], row[2], row[3], row[4], row[5], row[6]): row[7] for row in rows}


def _ours(url: str, since_ms: int) -> dict[Key, int]:
    statement = """
        SELECT (extract(epoch FROM window_start) * 1000)::bigint, step, os, browser, app_version, phase, status, n
        FROM conversion, LATERAL (VALUES
            ('IMPRESSION', '', impressions),
            ('POST_VERIFICATION', 'SUCCESS', successes),
            ('POST_VERIFICATION', 'FAILURE', failures)) AS one (phase, status, n)
        WHERE n > 0 AND window_start >= to_timestamp(%s / 1000.0)
    """
    with psycopg.connect(url) as connection:
        rows = connection.execute(statement, [since_ms]).fetchall()
    return {(row[0], row[1], row[2], row[3], row[4], row[5], row[6]): row[7] for row in rows}
