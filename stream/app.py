"""The Faust app: ``faust -A funnelwatch.stream.app worker``. Agents and services are thin; others do the work."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import faust
from aiohttp.web import Response
from mode import Service
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from funnelwatch.producers.kafka.log_throttle import throttle_root
from funnelwatch.schemas import redacted_output
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Decoder, Undecodable
from funnelwatch.schemas.redaction import redacted
from funnelwatch.sinks.errors import ErrorClass, classify, is_transient
from funnelwatch.sinks.retry import RetryPolicy, StoppedError
from funnelwatch.sinks.servers import DATABASE, KAFKA, REDIS, servers
from funnelwatch.stream.closing.window_parts import Assembler, is_plausible
from funnelwatch.stream.intake.batch_channel import BatchChannel, backlog
from funnelwatch.stream.worker import metrics
from funnelwatch.stream.worker.ages import ages
from funnelwatch.stream.worker.broker_credentials import broker_addresses
from funnelwatch.stream.worker.components import WorkerComponents
from funnelwatch.stream.worker.contacts import BEAT_EVERY_S
from funnelwatch.stream.worker.health import DeadClient, Health
from funnelwatch.stream.worker.web import GuardedWeb
from funnelwatch.stream.worker.worker_settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.counts import ClosedWindow
    from funnelwatch.stream.intake.polled_batch import PolledBatch, ValidatedPoll

log = logging.getLogger(__name__)

redacted_output.install()
settings, credentials = read_settings()
parts = WorkerComponents(settings)

CLOSER_EVERY_S = 0.25
STEP_AGAIN_S = 5.0
REJECTED_AGAIN_S = 10.0
"""A round of closing that the database rejects is repeated after this long: it publishes its windows again, s."""

ALERTING_EVERY_S = 2.0
"""How often the detect thread does what no window brings: edited rules, ended silences, the pipeline as a whole."""
UPKEEP_EVERY_S = 60.0
FETCHES_IN_THE_CHANNEL = 8
"""How many judged fetches may wait to be counted; with more to come the intake holds, so memory stays bounded. They
have 50 bytes an event, a tenth of what a record has."""

GIVE_UP_AFTER_S = 8.0
"""A worker that is asked to stop ends after this long whatever it waits for; containers are killed after ten."""

COLLECT_AFTER = (200_000, 20, 20)
"""Python looks for garbage in cycles after so many new objects. By default after 700, and a fetch has 100,000 messages:
a third of the time would go into looking through them."""

SAY_SOMETHING_EVERY_S = 1.0
"""A fetch goes on this often even if it is empty: to say again which partitions are idle."""

STUCK_AFTER_S = 60.0
"""A worker that has had something to do for this long and has done nothing is not healthy."""

EXIT_AFTER_S = 120.0
"""One that stands still for this long and waits for no server ends: whoever started it starts a fresh one."""

DEAD_AFTER_S = 15.0
"""A client of Kafka that has not answered for this long although Kafka is there never will."""

READY_AFTER_S = 3.0
LOOK_EVERY_S = 5.0

ASKED = ("kafka", "database", "redis")
"""Servers that are asked regularly, each on a thread of its own."""

NOISY = ("aiokafka", "faust", "mode", "funnelwatch.stream.librdkafka", "funnelwatch.topics")
"""Loggers that write a line per retry while Kafka is away."""


class Threads:
    """One thread for each kind of blocking work, so that none waits for another."""

    def __init__(self) -> None:
        self._pools = {
            name: ThreadPoolExecutor(1, thread_name_prefix=name)
            for name in ("intake", "count", "cache", "metrics", "close", "detect", "look", "maintenance", *ASKED)
        }

    async def run(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The function's result, from that thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pools[name], function, *arguments)

    def close(self) -> None:
        """End the threads once they are done."""
        for pool in self._pools.values():
            pool.shutdown(wait=False)


threads = Threads()


def free_port(host: str) -> int:
    """A port that nothing listens on now; Faust itself takes no 0 for one."""
    with socket.create_server((host, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def end_at_once() -> None:
    """End the process although a call still waits for a server that hangs; whoever comes next repeats what it did."""
    log.error("a server has not answered for %.0f s: ending without it; nothing is lost", GIVE_UP_AFTER_S)
    logging.shutdown()
    os._exit(1)


class FunnelwatchApp(faust.App):
    """A Faust app that waits for its servers before it starts, and makes topics and tables where they are missing."""

    async def on_start(self) -> None:
        """Faust looks at its topics when it starts, so they must be there by then."""
        throttle_root(*NOISY)
        await threads.run("count", parts.prepare)
        await super().on_start()

    def _new_web(self) -> GuardedWeb:
        """The pages, behind limits."""
        return GuardedWeb(self)

    def _create_directories(self) -> None:
        """Faust makes folders for tables in whatever folder the worker is started in; we have no tables."""

    async def stop(self) -> None:
        """Whatever waits out an outage gives up first, then the services stop."""
        if not parts.stopping.is_set():
            parts.stopping.set()
            give_up = threading.Timer(GIVE_UP_AFTER_S, end_at_once)
            give_up.daemon = True
            give_up.start()
        await super().stop()


app = FunnelwatchApp(
    settings.consumer_group,
    broker=[f"kafka://{address}" for address in broker_addresses(settings)],
    broker_credentials=credentials,
    store="memory://",
    topic_disable_leader=True,
    topic_allow_declare=False,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=settings.session_timeout_s,
    broker_heartbeat_interval=settings.session_timeout_s / 5,
    broker_commit_interval=1.0,
    stream_wait_empty=False,
    web_bind=settings.web_host,
    web_port=settings.web_port or free_port(settings.web_host),
    web_in_thread=False,
    worker_redirect_stdouts=False,
)


fetches = BatchChannel(app, maxsize=FETCHES_IN_THE_CHANNEL)
windows = app.topic(
    settings.windows_topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
)


dead_client = DeadClient(DEAD_AFTER_S)
health = Health(STUCK_AFTER_S, EXIT_AFTER_S, READY_AFTER_S)


@app.service
class Intake(Service):
    """Feeds the channel with what librdkafka fetches, each fetch judged; holds while the channel is full."""

    async def on_start(self) -> None:
        """Join the group."""
        gc.set_threshold(*COLLECT_AFTER)
        await threads.run("intake", lambda: parts.fetcher)
        await threads.run("intake", lambda: parts.judging)
        await threads.run("count", lambda: parts.aggregator)

    @Service.task
    async def _feed(self) -> None:
        handed_over = 0.0
        while not self.should_stop:
            health.fetching()
            fetch = await threads.run("intake", parts.fetcher.fetch)
            if fetch:
                ages.succeeded("fetch")
            metrics.STOPPED.set(len(parts.fetcher.stopped))
            if fetch or time.monotonic() - handed_over >= SAY_SOMETHING_EVERY_S:
                try:
                    judged = await self._judge(fetch)
                except StoppedError:
                    return
                await self._hand_over(judged)
                handed_over = time.monotonic()

    async def _judge(self, fetch: PolledBatch) -> ValidatedPoll:
        health.begin("decoding")
        judged = await threads.run("intake", parts.judging, fetch)
        health.end("decoding")
        return cast("ValidatedPoll", judged)

    async def _hand_over(self, judged: ValidatedPoll) -> None:
        put = asyncio.ensure_future(fetches.put(cast("Any", judged)))
        while not put.done():
            await asyncio.wait({put}, timeout=1.0)
            if self.should_stop:
                put.cancel()
                return
            if not put.done():
                health.fetching()
                await threads.run("intake", parts.fetcher.keep_alive)

    async def on_stop(self) -> None:
        """Leave the group, so that others take over at once."""
        if "fetcher" in vars(parts):
            await threads.run("intake", parts.fetcher.close)


@app.agent(fetches, name="aggregate")
async def aggregate(stream: Any) -> None:
    """Count all fetches that are here: one transaction, then Redis, then the offsets."""
    async for first in stream:
        together = await backlog(stream, first)
        health.begin("counting")
        ages.busy(True)
        try:
            await threads.run("count", parts.aggregator, together)
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
    """Makes the cache in Redis complete, step by step, and rests where nothing is missing."""

    @Service.task
    async def _steps(self) -> None:
        woken = parts.cache_debt.woken
        while not self.should_stop:
            if "aggregator" not in vars(parts):
                await self.sleep(CLOSER_EVERY_S)
                continue
            woken.clear()
            try:
                pause = await threads.run("cache", parts.cache_rebuild.step)
            except Exception:
                # A bug of ours here must not stop the counting.
                log.exception("the cache in Redis is not made complete; it is tried again")
                pause = STEP_AGAIN_S
            until = time.monotonic() + pause
            while not self.should_stop and not (woken.is_set() and pause > 1) and time.monotonic() < until:
                await self.sleep(min(CLOSER_EVERY_S, max(0.0, until - time.monotonic())))

    async def on_stop(self) -> None:
        """Let the lock go, so that another worker goes on."""
        if "cache_rebuild" in vars(parts):
            await threads.run("cache", parts.cache_rebuild.close)


@app.service
class Metrics(Service):
    """Counts counters and timers, beside the events and without holding them up."""

    async def on_start(self) -> None:
        """Join the group."""
        await threads.run("metrics", lambda: parts.metric_aggregator)

    @Service.task
    async def _rounds(self) -> None:
        while not self.should_stop:
            try:
                await threads.run("metrics", parts.metric_aggregator.round)
            except StoppedError:
                return
            except Exception as error:
                log.exception("counting of metrics failed; the worker stops, and nothing is lost")
                await self.crash(error)
                return

    async def on_stop(self) -> None:
        """Leave the group, so that others take over at once."""
        if "metric_fetcher" in vars(parts):
            await threads.run("metrics", parts.metric_fetcher.close)


@app.service
class Closing(Service):
    """Closes windows, round by round."""

    @Service.task
    async def _rounds(self) -> None:
        await self.sleep(CLOSER_EVERY_S)
        while not self.should_stop:
            try:
                await threads.run("close", parts.closer.round)
                servers.done("closing")
            except Exception as error:  # noqa: BLE001 - told apart below
                if classify(error) is ErrorClass.BUG:
                    await self.crash(error)
                    return
                servers.failed("closing", error)
                if not is_transient(error):
                    await self.sleep(REJECTED_AGAIN_S)
            await self.sleep(CLOSER_EVERY_S)


@app.service
class Maintenance(Service):
    """Archives and materializes counts, where the database has no jobs of its own."""

    @Service.task
    async def _rounds(self) -> None:
        while not self.should_stop:
            await self.sleep(UPKEEP_EVERY_S)
            try:
                await threads.run("maintenance", parts.maintenance)
                servers.done("maintenance of counts")
            except Exception as error:  # noqa: BLE001 - told apart below
                if classify(error) is ErrorClass.BUG:
                    await self.crash(error)
                    return
                servers.failed("maintenance of counts", error)


@app.agent(windows, name="detect", concurrency=1)
async def detect(stream: Any) -> None:
    """Judge each closed window and publish what comes of it."""
    decode = Decoder("ClosedWindow", parts.registry)
    assembler = Assembler()
    async for values in stream.take(200, within=0.1):
        try:
            health.begin("judging")
            await threads.run("detect", _judge, decode, assembler, values)
            health.end("judging")
        except StoppedError:
            return
        except Exception as error:
            log.exception("closed windows cannot be read; the worker stops, and nothing is lost")
            await app.crash(error)
            raise


def _window(decode: Decoder, assembler: Assembler, value: bytes) -> ClosedWindow | None:
    # Only funnelwatch writes here; what somebody else wrote must not stop the detection.
    try:
        record = RetryPolicy(parts.stopping)("schema registry: closed windows", lambda: decode(value))
    except Undecodable as error:
        log.error("%s: passed over: %s", settings.windows_topic, error)  # noqa: TRY400 - the sentence says it all
        return None
    if not is_plausible(record, settings.window_ms, wall_clock_ms() + int(settings.max_future_s * 1000)):
        log.error("%s: passed over: no window of %s s, or ahead of time", settings.windows_topic, settings.window_s)
        return None
    return assembler.add(record)


def _judge(decode: Decoder, assembler: Assembler, values: list[bytes]) -> None:
    complete = [window for value in values if (window := _window(decode, assembler, value))]
    if not complete:
        return
    with metrics.JUDGING_SECONDS.time():
        RetryPolicy(parts.stopping)("detect", lambda: parts.detection(complete), is_retried=_log_bug)
    ages.succeeded("judge")


def _log_bug(error: Exception) -> bool:
    """Whether to repeat: after any error, since a bug in judging must not stop the counting, which shares this process.

    The same windows are tried again meanwhile; /healthz and the heartbeat that stays away tell of it, and a worker that
    stands still ends for its supervisor.
    """
    if not is_transient(error):
        log.error("judging failed; the same windows are tried again", exc_info=error)
    return True


def _between_windows() -> None:
    parts.detection.follow_rules()
    parts.detection.publish_muted()
    parts.monitor.round()


@app.service
class Alerting(Service):
    """Does, between windows, what the alerts need that no window brings."""

    @Service.task
    async def _rounds(self) -> None:
        while not self.should_stop:
            await self.sleep(ALERTING_EVERY_S)
            try:
                await threads.run("detect", _between_windows)
                servers.done("alerting")
            except Exception as error:
                # As in judging, a fault of ours must not stop the counting; the heartbeat that stays away tells of it.
                if is_transient(error):
                    servers.failed("alerting", error)
                else:
                    log.exception("alerting failed; it is tried again")


@app.on_partitions_revoked.connect
async def _forget(*_: Any, **__: Any) -> None:
    if "detection" in vars(parts):
        await threads.run("detect", parts.detection.forget)


@app.service
class Watchdog(Service):
    """Looks whether what is unread is read, and ends a worker that lives and does nothing."""

    @Service.task
    async def _look(self) -> None:
        while not self.should_stop:
            await self.sleep(LOOK_EVERY_S)
            # Faust's consumer, which is told to stop first, answers no question any more, and would be waited for.
            if "fetcher" in vars(parts) and not self.should_stop:
                await self._look_once()

    async def _look_once(self) -> None:
        try:
            places = await threads.run("look", parts.fetcher.places, settings.events_topic)
            judged = {tp: await app.consumer.position(tp) for tp in app.consumer.assignment()}
            positions = {tp.partition: at for tp, at in judged.items() if tp.topic == settings.windows_topic and at}
            places |= await threads.run("look", parts.fetcher.places, settings.windows_topic, positions)
            if "metric_fetcher" in vars(parts):
                places |= await threads.run("look", parts.metric_fetcher.places, settings.metrics_topic)
        except Exception as error:  # noqa: BLE001 - Kafka is away, or partitions have just moved: nothing is known
            log.debug("nobody says where the logs end: %s", error)
            health.standstill.unknown()
        else:
            health.standstill.look(time.monotonic(), places)
        metrics.ASSIGNED.set(len(parts.fetcher.assigned))
        dead = await threads.run("look", dead_client.look, time.monotonic(), await _silent(), parts.kafka_answers)
        if why := dead or health.must_exit():
            log.error("STUCK: %s; the worker ends, and nothing is lost", why)
            await app.crash(RuntimeError(why))


async def _silent() -> list[str]:
    return cast("list[str]", await threads.run("look", parts.silent_clients))


def _stopped() -> list[str]:
    fetchers = [vars(parts)[name] for name in ("fetcher", "metric_fetcher") if name in vars(parts)]
    return [why for one in fetchers for why in one.stopped.values()]


@app.service
class Contact(Service):
    """Asks each server regularly, and writes the worker's heartbeat."""

    @Service.task
    async def _kafka(self) -> None:
        await self._regularly("kafka", KAFKA, parts.contacts.ask_kafka)

    @Service.task
    async def _database(self) -> None:
        await self._regularly("database", DATABASE, parts.contacts.ask_database)

    @Service.task
    async def _redis(self) -> None:
        await self._regularly("redis", REDIS, parts.contacts.ask_redis)

    async def _regularly(self, thread: str, server: str, ask: Callable[[], None]) -> None:
        while not self.should_stop:
            try:
                await threads.run(thread, ask)
                servers.done(f"{server}: contact")
            except Exception as error:  # noqa: BLE001 - whatever it is, the server has not answered, and that is told
                if not servers.reachable(server):
                    servers.failed(f"{server}: contact", error)
            await self.sleep(BEAT_EVERY_S)

    async def on_stop(self) -> None:
        """Tell others that this worker ends on purpose."""
        await threads.run("database", parts.contacts.end)


def _away() -> list[str]:
    """Servers without which nothing is counted, and that do not answer; counting goes on without Redis."""
    return [server for server in servers.away() if server != REDIS]


def _sentence() -> str | None:
    """What is wrong with this worker, in its own words; None if nothing is."""
    fault = health.fault(_stopped(), away=bool(_away()))
    return "; ".join([*([fault] if fault else []), *servers.waiting()]) or None


parts.contacts.sentence = _sentence
ages.lag = lambda: parts.fetcher.lag() if "fetcher" in vars(parts) else {}
ages.standstill_s = lambda: health.standstill.longest_at(time.monotonic())


@app.page("/readyz")
async def readyz(web: Any, request: Any) -> Any:
    """200 while the worker does its part; 503 while it joins, is not healthy, or waits for Kafka or the database."""
    changed = parts.fetcher.changed_s if "fetcher" in vars(parts) else None
    fault = health.unready(changed, _stopped())
    return web.json(_said(fault), status=200 if fault is None and not _away() else 503)


@app.page("/healthz")
async def healthz(web: Any, request: Any) -> Any:
    """503 when a restart may help; 200 otherwise, also while a server is away: "ok" and "waiting" tell of that."""
    fault = health.fault(_stopped(), away=bool(_away()))
    return web.json(_said(fault), status=200 if fault is None else 503)


def _said(fault: str | None) -> dict[str, Any]:
    # A broken edit of the rules takes no worker out of service: the rules before it go on.
    # Neither does Redis: counting goes on without it.
    redis_fault = parts.cache_rebuild.fault if "cache_rebuild" in vars(parts) else None
    fault, rules_fault, redis_fault = (redacted(one) if one else one for one in (fault, parts.rules.fault, redis_fault))
    waiting = servers.waiting()
    return {
        "ok": fault is None and not waiting,
        "fault": fault,
        "waiting": waiting,
        "rules_fault": rules_fault,
        "redis_fault": redis_fault,
    }


@app.page("/metrics")
async def metrics_page(web: Any, request: Any) -> Any:
    """The worker's metrics, for Prometheus."""
    return Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
