"""The demo's events: history at once, then live traffic with an incident, and some records that are no events."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from funnelwatch.demo.plan import OS, STEP
from funnelwatch.producers.files.bulk import produce_events
from funnelwatch.producers.kafka.acked import AckedProducer, Message
from funnelwatch.producers.simulate.pacing import paced
from funnelwatch.producers.simulate.profile import Incident
from funnelwatch.producers.simulate.simulator import Simulator
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.times import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from funnelwatch.demo.plan import Plan
    from funnelwatch.schemas.settings import Settings

FOREVER_MS = 30 * DAY_MS


class TrafficError(FunnelwatchError, RuntimeError):
    """Events could not be produced."""


class Traffic:
    """Produces on a thread of its own: the history, then live until it is stopped."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings = settings
        self._plan = plan
        self._stop = threading.Event()
        self._incident: Incident | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.start_ms = time.time_ns() // 1_000_000
        self.history = 0
        self.live = 0
        self.garbage = 0
        self.history_done = threading.Event()
        self.live_since_ms: int | None = None
        self.error: str | None = None

    @property
    def produced(self) -> int:
        """Records handed to Kafka so far, garbage included."""
        return self.history + self.live + self.garbage

    def start(self) -> None:
        """Begin with the history."""
        self._thread.start()

    def stop(self) -> None:
        """End the live traffic; returns when everything produced is acknowledged.

        Raises:
            TrafficError: something was not.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(60)
        if self.error:
            raise TrafficError(self.error)

    def begin_incident(self, start_ms: int) -> Incident:
        """From ``start_ms`` on, which must be ahead, verification by SMS loses successes on iOS."""
        plan = self._plan
        end_ms = start_ms + int(plan.incident_s * 1000)
        self._incident = Incident(start_ms, end_ms, STEP, plan.loss, {"os": OS})
        return self._incident

    def _run(self) -> None:
        try:
            plan = self._plan
            history = Simulator(plan.profile, seed=plan.seed, rate=plan.history_rate)
            begin = self.start_ms - int(plan.history_days * DAY_MS)
            self._produce(history.events(begin, self.start_ms), self._set_history)
            self.history_done.set()
            if not self._stop.is_set():
                self._produce_garbage()
                self._produce(self._live(), self._set_live)
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self.history_done.set()

    def _set_history(self, count: int) -> None:
        self.history = count

    def _set_live(self, count: int) -> None:
        self.live = count

    def _produce(self, events: Iterator[Mapping[str, Any]], report: Callable[[int], None]) -> None:
        produced = produce_events(self._settings, self._until_stopped(events), report)
        report(produced.produced)
        if produced.failed:
            raise TrafficError(f"{produced.failed} events were not acknowledged: {produced.error}")

    def _until_stopped(self, events: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for event in events:
            if self._stop.is_set():
                return
            yield event

    def _live(self) -> Iterator[Mapping[str, Any]]:
        """Traffic from now on, each event at its time; from the incident's start with it.

        What would have happened while the history was produced is left out: sent afterwards, it would come late.
        """
        plan = self._plan
        self.live_since_ms = time.time_ns() // 1_000_000
        calm = Simulator(plan.profile, seed=plan.seed + 1, rate=plan.live_rate)
        for event in _in_real_time(calm, self.live_since_ms):
            if self._incident and event["ts"] >= self._incident.start_ms:
                break
            yield event
        assert self._incident is not None
        # The same seed: up to the incident it is the same traffic, so one goes over into the other.
        troubled = Simulator(plan.profile, seed=plan.seed + 1, rate=plan.live_rate, incidents=[self._incident])
        yield from _in_real_time(troubled, self._incident.start_ms)

    def _produce_garbage(self) -> None:
        """Records as broken clients send them, each of which becomes a dead letter."""
        encode = Encoder("FunnelEvent")
        good = {
            "event_id": "demo",
            "sign_up_session_id": "demo",
            "step": STEP,
            "os": OS,
            "phase": "IMPRESSION",
            "ts": self.start_ms,
        }
        kinds = [
            b"not Avro at all",
            b"",
            b"\xc3\x01" + bytes(8) + b"another schema",
            encode(good)[:-3],
            encode({**good, "step": "NO_SUCH_STEP"}),
            encode({**good, "sign_up_session_id": ""}),
            encode({**good, "ts": self.start_ms + 10 * DAY_MS}),
            encode({**good, "ts": self.start_ms // 1000}),
        ]
        topic = self._settings.events_topic
        try:
            AckedProducer(self._settings, "funnelwatch-demo").publish(
                Message(topic, f"garbage {number}", kinds[number % len(kinds)]) for number in range(self._plan.garbage)
            )
        except KafkaException as error:
            raise TrafficError(f"the broken records were not acknowledged: {error.args[0].str()}") from error
        self.garbage = self._plan.garbage


def _in_real_time(simulator: Simulator, start_ms: int) -> Iterator[Mapping[str, Any]]:
    """The events from ``start_ms`` on, each when the wall clock has reached its ts; what is due already, at once."""
    return paced(simulator.events(start_ms, start_ms + FOREVER_MS), time.time_ns() // 1_000_000)
