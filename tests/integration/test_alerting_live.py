"""What a person does to rules and alerts while a real worker runs."""

from __future__ import annotations

import contextlib
import json
import threading
from itertools import groupby
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.watchdog import is_heartbeat
from funnelwatch.schemas.codec import Decoder
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.stream.detector.pipeline import EVERY_FUNNEL
from tests.command import succeed, succeed_json
from tests.repeating import repeating
from tests.stack import wait_until
from tests.traffic import STEPS, event, everything, prepared, produce
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

QUICK = {
    "allowed_disorder_s": 0.2,
    "idle_timeout_s": 0.5,
    "window_s": 1,
    "late_settle_s": 0.5,
    "watchdog_every_s": 2,
}


def rule(name: str, *, below: str = "0.9") -> str:
    """A rule file with one rule, which fires on traffic without successes."""
    return (
        f"groups: [{{name: g, rules: [{{alert: {name}, kind: threshold, below: {below}, over: 3s, by: [os], "
        "min_impressions: 1}]}]\n"
    )


@contextlib.contextmanager
def failing_traffic(settings: Settings) -> Iterator[threading.Event]:
    """Impressions of two steps and systems while the block runs; none ends in a success until the event is set."""
    working = threading.Event()

    def some() -> None:
        kinds = [{"os": system, "step": step} for system in ("iOS", "Android") for step in STEPS[:2]]
        shown = [event(**kind) for kind in kinds for _ in range(5)]
        done = [event(**kind, phase="POST_VERIFICATION", status="SUCCESS") for kind in kinds for _ in range(5)]
        produce(settings, [*shown, *(done if working.is_set() else [])])

    with repeating(some, 0.3):
        yield working


def on_topic(settings: Settings) -> list[dict[str, Any]]:
    """Every message that is on the topic of alerts."""
    decode = Decoder("Alert")
    found = [decode(message.value()) for message in everything(settings, settings.alerts_topic)]
    return sorted(found, key=lambda alert: (alert["alert_id"], alert["sequence"]))


def said(settings: Settings) -> list[dict[str, Any]]:
    """Those that are no heartbeats."""
    return [alert for alert in on_topic(settings) if not is_heartbeat(alert)]


def let_through(settings: Settings) -> list[str]:
    """Why the alert of the silenced series was said unsilenced.

    Where traffic comes late just as the silence ends, the correction lets the alert through: nothing is left to say.
    """
    found = [one for one in said(settings) if (one["rule"], one["dimensions"]) == ("Muted", {"os": "iOS"})]
    reasons = [one["reason"] for one in found if not one["silenced_by"]]
    assert set(reasons[:1]) <= {"SILENCE_ENDED", "WIDENED", "CORRECTED"}
    return reasons


def by_alert(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The messages of each alert, in order."""
    return [list(group) for _, group in groupby(messages, key=lambda alert: alert["alert_id"])]


def edit(file: Path, text: str) -> None:
    """Another rule file in place of this one, at once: half a file is another rule file to a worker that looks then."""
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)


def quick(settings: Settings, tmp_path: Path) -> tuple[Settings, Path]:
    """Settings with short windows and a folder of rules; the rule file."""
    folder = tmp_path / "rules"
    folder.mkdir()
    file = folder / "mine.yml"
    file.write_text(rule("Dropped"))
    return prepared(settings.model_copy(update={**QUICK, "rules_path": folder})), file


def test_edited_rules_and_silences_are_followed_by_a_running_worker(settings: Settings, tmp_path: Path) -> None:
    """A broken edit is rejected, told and counted; a removed rule's alerts are resolved; its successor's fire.

    Both steps of an os drop together and are one alert. Late data about a window that was alerted on is said. What is
    silenced is published as muted, said when its silence is over, and "resolved" is let through. Heartbeats go on.
    """
    fast, file = quick(settings, tmp_path)

    def of_rule(name: str) -> list[tuple[str, str]]:
        # On a machine that is slow, traffic itself may come late, and be said to have.
        passed_over = {"WIDENED", "CORRECTED"}
        found = [one for one in said(fast) if one["rule"] == name and one["reason"] not in passed_over]
        return sorted((one["dimensions"]["os"], one["reason"]) for one in found)

    with worker(fast) as one, failing_traffic(fast) as working:
        begun = [("Android", "FIRST_DROP"), ("iOS", "FIRST_DROP")]
        wait_until(lambda: of_rule("Dropped") == begun or not one.running, f"both fire {one.text()}", 120)
        edit(file, rule("Dropped", below="much"))
        wait_until(lambda: json.loads(one.get("/readyz")[1] or "{}").get("rules_error"), "the error is shown")
        assert "mine.yml:1: groups[0].rules[0].below: must be a number" in one.get("/readyz")[1]
        wait_until(lambda: "alert rules: rejected, the ones before go on" in one.text(), "it is logged")
        assert "funnelwatch_rules_rejected_total 1.0" in one.get("/metrics")[1]

        edit(file, rule("Renamed"))
        wait_until(lambda: of_rule("Renamed") == begun or not one.running, "the new rule's alerts fire")
        assert of_rule("Dropped") == [*begun[:1], ("Android", "RULE_REMOVED"), begun[1], ("iOS", "RULE_REMOVED")]
        assert "funnelwatch_rules_taken_total 1.0" in one.get("/metrics")[1]

        edit(file, rule("Renamed", below="0.91"))
        wait_until(lambda: "funnelwatch_rules_taken_total 2.0" in one.get("/metrics")[1], "the edit is taken up")
        assert of_rule("Renamed") == begun

        first = next(one for one in said(fast) if (one["rule"], one["dimensions"]) == ("Renamed", {"os": "iOS"}))
        late = [event(ts=first["window_start"], step=first["step"]) for _ in range(100)]
        produce(fast, [*late, *(one | {"phase": "POST_VERIFICATION", "status": "SUCCESS", "event_id": f"{i} made"}
                                for i, one in enumerate(late[:50]))])  # fmt: skip

        def corrected() -> list[dict[str, Any]]:
            messages = [one for one in said(fast) if one["alert_id"] == first["alert_id"]]
            return [one for one in messages if one["reason"] == "CORRECTED" and one["successes"] > first["successes"]]

        wait_until(lambda: corrected() or not one.running, "late data corrects what was told")
        last = corrected()[0]
        assert (last["steps"], last["state"]) == (sorted(STEPS[:2]), "firing")
        assert last["successes"] <= first["successes"] + 50

        mute = ("silence", "add", "--rule", "Muted", "--where", "os=iOS", "--for", "1h", "--by", "me")
        number = succeed_json(fast, *mute)["id"]
        edit(file, rule("Muted"))
        wait_until(lambda: of_rule("Muted") == begun or not one.running, "both fire, muted or not")
        muted = {alert["dimensions"]["os"]: alert["silenced_by"] for alert in said(fast) if alert["rule"] == "Muted"}
        assert muted == {"iOS": str(number), "Android": ""}
        succeed(fast, "silence", "expire", str(number))
        wait_until(lambda: let_through(fast) or not one.running, f"what fires is said after the silence {one.text()}")
        again = of_rule("Muted")
        assert again in (begun, [*begun, ("iOS", "SILENCE_ENDED")])
        succeed(fast, *mute)

        def beats() -> list[int]:
            return [alert["sequence"] for alert in on_topic(fast) if is_heartbeat(alert)]

        wait_until(lambda: len(beats()) >= 3, "heartbeats go on")
        assert sorted(set(found := beats())) == found
        working.set()
        over = sorted([*again, ("Android", "RECOVERED"), ("iOS", "RECOVERED")])
        wait_until(lambda: of_rule("Muted") == over or not one.running, "both resolve")
        assert {alert["silenced_by"] for alert in said(fast) if alert["reason"] == "RECOVERED"} == {""}
        for messages in by_alert(said(fast)):
            assert [one["sequence"] for one in messages] == list(range(len(messages)))
            assert messages[-1]["steps"] == sorted(STEPS[:2])
        assert one.stop() == 0, one.text()


def test_a_partition_that_nobody_reads_on_is_told_although_no_window_closes(settings: Settings, tmp_path: Path) -> None:
    """Progress of an earlier topic stops the partitions; the pipeline says so by itself, and what to look at first."""
    fast, file = quick(settings, tmp_path)
    signal = "alert: WatermarkStuck, kind: instrumentation, signal: watermark, over: 4s, severity: critical"
    file.write_text(f"groups: [{{name: g, rules: [{{{signal}}}]}}]\n")
    produce(fast, [event() for _ in range(20)])
    with contextlib.closing(Database(fast.timescale_url)) as database:
        migrate(database, fast.window_ms)
        with database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO stream_progress (topic, topic_id, partition, next_offset) "
                "SELECT %s, 'an earlier topic', n, 5000 FROM generate_series(0, %s) AS n",
                [fast.events_topic, fast.topic_partitions - 1],
            )
    with worker(fast) as one:
        wait_until(lambda: one.assigned() and (said(fast) or not one.running), "it is told", 90)
        [alert] = said(fast)
        assert (alert["rule"], alert["reason"], alert["funnel"]) == ("WatermarkStuck", "WATERMARK_STUCK", "*")
        assert "was not read on" in alert["annotations"]["summary"]
        assert "funnelwatch doctor" in alert["annotations"]["look_first"]
        shown = succeed(fast, "alerts", "--last", "1")
        assert "FIRING critical: WatermarkStuck (WATERMARK_STUCK)\n    partition " in shown
        one.stop()


def test_an_error_in_the_detector_does_not_stop_the_counting(settings: Settings, tmp_path: Path) -> None:
    """States that cannot be read: evaluation is tried again and logged, events are counted; repaired, it goes on."""
    fast, _ = quick(settings, tmp_path)
    with contextlib.closing(Database(fast.timescale_url)) as database:
        migrate(database, fast.window_ms)
        for funnel in ("sign_up", EVERY_FUNNEL):
            AlertStore(database).save(funnel, 0, {"spoilt": '{"n": 1}'}, [])
        with worker(fast) as one, contextlib.ExitStack() as later:
            alerting = "alerting failed; it is tried again"
            wait_until(lambda: one.text().count(alerting) >= 2 or not one.running, "the pipeline's watch fails", 90)
            later.enter_context(failing_traffic(fast))
            failed = "evaluating windows failed; the same windows"
            wait_until(lambda: one.text().count(failed) >= 3, "it is tried again", 90)
            assert "not an alert state" in one.text()
            before = CountStore(database).counted()
            wait_until(lambda: CountStore(database).counted() >= before + 100, "events are counted meanwhile")
            assert one.running
            assert said(fast) == []
            with database.transaction() as cursor:
                cursor.execute("DELETE FROM alert_states WHERE state_key = 'spoilt'")
            wait_until(lambda: len(by_alert(said(fast))) == 2 or not one.running, "both systems are told")
            assert {alert["reason"] for alert in said(fast) if not alert["sequence"]} == {"FIRST_DROP"}
            assert one.running
