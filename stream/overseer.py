"""Watches the pipeline as a whole, between windows: its instrumentation alerts and the heartbeat of the alerting.

One worker does it at a time, by a lock of the database that its session holds. What is to be remembered is in the
database, under the funnel ``*``, guarded as that of the funnels: whoever was frozen writes nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from alert_rules.instruments import instruments
from stream.aggregate import wall_clock_ms
from stream.detector.advice import advised
from stream.detector.pipeline import EVERY_FUNNEL, Look, PipelineWatch
from stream.detector.retire import retire
from stream.detector.silence import muted, silence_of
from stream.detector.state import AlertState, Reason, Transition
from stream.detector.watchdog import heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alert_rules.live import LiveRules
    from funnelwatch.settings import Settings
    from sinks.timescale.alerts import AlertStore
    from sinks.timescale.pipeline import PipelineStore
    from sinks.timescale.silences import SilenceStore

log = logging.getLogger(__name__)


class Overseer:
    """The one that watches the pipeline, or waits to become it; on the thread that detects.

    Args:
        settings: topics, and how often the heartbeat is to be said.
        rules: as they are now.
        store: what is known of the pipeline.
        alerts: states and outbox.
        silences: of operators.
        partitions: how many partitions the events topic has; asks Kafka.
        publish: publishes the outbox of a funnel.
        send: publishes messages that no outbox has.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        rules: LiveRules,
        store: PipelineStore,
        alerts: AlertStore,
        silences: SilenceStore,
        partitions: Callable[[], int],
        publish: Callable[[str], object],
        send: Callable[[Sequence[dict[str, Any]]], None],
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._store = store
        self._alerts = alerts
        self._silences = silences
        self._partitions = partitions
        self._publish = publish
        self._send = send
        self._now_ms = now_ms
        self._watch: PipelineWatch | None = None
        self._version = ""
        self._saves = 0
        self._beat = -1

    def round(self) -> None:
        """Look once, and say what there is to say.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; what was not said is said by a later round.
            OvertakenError: another worker watches by now.
        """
        try:
            self._round()
        except Exception:
            self._watch = None
            raise

    def _round(self) -> None:
        topic = self._settings.events_topic
        if not self._store.is_overseer(topic):
            self._watch = None
            return
        watch = self._watch
        if watch is None or self._version != self._rules.rules.version:
            watch = self._begin()
        now = self._now_ms()
        moves = watch.observe(Look(now, self._store.look(topic), self._partitions()))
        moves += self._withheld(watch, now)
        self._save(now, moves)
        self._watch = watch
        self._publish(EVERY_FUNNEL)
        self._say_heartbeat(now)

    def _begin(self) -> PipelineWatch:
        """A watch of the rules as they are now, with what an earlier one has left."""
        self._version = self._rules.rules.version
        rules = instruments(self._rules.rules, EVERY_FUNNEL)
        self._saves = self._alerts.saves(EVERY_FUNNEL)
        states = {state.key: state for state in map(AlertState.from_json, self._alerts.states(EVERY_FUNNEL))}
        retired = retire(states.values(), rules, self._alerts.last_message)
        self._save(self._now_ms(), retired)
        states |= {move.state.key: move.state for move in retired}
        log.info("this worker watches the pipeline as a whole")
        return PipelineWatch(rules, states.values())

    def _withheld(self, watch: PipelineWatch, now: int) -> list[Transition]:
        """What silences had muted and still fires now that they are over."""
        withheld = self._silences.withheld(EVERY_FUNNEL)
        silences = self._silences.after(now) if withheld else []
        over = [said for said in withheld if silence_of(said, silences, now) is None]
        return [move for said in over if (move := watch.again(said, Reason.SILENCE_ENDED))]

    def _save(self, now: int, moves: Sequence[Transition]) -> None:
        if not moves:
            return
        alerts = [move.alert for move in moves if move.alert is not None]
        silences = self._silences.after(now) if alerts else []
        states = {move.state.key: move.state.to_json() for move in moves}
        said = [muted(advised(alert, self._settings.grafana_url), silences, now) for alert in alerts]
        self._saves = self._alerts.save(EVERY_FUNNEL, now, states, said, self._saves)

    def _say_heartbeat(self, now: int) -> None:
        every_ms = round(self._settings.watchdog_every_s * 1000)
        if not every_ms:
            return
        beat = heartbeat(now, every_ms, self._version)
        if beat["sequence"] != self._beat:
            self._send([beat])
            self._beat = beat["sequence"]
