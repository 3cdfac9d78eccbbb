"""Bad input end to end: each has one dead letter that says why and keeps the bytes, and the good in between counts."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic
from fastavro import schemaless_writer

from funnelwatch.schemas.codec import SINGLE_OBJECT
from funnelwatch.schemas.files import SCHEMAS
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.stream.intake.batches import Record, Rejected
from funnelwatch.stream.intake.dead_letters import DeadLetters
from tests.by_hand import counts_by_hand
from tests.stack import not_on_tansu, wait_until
from tests.traffic import (
    ENCODE,
    admin,
    counted,
    done,
    event,
    everything,
    now_ms,
    prepared,
    produce,
)
from tests.worker import ROOT, environment, worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.settings import Settings

GOOD = ENCODE(event())
HEADER = GOOD[:10]


def odd(**changes: Any) -> bytes:
    """An event that Avro takes, but the producer's checks perhaps not."""
    out = BytesIO(HEADER)
    out.seek(len(HEADER))
    schemaless_writer(out, SCHEMAS["FunnelEvent"], event(**changes))
    return out.getvalue()


def future(ms: int) -> Callable[[], bytes]:
    """An event of a time that far ahead of the moment that it is made."""
    return lambda: odd(ts=now_ms() + ms)


CASES: dict[str, tuple[str, bytes | Callable[[], bytes] | None]] = {
    "garbage": ("UNKNOWN_FRAMING", b"\xde\xad\xbe\xef" * 20),
    "text": ("UNKNOWN_FRAMING", b'{"step": "INPUT_NAME"}'),
    "empty value": ("EMPTY", b""),
    "null value": ("EMPTY", None),
    "unknown fingerprint": ("UNKNOWN_FINGERPRINT", SINGLE_OBJECT + b"12345678" + GOOD[10:]),
    "half a header": ("INVALID_AVRO", HEADER[:5]),
    "unknown schema id": ("UNKNOWN_SCHEMA_ID", b"\x00" + struct.pack(">I", 4711) + GOOD[10:]),
    "half a schema id": ("INVALID_AVRO", b"\x00\x01"),
    "no body": ("INVALID_AVRO", HEADER),
    "a body cut off": ("INVALID_AVRO", GOOD[:-3]),
    "garbage in the body": ("INVALID_AVRO", HEADER + b"\xff" * 60),
    "trailing bytes": ("TRAILING_BYTES", GOOD + b"more"),
    "empty event_id": ("EMPTY_FIELD", odd(event_id="")),
    "empty session": ("EMPTY_FIELD", odd(sign_up_session_id="")),
    "empty step": ("EMPTY_FIELD", odd(step="")),
    "empty funnel": ("EMPTY_FIELD", odd(funnel="")),
    "empty os": ("EMPTY_FIELD", odd(os="")),
    "long os": ("FIELD_TOO_LONG", odd(os="x" * 101)),
    "long id": ("FIELD_TOO_LONG", odd(event_id="x" * 501)),
    "NUL": ("BAD_CHARACTER", odd(browser="a\0b")),
    "unknown step": ("UNKNOWN_STEP", odd(step="INPUT_SHOE_SIZE")),
    "no status": ("STATUS_MISSING", odd(phase="POST_VERIFICATION")),
    "future": ("IN_THE_FUTURE", future(4_000_000)),
    "seconds for milliseconds": ("TOO_OLD", odd(ts=1_700_000_000)),
    "before 1970": ("TOO_OLD", odd(ts=-1)),
    "the largest ts": ("IN_THE_FUTURE", odd(ts=2**63 - 1)),
    "the smallest ts": ("TOO_OLD", odd(ts=-(2**63))),
    "negative duration": ("BAD_DURATION", odd(phase="POST_VERIFICATION", status="SUCCESS", duration_ms=-1)),
    "endless duration": ("BAD_DURATION", odd(phase="POST_VERIFICATION", status="SUCCESS", duration_ms=2**63 - 1)),
    "larger than allowed": ("TOO_LARGE", odd(contexts={"a": "x" * 60_000})),
}
LARGE = random.Random(1).randbytes(5 * 2**20)
"""5 MB that no compression makes smaller."""


def make_topic(settings: Settings, name: str, partitions: int, config: dict[str, str]) -> None:
    """Make a topic with a configuration of its own."""
    kafka = admin(settings)
    kafka.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(60)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with short times, tables, and an events topic that takes records of 10 MB."""
    quick = settings.model_copy(
        update={
            "allowed_disorder_s": 0.5,
            "idle_timeout_s": 1.0,
            "window_s": 1,
            "max_value_bytes": 50_000,
        }
    )
    make_topic(quick, quick.events_topic, 4, {"max.message.bytes": "10000000"})
    database = Database(quick.timescale_url)
    migrate(database, quick.window_ms)
    database.close()
    return prepared(quick)


def shown_as_rejected(page: str) -> set[str]:
    """The reasons that a page of metrics has."""
    return set(re.findall(r'^funnelwatch_events_rejected_total{reason="(\w+)"}', page, re.MULTILINE))


def headers_of(message: Any) -> dict[str, str]:
    """The headers of a dead letter, as text."""
    return {name: value.decode() for name, value in message.headers()}


@not_on_tansu("takes records of any size")
def test_every_bad_record_has_one_dead_letter_and_the_good_ones_between_count(quick: Settings) -> None:
    """Reason, place and original bytes are in the dead letter; of 5 MB the beginning is kept, for the broker's sake."""
    good: list[dict[str, Any]] = []
    sent: dict[str, bytes | None] = {}
    records: list[Any] = []
    for name, (_, value) in CASES.items():
        sent[name] = value() if callable(value) else value
        good.append(event())
        records += [sent[name], good[-1]]
    records.insert(11, LARGE)
    produce(quick, records, partition=2)
    with worker(quick) as one:
        wait_until(lambda: done(quick, len(records)) or not one.running, "all are dealt with", 120)
        assert one.running, one.text()
        wait_until(lambda: one.get("/healthz")[0] == 200, "it says that all is well")
        reasons = {reason for reason, _ in CASES.values()}
        wait_until(lambda: shown_as_rejected(one.get("/metrics")[1]) >= reasons, "each reason is counted")
    assert counted(quick) == counts_by_hand(good, quick.window_ms)
    letters = {headers_of(letter)["offset"]: letter for letter in everything(quick, quick.dead_letters_topic)}
    assert len(letters) == len(everything(quick, quick.dead_letters_topic)) == len(CASES) + 1
    for name, (reason, _) in CASES.items():
        letter = letters[str(next(at for at, one in enumerate(records) if one is sent[name]))]
        headers = headers_of(letter)
        assert headers["reason"] == reason, (name, headers)
        assert headers["detail"]
        assert (headers["topic"], headers["partition"]) == (quick.events_topic, "2")
        assert abs(int(headers["timestamp"]) - now_ms()) < 300_000
        assert (letter.value(), letter.key()) == (sent[name], b"raw"), name
        assert "truncated_from" not in headers
    large = letters["11"]
    assert headers_of(large)["reason"] == "TOO_LARGE"
    assert headers_of(large)["truncated_from"] == str(len(LARGE))
    assert large.value() == LARGE[:65_536]


def test_a_record_stamped_far_in_the_future_or_the_past_stops_nothing(quick: Settings) -> None:
    """A producer may give Kafka any timestamp; a restart after it still knows the ids before it."""
    producer = Producer(quick.kafka())
    events = [event() for _ in range(4)]
    for sent, stamp in zip(events, (0, 2**62, 2**53, 0), strict=True):
        producer.produce(quick.events_topic, ENCODE(sent), b"k", 0, timestamp=stamp)
    assert producer.flush(60) == 0
    with worker(quick) as one:
        wait_until(lambda: done(quick, 4) or not one.running, "all are dealt with", 120)
        assert one.running, one.text()
        assert one.stop() == 0
    produce(quick, [events[3], event()], partition=0)
    with worker(quick) as one:
        wait_until(lambda: done(quick, 6) or not one.running, "all are dealt with", 120)
        assert one.running, one.text()


def test_garbage_among_the_closed_windows_does_not_stop_detection(quick: Settings) -> None:
    """Bytes that are no window, and windows that are none of ours, are passed over with a line in the log."""
    from funnelwatch.schemas.codec import Encoder

    encode = Encoder("ClosedWindow")
    ours = {
        "funnel": "sign_up",
        "window_start": 0,
        "window_end": 1000,
        "revision": 0,
        "part": 0,
        "parts": 1,
        "series": [],
    }
    foreign = [
        b"garbage",
        None,
        GOOD,
        encode(ours | {"window_start": 2**63 - 1, "window_end": 0}),
        encode(ours | {"window_start": -(2**62) // 1000 * 1000, "window_end": -(2**62) // 1000 * 1000 + 1000}),
        encode(ours | {"part": -1}),
        encode(ours | {"window_end": 7}),
    ]
    producer = Producer(quick.kafka())
    for value in foreign:
        producer.produce(quick.windows_topic, value, b"sign_up")
    assert producer.flush(60) == 0
    with worker(quick) as one:
        produce(quick, [event(ts=now_ms() - 5_000), event()])
        wait_until(
            lambda: "funnelwatch_windows_evaluated_total" in one.get("/metrics")[1], "windows are evaluated", 120
        )
        evaluated = 'funnelwatch_windows_evaluated_total{funnel="sign_up"}'
        wait_until(lambda: evaluated in one.get("/metrics")[1] or not one.running, "windows of ours are evaluated")
        assert one.running, one.text()
        assert one.text().count("passed over") == len(foreign)
        assert closed_windows_of_ours(quick)


def closed_windows_of_ours(settings: Settings) -> bool:
    """Whether the worker has published windows among the foreign records."""
    found = everything(settings, settings.windows_topic)
    return any(
        message.value() and message.value()[:2] == SINGLE_OBJECT and message.key() == b"sign_up"
        for message in found[-1:]
    )


@not_on_tansu("takes records of any size")
def test_dead_letters_fit_whatever_the_broker_takes(quick: Settings) -> None:
    """A topic for small records gets less of the large ones, all of the others, and none goes missing."""
    small = quick.model_copy(update={"dead_letters_topic": f"{quick.dead_letters_topic}.small"})
    make_topic(small, small.dead_letters_topic, 1, {"max.message.bytes": "3000"})
    values = [b"a" * 100, LARGE[:25_600], b"b" * 100, LARGE[:2_048], None]
    letters = [
        Rejected(Record(at, LARGE[:5_120] if at == 1 else b"k", value, 5), "EMPTY", "x" * 5_000)
        for at, value in enumerate(values)
    ]
    DeadLetters(small).send(0, letters)
    found = {headers_of(one)["offset"]: one for one in everything(small, small.dead_letters_topic)}
    assert sorted(found) == ["0", "1", "2", "3", "4"]
    for at in (0, 2, 4):
        assert found[str(at)].value() == values[at]
        assert "truncated_from" not in headers_of(found[str(at)])
    assert headers_of(found["1"])["truncated_from"] == "25600"
    assert found["1"].value() == values[1][:1024]  # type: ignore[index]


@pytest.mark.parametrize(
    ("setting", "name", "text"),
    [
        ("funnels_path", "funnels.yml", "funnels: {sign_up: [A, A]}"),
        ("funnels_path", "funnels.yml", "funnels: ["),
        ("rules_path", "rules", "rules: [{nonsense: 1}]"),
    ],
)
def test_a_bad_file_ends_the_worker_with_a_sentence(quick: Settings, setting: str, name: str, text: str) -> None:
    """A funnels or rules file that cannot be used is named, and there is no traceback."""
    path = quick.data_dir / name
    if setting == "rules_path":
        path.mkdir()
        (path / "bad.yml").write_text(text)
    else:
        path.write_text(text)
    ended = subprocess.run(
        [sys.executable, "-m", "funnelwatch.stream", "worker", "--without-web"],
        cwd=ROOT,
        env=environment(quick, **{setting: path}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode not in (0, -9)
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) < 12
