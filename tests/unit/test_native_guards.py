"""The hot path's guards: another librdkafka is refused with a sentence, and its worked example is a real event."""

from __future__ import annotations

import re
from typing import Any

import pytest
from confluent_kafka import Consumer

from funnelwatch.schemas.codec import Decoder, Encoder
from funnelwatch.schemas.validation import Limits
from funnelwatch.stream.intake.batches import SUCCESS, Record, Records
from funnelwatch.stream.native import poll_buffer
from funnelwatch.stream.native.event_decoder import EventDecoder
from funnelwatch.stream.native.library import NativeLibraryError
from funnelwatch.stream.native.poll_buffer import PartitionQueue, PollBuffer
from funnelwatch.stream.native.sources import FOLDER
from tests.traffic import event

PROPERTIES = {"group.id": "g", "bootstrap.servers": "127.0.0.1:1"}


def test_another_major_version_of_librdkafka_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages may be laid out otherwise: nothing is tried, and the error says what to install."""
    monkeypatch.setattr(poll_buffer, "SUPPORTED", (3, 4))
    with pytest.raises(NativeLibraryError, match=r"is not one that funnelwatch knows; .*pip install") as caught:
        PartitionQueue(Consumer, PROPERTIES)
    assert "\n" not in str(caught.value)


def test_a_librdkafka_without_a_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of its own may lack one."""
    monkeypatch.setattr(poll_buffer, "_FUNCTIONS", ("rd_kafka_that_never_was",))
    with pytest.raises(NativeLibraryError, match=r"lacks a function: .*rd_kafka_that_never_was.*pip install"):
        PartitionQueue(Consumer, PROPERTIES)


def test_a_librdkafka_that_loads_no_plugins_is_refused() -> None:
    """Without its handle nothing is done with a client."""

    def without_plugins(properties: dict[str, Any]) -> Consumer:
        return Consumer({name: value for name, value in properties.items() if name != poll_buffer.PLUGINS})

    with pytest.raises(NativeLibraryError, match="has loaded no plugin"):
        PartitionQueue(without_plugins, PROPERTIES)


def test_two_clients_have_queues_of_their_own_and_close() -> None:
    """Each is given the handle that librdkafka made for it, and takes nothing where nothing comes."""
    queues = [PartitionQueue(Consumer, PROPERTIES) for _ in range(2)]
    assert queues[0]._client != queues[1]._client
    buffer = PollBuffer()
    for queue in queues:
        queue.forward("t", [0, 1])
        queue.forward("t", [1])
        queue.take(buffer, 0.0)
        assert buffer.records == 0
        queue.close()
        queue.close()


def test_the_worked_example_of_the_wire_format_is_a_real_event() -> None:
    """The bytes in the comment of wire.c decode, by fastavro and by C, to what the comment says."""
    comment = (FOLDER / "wire.c").read_text().partition("*/")[0]
    lines = re.findall(r"^ \*     ((?:[0-9a-fx]{2} )+)", comment, re.MULTILINE)
    body = b"".join(bytes.fromhex(line) for line in lines if "xx" not in line)
    value = Encoder("FunnelEvent")(event())[:10] + body[2:]
    assert len(value) == int(re.search(r"writes it, (\d+) bytes", comment)[1])  # type: ignore[index]
    expected = event(
        event_id="e1",
        funnel="sign_up",
        sign_up_session_id="s1",
        step="A",
        os="iOS",
        browser="",
        app_version="1",
        phase="POST_VERIFICATION",
        status="SUCCESS",
        ts=1_700_000_000_000,
        duration_ms=1_000,
        contexts={"plan": "x"},
    )
    decode = Decoder("FunnelEvent")
    assert decode(value) == expected
    records = Records.of([Record(0, None, value, 0)])
    [row] = EventDecoder(decode, {}, Limits(2**60, 2**60), 1_000)(records, expected["ts"]).rows
    assert (row["outcome"], row["ts"], row["duration"]) == (SUCCESS, expected["ts"], 1_000)
