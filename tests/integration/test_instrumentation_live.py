"""The signals of the instrumentation on real servers and a real worker; what they look back on is in the database."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.watchdog import is_heartbeat
from funnelwatch.schemas.codec import Decoder
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.pipeline import PipelineStore
from funnelwatch.stream.detector.impressions import LIVE
from funnelwatch.stream.detector.pipeline import EVERY_FUNNEL, SAMPLES
from funnelwatch.stream.detector.state import AlertState
from tests.filling import count
from tests.repeating import repeating
from tests.stack import wait_until
from tests.traffic import STEPS, event, everything, now_ms, prepared, produce
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from funnelwatch.schemas.pipeline import PartitionSnapshot
    from funnelwatch.schemas.settings import Settings
    from tests.worker import Worker

WINDOW_MS = 5000
HOUR_MS = 3_600_000
WEEK_MS = 168 * HOUR_MS
EARLIER = "alert: Earlier, kind: instrumentation, signal: watermark, over: 1h"
"""A rule about something else, for the time before the history is there."""


def rule_file(rule: str) -> str:
    """A file with one rule."""
    return f"groups: [{{name: g, rules: [{{{rule}}}]}}]\n"


def quick(settings: Settings, tmp_path: Path, rule: str) -> tuple[Settings, Path]:
    """Settings with short windows and one rule; its file."""
    folder = tmp_path / "rules"
    folder.mkdir()
    file = folder / "mine.yml"
    file.write_text(rule_file(rule))
    short = {"allowed_disorder_s": 0.2, "idle_timeout_s": 0.5, "window_s": WINDOW_MS // 1000}
    return prepared(settings.model_copy(update={**short, "rules_path": folder})), file


def said(settings: Settings) -> list[dict[str, Any]]:
    """Every message on the topic of alerts that is no heartbeat."""
    decode = Decoder("Alert")
    found = [decode(message.value()) for message in everything(settings, settings.alerts_topic)]
    return sorted(
        (one for one in found if not is_heartbeat(one)), key=lambda one: (one["window_start"], one["sequence"])
    )


def told(settings: Settings) -> list[tuple[str, str]]:
    """Rule and reason of each."""
    return [(alert["rule"], alert["reason"]) for alert in said(settings)]


def counted(database: Database, settings: Settings) -> dict[int, PartitionSnapshot]:
    """How far each partition is."""
    return PipelineStore(database).look(settings.events_topic)


def looked(database: Database, settings: Settings, ago: dict[int, Callable[[int, int], int]]) -> None:
    """Leave looks behind as a pipeline monitor that has watched for long does.

    Args:
        database: where they are kept.
        settings: name the topic.
        ago: how long ago each look was, ms, and what of a partition (its number, what it has now) was counted by then.
    """
    now, partitions = now_ms(), counted(database, settings)
    samples = [
        [now - age, 0, {str(number): had(number, one.counted) for number, one in partitions.items()}, 0]
        for age, had in sorted(ago.items(), reverse=True)
    ]
    state = AlertState(SAMPLES, EVERY_FUNNEL, "*", {}, payload={"samples": samples})
    AlertStore(database).save(EVERY_FUNNEL, now, {state.key: state.to_json()}, [])


def take_up(one: Worker, file: Path, rule: str) -> None:
    """Wait until a worker that watches the pipeline has taken up another rule, and with it what is in the database."""
    before = one.text().count("this worker watches the pipeline")
    file.write_text(rule_file(rule))
    again = "the pipeline is watched by the new rule"
    wait_until(lambda: one.text().count("this worker watches the pipeline") > before or not one.running, again)


def test_apps_that_stop_sending_are_told_and_that_they_are_back(settings: Settings, tmp_path: Path) -> None:
    """Two weeks and an hour of even traffic, then next to none: a collapse of impressions, by its numbers."""
    rule = (
        "alert: Collapse, kind: instrumentation, signal: impressions, over: 10s, min_expected: 50, severity: critical"
    )
    fast, _ = quick(settings, tmp_path, rule)
    begin = (now_ms() - 30_000) // WINDOW_MS * WINDOW_MS
    spans = [(70, 0), *((weeks * 168 * 60 + 30, weeks * 168 * 60 - 30) for weeks in (1, 2))]
    windows = [
        start
        for first, last in spans
        for start in range(begin - first * 60_000 // WINDOW_MS * WINDOW_MS, begin - last * 60_000, WINDOW_MS)
    ]
    shown = {(start, step, "iOS", "", "1.0"): (50, 40, 10) for start in windows for step in STEPS[:2]}
    count(fast, shown, closed_through=begin)
    live = AlertState(LIVE, "sign_up", "*", {}, payload={"since": begin - 2 * HOUR_MS})
    with closing(Database(fast.timescale_url)) as database:
        AlertStore(database).save("sign_up", begin - WINDOW_MS, {live.key: live.to_json()}, [])
    with worker(fast) as one:
        one.wait_assigned()
        produce(fast, [event(step=step) for step in STEPS[:2]])
        wait_until(lambda: said(fast) or not one.running, f"the collapse is told {one.text()}", 120)
        [alert] = said(fast)
        assert (alert["rule"], alert["reason"], alert["funnel"]) == ("Collapse", "IMPRESSIONS_COLLAPSED", "sign_up")
        assert (alert["state"], alert["severity"], alert["dimensions"]) == ("firing", "critical", {})
        assert "where at least 200 are usual at this time of the week" in alert["annotations"]["summary"]
        assert "Do the apps still send" in alert["annotations"]["look_first"]
        with repeating(lambda: produce(fast, [event(step=step) for step in STEPS[:2] for _ in range(30)]), 0.3):
            back = [("Collapse", "IMPRESSIONS_COLLAPSED"), ("Collapse", "RECOVERED")]
            wait_until(lambda: told(fast) == back or not one.running, "they are back", 120)
        assert one.stop() == 0, one.text()


def test_records_that_are_rejected_all_at_once_are_told(settings: Settings, tmp_path: Path) -> None:
    """After an hour of good records, a release that sends garbage: how much of what, and where to look."""
    fast, file = quick(settings, tmp_path, EARLIER)
    with closing(Database(fast.timescale_url)) as database, worker(fast) as one:
        one.wait_assigned()
        produce(fast, [event() for _ in range(1500)])
        enough = "they are counted"
        wait_until(lambda: sum(at.counted for at in counted(database, fast).values()) == 1500, enough, 120)
        looked(
            database,
            fast,
            {
                30_000: lambda _, had: had,
                **{minutes * 60_000: lambda _, had: 0 for minutes in (61, 62, 63, 64)},
            },
        )
        rule = "alert: Rejected, kind: instrumentation, signal: dead_letters, over: 10s, min_rejected: 50"
        take_up(one, file, rule)
        produce(fast, [event() for _ in range(100)])
        wait_until(lambda: sum(at.counted for at in counted(database, fast).values()) == 1600, enough, 120)
        assert said(fast) == []
        produce(fast, [b"garbage"] * 80)
        wait_until(lambda: said(fast) or not one.running, f"it is told {one.text()}", 120)
        [alert] = said(fast)
        assert (alert["rule"], alert["reason"], alert["funnel"]) == ("Rejected", "DEAD_LETTERS_RISE", "*")
        numbers = re.match(
            r"(\d+) of (\d+) records were rejected in .*; 0.0% is usual", alert["annotations"]["summary"]
        )
        assert numbers
        assert 50 <= int(numbers[1]) <= 80
        assert int(numbers[1]) <= int(numbers[2]) <= 180
        assert "`funnelwatch dead-letters list --since 30m`" in alert["annotations"]["look_first"]
        assert one.stop() == 0, one.text()


def test_a_partition_that_falls_silent_while_the_others_go_on_is_told(settings: Settings, tmp_path: Path) -> None:
    """Its producers cannot write to it: which one, and that it speaks again."""
    fast, file = quick(settings, tmp_path, EARLIER)
    others = range(1, fast.topic_partitions)

    def send(partitions: range, number: int) -> None:
        for partition in partitions:
            produce(fast, [event() for _ in range(number)], partition=partition)

    with closing(Database(fast.timescale_url)) as database, worker(fast) as one:
        one.wait_assigned()
        send(range(fast.topic_partitions), 400)
        sent = 400 * fast.topic_partitions
        wait_until(lambda: sum(at.counted for at in counted(database, fast).values()) == sent, "they are counted", 120)
        with repeating(lambda: send(others, 4), 0.3):
            looked(
                database,
                fast,
                {25_000 * k: (lambda number, had, k=k: max(0, had - 40 * k)) for k in range(11)},  # type: ignore[misc]
            )
            take_up(one, file, "alert: Silent, kind: instrumentation, signal: silent, over: 25s, min_expected: 20")
            wait_until(lambda: said(fast) or not one.running, f"it is told {one.text()}", 120)
            [alert] = said(fast)
            assert (alert["rule"], alert["reason"]) == ("Silent", "PARTITION_SILENT")
            assert alert["dimensions"] == {"partition": "0"}
            assert "the other partitions go on" in alert["annotations"]["summary"]
            send(range(1), 10)
            spoken = [("Silent", "PARTITION_SILENT"), ("Silent", "RECOVERED")]
            wait_until(lambda: told(fast) == spoken or not one.running, "it speaks again", 120)
        assert one.stop() == 0, one.text()
