"""The Faust app: ``faust -A funnelwatch.stream.app worker``. Agents and services are thin; components do the work."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from typing import TYPE_CHECKING, Any, cast

from aiohttp.web import Response
from mode import Service
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from funnelwatch.schemas import redacted_output
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.retry import StoppedError
from funnelwatch.sinks.servers import DATABASE, KAFKA, REDIS, servers
from funnelwatch.stream.intake.batch_channel import BatchChannel, backlog
from funnelwatch.stream.worker import metrics
from funnelwatch.stream.worker.ages import ages
from funnelwatch.stream.worker.components import WorkerComponents
from funnelwatch.stream.worker.contacts import BEAT_EVERY_S
from funnelwatch.stream.worker.faust_app import make_app, read_settings
from funnelwatch.stream.worker.memory import return_freed_memory
from funnelwatch.stream.worker.pace import Pace
from funnelwatch.stream.worker.threads import Threads, find_stuck, one_round, until_stopped
from funnelwatch.stream.worker.window_evaluation import WindowEvaluation, is_detect_outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.stream.intake.polled_batch import PolledBatch, ValidatedPoll

log = logging.getLogger(__name__)

CLOSER_EVERY_S = 0.25
RETRY_STEP_S = 5.0
RETRY_REJECTED_S = 10.0
"""A round of closing that the database rejects is repeated after this long: it publishes its windows again, s."""

ALERTING_EVERY_S = 2.0
"""How often the detect thread does what no window brings: edited rules, ended silences, the pipeline as a whole."""
MAINTENANCE_EVERY_S = 60.0
BATCHES_IN_THE_CHANNEL = 4
"""How many validated batches may wait to be counted; with more the intake holds, so memory stays bounded. They have 64
bytes an event, a tenth of a record."""

COLLECT_AFTER = (200_000, 20, 20)
"""Python looks for garbage in cycles after so many new objects. By default after 700, and a batch has 100,000 messages:
a third of the time would go into looking through them."""

HAND_OVER_EVERY_S = 1.0
"""An empty batch goes on this often: it carries which partitions are idle."""

WATCHDOG_EVERY_S = 5.0

return_freed_memory()
redacted_output.install()
settings, credentials = read_settings()
components = WorkerComponents(settings)
threads = Threads()
app = make_app(settings, credentials, components, threads)
health = components.status.health
ages.lag = components.lag
if not settings.redis_url:
    metrics.leave_redis_out()
    ages.leave_out(REDIS)
ages.standstill_s = lambda: health.standstill.longest_at(time.monotonic())

batches = BatchChannel(app, maxsize=BATCHES_IN_THE_CHANNEL)
windows = app.topic(
    settings.windows_topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
)


@app.service
class Intake(Service):
    """Feeds the channel with what librdkafka fetches, each batch validated; holds while the channel is full."""

    async def on_start(self) -> None:
        """Tune Python's garbage collector to large batches."""
        gc.set_threshold(*COLLECT_AFTER)

    @Service.task
    @until_stopped
    async def _feed(self) -> None:
        fetcher = components.fetcher.running
        handed_over = 0.0
        while not self.should_stop:
            health.fetching()
            polled = await threads.run("intake", fetcher.fetch)
            if polled:
                ages.succeeded("fetch")
            metrics.STOPPED.set(len(fetcher.stopped))
            if polled or time.monotonic() - handed_over >= HAND_OVER_EVERY_S:
                await self._hand_over(await self._validate(polled))
                handed_over = time.monotonic()

    async def _validate(self, polled: PolledBatch) -> ValidatedPoll:
        health.begin("validation")
        validated = await threads.run("intake", components.validation.running, polled)
        health.end("validation")
        return cast("ValidatedPoll", validated)

    async def _hand_over(self, validated: ValidatedPoll) -> None:
        put = asyncio.ensure_future(batches.put(cast("Any", validated)))
        while not put.done():
            await asyncio.wait({put}, timeout=1.0)
            if self.should_stop:
                put.cancel()
                return
            if not put.done():
                # A slow flush must not cost this worker its place in the group.
                health.fetching()
                await threads.run("intake", components.fetcher.running.keep_alive)


@app.agent(batches, name="aggregate")
async def aggregate(stream: Any) -> None:
    """Count all batches that wait: one transaction, then Redis if one is configured, then the offsets."""
    async for first in stream:
        waiting = await backlog(stream, first, components.aggregator.running.worthwhile)
        health.begin("counting")
        ages.busy(True)
        try:
            await threads.run("count", components.aggregator.running, waiting)
        except StoppedError:
            return
        except Exception as error:
            log.exception("counting failed; the worker stops, and nothing is lost")
            await app.crash(error)
            raise
        finally:
            ages.busy(False)
        health.end("counting")


@app.service
class Cache(Service):
    """Makes the cache in Redis complete, step by step, and rests where nothing is missing; without Redis it ends."""

    @Service.task
    @until_stopped
    async def _steps(self) -> None:
        if components.cache_rebuild is None:
            return
        woken = components.cache_debt.woken
        while not self.should_stop:
            woken.clear()
            try:
                pause = await threads.run("cache", components.cache_rebuild.running.step)
            except StoppedError:
                raise
            except Exception:
                # A bug here must not stop the counting.
                log.exception("the cache in Redis is not made complete; it is tried again")
                pause = RETRY_STEP_S
            until = time.monotonic() + pause
            while not self.should_stop and not (woken.is_set() and pause > 1) and time.monotonic() < until:
                await self.sleep(min(CLOSER_EVERY_S, max(0.0, until - time.monotonic())))


@app.service
class Metrics(Service):
    """Counts counters and timers, beside the events and without holding them up."""

    @Service.task
    @until_stopped
    async def _rounds(self) -> None:
        while not self.should_stop:
            try:
                await threads.run("metrics", components.metric_aggregator.running.round)
            except StoppedError:
                raise
            except Exception as error:
                log.exception("counting of metrics failed; the worker stops, and nothing is lost")
                await self.crash(error)
                return


@app.service
class Closing(Service):
    """Closes windows, round by round."""

    @Service.task
    @until_stopped
    async def _rounds(self) -> None:
        pace = Pace.of(settings, components.counted, CLOSER_EVERY_S)
        await self.sleep(CLOSER_EVERY_S)
        while not self.should_stop:
            error = await one_round(threads, self, "close", components.closer.running.round, "closing")
            if error is not None and not is_transient(error):
                await self.sleep(RETRY_REJECTED_S)
            await self.sleep(pace.pause_s())


@app.service
class Maintenance(Service):
    """Materializes rollups, drops expired counts and alerts."""

    @Service.task
    @until_stopped
    async def _rounds(self) -> None:
        while not self.should_stop:
            await self.sleep(MAINTENANCE_EVERY_S)
            await one_round(threads, self, "maintenance", components.maintenance.running, "maintenance of counts")


@app.agent(windows, name="detect", concurrency=1)
async def detect(stream: Any) -> None:
    """Evaluate closed windows and publish the alerts that follow."""
    evaluate = WindowEvaluation(settings, components.registry, components.detection.running, components.stopping)
    async for values in stream.take(200, within=0.1):
        try:
            health.begin("evaluation")
            await threads.run("detect", evaluate, values)
            health.end("evaluation")
        except StoppedError:
            return
        except Exception as error:
            log.exception("closed windows cannot be read; the worker stops, and nothing is lost")
            await app.crash(error)
            raise


@app.service
class Alerting(Service):
    """Does, between windows, what the alerts need that no window brings."""

    @Service.task
    @until_stopped
    async def _rounds(self) -> None:
        pace = Pace.of(settings, components.counted, ALERTING_EVERY_S)
        while not self.should_stop:
            await self.sleep(pace.pause_s())
            try:
                await threads.run("detect", self._between_windows)
                servers.done("alerting")
            except Exception as error:
                # As in the detect agent, a bug must not stop the counting; the heartbeat that stays away reports it.
                if is_detect_outage(error):
                    servers.failed("alerting", error)
                else:
                    log.exception("alerting failed; it is tried again")

    @staticmethod
    def _between_windows() -> None:
        components.detection.running.follow_rules()
        components.detection.running.publish_muted()
        components.monitor.running.round()


@app.on_partitions_revoked.connect
async def _forget(*_: Any, **__: Any) -> None:
    if detection := components.detection.if_running:
        await threads.run("detect", detection.forget)


@app.service
class Watchdog(Service):
    """Ends a worker that has unread records and reads none, so that its supervisor starts a fresh one."""

    @Service.task
    @until_stopped
    async def _rounds(self) -> None:
        while not self.should_stop:
            await self.sleep(WATCHDOG_EVERY_S)
            # Faust's consumer stops first and then answers nothing; a question to it would wait for ever.
            if not self.should_stop and (why := await find_stuck(app, settings, components, threads)):
                log.error("STUCK: %s; the worker ends, and nothing is lost", why)
                await app.crash(RuntimeError(why))


@app.service
class Contact(Service):
    """Asks each server regularly, and writes the worker's heartbeat."""

    async def on_start(self) -> None:
        """Begin with each server."""
        contacts = components.contacts.running
        self.add_future(self._regularly("kafka", KAFKA, contacts.ask_kafka))
        self.add_future(self._regularly("database", DATABASE, contacts.ask_database))
        if settings.redis_url:
            self.add_future(self._regularly("redis", REDIS, contacts.ask_redis))

    async def _regularly(self, thread: str, server: str, ask: Callable[[], None]) -> None:
        while not self.should_stop:
            try:
                await threads.run(thread, ask)
                servers.done(f"{server}: contact")
            except Exception as error:  # noqa: BLE001 - whatever it is, the server has not answered
                if not servers.reachable(server):
                    servers.failed(f"{server}: contact", error)
            await self.sleep(BEAT_EVERY_S)


@app.page("/readyz")
async def readyz(web: Any, request: Any) -> Any:
    """Whether this worker does its part."""
    page, status = components.status.readyz()
    return web.json(page, status=status)


@app.page("/healthz")
async def healthz(web: Any, request: Any) -> Any:
    """Whether a restart of this worker may help."""
    page, status = components.status.healthz()
    return web.json(page, status=status)


@app.page("/metrics")
async def metrics_page(web: Any, request: Any) -> Any:
    """The worker's metrics, for Prometheus."""
    return Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
