"""Evaluates the pipeline as a whole, and counters and timers, between windows; publishes the heartbeat of the alerting.

One worker does it at a time, by a lock of the database that its session holds. Its state is in the
database, under the funnel ``*``, guarded as that of the funnels: a worker that was frozen writes nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.instruments import instruments
from funnelwatch.alert_rules.metrics import MetricChangeRule, metric_rules
from funnelwatch.alert_rules.silences import muted, silence_of
from funnelwatch.alert_rules.watchdog import heartbeat
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.pipeline import PipelineSnapshot
from funnelwatch.schemas.times import window_start
from funnelwatch.stream.detector.advice import advised
from funnelwatch.stream.detector.metrics import MetricEvaluator, MetricSnapshot
from funnelwatch.stream.detector.pipeline import EVERY_FUNNEL, PipelineEvaluator
from funnelwatch.stream.detector.state import AlertState, Reason, Transition, retire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from funnelwatch.alert_rules.loader import LiveRules
    from funnelwatch.alert_rules.metrics import MetricRules
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.alerts import AlertStore
    from funnelwatch.sinks.timescale.metric_counts import MetricStore, MetricTotal
    from funnelwatch.sinks.timescale.pipeline import PipelineStore
    from funnelwatch.sinks.timescale.silences import SilenceStore

log = logging.getLogger(__name__)

COUNTED_WITHIN_MS = 3_000
"""A sample of a counter or timer that is on time is counted within this, ms."""


class PipelineMonitor:
    """Watches the pipeline, or waits until no other worker does; on the thread that detects.

    Args:
        settings: topics, and how often the heartbeat is published.
        rules: as they are now.
        store: what is known of the pipeline.
        metrics: counters and timers.
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
        metrics: MetricStore,
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
        self._metrics = metrics
        self._alerts = alerts
        self._silences = silences
        self._partitions = partitions
        self._publish = publish
        self._send = send
        self._now_ms = now_ms
        self._evaluator: PipelineEvaluator | None = None
        self._logged_version = ""
        self._metric_evaluator = MetricEvaluator((), (), settings.window_ms)
        self._evaluated_until = -1
        self._version = ""
        self._saves = 0
        self._beat = -1

    def round(self) -> None:
        """Take one snapshot, and publish what follows.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; what was not message is message by a later round.
            OvertakenError: another worker evaluators by now.
        """
        try:
            self._round()
        except Exception:
            self._evaluator = None
            raise

    def _round(self) -> None:
        topic = self._settings.events_topic
        if not self._store.is_monitor(topic):
            self._evaluator, self._logged_version = None, ""
            return
        evaluator = self._evaluator
        if evaluator is None or self._version != self._rules.rules.version:
            evaluator = self._begin()
        now = self._now_ms()
        moves = evaluator.observe(PipelineSnapshot(now, self._store.look(topic), self._partitions()))
        moves += self._evaluate_metrics(now)
        moves += self._muted(evaluator, now)
        self._save(now, moves)
        self._evaluator = evaluator
        self._publish(EVERY_FUNNEL)
        self._say_heartbeat(now)

    def _begin(self) -> PipelineEvaluator:
        """A evaluator of the rules as they are now, with what an earlier one has left."""
        self._version = self._rules.rules.version
        rules, about_metrics = instruments(self._rules.rules, EVERY_FUNNEL), metric_rules(self._rules.rules)
        self._saves = self._alerts.saves(EVERY_FUNNEL)
        states = {state.key: state for state in map(AlertState.from_json, self._alerts.states(EVERY_FUNNEL))}
        retired = retire(states.values(), (*rules, *about_metrics), self._alerts.last_message)
        self._save(self._now_ms(), retired)
        states |= {move.state.key: move.state for move in retired}
        if self._logged_version != self._version:  # not again after each outage
            log.info("this worker watches the pipeline as a whole, by rules %s", self._version)
            self._logged_version = self._version
        self._metric_evaluator = MetricEvaluator(about_metrics, states.values(), self._settings.window_ms)
        self._evaluated_until = -1
        return PipelineEvaluator(rules, states.values())

    def _evaluate_metrics(self, now: int) -> list[Transition]:
        """Evaluate counters and timers once a window, when what is on time is counted."""
        settings = self._settings
        end = window_start(now - int(settings.allowed_disorder_s * 1000) - COUNTED_WITHIN_MS, settings.window_ms)
        if end <= self._evaluated_until:
            return []
        snapshots = {rule.alert: self._snapshots(rule, end) for rule in self._metric_evaluator.rules}
        self._evaluated_until = end
        return self._metric_evaluator.observe(end, snapshots)

    def _snapshots(self, rule: MetricRules, end: int) -> list[MetricSnapshot]:
        """A rule's counter or timer over the span that ends then.

        What was first seen within it is left out: before that it was not silent, it was not there.
        """

        def read(until: int) -> dict[tuple[tuple[str, str], ...], MetricTotal]:
            found = self._metrics.read(until - rule.over_ms, until, rule.metric, rule.by, rule.where, zeros=True)
            return {tuple(sorted(one.dimensions.items())): one for one in found}

        before = read(end - rule.offset_ms) if isinstance(rule, MetricChangeRule) else {}
        snapshots = []
        for key, one in read(end).items():
            if one.first_seen > end - rule.over_ms:
                continue
            was = before.get(key)
            snapshots.append(
                MetricSnapshot(
                    dict(key),
                    one.samples,
                    one.value(rule.value),
                    was.samples if was else 0,
                    was.value(rule.value) if was else None,
                )
            )
        return snapshots

    def _muted(self, evaluator: PipelineEvaluator, now: int) -> list[Transition]:
        """Alerts that a silence muted and that still fire after its end."""
        muted = self._silences.muted(EVERY_FUNNEL)
        silences = self._silences.after(now) if muted else []
        over = [message for message in muted if silence_of(message, silences, now) is None]
        evaluators = (evaluator, self._metric_evaluator)
        return [move for message in over for one in evaluators if (move := one.renotify(message, Reason.SILENCE_ENDED))]

    def _save(self, now: int, moves: Sequence[Transition]) -> None:
        if not moves:
            return
        alerts = [move.alert for move in moves if move.alert is not None]
        silences = self._silences.after(now) if alerts else []
        states = {move.state.key: move.state.to_json() for move in moves}
        message = [muted(advised(alert, self._settings.grafana_url), silences, now) for alert in alerts]
        self._saves = self._alerts.save(EVERY_FUNNEL, now, states, message, self._saves)

    def _say_heartbeat(self, now: int) -> None:
        every_ms = round(self._settings.watchdog_every_s * 1000)
        if not every_ms:
            return
        beat = heartbeat(now, every_ms, self._version)
        if beat["sequence"] != self._beat:
            self._send([beat])
            self._beat = beat["sequence"]
