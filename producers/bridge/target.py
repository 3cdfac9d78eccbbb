"""One target of a bridge: scrapes it periodically, and emits its increments.

A target that is unreachable, slow or sends invalid metrics is logged and scraped again; it delays no other target. The
state file holds the emitted value of each counter, and each plan before it is emitted. It is replaced atomically.
"""

from __future__ import annotations

import logging
import os
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from funnelwatch.producers.bridge.deltas import Seen, State, done, plan, records
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.redaction import error_text, know_address, shown
from funnelwatch.schemas.texts import legible
from funnelwatch.schemas.web_client import Unanswered, ask

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from funnelwatch.producers.bridge.mapping import Target
    from funnelwatch.producers.client.producer import FunnelProducer

log = logging.getLogger(__name__)

MAX_BYTES = 20_000_000
FLUSH_S = 30.0
REPORTED = ("gauge", "histogram", "summary")


class ScrapeError(FunnelwatchError):
    """The target did not respond with metrics; the message has the reason."""


class StateFileError(FunnelwatchError, ValueError):
    """The state file is not one that a bridge wrote; the message has the remedy."""


class Bridge:
    """Scrapes one target; for one thread.

    Args:
        target: the target.
        producer: a producer of its own, which blocks while its buffer is full.
        state_file: read now, if it exists.
        now_ms: the wall clock, ms.

    Raises:
        StateFileError: the state file cannot be used.
    """

    def __init__(self, target: Target, producer: FunnelProducer, state_file: Path, now_ms: Callable[[], int]) -> None:
        know_address(target.url)
        self._target = target
        self._producer = producer
        self._file = state_file
        self._now_ms = now_ms
        self._told: set[str] = set()
        self.state = State()
        try:
            self.state = State.from_json(state_file.read_text())
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateFileError(
                f"{state_file}: is not the state of a bridge ({error}); move it away to start at the next scrape"
            ) from error

    def run(self, stopping: threading.Event) -> None:
        """Scrape until stopped."""
        away = False
        while not stopping.is_set():
            try:
                self.step()
            except ScrapeError as error:
                if not away:
                    log.warning("target %s: %s; asked again every %g s", self._target.name, error, self._target.every)
                away = True
            else:
                if away:
                    log.warning("target %s: answers again", self._target.name)
                away = False
            stopping.wait(self._target.every)

    def step(self) -> int:
        """Emit the rest of an earlier plan, or the plan of one scrape; return the number of increments that Kafka has.

        Raises:
            ScrapeError: the target does not respond with metrics.
        """
        if not self.state.plan:
            plan(self.state, self._scrape(), self._target.maps, self._now_ms())
            self._save()
        taken = sum(added.end - added.begin for added in self.state.plan)
        if not self._emitted():
            return 0
        done(self.state)
        self._save()
        return taken

    def _emitted(self) -> bool:
        """Whether Kafka has acknowledged the whole plan."""
        failed = self._producer.stats().failed
        for kind, fields in records(self._target.name, self.state, self._target.maps, 2_000 * self._target.every):
            try:
                _ = self._producer.emit(fields) if kind == "event" else self._producer.record(fields)
            except ValueError as error:
                self._tell(f"passed over, cannot be counted: {error}: {fields}")
        if self._producer.flush(FLUSH_S) == 0 and self._producer.stats().failed == failed:
            return True
        log.warning("target %s: Kafka has not taken everything; it is sent again", self._target.name)
        return False

    def _scrape(self) -> list[Seen]:
        url, target = self._target.url, shown(self._target.url)
        headers = {"Accept": "text/plain;version=0.0.4"}
        try:
            reply = ask(url, timeout_s=self._target.timeout, headers=headers, most_bytes=MAX_BYTES + 1)
        except (Unanswered, ValueError) as error:
            raise ScrapeError(str(error)) from None
        body = reply.body
        if reply.status != HTTPStatus.OK:
            raise ScrapeError(f"{target} does not answer: HTTP {reply.status}")
        if len(body) > MAX_BYTES:
            raise ScrapeError(f"{target} has more than {MAX_BYTES} bytes")
        seen = []
        try:
            for family in text_string_to_metric_families(body.decode()):
                if family.type in REPORTED and any(one.metric == family.name for one in self._target.maps):
                    self._tell(f"{family.name} is a {family.type}: only counters can be taken over")
                    continue
                seen += [Seen(sample.name, dict(sample.labels), sample.value) for sample in family.samples]
        except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
            raise ScrapeError(f"{target} answers with no metrics: {error_text(error)}") from error
        return seen

    def _tell(self, text: str) -> None:
        if text not in self._told and len(self._told) < 100:  # noqa: PLR2004 - enough to see what is wrong
            self._told.add(text)
            log.warning("target %s: %s", self._target.name, legible(text, 500))

    def _save(self) -> None:
        new = self._file.with_suffix(".new")
        with new.open("w") as file:
            file.write(self.state.to_json())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)
