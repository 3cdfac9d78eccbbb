"""Whether a broker answers, by librdkafka's statistics and errors; logs an outage once, not once an attempt."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

logger = logging.getLogger("funnelwatch.producer")

SILENT_S = 10.0
"""A connected broker that has sent nothing for this long, while it should, does not answer, in seconds."""

OUTAGE_AFTER_S = 5.0
"""A shorter outage is not logged, in seconds: Kafka restarts, and the buffer keeps the events."""

LOG_EVERY_S = 60.0
"""A longer outage is logged once in this time, in seconds."""

UNCONNECTED = {"INIT", "DOWN", "TRY_CONNECT", "CONNECT"}
"""States of librdkafka's connection to a broker before the broker has taken it."""


class Reachability:
    """The state of a producer's brokers; called from several threads.

    Args:
        servers: the brokers, for messages.
        monotonic: the clock, s.

    Attributes:
        trouble: the last error of the connection; empty while it works.
    """

    def __init__(self, servers: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.trouble = ""
        self._servers = servers
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._statistics = ""
        self._away_since: float | None = None
        self._log_at = 0.0
        self._logged = False

    def measured(self, statistics: str) -> None:
        """Keep librdkafka's statistics (JSON); only ``answers`` reads them."""
        self._statistics = statistics

    def answers(self, waited_s: float) -> bool:
        """Whether a broker is connected and has answered lately, or has not had the time to.

        Args:
            waited_s: how long somebody has waited for it, in seconds. A broker that had nothing to answer before that
                is not silent yet.
        """
        if not self._statistics:
            return False
        brokers = json.loads(self._statistics)["brokers"].values()
        return any(
            broker["state"] not in UNCONNECTED and broker["rx"] > 0 and min(broker["rxidle"] / 1e6, waited_s) < SILENT_S
            for broker in brokers
        )

    def failed(self, error: KafkaError) -> None:
        """Take an error of the connection."""
        now = self._monotonic()
        with self._lock:
            # "1/1 brokers are down" follows the reason, and says less.
            if error.name() != "_ALL_BROKERS_DOWN":
                self.trouble = error.str()
            if self._away_since is None:
                self._away_since = now
                self._log_at = now + OUTAGE_AFTER_S

    def worked(self) -> None:
        """Kafka has taken an event."""
        if self._away_since is None:
            return
        with self._lock:
            logged, self._logged, self._away_since, self.trouble = self._logged, False, None, ""
        if logged:
            logger.info("Kafka at %s takes events again", self._servers)

    def log_outage(self) -> None:
        """Log that Kafka is away, where it has been for long enough, and not too often."""
        away_since, now = self._away_since, self._monotonic()
        if away_since is None or now < self._log_at:
            return
        self._log_at, self._logged = now + LOG_EVERY_S, True
        logger.warning("Kafka at %s is away for %.0f s: %s", self._servers, now - away_since, self.trouble)
