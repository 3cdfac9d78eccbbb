"""A rule on the session basis in a running worker: reloads and late successes raise nothing, people who fail do."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.watchdog import is_heartbeat
from funnelwatch.schemas.codec import Decoder
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.database import Database
from tests.command import succeed
from tests.repeating import repeating
from tests.stack import wait_until
from tests.traffic import STEPS, event, everything, prepared, produce
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

QUICK = {"allowed_disorder_s": 0.2, "idle_timeout_s": 0.5, "window_s": 1, "late_settle_s": 0.5}
RULES = """
groups:
- name: g
  rules:
  - {alert: People, kind: threshold, basis: session, maturity: 8s, below: 0.6, over: 3s, min_impressions: 3}
  - {alert: PageLoads, kind: threshold, below: 0.6, over: 3s, min_impressions: 3}
"""
LATER_MS = 3_000
"""People take so long: their window has closed by then."""
LOADS = 3


@contextlib.contextmanager
def people(settings: Settings, began: list[int]) -> Iterator[threading.Event]:
    """Sessions that load a step three times, and complete it seconds later unless the event is set; when they begin."""
    failing = threading.Event()
    waiting: list[dict[str, Any]] = []

    def some() -> None:
        shown = event(step=STEPS[0])
        loads = [shown, *(shown | {"event_id": f"{shown['event_id']} {number}"} for number in range(1, LOADS))]
        waiting.append(shown)
        began.append(shown["ts"])
        due = [one for one in waiting if one["ts"] <= shown["ts"] - LATER_MS]
        waiting[:] = waiting[len(due) :]
        verified = {"phase": "POST_VERIFICATION", "status": "SUCCESS", "ts": shown["ts"], "duration_ms": LATER_MS}
        made = [] if failing.is_set() else [one | verified | {"event_id": f"{one['event_id']} made"} for one in due]
        produce(settings, [*loads, *made])

    with repeating(some, 0.2):
        yield failing


def messages(settings: Settings, rule: str) -> list[dict[str, Any]]:
    """The messages of a rule, in order."""
    decode = Decoder("Alert")
    found = [decode(message.value()) for message in everything(settings, settings.alerts_topic)]
    mine = [one for one in found if not is_heartbeat(one) and one["rule"] == rule]
    return sorted(mine, key=lambda one: (one["started_at"], one["sequence"]))


def test_a_rule_on_sessions_fires_and_recovers_live(settings: Settings, tmp_path: Path) -> None:
    """Page loads alarm all the time, people only while they fail; the message counts people, never above 100%."""
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    fast = prepared(settings.model_copy(update={**QUICK, "rules_path": rules}))

    began: list[int] = []
    with (
        worker(fast) as one,
        people(fast, began) as failing,
        contextlib.closing(Database(fast.timescale_url)) as database,
    ):
        store = AlertStore(database)
        wait_until(lambda: messages(fast, "PageLoads") or not one.running, f"page loads alarm {one.text()}", 120)
        # The windows of that alarm have matured by then, and some more.
        matured = messages(fast, "PageLoads")[0]["window_start"] + 20_000
        wait_until(lambda: (store.last_window("sign_up") or 0) >= matured, "later windows are evaluated", 90)
        assert messages(fast, "People") == []

        failing.set()
        wait_until(lambda: messages(fast, "People") or not one.running, "people who fail are told", 60)
        failing.clear()
        wait_until(lambda: messages(fast, "People")[-1]["state"] == "resolved" or not one.running, "people recover", 90)
        found = messages(fast, "People")
        assert one.stop() == 0, one.text()

    assert [found[0]["reason"], found[-1]["reason"]] == ["FIRST_DROP", "RECOVERED"]
    assert {message["basis"] for message in found} == {"session"}
    assert all(0 <= message["rate"] <= 1 and message["successes"] <= message["impressions"] for message in found)
    span = range(found[0]["window_end"] - 3_000, found[0]["window_end"])
    assert found[0]["impressions"] == sum(ts in span for ts in began)
    assert "sessions" in succeed(fast, "alerts", "--last", "10")
