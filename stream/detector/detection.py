"""What the detect agent does with closed windows: judge them, keep states and outbox, publish alerts.

A funnel's detector is made when its first window comes: history and states are read from the database, so a restart
or a rebalance forgets nothing. What was judged before is known by the recorded progress and passed over.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from funnelwatch.alert_rules.instruments import instruments
from funnelwatch.alert_rules.silences import muted, silence_of
from funnelwatch.producers.kafka.acked import AckedProducer, Message
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.texts import legible
from funnelwatch.sinks.failpoints import point
from funnelwatch.stream.detector.advice import advised
from funnelwatch.stream.detector.detector import Detector
from funnelwatch.stream.detector.grouping import Incidents
from funnelwatch.stream.detector.instrument import firing
from funnelwatch.stream.detector.pipeline import EVERY_FUNNEL
from funnelwatch.stream.detector.retire import retire
from funnelwatch.stream.detector.state import AlertState, Reason
from funnelwatch.stream.worker import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence
    from typing import Any

    from funnelwatch.alert_rules.live import LiveRules
    from funnelwatch.schemas.codec import Registry
    from funnelwatch.schemas.counts import ClosedWindow
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.alerts import AlertStore
    from funnelwatch.sinks.timescale.series_counts import SeriesCounts
    from funnelwatch.sinks.timescale.silences import SilenceStore
    from funnelwatch.stream.detector.state import Transition

log = logging.getLogger(__name__)

UNSAVED_WINDOWS = 500
"""While catching up, progress without any change of state is recorded after at most this many windows."""


class Detection:
    """The detectors of the funnels that this worker has, on one thread."""

    def __init__(
        self,
        *,
        settings: Settings,
        rules: LiveRules,
        counts: SeriesCounts,
        alerts: AlertStore,
        silences: SilenceStore,
        registry: Registry | None,
        declared: Container[str] = (),
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._declared = declared
        self._rules = rules
        self._counts = counts
        self._alerts = alerts
        self._silences = silences
        self._now_ms = now_ms
        self._encode = Encoder("Alert", registry)
        self._detectors: dict[str, Detector] = {}
        self._incidents: dict[str, Incidents] = {}
        self._last: dict[str, int | None] = {}
        self._saves: dict[str, int] = {}
        self._told_fault: str | None = None
        self._producer = AckedProducer(settings, "funnelwatch-detector")

    def forget(self) -> None:
        """Drop all detectors: after a rebalance, when another worker may have gone on with a funnel."""
        self._detectors.clear()
        self._incidents.clear()
        self._last.clear()
        self._saves.clear()

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers this client. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._producer.ask_kafka(self._settings.alerts_topic, timeout_s)

    def __call__(self, windows: Sequence[ClosedWindow]) -> list[dict[str, Any]]:
        """Judge closed windows of any funnels, in order; the alerts that were published.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; judge the same windows again.
            OvertakenError: another worker has gone on with the funnel; judge again what is then left to judge.
        """
        published: list[dict[str, Any]] = []
        try:
            for funnel in self._declared_first(window.funnel for window in windows):
                self._judge(funnel, [window for window in windows if window.funnel == funnel])
                published += self.publish(funnel)
        except Exception:
            # What was judged and not saved is judged again, by detectors that have not seen it.
            self.forget()
            raise
        return published

    def follow_rules(self) -> None:
        """Take up rules that were edited; to be called every few seconds, between windows.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; the rest is done when the next windows come.
            OvertakenError: another worker has gone on with a funnel.
        """
        taken = self._rules.look()
        fault = self._rules.fault
        metrics.RULES_FAULT.set(fault is not None)
        if fault is not None and fault != self._told_fault:
            metrics.RULES_REJECTED.inc()
            log.error("alert rules: rejected, the ones before go on: %s", fault)
        self._told_fault = fault
        if not taken:
            return
        metrics.RULES_TAKEN.inc()
        log.info("alert rules: %d taken up, version %s", len(self._rules.rules.rules), self._rules.rules.version)
        funnels = self._declared_first(self._detectors)
        self.forget()
        try:
            for funnel in funnels:
                self._detectors[funnel] = self._begin(funnel, 0)
                self.publish(funnel)
        except Exception:
            self.forget()
            raise

    def _declared_first(self, funnels: Iterable[str]) -> list[str]:
        """Each funnel once, those that were declared first, so that invented names do not delay them."""
        return sorted(dict.fromkeys(funnels), key=lambda funnel: funnel not in self._declared)

    def publish_muted(self) -> None:
        """Say what silences had muted and what still fires now that they are over; to be called every few seconds.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; call it again.
            OvertakenError: another worker has gone on with a funnel.
        """
        try:
            for funnel, detector in self._detectors.items():
                muted = self._silences.muted(funnel)
                if not muted:
                    continue
                now = self._now_ms()
                silences = self._silences.after(now)
                over = [said for said in muted if silence_of(said, silences, now) is None]
                incidents, why = self._incidents[funnel], Reason.SILENCE_ENDED
                moves = [move for said in over if (move := incidents.again(said, why) or detector.again(said, why))]
                if moves:
                    self._save_moves(funnel, moves)
                    self.publish(funnel)
        except Exception:
            self.forget()
            raise

    def _judge(self, funnel: str, windows: Sequence[ClosedWindow]) -> None:
        detector = self._detectors.get(funnel)
        if detector is None:
            detector = self._detectors[funnel] = self._begin(funnel, windows[0].window_start)
        pipeline = map(AlertState.from_json, self._alerts.states(EVERY_FUNNEL))
        fires = firing(instruments(self._rules.rules, EVERY_FUNNEL), pipeline)
        states: dict[str, str] = {}
        alerts: list[dict[str, Any]] = []
        unsaved = 0
        for window in windows:
            last = self._last[funnel]
            if last is not None and window.window_start <= last and window.revision == 0:
                continue
            found = detector.observe_live(window, self._now_ms(), fires)
            for transition in self._incidents[funnel].group(found):
                states[transition.state.key] = transition.state.to_json()
                if transition.alert is not None:
                    alerts.append(transition.alert)
            metrics.JUDGED.labels(funnel).inc()
            self._last[funnel] = max(window.window_start, last or window.window_start)
            unsaved += 1
            if unsaved >= UNSAVED_WINDOWS:
                self._save(funnel, states, alerts)
                states, alerts, unsaved = {}, [], 0
        if unsaved:
            self._save(funnel, states, alerts)

    def _save(self, funnel: str, states: dict[str, str], alerts: list[dict[str, Any]]) -> None:
        last = self._last[funnel]
        assert last is not None
        point("windows_judged")
        if alerts:
            now = self._now_ms()
            silences = self._silences.after(now)
            alerts = [muted(advised(alert, self._settings.grafana_url), silences, now) for alert in alerts]
        self._saves[funnel] = self._alerts.save(funnel, last, states, alerts, self._saves[funnel])

    def _save_moves(self, funnel: str, moves: Sequence[Transition]) -> None:
        """Save what no window has caused."""
        states = {move.state.key: move.state.to_json() for move in moves}
        self._save(funnel, states, [move.alert for move in moves if move.alert is not None])

    def _begin(self, funnel: str, first_window: int) -> Detector:
        rules = self._rules.rules
        detector = Detector(funnel, rules, self._settings.window_ms)
        self._saves[funnel] = self._alerts.saves(funnel)
        last = self._alerts.last_window(funnel)
        states = {state.key: state for state in map(AlertState.from_json, self._alerts.states(funnel))}
        incidents = self._incidents[funnel] = Incidents(
            self._settings.window_ms, states.values(), self._alerts.last_message
        )
        retired = incidents.group(retire(states.values(), rules.about(funnel), self._alerts.last_message))
        if retired and last is not None:
            self._last[funnel] = last
            self._save_moves(funnel, retired)
            states |= {move.state.key: move.state for move in retired}
        # Up to what was judged last the history is what the detector has seen; what is newer it is about to see.
        until = first_window if last is None else max(first_window, last + self._settings.window_ms)
        for chunk in self._counts.chunks(funnel, until - detector.history_ms, until):
            for block in chunk.every_block(self._settings.window_ms):
                detector.learn(block)
        detector.restore(states.values())
        self._last[funnel] = last
        log.info("funnel %s: detector begins at window %s", legible(funnel), until)
        return detector

    def publish(self, funnel: str) -> list[dict[str, Any]]:
        """Publish what is in a funnel's outbox; done once Kafka has acknowledged it."""
        outbox = self._alerts.outbox(funnel)
        metrics.OUTBOX.labels(funnel).set(len(outbox))
        if not outbox:
            return []
        point("alerts_saved")
        self.send(outbox)
        point("alerts_published")
        self._alerts.published(outbox)
        metrics.OUTBOX.labels(funnel).set(0)
        for alert in outbox:
            metrics.ALERTS.labels(alert["state"], alert["reason"]).inc()
            log.warning(
                "ALERT %s %s: %s %s %s%s",
                alert["state"], alert["reason"], legible(funnel), legible(alert["step"]), alert["dimensions"],
                f" (muted by silence {silence})" if (silence := alert.get("silenced_by")) else "",
            )  # fmt: skip
        return outbox

    def send(self, alerts: Sequence[dict[str, Any]]) -> None:
        """Publish messages; returns once Kafka has acknowledged them.

        Raises:
            KafkaException: it has not.
        """
        topic = self._settings.alerts_topic
        self._producer.publish(Message(topic, alert["alert_id"], self._encode(alert)) for alert in alerts)
