"""The worker of a route over its queue in the database: attempts, results, dropped messages, and resolved alerts."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pydantic import PrivateAttr

from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.sinks.alerts import route_worker as route_workers
from funnelwatch.sinks.alerts.delivery import DeliveryResult, Outcome
from funnelwatch.sinks.alerts.receiver import Receiver, When
from funnelwatch.sinks.alerts.route_worker import RouteWorker
from funnelwatch.sinks.alerts.routes import parse_routes
from funnelwatch.sinks.retry import Backoff
from funnelwatch.sinks.timescale.notifications import NotificationQueue, Queued, RouteStore
from tests.alerts import alert
from tests.slow_servers import mail_script, serving
from tests.stack import wait_until
from tests.traffic import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.notifications import Result

NO_PAUSE = Backoff(first_s=0.0, longest_s=0.0)


class Fake(Receiver):
    """A receiver that answers as it is told, and takes everything once it is told nothing more."""

    _answers: list[Outcome | Exception] = PrivateAttr(default_factory=list)
    _got: list[tuple[str, int, str]] = PrivateAttr(default_factory=list)

    @property
    def got(self) -> list[tuple[str, int, str]]:
        """Every message that it was sent."""
        return self._got

    def answer(self, *outcomes: Outcome | Exception) -> None:
        """Answer the next messages so."""
        self._answers[:] = outcomes

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """Take a message."""
        self._got.append((alert["alert_id"], alert["sequence"], alert["state"]))
        outcome = self._answers.pop(0) if self._answers else Outcome.SENT
        if isinstance(outcome, Exception):
            raise outcome
        return DeliveryResult(outcome, f"says {outcome}")


class Scenario:
    """Route workers of one route on one database."""

    def __init__(self, settings: Settings, connect: Callable[[], Database]) -> None:
        self.settings = settings
        self.queue = NotificationQueue(connect())
        self.route_workers: list[RouteWorker] = []

    def route_worker(self, route: Receiver, store: RouteStore | None = None) -> RouteWorker:
        """A route worker that the test moves on by itself."""
        store = store or RouteStore(self.settings.timescale_url, route.name)
        self.route_workers.append(RouteWorker(route, store, now_ms, NO_PAUSE))
        return self.route_workers[-1]

    def publish(self, message: dict[str, Any], noted_as: str | None = None) -> None:
        """Queue a message as the notifier does."""
        known = message["state"] == "resolved" or noted_as is not None
        self.queue.queue(message, [Queued("r", only_if_known=known, noted_as=noted_as)])

    def outcomes(self) -> list[tuple[str, int, str | None, int]]:
        """Alert, sequence, outcome and attempts of every message of the log."""
        rows = self.queue.recent(100, "r")
        return sorted(
            (row["alert"]["alert_id"], row["alert"]["sequence"], row["outcome"], row["attempts"]) for row in rows
        )


@pytest.fixture
def scenario(settings: Settings, connect: Callable[[], Database]) -> Iterator[Scenario]:
    """A queue and its route_workers, which are closed in the end."""
    made = Scenario(settings, connect)
    yield made
    for route_worker in made.route_workers:
        route_worker.close()


def fake(*, give_up_after_s: float = 60.0) -> Fake:
    """A receiver that takes everything."""
    return Fake(name="r").model_copy(update={"give_up_after": give_up_after_s})


def steps(route_worker: RouteWorker, number: int = 6) -> None:
    """Move a route worker on."""
    for _ in range(number):
        route_worker.step()


def test_a_mail_server_that_is_slower_than_the_session_may_idle_gets_one_copy(
    settings: Settings, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker keeps its route while it sends: it notes the result, and no other notifier sends the same."""
    monkeypatch.setattr("funnelwatch.sinks.timescale.notifications.HELD_S", 1.5)
    monkeypatch.setattr(route_workers, "KEEP_EVERY_S", 0.2)
    monkeypatch.setattr(route_workers, "STANDBY_S", 0.1)
    monkeypatch.setattr(route_workers, "IDLE_S", 0.1)
    with serving(mail_script(0.4)) as slow:
        people = [f"{name}@example.com" for name in "abcde"]
        mail = {"host": HOST, "port": slow.port, "tls": "none", "from": "f@example.com", "to": people}
        [route] = parse_routes(json.dumps({"routes": [{"name": "r", "kind": "email", **mail}]}), "f", {})
        both = [RouteWorker(route, RouteStore(settings.timescale_url, "r"), now_ms, NO_PAUSE) for _ in range(2)]
        scenario.publish(alert())
        for route_worker in both:
            route_worker.start()
        wait_until(lambda: scenario.outcomes() == [("a-1", 0, "sent", 1)], "it is sent and noted")
        for route_worker in both:
            route_worker.stop()
            route_worker.join()
    assert len(slow.requests) == 1


def test_a_lane_that_is_to_stop_does_not_wait_for_a_slow_receiver(
    settings: Settings, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt stays noted as under way, so that "resolved" is sent to who may have the message."""
    monkeypatch.setattr(route_workers, "TICK_S", 0.05)
    monkeypatch.setattr(route_workers, "STOP_S", 0.2)
    release, sending = threading.Event(), threading.Event()

    class Slow(Fake):
        def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
            sending.set()
            assert release.wait(90)
            return DeliveryResult(Outcome.SENT, "at last")

    route_worker = RouteWorker(Slow(name="r"), RouteStore(settings.timescale_url, "r"), now_ms, NO_PAUSE)
    scenario.publish(alert())
    route_worker.start()
    assert sending.wait(60)
    route_worker.stop()
    route_worker.join()
    release.set()
    receiver = fake()
    scenario.publish(alert("resolved", sequence=1))
    steps(scenario.route_worker(receiver), 2)
    assert receiver.got == [("a-1", 1, "resolved")]


def test_what_is_taken_without_an_answer_is_repeated_a_few_times_and_blocks_nothing(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each repetition waits for its pause; after the last one the receiver is not bothered any more."""
    receiver = fake()
    receiver.answer(Outcome.UNANSWERED)
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert(alert_id="a"))
    steps(route_worker, 3)
    scenario.publish(alert(alert_id="b"))
    steps(route_worker, 3)
    assert receiver.got == [("a", 0, "firing"), ("b", 0, "firing")]  # the pause of a is a minute

    monkeypatch.setattr(route_workers, "UNANSWERED_PAUSES_S", (0.0, 0.0, 0.0))
    receiver.answer(*[Outcome.UNANSWERED] * 100)
    scenario.publish(alert(alert_id="c"))
    steps(route_worker, 20)
    assert receiver.got.count(("c", 0, "firing")) == 4
    assert scenario.outcomes() == [("a", 0, None, 1), ("b", 0, "sent", 1), ("c", 0, "unanswered", 4)]


def test_a_result_is_noted_though_the_database_was_away_meanwhile(settings: Settings, scenario: Scenario) -> None:
    """The receiver has the message: that the log did not hear of it is no reason to send it again."""

    class Away(RouteStore):
        failures = 3

        def note(self, result: Result) -> None:
            if self.failures:
                self.failures -= 1
                raise psycopg.OperationalError("terminating connection due to idle-session timeout")
            super().note(result)

    receiver = fake()
    store = Away(settings.timescale_url, "r")
    route_worker = scenario.route_worker(receiver, store)
    scenario.publish(alert())
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            route_worker.step()
    steps(route_worker, 3)
    assert (len(receiver.got), store.failures) == (1, 0)
    assert scenario.outcomes() == [("a-1", 0, "sent", 1)]


@pytest.mark.parametrize(
    ("late", "outcome"), [(Outcome.SENT, "sent"), (Outcome.LATER, None), (Outcome.UNANSWERED, None)]
)
def test_of_a_notifier_that_was_overtaken_only_that_it_has_sent_counts(
    settings: Settings, scenario: Scenario, late: Outcome, outcome: str | None
) -> None:
    """Its result comes after another has begun an attempt of its own, which is not disturbed by a failure."""
    slow, quick = RouteStore(settings.timescale_url, "r"), RouteStore(settings.timescale_url, "r")
    message = alert()
    scenario.publish(message)
    release, sending = threading.Event(), threading.Event()

    class Frozen(Fake):
        def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
            sending.set()
            assert release.wait(60)
            return DeliveryResult(late, "late")

    frozen = scenario.route_worker(Frozen(name="r"), slow)
    thread = threading.Thread(target=frozen.step)
    thread.start()
    assert sending.wait(60)
    assert quick.begin(message) == 2  # as after the end of the first one's session
    release.set()
    thread.join()
    assert scenario.outcomes() == [("a-1", 0, outcome, 2)]
    quick.close()


def test_a_bug_in_one_message_is_logged_once_and_final(scenario: Scenario, caplog: pytest.LogCaptureFixture) -> None:
    """The same message would fail again: no traceback a minute for a day, and the log of notifications shows it."""
    receiver = fake()
    receiver.answer(*[ValueError("Header values may not contain linefeed")] * 9)
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert(rule="R\nFAKED 2026 log line"))
    steps(route_worker)
    assert scenario.outcomes() == [("a-1", 0, "rejected", 1)]
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert not [record for record in caplog.records if "\n" in record.getMessage()]


def test_a_route_that_is_down_is_logged_once_and_not_at_every_attempt(
    scenario: Scenario, caplog: pytest.LogCaptureFixture
) -> None:
    """A day's outage is a few lines; another reason is a line of its own."""
    receiver = fake()
    receiver.answer(*[Outcome.LATER] * 20)
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert())
    steps(route_worker, 20)
    assert len([record for record in caplog.records if "failed, retried in" in record.getMessage()]) == 1
    assert scenario.outcomes() == [("a-1", 0, None, 20)]


def test_an_alert_that_still_fires_is_sent_after_its_message_was_given_up(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The route is back after days: who is on call learns of what burns, and later that it is over."""
    receiver = fake(give_up_after_s=1e-6)
    receiver.answer(*[Outcome.LATER] * 2)
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert())
    steps(route_worker, 2)
    assert scenario.outcomes() == [("a-1", 0, "given_up", 2)]

    monkeypatch.setattr(route_workers, "RETRY_GIVEN_UP_S", 0.0)
    steps(route_worker, 4)
    scenario.publish(alert("resolved", sequence=1))
    steps(route_worker, 3)
    assert receiver.got[2:] == [("a-1", 0, "firing"), ("a-1", 1, "resolved")]
    assert scenario.outcomes() == [("a-1", 0, "sent", 3), ("a-1", 1, "sent", 1)]


@pytest.mark.parametrize("outcome", [Outcome.LATER, Outcome.REJECTED])
def test_that_it_resolved_is_not_sent_where_its_firing_never_arrived(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    """Given up or rejected, and over by the time the route is back: neither message is sent, and the log says it."""
    monkeypatch.setattr(route_workers, "RETRY_GIVEN_UP_S", 0.0)
    receiver = fake(give_up_after_s=1e-6)
    receiver.answer(outcome, outcome)
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert())
    steps(route_worker, 1 if outcome is Outcome.REJECTED else 2)
    sent = len(receiver.got)
    scenario.publish(alert("resolved", sequence=1))
    steps(route_worker)
    assert len(receiver.got) == sent
    [(_, _, first, _), (_, _, second, attempts)] = scenario.outcomes()
    assert (first, second, attempts) == ("given_up" if outcome is Outcome.LATER else "rejected", "not_notified", 0)


def test_an_update_of_an_alert_whose_first_message_was_given_up_is_sent(scenario: Scenario) -> None:
    """Giving up one message is not giving up the alert: what is said later has its own time."""
    receiver = fake(give_up_after_s=1e-6)
    receiver.answer(*[Outcome.LATER] * 2)
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert())
    steps(route_worker, 2)
    scenario.publish(alert(sequence=1, reason="WORSENED"))
    scenario.publish(alert("resolved", sequence=2))
    scenario.publish(alert(alert_id="b", sequence=0))
    steps(route_worker, 4)
    scenario.publish(alert(alert_id="b", sequence=1, reason="WORSENED"))
    steps(route_worker, 3)
    assert receiver.got[2:] == [("b", 0, "firing"), ("b", 1, "firing")]


def test_that_it_resolved_is_sent_where_its_firing_may_have_arrived(scenario: Scenario) -> None:
    """Sent without an answer, or under way when its notifier was killed: somebody may wait for the end."""
    receiver = fake()
    receiver.answer(Outcome.UNANSWERED)
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert(alert_id="a"))
    steps(route_worker, 2)
    scenario.publish(alert("resolved", alert_id="a", sequence=1))
    killed = RouteStore(scenario.settings.timescale_url, "r")
    scenario.publish(alert(alert_id="k"))
    assert killed.begin(alert(alert_id="k")) == 1
    killed.close()
    scenario.publish(alert("resolved", alert_id="k", sequence=1))
    steps(route_worker)
    assert sorted(receiver.got) == [("a", 0, "firing"), ("a", 1, "resolved"), ("k", 1, "resolved")]


def test_a_route_that_wants_only_resolved_is_told_of_it(scenario: Scenario) -> None:
    """Its filters keep every firing message away: that none was sent says nothing."""
    receiver = Fake(name="r", when=When(state=["resolved"]))
    route_worker = scenario.route_worker(receiver)
    scenario.queue.queue(alert("resolved", sequence=1), [Queued("r")])
    steps(route_worker, 2)
    assert receiver.got == [("a-1", 1, "resolved")]


def test_what_a_silence_or_a_filter_ends_is_not_sent_late(scenario: Scenario) -> None:
    """The route was down while it fired; by now it is muted, or over where the route does not want to hear of that."""
    receiver = fake()
    receiver.answer(Outcome.LATER, Outcome.LATER)
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert(alert_id="muted"))
    scenario.publish(alert(alert_id="over"))
    steps(route_worker, 2)
    scenario.publish(alert(alert_id="muted", sequence=1, silenced_by="3"), noted_as="silenced")
    scenario.publish(alert("resolved", alert_id="over", sequence=1), noted_as="filtered")
    steps(route_worker)
    scenario.publish(alert(alert_id="muted", sequence=2, reason="SILENCE_ENDED"))
    steps(route_worker)
    assert receiver.got[2:] == [("muted", 2, "firing")]


def test_what_is_over_is_not_reminded_of(settings: Settings, scenario: Scenario) -> None:
    """Also where the route's filters keep "resolved" away: Alertmanager would hear of it for ever."""
    route_worker = scenario.route_worker(fake())
    for name in ("fires", "over"):
        scenario.publish(alert(alert_id=name))
    steps(route_worker, 3)
    scenario.publish(alert("resolved", alert_id="over", sequence=1), noted_as="filtered")
    store = RouteStore(settings.timescale_url, "r")
    assert [one["alert_id"] for one in store.firing()] == ["fires"]
    store.close()


def test_characters_that_no_database_keeps_do_not_stop_the_notifier(scenario: Scenario) -> None:
    """NUL and half a surrogate pair in a label: replaced, queued and sent."""
    receiver = fake()
    route_worker = scenario.route_worker(receiver)
    scenario.publish(alert(labels={"a\0": "b\ud800"}))
    steps(route_worker, 2)
    [row] = scenario.queue.recent(1, "r")
    assert (row["outcome"], row["alert"]["labels"]) == ("sent", {"a\ufffd": "b\ufffd"})
