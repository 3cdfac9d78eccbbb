"""Outcomes of events: lost ones, the counters, the error of a full buffer."""

from __future__ import annotations

from dataclasses import dataclass

from funnelwatch.schemas.errors import FunnelwatchError

TOO_LARGE = "contexts: the event is too large for Kafka (message.max.bytes)"


class BufferFull(FunnelwatchError):  # noqa: N818 - a state of the producer, not a bug
    """The buffer has no room for another event (``when_full="raise"``)."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An event that did not reach Kafka, and why.

    Attributes:
        sign_up_session_id: the session it belongs to; of a counter or timer the series, such as ``sms_sent{os="iOS"}``.
        reason: BUFFER_FULL, or the name of librdkafka's error, like _MSG_TIMED_OUT.
        detail: the error in words.
    """

    sign_up_session_id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ProducerStats:
    """How many events, since the producer was made (in this process).

    ``emitted == delivered + failed + buffered``; what was dropped was never emitted.
    """

    emitted: int
    delivered: int
    failed: int
    dropped: int
    buffered: int
