"""``funnelwatch alerts`` against a real database and a real topic."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.codec import Encoder
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from tests.command import run, start, succeed
from tests.stack import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""


def alert(alert_id: str = "a1", sequence: int = 0, state: str = "firing", minute: int = 0) -> dict[str, Any]:
    """An alert, whole."""
    start_ms = T + minute * 60_000
    return {
        "alert_id": alert_id,
        "sequence": sequence,
        "state": state,
        "reason": "FIRST_DROP" if state == "firing" else "RECOVERED",
        "rule": "ConversionDrop",
        "rule_version": "v",
        "severity": "critical",
        "funnel": "sign_up",
        "step": "VERIFY_SMS_CODE",
        "dimensions": {"os": "iOS"},
        "basis": "window",
        "window_start": start_ms,
        "window_end": start_ms + 60_000,
        "started_at": T - 120_000,
        "rate": 0.312,
        "expected_rate": 0.781,
        "expected_low": 0.701,
        "expected_high": 0.84,
        "impressions": 1_812,
        "successes": 565,
        "score": 9.5,
        "lost_conversions": 379.6,
        "labels": {},
        "annotations": {"summary": "in words", "runbook": "docs/operations.md"},
        "where_dimension": "browser",
        "where_value": "Safari",
        "where_share": 0.83,
    }


@pytest.fixture
def stored(settings: Settings) -> Settings:
    """Two alerts in the database: a1 fired and resolved, a2 fires."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        found = [alert(), alert("a2", minute=1), alert(sequence=1, state="resolved", minute=2)]
        AlertStore(database).save("sign_up", T, {}, found)
    return settings


def ids(text: str) -> list[tuple[str, int]]:
    """Id and sequence of the alerts of JSON lines."""
    return [(one["alert_id"], one["sequence"]) for one in map(json.loads, text.splitlines())]


def test_the_newest_alerts_are_read_from_the_database(stored: Settings) -> None:
    """Oldest first, as a log is read; --last keeps the newest."""
    assert ids(succeed(stored, "alerts", "--json")) == [("a1", 0), ("a2", 0), ("a1", 1)]
    assert ids(succeed(stored, "alerts", "--json", "--last", "2")) == [("a2", 0), ("a1", 1)]


def test_state_and_current_tell_what_fires_now(stored: Settings) -> None:
    """--state looks at messages, --current at the last message of each alert."""
    assert ids(succeed(stored, "alerts", "--json", "--state", "firing")) == [("a1", 0), ("a2", 0)]
    assert ids(succeed(stored, "alerts", "--json", "--current", "--state", "firing")) == [("a2", 0)]
    assert ids(succeed(stored, "alerts", "--json", "--current")) == [("a2", 0), ("a1", 1)]


def test_a_person_reads_what_where_since_when_and_how_bad(stored: Settings) -> None:
    """The block of an alert, and its times in UTC."""
    assert succeed(stored, "alerts", "--state", "firing", "--current") == (
        "2026-11-18T10:02:00Z FIRING critical: sign_up VERIFY_SMS_CODE os=iOS (FIRST_DROP)\n"
        "    rate 31.2 % where 70.1 % to 84.0 % is ordinary (expected 78.1 %), of 1,812 impressions\n"
        "    since 2026-11-18T09:58:00Z, 380 conversions lost\n"
        "    where: browser=Safari, 83.0 % of the loss\n"
        "    runbook: docs/operations.md\n"
        "    window 2026-11-18T10:01:00Z to 2026-11-18T10:02:00Z, rule ConversionDrop, alert a2 message 0\n"
    )


def test_a_person_reads_what_belongs_together_what_is_muted_and_what_to_look_at_first(settings: Settings) -> None:
    """Several steps, a silence, and the advice before the other texts; an empty text is left out."""
    texts = {
        "runbook": "r",
        "look_first": "The server.",
        "also_at": "INPUT_NAME 40.0% where 90.0% is expected",
        "b": "",
    }
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        steps = {"steps": ["INPUT_NAME", "VERIFY_SMS_CODE"], "silenced_by": "3", "annotations": texts}
        AlertStore(database).save("sign_up", T, {}, [alert() | steps])
    assert succeed(settings, "alerts").splitlines()[3:-1] == [
        "    steps: INPUT_NAME, VERIFY_SMS_CODE",
        "    muted by silence 3: nobody is notified",
        "    where: browser=Safari, 83.0 % of the loss",
        "    look first: The server.",
        "    also at: INPUT_NAME 40.0% where 90.0% is expected",
        "    runbook: r",
    ]


def test_json_has_every_field_and_iso_times(stored: Settings) -> None:
    """A program gets the record of the schema, with times that need no explanation."""
    [shown] = map(json.loads, succeed(stored, "alerts", "--json", "--last", "1").splitlines())
    times = {
        "window_start": "2026-11-18T10:02:00.000Z",
        "window_end": "2026-11-18T10:03:00.000Z",
        "started_at": "2026-11-18T09:58:00.000Z",
    }
    assert shown == alert(sequence=1, state="resolved", minute=2) | times


def test_no_alerts_is_no_error(settings: Settings) -> None:
    """Nothing on stdout, a word on stderr; but a database without tables is an error."""
    result = run(settings, "alerts")
    assert (result.exit_code, "no tables of funnelwatch yet" in result.stderr) == (1, True)
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
    result = run(settings, "alerts")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no alerts\n")


@contextmanager
def following(settings: Settings, out: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """``alerts --follow`` in a process of its own, with stdout and stderr in files; ended by Ctrl-C."""
    process = start(settings, "alerts", "--follow", *args, out=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def publish(settings: Settings, *values: bytes | None) -> None:
    """Publish values to the alert topic."""
    producer = Producer(settings.kafka())
    for value in values:
        producer.produce(settings.alerts_topic, value, "key")
    assert producer.flush(60) == 0


def test_follow_prints_alerts_as_they_are_published(settings: Settings, tmp_path: Path) -> None:
    """From now on only; garbage is told and passed over; one published twice is printed once; Ctrl-C ends with 0."""
    ensure_topics(settings)
    encode = Encoder("Alert")
    publish(settings, encode(alert("old")))
    out, err = tmp_path / "out", tmp_path / "out.err"
    with following(settings, out, "--json") as process:
        wait_until(lambda: "from now on" in err.read_text(), "following has begun")
        publish(settings, encode(alert()), b"garbage", None, encode(alert()))
        wait_until(lambda: out.read_text().endswith("\n"), "the first alert is printed and flushed at once")
        publish(settings, encode(alert(sequence=1, state="resolved")))
        wait_until(lambda: out.read_text().count("\n") == 2, "the second alert is printed")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert ids(out.read_text()) == [("a1", 0), ("a1", 1)]
    assert json.loads(out.read_text().splitlines()[0])["started_at"] == "2026-11-18T09:58:00.000Z"
    assert "skipped, no alert" in err.read_text()
    assert "UNKNOWN_FRAMING" in err.read_text()
    assert "Traceback" not in err.read_text()
    assert "Aborted" not in err.read_text()


def test_follow_from_the_beginning_shows_what_the_topic_has(settings: Settings, tmp_path: Path) -> None:
    """--from-beginning with --state: the resolved ones of the past, as text."""
    ensure_topics(settings)
    encode = Encoder("Alert")
    publish(settings, encode(alert("old")), encode(alert("old", sequence=1, state="resolved")))
    out = tmp_path / "out"
    with following(settings, out, "--from-beginning", "--state", "resolved") as process:
        wait_until(lambda: "message 1" in out.read_text(), "the past is printed")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert "FIRING" not in out.read_text()
    assert out.read_text().startswith("2026-11-18T10:01:00Z RESOLVED critical: sign_up VERIFY_SMS_CODE os=iOS")


def test_a_topic_that_does_not_exist_yet_is_waited_for(settings: Settings, tmp_path: Path) -> None:
    """Whoever follows before the first worker has run misses nothing."""
    out, err = tmp_path / "out", tmp_path / "out.err"
    with following(settings, out, "--json") as process:
        wait_until(lambda: "does not exist yet" in err.read_text(), "it says what it waits for")
        ensure_topics(settings)
        publish(settings, Encoder("Alert")(alert()))
        wait_until(lambda: out.read_text().endswith("\n"), "the alert is printed")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert ids(out.read_text()) == [("a1", 0)]


def test_an_alert_is_printed_soon(settings: Settings, tmp_path: Path) -> None:
    """Between Kafka's acknowledgement and the printed line nothing is waited for, however busy the machine is."""
    ensure_topics(settings)
    out, err = tmp_path / "out", tmp_path / "out.err"
    with following(settings, out, "--json") as process:
        wait_until(lambda: "from now on" in err.read_text(), "following has begun")
        publish(settings, Encoder("Alert")(alert()))
        published_s = time.monotonic()
        wait_until(lambda: out.read_text().endswith("\n"), "the alert is printed")
        assert time.monotonic() - published_s < 20
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
