"""The records of a poll, as C takes them from librdkafka, and the queue that it takes them from."""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

import confluent_kafka
import numpy as np
from confluent_kafka import KafkaError, cimpl

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.stream.intake.batches import Records
from funnelwatch.stream.native.library import PATH, ROW, NativeLibraryError, enough_memory, native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from confluent_kafka import Consumer

    from funnelwatch.stream.native.event_decoder import EventDecoder

PLUGINS = "plugin.library.paths"
"""Property of librdkafka: the libraries that it tells of a new client."""

AT_ONCE = 4096
"""Messages of one call; as in take.c."""

SUPPORTED = (2, 3)
"""Versions of librdkafka, ``[from, to)``, whose ``rd_kafka_message_t`` take.c knows."""


class _Poll(ctypes.Structure):
    """The beginning of ``struct poll`` of take.c."""

    _fields_: ClassVar = [
        ("records", ctypes.c_int64),
        ("bytes", ctypes.c_int64),
        ("error_count", ctypes.c_int64),
        ("errors", ctypes.c_void_p),
    ]


class _Partition(ctypes.Structure):
    """The beginning of ``struct partition`` of take.c."""

    _fields_: ClassVar = [
        ("number", ctypes.c_int32),
        ("position", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("size", ctypes.c_int64),
        ("rows", ctypes.c_void_p),
        ("content", ctypes.c_void_p),
    ]


class PollBuffer:
    """All records that are taken until the poll is over, by partition. For the consumer's thread.

    Args:
        decoder: decodes them as they come; None: only their bytes are kept.
    """

    def __init__(self, decoder: EventDecoder | None = None) -> None:
        library = native()
        self.decoder = decoder
        self.handle = library.fw_poll_new()
        enough_memory(self.handle)
        weakref.finalize(self, library.fw_poll_free, self.handle)
        self._poll = _Poll.from_address(self.handle)
        self.numbers = decoder.numbers() if decoder else None

    @property
    def records(self) -> int:
        """How many were taken in this poll."""
        return int(self._poll.records)

    @property
    def size(self) -> int:
        """The bytes of their values."""
        return int(self._poll.bytes)

    def begin(self) -> None:
        """Begin a poll, unless records have come already."""
        if self.decoder and not self.records:
            self.numbers = self.decoder.numbers()

    def end(self) -> None:
        """End the poll; what was not drained belongs to the next one."""
        self._poll.records = self._poll.bytes = 0

    def assign(self, partition: int, position: int) -> None:
        """Take records of a partition, from a position on; those that it has already are dropped."""
        enough_memory(native().fw_poll_assign(self.handle, partition, position))

    def drop(self, partition: int) -> None:
        """Take no more records of a partition; those that it has are dropped."""
        native().fw_poll_drop(self.handle, partition)

    def position(self, partition: int) -> int:
        """The offset after the last record of a partition that is taken."""
        return int(self._partition(partition).position)

    def drain(self, partition: int) -> Records:
        """The records of a partition, which then has none."""
        found, library = self._partition(partition), native()
        content = ctypes.string_at(found.content, found.size) if found.size else b""
        rows = np.empty(0, ROW)
        if found.count:
            taken = (ctypes.c_char * (found.count * ROW.itemsize)).from_address(found.rows)
            weakref.finalize(taken, library.fw_free, found.rows)
            rows = np.frombuffer(taken, ROW)
        library.fw_free(found.content)
        library.fw_poll_clear(ctypes.addressof(found))
        return Records(rows, content, self.numbers)

    def add(
        self, partition: int, offset: int, timestamp: int, key: bytes | None = None, value: bytes | None = None
    ) -> None:
        """Take a record that did not come from a queue."""
        enough_memory(
            native().fw_poll_add(
                self.handle, partition, offset, timestamp, key, len(key or b""), value, len(value or b"")
            )
        )

    def errors(self) -> Iterator[tuple[int, KafkaError, int]]:
        """Partition, error and offset of what the last call has brought beside records; the ends of partitions too."""
        errors = ctypes.cast(self._poll.errors, ctypes.POINTER(ctypes.c_int32 * 2 * 2))
        for at in range(self._poll.error_count):
            (partition, code), offset = errors[at]
            yield partition, KafkaError(code), ctypes.c_int64.from_buffer(offset).value

    def _partition(self, partition: int) -> _Partition:
        return _Partition.from_address(native().fw_poll_partition(self.handle, partition))


class PartitionQueue:
    """A consumer of confluent-kafka whose records go to a queue of ours, past its ``poll``. For one thread.

    ``poll`` serves the group's callbacks as ever. librdkafka itself gives us the handle of the client, as to any
    plugin: nothing is read from a structure of confluent-kafka.

    Args:
        make: makes the consumer.
        properties: its properties.

    Attributes:
        consumer: the consumer.

    Raises:
        NativeLibraryError: this librdkafka cannot be used.
    """

    def __init__(self, make: Callable[[dict[str, Any]], Consumer], properties: dict[str, Any]) -> None:
        self._kafka = _librdkafka()
        native().fw_newest_client()
        plugins = [properties[PLUGINS], str(PATH)] if PLUGINS in properties else [str(PATH)]
        self.consumer = make(properties | {PLUGINS: ";".join(plugins)})
        self._client = native().fw_newest_client()
        if not self._client:
            raise NativeLibraryError(f"librdkafka has loaded no plugin; {_ADVICE}")
        self._queue: int | None = self._kafka.rd_kafka_queue_new(self._client)
        self._sources: dict[tuple[str, int], int] = {}

    def forward(self, topic: str, partitions: Iterable[int]) -> None:
        """Let the records of partitions come to our queue; others that came to it no longer do.

        librdkafka ends the forwarding when it stops fetching a partition, which may be after the partition is assigned
        anew: so this is repeated before each poll.
        """
        wanted = {(topic, number) for number in partitions}
        for source in self._sources.keys() - wanted:
            self._release(self._sources.pop(source))
        for name, number in wanted:
            if (name, number) not in self._sources:
                found = self._kafka.rd_kafka_queue_get_partition(self._client, name.encode(), number)
                enough_memory(found)
                self._sources[name, number] = found
            self._kafka.rd_kafka_queue_forward(self._sources[name, number], self._queue)

    def take(self, buffer: PollBuffer, timeout_s: float, most: int = AT_ONCE) -> None:
        """Take what comes within the time into a buffer; then it has the errors of this call.

        Args:
            buffer: takes the records.
            timeout_s: waits no longer than this, s.
            most: returns as soon as so many messages have come.
        """
        decoder, numbers = buffer.decoder, buffer.numbers
        limits = decoder.limits_at(wall_clock_ms()) if decoder else np.zeros(0)
        taken = native().fw_take(
            buffer.handle,
            decoder.handle if decoder else None,
            numbers.handle if numbers else None,
            limits.ctypes.data,
            self._queue,
            int(timeout_s * 1000),
            most,
        )
        enough_memory(taken >= 0)

    def _release(self, source: int) -> None:
        self._kafka.rd_kafka_queue_forward(source, None)
        self._kafka.rd_kafka_queue_destroy(source)

    def close(self) -> None:
        """Give the queues back, then leave the group."""
        if self._queue is not None:
            self.forward("", ())
            self._kafka.rd_kafka_queue_destroy(self._queue)
            self._queue = None
        self.consumer.close()


_ADVICE = "install a wheel of confluent-kafka from PyPI: 'pip install \"confluent-kafka>=2.10,<3\"'"

_FUNCTIONS = (
    "rd_kafka_consume_batch_queue",
    "rd_kafka_message_timestamp",
    "rd_kafka_message_destroy",
    "rd_kafka_conf_interceptor_add_on_new",
)
"""``struct kafka`` of take.c."""


def _librdkafka() -> ctypes.CDLL:
    """The librdkafka that confluent-kafka uses; take.c knows its functions from then on.

    Raises:
        NativeLibraryError: it has another version, or lacks a function.
    """
    # A name is looked up in the libraries that this one needs as well: whichever file librdkafka is.
    library = ctypes.CDLL(cimpl.__file__)
    try:
        library.rd_kafka_queue_new.restype = library.rd_kafka_queue_get_partition.restype = ctypes.c_void_p
        library.rd_kafka_queue_new.argtypes = library.rd_kafka_queue_destroy.argtypes = [ctypes.c_void_p]
        library.rd_kafka_queue_get_partition.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32]
        library.rd_kafka_queue_forward.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _FUNCTIONS]
        major = library.rd_kafka_version() >> 24
    except AttributeError as error:
        raise NativeLibraryError(f"librdkafka lacks a function: {error}; {_ADVICE}") from error
    if not SUPPORTED[0] <= major < SUPPORTED[1]:
        version = confluent_kafka.libversion()[0]
        raise NativeLibraryError(f"librdkafka {version} is not one that funnelwatch knows; {_ADVICE}")
    native().fw_kafka((ctypes.c_void_p * len(addresses))(*addresses))
    return library
