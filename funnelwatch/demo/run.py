"""The demo from start to end: stack, workers, history, live traffic, incident, alert, recovery, result."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import redis

from funnelwatch.demo.board import Board, show
from funnelwatch.demo.plan import OS, STEP, Plan
from funnelwatch.demo.prometheus import Prometheus, find_prometheus
from funnelwatch.demo.screen import alert_line, hints
from funnelwatch.demo.traffic import Traffic
from funnelwatch.demo.watch import Watch
from funnelwatch.deploy.embedded.stack import Stack
from funnelwatch.deploy.supervisor import Supervisor
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.redaction import shown
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from funnelwatch.demo.watch import Received
    from funnelwatch.deploy.embedded.stack import Kafka
    from funnelwatch.deploy.embedded.state import StackState
    from funnelwatch.producers.simulate.profile import Incident

FUNNELS_FILE = "funnels.yml"
READ_EVERY_S = 0.5
CATCH_UP_S = 600.0
FINISH_S = 300.0
ALERT_WITHIN_S = 150.0


class DemoError(FunnelwatchError, RuntimeError):
    """The demo cannot go on; the message gives the reason and the log file."""


class Demo:
    """One run of the demo.

    Args:
        data_dir: folder of its own embedded stack, emptied first.
        kafka: which broker.
        workers: how many worker processes.
        plan: what happens when.
        say: prints one line of progress; called from any thread.
        observe: called about twice a second while traffic flows.
        browse: open the board in this desktop's browser, if it has one.
        keep: leave data and logs in the folder at the end.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        kafka: Kafka,
        workers: int,
        plan: Plan,
        say: Callable[[str], None],
        observe: Callable[[Demo], None],
        browse: bool = False,
        keep: bool = False,
    ) -> None:
        self._data_dir = data_dir
        self._kafka = kafka
        self._worker_count = workers
        self._plan = plan
        self._say = say
        self._observe = observe
        self._browse = browse
        self.keep = keep
        self.board_url: str | None = None
        self._began = time.monotonic()
        self._printed = 0
        self._measured = (time.monotonic(), 0)
        self._cleanup = ExitStack()
        self.happening = ""
        self.happening_since = self._began
        self.per_second = 0.0
        self.stack: StackState | None = None
        self.traffic: Traffic | None = None
        self.watch: Watch | None = None
        self.workers: Supervisor | None = None
        self.incident: Incident | None = None
        self.prometheus: Prometheus | None = None

    def run(self, *, forever: bool) -> None:
        """Run through the plan; then, with ``forever``, go on with live traffic until interrupted.

        Raises:
            DemoError: something did not happen in time.
            StackError: a server could not be started.
            KeyboardInterrupt: the user ended it.
        """
        self._start()
        self._backfill()
        self._normal()
        self._trouble()
        self._recovery()
        if forever:
            self._now("The incident is over; live traffic goes on until Ctrl-C.")
            while True:
                self._step()
        self._finish()

    def _start(self) -> None:
        self._now("Starting Kafka and the stores …")
        stack = Stack(self._data_dir, self._kafka)
        stack.down(purge=True)
        self._cleanup.callback(self._remove, stack)
        self.stack = stack.up(self._say)
        environment = self._plan.environment | self.stack.env
        if self._plan.profile.dimensions:
            funnels = self._data_dir / FUNNELS_FILE
            funnels.write_text(self._plan.funnels)
            environment["FUNNELWATCH_FUNNELS_PATH"] = str(funnels)
        settings = Settings(
            data_dir=self._data_dir,
            **{name.removeprefix("FUNNELWATCH_").lower(): value for name, value in environment.items()},  # type: ignore[arg-type]
        )
        self._say(hints(self._data_dir, shown(settings.timescale_url).replace(":***@", "@")))
        ensure_topics(settings)
        self._check_empty(settings)
        self._start_board(environment)
        self._now("Starting workers …")
        if program := find_prometheus():
            self.prometheus = Prometheus(program, settings.timescale_url, self._data_dir / "prometheus")
            self._cleanup.callback(self.prometheus.stop)
        log = self._cleanup.enter_context((self._data_dir / "logs" / "worker.log").open("ab"))
        self.workers = Supervisor(
            self._worker_count,
            environment=environment | {"FUNNELWATCH_DATA_DIR": str(self._data_dir)},
            output=log,
            report=self._say,
        )
        thread = threading.Thread(target=self.workers.run, name="supervisor")
        thread.start()
        self._cleanup.callback(thread.join)
        self._cleanup.callback(self.workers.stop)
        self.watch = Watch(settings)
        self._cleanup.callback(self.watch.stop)
        self.watch.start()
        # A few larger batches a second: Tansu gets slower with each batch that a topic has.
        patient = settings.model_copy(update={"kafka_config": {**settings.kafka_config, "linger.ms": "500"}})
        self.traffic = Traffic(patient, self._plan)
        self._cleanup.callback(self.traffic.stop)

    def _start_board(self, environment: dict[str, str]) -> None:
        path = self._data_dir / "logs" / "board.log"
        board = Board(
            environment | {"FUNNELWATCH_DATA_DIR": str(self._data_dir)}, self._cleanup.enter_context(path.open("ab"))
        )
        self._say("The board: starting")
        # Workers and history do not wait for the board.
        thread = threading.Thread(target=self._open_board, args=(board, path), name="board")
        self._cleanup.callback(thread.join)
        self._cleanup.callback(board.stop)
        thread.start()

    def _open_board(self, board: Board, log: Path) -> None:
        began = time.monotonic()
        self.board_url = board.start()
        if self.board_url is None:
            if not board.stopping.is_set():
                self._say(f"The board did not start; see {log}. The demo goes on without it.")
            return
        took = f"ready in {time.monotonic() - began:.1f} s"
        self._say(f"The board: {took}, live in your browser: {self.board_url}?since=15m")
        if self._browse:
            show(f"{self.board_url}?since=15m")
        # Linux ends the board when the thread that started it ends (PR_SET_PDEATHSIG).
        board.stopping.wait()

    def _check_empty(self, settings: Settings) -> None:
        """Reject a database with counts: the user may have named a production database."""
        database = Database(settings.timescale_url)
        migrate(database, settings.window_ms)
        counted = CountStore(database).counted()
        database.close()
        if counted:
            raise DemoError(
                f"the database has {counted:,} counted events, but the demo needs an empty database: unset "
                "FUNNELWATCH_TIMESCALE_URL, or name another database"
            )

    def _backfill(self) -> None:
        assert self.traffic is not None
        assert self.watch is not None
        days = self._plan.history_days
        self._now(f"Backfilling {days:g} days of history through the same topics …")
        self.traffic.start()
        while not self.traffic.history_done.is_set():
            self._step()
        produced = self.traffic.history
        self._now(f"{produced:,} events of history produced; counting and evaluating them …")
        window_ms = self._plan.window_s * 1000
        self._until(
            lambda: (
                self._watch.seen.counted.done >= produced
                and (self._watch.seen.evaluated_through or 0) >= self._traffic.start_ms - 2 * window_ms
            ),
            CATCH_UP_S,
            "the workers do not catch up with the history",
        )
        self.watch.learn_expected(self.traffic.start_ms - self.traffic.start_ms % window_ms)

    def _normal(self) -> None:
        self._now("Live traffic flows, all is well.")
        window_ms = self._plan.window_s * 1000
        earliest = time.time_ns() // 1_000_000 + int(self._plan.normal_s * 1000)
        self.incident = self._traffic.begin_incident(earliest - earliest % window_ms + window_ms)
        self._until(lambda: time.time() * 1000 >= self._incident.start_ms, self._plan.normal_s + 2 * window_ms / 1000)

    def _trouble(self) -> None:
        self._now(f"INCIDENT: {STEP} on {OS} loses {self._plan.loss:.0%} of its successes. Waiting for the alert …")
        self._until(lambda: time.time() * 1000 >= self._incident.end_ms, self._plan.incident_s + 10)

    def _recovery(self) -> None:
        self._now("RECOVERY: the incident is over. Waiting for the alerts to resolve …")
        limit = time.monotonic() + self._plan.resolve_s
        while (not self.alerts("firing") or self._open_alerts()) and time.monotonic() < limit:
            self._step()

    def _finish(self) -> None:
        self._now("Finishing: waiting until every event is counted …")
        self._traffic.stop()
        produced = self._traffic.produced
        limit = time.monotonic() + FINISH_S
        while self._watch.seen.counted.done < produced and time.monotonic() < limit:
            self._step()

    def result(self) -> dict[str, Any]:
        """The result; ``ok`` is true without ``errors``."""
        services = self.stack.services if self.stack else {}
        counted = self._watch.counted()
        dead_letters = self._watch.dead_letters()
        incident = self.incident
        firing = self.alerts("firing")
        errors = []
        produced = self._traffic.produced
        if produced != counted + dead_letters:
            errors.append(f"{produced} events produced, but {counted} counted + {dead_letters} dead letters")
        if not firing:
            errors.append("no alert came")
        elif incident and firing[0].at - incident.start_ms / 1000 > ALERT_WITHIN_S:
            errors.append(f"the alert came later than {ALERT_WITHIN_S:g} s after the incident's start")
        if self._open_alerts():
            errors.append("the alert has not resolved")
        scraped = self.prometheus.agreement() if self.prometheus else None
        if scraped and not scraped["agrees"]:
            errors.append(f"Prometheus has the rates {scraped['prometheus']}, and SQL {scraped['sql']}")
        return {
            "ok": not errors,
            "errors": errors,
            "kafka": services["kafka"].program,
            "database": services["postgres"].program,
            "timescaledb": bool(self.stack and self.stack.timescaledb),
            "redis": services["redis"].program if services["redis"].is_used else None,
            "events_produced": produced,
            "events_counted": counted,
            "dead_letters": dead_letters,
            "duplicates": self._watch.seen.counted.duplicates,
            "board": self.board_url,
            "worker_restarts": self.workers.restarts if self.workers else 0,
            "live_since": _iso((self._traffic.live_since_ms or 0) / 1000),
            "incident": {
                "step": STEP,
                "os": OS,
                "loss": self._plan.loss,
                "start": _iso(incident.start_ms / 1000) if incident else None,
                "end": _iso(incident.end_ms / 1000) if incident else None,
            },
            "alert_after_s": round(firing[0].at - incident.start_ms / 1000, 1) if firing and incident else None,
            "prometheus": scraped,
            "alerts": [_alert_json(received) for received in self._watch.seen.alerts],
            "seconds": round(time.monotonic() - self._began, 1),
        }

    def close(self) -> None:
        """End everything that the demo started; remove its data and logs unless ``keep`` is set by now."""
        self._cleanup.close()

    def _remove(self, stack: Stack) -> None:
        stack.down(purge=not self.keep)
        if not self.keep:
            shutil.rmtree(self._data_dir / "prometheus", ignore_errors=True)
            (self._data_dir / FUNNELS_FILE).unlink(missing_ok=True)
            for folder in (self._data_dir, self._data_dir.parent):
                with suppress(OSError):  # the folder holds other files
                    folder.rmdir()

    def alerts(self, state: str) -> list[Received]:
        """The alerts on the incident's step since its start, in that state."""
        since = self.incident.start_ms / 1000 if self.incident else float("inf")
        return [
            received
            for received in self._watch.seen.alerts
            if received.alert["state"] == state and received.alert["step"] == STEP and received.at >= since
        ]

    def _open_alerts(self) -> set[str]:
        resolved = {received.alert["alert_id"] for received in self.alerts("resolved")}
        return {received.alert["alert_id"] for received in self.alerts("firing")} - resolved

    @property
    def _traffic(self) -> Traffic:
        assert self.traffic is not None
        return self.traffic

    @property
    def _watch(self) -> Watch:
        assert self.watch is not None
        return self.watch

    @property
    def _incident(self) -> Incident:
        assert self.incident is not None
        return self.incident

    def _now(self, happening: str) -> None:
        self.happening, self.happening_since = happening, time.monotonic()
        self._say(happening)

    def _until(self, condition: Callable[[], bool], limit_s: float, otherwise: str = "") -> None:
        limit = time.monotonic() + limit_s
        while not condition():
            if otherwise and time.monotonic() > limit:
                raise DemoError(f"{otherwise}, {limit_s:g} s long; see {self._data_dir / 'logs' / 'worker.log'}")
            self._step()

    def _step(self) -> None:
        """Read the figures once and print new alerts."""
        if self._traffic.error:
            raise DemoError(f"the traffic stopped: {self._traffic.error}")
        if self.workers and self.workers.failing:
            log = self._data_dir / "logs" / "worker.log"
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise DemoError(f"the workers end as soon as they start; the last lines of {log}:\n{last}")
        try:
            seen = self._watch.read()
        except (psycopg.OperationalError, redis.RedisError) as error:
            self._say(f"waiting for a server: {error}")
        else:
            now, done = time.monotonic(), seen.counted.done
            since, before = self._measured
            if now - since >= 1:
                self.per_second = (done - before) / (now - since)
                self._measured = (now, done)
            for received in seen.alerts[self._printed :]:
                self._printed += 1
                live_since = self._traffic.live_since_ms
                old = live_since is None or received.alert["window_start"] < live_since
                self._say(("in the history: " if old else "") + alert_line(received))
        self._observe(self)
        time.sleep(READ_EVERY_S)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _alert_json(received: Received) -> dict[str, Any]:
    alert = received.alert
    kept = (
        "alert_id",
        "sequence",
        "state",
        "reason",
        "rule",
        "severity",
        "step",
        "dimensions",
        "rate",
        "expected_rate",
    )
    times = {name: _iso(alert[name] / 1000) for name in ("started_at", "window_start", "window_end")}
    return {name: alert[name] for name in kept} | times | {"received_at": _iso(received.at)}
