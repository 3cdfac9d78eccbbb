"""The hot path in C below AddressSanitizer and UndefinedBehaviorSanitizer, and what a broken installation says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from funnelwatch.stream.native import backend
from tests.fuzz.__main__ import SANITIZED, fuzz
from tests.traffic import event, prepared, produce
from tests.worker import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

TAKING = """
import sys
from confluent_kafka import Consumer, TopicPartition
from funnelwatch.schemas.codec import Decoder
from funnelwatch.schemas.funnels import BUILT_IN
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.validation import Limits
from funnelwatch.stream.aggregate.aggregation import aggregate
from funnelwatch.stream.intake.batches import RecordBatch
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.sessions import Sessions
from funnelwatch.stream.intake.validator import EventValidator
from funnelwatch.stream.native.poll_buffer import PartitionQueue, PollBuffer
from tests.traffic import now_ms

settings, wanted = Settings(), int(sys.argv[1])
properties = settings.kafka("consumer", **{"group.id": "sanitized", "enable.partition.eof": True})
validator = EventValidator(Decoder("FunnelEvent"), BUILT_IN, Limits.of(settings), 1_000)
for _ in range(2):
    queue, buffer = PartitionQueue(Consumer, properties), PollBuffer(validator.decoder)
    seen, sessions = SeenIds(600_000), Sessions(60_000, 50)
    buffer.assign(0, 0)
    queue.forward(settings.events_topic, [0])
    queue.consumer.assign([TopicPartition(settings.events_topic, 0, 0)])
    accepted = rejected = ends = 0
    while accepted + rejected < wanted or not ends:
        queue.consumer.poll(0)
        queue.forward(settings.events_topic, [0])
        queue.take(buffer, 0.5)
        ends += len(list(buffer.errors()))
        if buffer.records > wanted // 5 or ends:
            found = validator(RecordBatch(0, 0, 0, buffer.drain(0)), seen, now_ms(), sessions)
            aggregate(found, 60_000, 0, now_ms())
            sessions.void(found.accepted.rows[:1])
            buffer.end()
            accepted, rejected = accepted + len(found.accepted), rejected + len(found.rejected)
    # What came after the last take is thrown away with the queue.
    queue.consumer.seek(TopicPartition(settings.events_topic, 0, 0))
    queue.close()
print(accepted, rejected)
"""
"""Takes a topic twice, as a worker does, and leaves in the middle of it."""


def runtime(name: str) -> str:
    """The path of a library of the compiler."""
    done = subprocess.run([*backend.compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def gcc() -> None:
    """Sanitizers come with the machine's compiler."""
    if shutil.which("cc") is None or os.path.sep not in runtime("libasan.so"):
        pytest.skip("NOT TESTED: the C sources below sanitizers: gcc and libasan are missing")


def test_the_fuzzer_finds_nothing() -> None:
    """Random changes of events, for a few seconds; `make fuzz-decode` goes on for longer."""
    assert "of them plain events" in fuzz(3, 5)


@pytest.mark.parametrize(
    ("file", "check", "without"),
    [
        ("wire.h", "|| size > end - *at) return 0;", ") return 0;"),
        ("wire.h", "shift < 56 && *at < end", "shift < 56"),
        ("wire.c", "end - at < more", "0"),
    ],
)
def test_the_fuzzer_finds_a_check_that_is_missing(tmp_path: Path, file: str, check: str, without: str) -> None:
    """Without one of the checks of lengths a byte beyond the value is read, and that is noticed."""
    sources = shutil.copytree(backend.FOLDER, tmp_path / "sources")
    text = (sources / file).read_text()
    assert check in text
    (sources / file).write_text(text.replace(check, without))
    with pytest.raises(subprocess.CalledProcessError):
        fuzz(20, 5, sources)


@pytest.fixture
def sanitized(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that loads the hot path built with sanitizers."""
    library = tmp_path / "native.bin"
    backend.compile_library(library, *SANITIZED)
    return {
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')}",
        # Python keeps what it has until it ends.
        "ASAN_OPTIONS": "detect_leaks=0",
        "FUNNELWATCH_NATIVE_LIBRARY": str(library),
    }


def run(environment: dict[str, str], *arguments: str) -> str:
    """What a Python says that must not fail."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


def test_the_properties_hold_below_sanitizers(sanitized: dict[str, str]) -> None:
    """Decoding, duplicates, sessions and counting, as Hypothesis tries them: no bad access, no undefined arithmetic."""
    names = ("bulk", "counting", "recount", "session")
    tests = [f"tests/property/test_{name}_properties.py" for name in names]
    run(os.environ | sanitized, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


def test_a_topic_is_taken_from_librdkafka_below_sanitizers(settings: Settings, sanitized: dict[str, str]) -> None:
    """Good events, garbage and large values, read to the end twice: no message is used after it is given back."""
    mine = prepared(settings.model_copy(update={"topic_partitions": 1}))
    events = [event(os=f"os {number % 50}") for number in range(10_000)]
    produce(mine, [one if number % 100 else b"garbage" * (number // 10) for number, one in enumerate(events)])
    said = run(environment(mine) | sanitized, "-c", TAKING, str(len(events)))
    assert said.split() == ["9900", "100"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be loaded"), (b"no library", "cannot be loaded"), ("older", "was built of other sources")],
)
def test_a_library_that_does_not_fit_is_refused(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    """A sentence says what to do; nothing crashes."""
    library = tmp_path / "native.bin"
    if isinstance(content, bytes):
        library.write_bytes(content)
    elif content is not None:
        backend.compile_library(library, "-USOURCES", '-DSOURCES="of yesterday"')
    program = "from funnelwatch.stream.native.library import native; native()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"FUNNELWATCH_NATIVE_LIBRARY": str(library)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert message in last
    assert "pip install" in last
