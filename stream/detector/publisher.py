"""Publishes alerts: those in a funnel's outbox, until Kafka has acknowledged them, and the heartbeat."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from funnelwatch.producers.kafka.acked import AckedProducer, Message
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.texts import legible
from funnelwatch.sinks.failpoints import failpoint
from funnelwatch.stream.worker import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from funnelwatch.schemas.codec import Registry
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.alerts import AlertStore

log = logging.getLogger(__name__)


class AlertPublisher:
    """The producer of the alerts topic. For the thread that detects.

    Args:
        settings: Kafka, topic.
        alerts: the outbox.
        registry: the schema registry; None: there is none.
    """

    def __init__(self, settings: Settings, alerts: AlertStore, registry: Registry | None) -> None:
        self._topic = settings.alerts_topic
        self._alerts = alerts
        self._encode = Encoder("Alert", registry)
        self._producer = AckedProducer(settings, "funnelwatch-detector")

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers this client. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._producer.ask_kafka(self._topic, timeout_s)

    def publish(self, funnel: str) -> list[dict[str, Any]]:
        """Publish the outbox of a funnel; returns once Kafka has acknowledged it.

        A crash before the outbox is cleared publishes the same messages again, with the same ids and sequences.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; call it again.
        """
        outbox = self._alerts.outbox(funnel)
        metrics.OUTBOX.labels(funnel).set(len(outbox))
        if not outbox:
            return []
        failpoint("alerts_saved")
        self.send(outbox)
        failpoint("alerts_published")
        self._alerts.published(outbox)
        metrics.OUTBOX.labels(funnel).set(0)
        for alert in outbox:
            metrics.ALERTS.labels(alert["state"], alert["reason"]).inc()
            log.warning(
                "ALERT %s %s: %s %s %s%s",
                alert["state"], alert["reason"], legible(funnel), legible(alert["step"]), alert["dimensions"],
                f" (muted by silence {silence})" if (silence := alert.get("silenced_by")) else "",
            )  # fmt: skip
        return outbox

    def send(self, alerts: Sequence[dict[str, Any]]) -> None:
        """Publish messages; returns once Kafka has acknowledged them.

        Raises:
            KafkaException: it has not.
        """
        self._producer.publish(Message(self._topic, alert["alert_id"], self._encode(alert)) for alert in alerts)
