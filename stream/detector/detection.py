"""The detect agent's work on closed windows: cache a detector per funnel, evaluate, save states and outbox, publish.

A funnel's detector is made when its first window comes: history and states are read from the database, so a restart
or a rebalance forgets nothing. Windows that the recorded progress contains are passed over.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from funnelwatch.alert_rules.instruments import instruments
from funnelwatch.alert_rules.silences import muted, silence_of
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.funnels import dimensions_of
from funnelwatch.schemas.texts import legible
from funnelwatch.sinks.failpoints import failpoint
from funnelwatch.stream.detector.advice import advised
from funnelwatch.stream.detector.detector import Detector
from funnelwatch.stream.detector.grouping import Incidents
from funnelwatch.stream.detector.instrument import firing
from funnelwatch.stream.detector.pipeline import EVERY_FUNNEL
from funnelwatch.stream.detector.publisher import AlertPublisher
from funnelwatch.stream.detector.state import AlertState, Reason, retire
from funnelwatch.stream.worker import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from funnelwatch.alert_rules.instruments import Instrument
    from funnelwatch.alert_rules.loader import LiveRules
    from funnelwatch.schemas.codec import Registry
    from funnelwatch.schemas.count_block import Block
    from funnelwatch.schemas.counts import ClosedWindow
    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.alerts import AlertStore
    from funnelwatch.sinks.timescale.series_counts import SeriesCounts
    from funnelwatch.sinks.timescale.silences import SilenceStore
    from funnelwatch.stream.detector.state import Transition

log = logging.getLogger(__name__)

UNSAVED_WINDOWS = 500
"""While catching up, progress without any change of state is recorded after at most this many windows."""


@dataclass(slots=True)
class _Funnel:
    """The cached detector of one funnel, and the progress that the database has of it.

    ``last`` is the newest evaluated window; ``saves`` numbers the saves, so that a save by another worker is noticed.
    """

    name: str
    detector: Detector
    incidents: Incidents
    last: int | None
    saves: int


@dataclass(slots=True)
class _Unsaved:
    """The changes since the last save."""

    states: dict[str, str] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    windows: int = 0

    def add(self, moves: Iterable[Transition]) -> None:
        """Take transitions; of one series only the newest state is saved, but every message."""
        for move in moves:
            self.states[move.state.key] = move.state.to_json()
            if move.alert is not None:
                self.alerts.append(move.alert)


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
        declared: Funnels,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._declared = declared
        self._rules = rules
        self._counts = counts
        self._alerts = alerts
        self._silences = silences
        self._now_ms = now_ms
        self._funnels: dict[str, _Funnel] = {}
        self._logged_error: str | None = None
        self.publisher = AlertPublisher(settings, alerts, registry)

    def forget(self) -> None:
        """Drop all detectors: after a rebalance, when another worker may have gone on with a funnel."""
        self._funnels.clear()

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers the client that publishes alerts. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self.publisher.ask_kafka(timeout_s)

    def __call__(self, windows: Sequence[ClosedWindow]) -> list[dict[str, Any]]:
        """Evaluate closed windows of any funnels, in order; the alerts that were published.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; evaluate the same windows again.
            OvertakenError: another worker has gone on with the funnel; evaluate again what is then left.
        """
        published: list[dict[str, Any]] = []
        try:
            for name in self._declared_first(window.funnel for window in windows):
                own = [window for window in windows if window.funnel == name]
                self._evaluate(self._cached(name, own[0].window_start), own)
                published += self.publisher.publish(name)
        except Exception:
            # Windows that were evaluated and not saved are evaluated again, by detectors that have not seen them.
            self.forget()
            raise
        return published

    def follow_rules(self) -> None:
        """Adopt rules that were edited; to be called every few seconds, between windows.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; the rest is done when the next windows come.
            OvertakenError: another worker has gone on with a funnel.
        """
        adopted = self._rules.look()
        error = self._rules.error
        metrics.RULES_ERROR.set(error is not None)
        if error is not None and error != self._logged_error:
            metrics.RULES_REJECTED.inc()
            log.error("alert rules: rejected, the ones before go on: %s", error)
        self._logged_error = error
        if not adopted:
            return
        metrics.RULES_TAKEN.inc()
        log.info("alert rules: %d taken up, version %s", len(self._rules.rules.rules), self._rules.rules.version)
        funnels = self._declared_first(self._funnels)
        self.forget()
        try:
            for name in funnels:
                self._cached(name, 0)
                self.publisher.publish(name)
        except Exception:
            self.forget()
            raise

    def publish_muted(self) -> None:
        """Publish again what silences had muted and still fires now that they are over; call it every few seconds.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; call it again.
            OvertakenError: another worker has gone on with a funnel.
        """
        try:
            for name, funnel in self._funnels.items():
                messages = self._silences.muted(name)
                if not messages:
                    continue
                now = self._now_ms()
                silences = self._silences.after(now)
                over = [message for message in messages if silence_of(message, silences, now) is None]
                incidents, detector, why = funnel.incidents, funnel.detector, Reason.SILENCE_ENDED
                moves = [
                    move for message in over
                    if (move := incidents.renotify(message, why) or detector.renotify(message, why))
                ]  # fmt: skip
                if moves:
                    self._save_moves(funnel, moves)
                    self.publisher.publish(name)
        except Exception:
            self.forget()
            raise

    def _declared_first(self, funnels: Iterable[str]) -> list[str]:
        """Each funnel once, declared ones first, so that invented names do not delay them."""
        return sorted(dict.fromkeys(funnels), key=lambda funnel: funnel not in self._declared)

    # Cache

    def _cached(self, name: str, first_window: int) -> _Funnel:
        """The funnel's detector, made now if there is none; ``first_window`` is the first that it evaluates."""
        if name not in self._funnels:
            # Only a detector that has learned its whole history is kept: an outage in between leaves none.
            self._funnels[name] = self._begin(name, first_window)
        return self._funnels[name]

    def _begin(self, name: str, first_window: int) -> _Funnel:
        rules, window_ms = self._rules.rules, self._settings.window_ms
        detector = Detector(name, rules, window_ms, dimensions_of(name, self._declared))
        # Read before the states: a save by another worker in between then fails this worker's next save.
        saves = self._alerts.saves(name)
        last = self._alerts.last_window(name)
        states = {state.key: state for state in map(AlertState.from_json, self._alerts.states(name))}
        incidents = Incidents(window_ms, states.values(), self._alerts.last_message)
        funnel = _Funnel(name, detector, incidents, last, saves)
        retired = incidents.group(
            retire(states.values(), rules.about(name), self._alerts.last_message, dimensions_of(name, self._declared))
        )
        if retired and last is not None:
            self._save_moves(funnel, retired)
            states |= {move.state.key: move.state for move in retired}
        # The history ends where the detector stopped; newer windows are still to come to it.
        until = first_window if last is None else max(first_window, last + window_ms)
        for chunk in self._counts.chunks(
            name, until - detector.history_ms, until, with_sessions=detector.counts_sessions
        ):
            for block in chunk.every_block(window_ms):
                detector.learn(block)
        detector.restore(states.values())
        log.info("funnel %s: detector begins at window %s", legible(name), until)
        return funnel

    # Evaluate

    def _evaluate(self, funnel: _Funnel, windows: Sequence[ClosedWindow]) -> None:
        """Evaluate windows of one funnel in order, and save."""
        signals = self._firing_signals()
        unsaved = _Unsaved()
        matured = self._matured(funnel, windows)
        for window in windows:
            last = funnel.last
            if last is not None and window.window_start <= last and window.revision == 0:
                # The closer publishes windows again after a crash; the database has what followed from this one.
                continue
            for maturity_ms in funnel.detector.maturities_ms:
                if block := matured.pop(window.window_start - maturity_ms, None):
                    funnel.detector.mature(block)
            unsaved.add(funnel.incidents.group(funnel.detector.observe_live(window, self._now_ms(), signals)))
            metrics.EVALUATED.labels(funnel.name).inc()
            funnel.last = max(window.window_start, last or window.window_start)
            unsaved.windows += 1
            if unsaved.windows >= UNSAVED_WINDOWS:
                self._save(funnel, unsaved)
                unsaved = _Unsaved()
        if unsaved.windows:
            self._save(funnel, unsaved)

    def _matured(self, funnel: _Funnel, windows: Sequence[ClosedWindow]) -> dict[int, Block]:
        """The counts, by start, of the windows that these let mature: a closed window has what was known as it closed.

        They are read when they are evaluated, and not published again: every window would be.
        """
        maturities = funnel.detector.maturities_ms
        starts = [one.window_start for one in windows if funnel.last is None or one.window_start > funnel.last]
        if not maturities or not starts:
            return {}
        wanted = {start - maturity_ms for start in starts for maturity_ms in maturities}
        chunks = self._counts.chunks(
            funnel.name, min(wanted), max(wanted) + 1, with_sessions=funnel.detector.counts_sessions
        )
        blocks = (
            block.part(row, row + 1, self._settings.window_ms)
            for chunk in chunks
            for block in chunk.every_block(self._settings.window_ms)
            for row in range(len(block))
        )
        return {block.start: block for block in blocks if block.start in wanted}

    def _firing_signals(self) -> list[tuple[Instrument, AlertState]]:
        """The signals of the pipeline that fire: they inhibit the alerts that they explain."""
        states = map(AlertState.from_json, self._alerts.states(EVERY_FUNNEL))
        return firing(instruments(self._rules.rules, EVERY_FUNNEL), states)

    # Save

    def _save(self, funnel: _Funnel, unsaved: _Unsaved) -> None:
        """Save progress, states and outbox in one transaction; silences are applied to what goes into the outbox."""
        assert funnel.last is not None
        failpoint("windows_evaluated")
        alerts = unsaved.alerts
        if alerts:
            now = self._now_ms()
            silences = self._silences.after(now)
            alerts = [muted(advised(alert, self._settings.grafana_url), silences, now) for alert in alerts]
        funnel.saves = self._alerts.save(funnel.name, funnel.last, unsaved.states, alerts, funnel.saves)

    def _save_moves(self, funnel: _Funnel, moves: Sequence[Transition]) -> None:
        """Save transitions that no window has caused."""
        unsaved = _Unsaved()
        unsaved.add(moves)
        self._save(funnel, unsaved)
