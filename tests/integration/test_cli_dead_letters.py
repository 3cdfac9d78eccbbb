"""``funnelwatch dead-letters`` against a real topic and a real database."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from confluent_kafka import Producer

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.events import FunnelEvent, Phase
from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.replays import ReplayStore
from funnelwatch.stream.intake.batches import Record, Rejected
from funnelwatch.stream.intake.dead_letter_log import Place
from funnelwatch.stream.intake.dead_letters import DeadLetters
from tests.command import run, succeed, succeed_json
from tests.integration.topic import read_messages
from tests.stack import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

KAFKA_MS = 1_794_996_000_000


def event(step: str = "INPUT_NAME", **more: Any) -> bytes:
    """The bytes of an event of now."""
    made = FunnelEvent(
        sign_up_session_id="s1", step=step, phase=Phase.IMPRESSION, os="iOS", event_id=f"id-{step}", **more
    )
    return Encoder("FunnelEvent")(made.record())


def rejected(offset: int, value: bytes | None, reason: str = "INVALID_AVRO") -> Rejected:
    """A record that was rejected."""
    return Rejected(Record(offset, b"key%d" % offset, value, KAFKA_MS + offset), reason, f"detail of {offset}")


@pytest.fixture
def letters(settings: Settings) -> Settings:
    """Five letters, one of them sent twice: garbage, no value, an unknown step, and two that would be accepted now."""
    ensure_topics(settings)
    sender = DeadLetters(settings)
    sender.send(0, [rejected(1, b"\x07garbage"), rejected(2, None, "EMPTY")])
    sender.send(1, [rejected(1, event("CAPTCHA"), "UNKNOWN_STEP"), rejected(5, event(), "TOO_OLD")])
    sender.send(1, [rejected(5, event(), "TOO_OLD"), rejected(6, event("INPUT_PASSWORD"), "TOO_OLD")])
    return settings


def test_list_counts_each_record_once_by_reason(letters: Settings) -> None:
    """A letter that a crash made the worker send twice is one."""
    found = succeed_json(letters, "dead-letters", "list")
    assert found["total"] == 5
    assert found["by_reason"] == {"TOO_OLD": 2, "INVALID_AVRO": 1, "EMPTY": 1, "UNKNOWN_STEP": 1}
    assert {(one["source"]["partition"], one["source"]["offset"]) for one in found["letters"]} == {
        (0, 1), (0, 2), (1, 1), (1, 5), (1, 6),
    }  # fmt: skip
    assert {one["replayed"] for one in found["letters"]} == {False}


def test_list_shows_the_newest_and_counts_all(letters: Settings) -> None:
    """--limit cuts what is shown, not the summary; --reason and --since cut both."""
    found = succeed_json(letters, "dead-letters", "list", "--limit", "2")
    assert (found["total"], len(found["letters"])) == (5, 2)
    found = succeed_json(letters, "dead-letters", "list", "--reason", "too_old", "--reason", "EMPTY")
    assert found["by_reason"] == {"TOO_OLD": 2, "EMPTY": 1}
    assert succeed_json(letters, "dead-letters", "list", "--since", "10m")["total"] == 5
    time.sleep(0.002)  # the clock must be past the last letter
    assert succeed_json(letters, "dead-letters", "list", "--since", "now")["total"] == 0


def test_list_as_a_table_names_record_reason_and_detail(letters: Settings) -> None:
    """A person sees what it was, where it stood and why it was rejected, and the sum."""
    text = succeed(letters, "dead-letters", "list")
    assert f"{letters.events_topic} 1:6" in text
    assert "detail of 6" in text
    assert "5 rejected record(s)" in text
    assert "        2 TOO_OLD" in text


def test_list_of_nothing_says_so(settings: Settings) -> None:
    """An empty topic is no error, a missing one is."""
    result = run(settings, "dead-letters", "list")
    assert (result.exit_code, "does not exist" in result.stderr) == (1, True)
    ensure_topics(settings)
    assert succeed(settings, "dead-letters", "list") == f"{settings.dead_letters_topic}: no dead letters\n"


def test_list_works_without_the_database(letters: Settings) -> None:
    """What was replayed is then not known, which is said."""
    result = run(letters.model_copy(update={"timescale_url": "postgresql://127.0.0.1:1/x"}), "dead-letters", "list")
    assert (result.exit_code, "5 rejected record(s)" in result.stdout) == (0, True)
    assert "which letters were replayed is not known" in result.stderr


def position(settings: Settings, partition: int, offset: int) -> str:
    """Where the letter of a record stands."""
    for one in succeed_json(settings, "dead-letters", "list")["letters"]:
        if (one["source"]["partition"], one["source"]["offset"]) == (partition, offset):
            return f"{one['partition']}:{one['offset']}"
    raise LookupError(partition, offset)


def test_show_tells_headers_bytes_and_the_verdict_of_now(letters: Settings) -> None:
    """Garbage is dumped, an event is decoded, and each is validated by the settings of now."""
    garbage = succeed(letters, "dead-letters", "show", position(letters, 0, 1))
    assert "reason: INVALID_AVRO" in garbage
    assert "07 67 61 72 62 61 67 65" in garbage
    assert ".garbage" in garbage
    assert "now: would be rejected again: UNKNOWN_FRAMING" in garbage
    step = succeed(letters, "dead-letters", "show", position(letters, 1, 1))
    assert 'step: "CAPTCHA"' in step
    assert "now: would be rejected again: UNKNOWN_STEP" in step
    shown = succeed_json(letters, "dead-letters", "show", position(letters, 1, 5))
    assert (shown["now"], shown["event"]["step"], shown["key"]) == ("would be accepted", "INPUT_NAME", "key5")
    assert bytes.fromhex(shown["value_hex"])[:2] == b"\xc3\x01"
    assert "value: none" in succeed(letters, "dead-letters", "show", position(letters, 0, 2))


def test_show_of_a_place_without_a_letter_says_what_there_is(letters: Settings) -> None:
    """An offset or partition that the topic does not have: exit code 1."""
    for place in ("0:99999", "77:0"):
        result = run(letters, "dead-letters", "show", place)
        assert (result.exit_code, f"has no letter at {place}; it has" in result.stderr) == (1, True)


def test_replay_produces_what_would_be_accepted_now_once(letters: Settings) -> None:
    """Original keys and bytes, in order; a second replay finds nothing to do."""
    plan = succeed_json(letters, "dead-letters", "replay", "--dry-run")
    assert (plan["chosen"], plan["produced"], plan["left_out"]) == (2, 0, {"would be rejected again": 3})
    outcome = succeed_json(letters, "dead-letters", "replay", "--yes")
    assert (outcome["chosen"], outcome["produced"]) == (2, 2)
    messages = read_messages(letters, letters.events_topic, 2)
    assert {message.key(): message.value() for message in messages}.keys() == {b"key5", b"key6"}
    assert next(one.value() for one in messages if one.key() == b"key5").count(b"id-INPUT_NAME") == 1
    assert {dict(one.headers())["replay_of"] for one in messages} == {
        f"{letters.events_topic}:1:5".encode(),
        f"{letters.events_topic}:1:6".encode(),
    }
    again = succeed_json(letters, "dead-letters", "replay", "--yes")
    assert (again["produced"], again["left_out"]["replayed already"]) == (0, 2)
    assert len(read_messages(letters, letters.events_topic, 2)) == 2
    assert sum(one["replayed"] for one in succeed_json(letters, "dead-letters", "list")["letters"]) == 2


def test_replay_takes_what_a_mended_setting_lets_pass(letters: Settings, tmp_path: Path) -> None:
    """A step that was declared since is accepted; --reason keeps to it; --all takes even the hopeless."""
    path = tmp_path / "funnels.yml"
    path.write_text(json.dumps({"funnels": {"sign_up": ["CAPTCHA"]}}))
    mended = letters.model_copy(update={"funnels_path": path})
    assert succeed_json(mended, "dead-letters", "replay", "--reason", "UNKNOWN_STEP", "--yes")["produced"] == 1
    [message] = read_messages(letters, letters.events_topic, 1)
    assert message.key() == b"key1"
    hopeless = succeed_json(letters, "dead-letters", "replay", "--reason", "EMPTY", "--all", "--yes")
    assert hopeless["produced"] == 1


def test_replay_asks_and_no_means_no(letters: Settings) -> None:
    """Without --yes nothing is produced before a person agrees."""
    declined = run(letters, "dead-letters", "replay", stdin="n\n")
    assert (declined.exit_code, "Produce 2 record(s)" in declined.stderr) == (1, True)
    accepted = run(letters, "dead-letters", "replay", stdin="y\n")
    assert accepted.exit_code == 0
    assert accepted.stdout.endswith("2 record(s) produced to their topic again\n")


def test_a_letter_of_which_only_the_beginning_is_kept_is_not_replayed(settings: Settings) -> None:
    """It is said, and --all does not change it; so is a letter of another topic."""
    ensure_topics(settings)
    producer = Producer(settings.kafka())
    place: list[tuple[str, str | bytes | None]] = [
        ("partition", "0"),
        ("offset", "4"),
        ("timestamp", "1"),
        ("reason", "TOO_LARGE"),
    ]
    ours = [("topic", settings.events_topic), *place, ("truncated_from", "5000000")]
    producer.produce(settings.dead_letters_topic, event(), headers=ours)
    producer.produce(settings.dead_letters_topic, event(), headers=[("topic", "other"), *place])
    producer.produce(settings.dead_letters_topic, b"not ours at all")
    assert producer.flush(60) == 0
    outcome = succeed_json(settings, "dead-letters", "replay", "--all", "--yes")
    assert outcome["produced"] == 0
    assert outcome["left_out"] == {"of another topic": 2, "only the beginning is kept": 1}
    assert succeed_json(settings, "dead-letters", "list")["by_reason"] == {"TOO_LARGE": 2, "NO_REASON": 1}


def test_a_replay_that_fails_is_not_remembered(letters: Settings) -> None:
    """At least once: a crash between producing and remembering forgets it, so that the next replay produces it."""
    with closing(Database(letters.timescale_url)) as database:
        migrate(database, letters.window_ms)
        store = ReplayStore(database)
        place = Place(letters.events_topic, 1, 5, KAFKA_MS + 5)
        with contextlib.suppress(KeyboardInterrupt), store.claim([place]) as claimed:
            assert claimed == {place}
            raise KeyboardInterrupt
        assert store.replayed() == set()
        with store.claim([place]) as claimed:
            assert claimed == {place}
        assert store.replayed() == {place}
        with store.claim([place]) as claimed:
            assert claimed == set()


def test_two_replays_at_once_produce_each_record_once(letters: Settings) -> None:
    """The second waits for the first to be done with the same places, and then finds them remembered."""
    place = Place(letters.events_topic, 1, 5, KAFKA_MS + 5)
    second: list[Any] = []

    def claim_too() -> None:
        other = Database(letters.timescale_url, application="second")
        with closing(other), ReplayStore(other).claim([place]) as claimed:
            second.append(claimed)

    def second_waits() -> bool:
        with psycopg.connect(revealed(letters.timescale_url)) as session:
            query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock'"
            return session.execute(query).fetchone() is not None

    with closing(Database(letters.timescale_url)) as database:
        migrate(database, letters.window_ms)
        with ReplayStore(database).claim([place]) as claimed:
            assert claimed == {place}
            thread = threading.Thread(target=claim_too)
            thread.start()
            wait_until(second_waits, "the second waits")
    thread.join(60)
    assert second == [set()]
