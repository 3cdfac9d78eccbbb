"""``FUNNELWATCH_KAFKA_CONFIG``: librdkafka properties of a user, checked once and shared out to the Kafka clients.

A user's property wins over one that funnelwatch sets, except for the properties in ``OURS``: exact counting depends on
them, so that they are rejected. No message of this module contains a value, because a value may be a password.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Literal

from funnelwatch.schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["any", "consumer", "producer"]

ALIASES = {
    "metadata.broker.list": "bootstrap.servers",
    "max.in.flight.requests.per.connection": "max.in.flight",
    "sasl.mechanisms": "sasl.mechanism",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "queue.buffering.max.ms": "linger.ms",
    "message.send.max.retries": "retries",
    "compression.codec": "compression.type",
    "request.required.acks": "acks",
    "message.timeout.ms": "delivery.timeout.ms",
    "auto.commit.enable": "enable.auto.commit",
}
"""librdkafka's second names, and the name that funnelwatch uses."""

_PROGRESS = "funnelwatch decides which offsets are read, and when they count as read"
_GROUP = "a worker takes over partitions in the way that its consumers are built for"
_ONCE = "events would be lost, repeated or reordered"
_CODE = "its value is a function of the program"

OURS = {
    "bootstrap.servers": "set FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS",
    "group.id": "set FUNNELWATCH_CONSUMER_GROUP",
    "group.instance.id": _GROUP,
    "group.protocol": _GROUP,
    "group.protocol.type": _GROUP,
    "group.remote.assignor": _GROUP,
    "partition.assignment.strategy": _GROUP,
    "enable.auto.commit": _PROGRESS,
    "enable.auto.offset.store": _PROGRESS,
    "offset.store.method": _PROGRESS,
    "enable.partition.eof": _PROGRESS,
    "auto.offset.reset": _PROGRESS,
    "isolation.level": "records of aborted transactions would count",
    "enable.idempotence": _ONCE,
    "acks": _ONCE,
    "transactional.id": _ONCE,
    "queuing.strategy": _ONCE,
    "delivery.report.only.error": "funnelwatch counts the events that Kafka has confirmed",
    "partitioner": "all events of a session must be in one partition, whichever program writes them",
    "enabled_events": _CODE,
    "log.queue": _CODE,
    "logger": _CODE,
    "on_commit": _CODE,
    "on_delivery": _CODE,
    "default.topic.config": "name the properties of topics beside the others",
}
"""Properties that a user cannot set, and why (or what to do instead)."""

CONSUMER_ONLY = frozenset({
    *("auto.commit.interval.ms", "check.crcs", "consume.callback.max.messages", "coordinator.query.interval.ms"),
    *("fetch.error.backoff.ms", "fetch.max.bytes", "fetch.min.bytes", "fetch.queue.backoff.ms", "fetch.wait.max.ms"),
    *("heartbeat.interval.ms", "max.partition.fetch.bytes", "max.poll.interval.ms", "max.poll.records"),
    *("offset.store.path", "offset.store.sync.interval.ms", "queued.max.messages.kbytes", "queued.min.messages"),
    *("session.timeout.ms", "share.acknowledgement.mode"),
})  # fmt: skip
"""A producer logs a warning about each of these."""

PRODUCER_ONLY = frozenset({
    *("batch.num.messages", "batch.size", "compression.level", "compression.type", "delivery.timeout.ms"),
    *("enable.gapless.guarantee", "linger.ms", "produce.offset.report", "queue.buffering.backpressure.threshold"),
    *("queue.buffering.max.kbytes", "queue.buffering.max.messages", "request.timeout.ms", "retries"),
    *("sticky.partitioning.linger.ms", "transaction.timeout.ms"),
})  # fmt: skip
"""A consumer logs a warning about each of these."""


HARMLESS = {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "PLAIN", "GSSAPI", "OAUTHBEARER", "TRUE", "FALSE"}
"""Values that a message may contain."""


class KafkaConfigError(FunnelwatchError, ValueError):
    """A property cannot be used; the message names it in a sentence, without its value."""


def parse(value: object) -> dict[str, str]:
    """Read the setting: a JSON object, or a dictionary that a program passes.

    Returns:
        Property to value, as librdkafka takes both: one name for each property, every value a string.

    Raises:
        KafkaConfigError: the setting is not a JSON object, or librdkafka does not accept it.
    """
    pairs = _pairs(value)
    config: dict[str, str] = {}
    given: dict[str, str] = {}
    for name, one in pairs:
        known = ALIASES.get(name, name)
        if known in given:
            both = "is set twice" if given[known] == name else f"and {given[known]} are one property"
            raise KafkaConfigError(f"{name} {both}")
        given[known] = name
        if known in OURS or known.endswith("_cb"):
            raise KafkaConfigError(f"{name} cannot be set here: {OURS.get(known, _CODE)}")
        config[known] = _text(name, one)
    if "sasl.mechanism" in config:
        # librdkafka accepts the other enumerated values in any case, and this one in capitals only.
        config["sasl.mechanism"] = config["sasl.mechanism"].upper()
    elif config.get("security.protocol", "").lower().startswith("sasl"):
        raise KafkaConfigError("security.protocol needs sasl.mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    if config:
        check(config)
    return config


def properties(role: Role, config: Mapping[str, str]) -> dict[str, str]:
    """Select the properties that a client of this role takes; "any" selects those that every client takes."""
    foreign = {"consumer": PRODUCER_ONLY, "producer": CONSUMER_ONLY, "any": PRODUCER_ONLY | CONSUMER_ONLY}[role]
    return {name: value for name, value in config.items() if name not in foreign}


def check(config: Mapping[str, str]) -> None:
    """Let librdkafka check every property, without a connection.

    Raises:
        KafkaConfigError: librdkafka rejects a property, or several together.
    """
    from confluent_kafka import Consumer, KafkaException, Producer  # noqa: PLC0415 - most commands run without a config

    silent = logging.getLogger("funnelwatch.kafka_check")
    silent.disabled = True
    quiet = {"bootstrap.servers": "", "error_cb": lambda _: None, "logger": silent}
    clients: list[tuple[Any, dict[str, Any]]] = [
        (Producer, {"log_level": 0, **properties("producer", config), "enable.idempotence": True, **quiet}),
        (Consumer, {"log_level": 0, **properties("consumer", config), "group.id": "check", **quiet}),
    ]
    for make, given in clients:
        try:
            client = make(given)
        except (KafkaException, TypeError, ValueError, AttributeError) as error:
            raise KafkaConfigError(_blame(config, error)) from None  # what librdkafka says may contain a value
        if make is Consumer:
            client.close()


def _pairs(value: object) -> list[tuple[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}", object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            where = f": {error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
            raise KafkaConfigError(f"this is not JSON{where}") from None  # the error holds the text
    if isinstance(value, dict):
        return list(value.items())
    if not isinstance(value, _Pairs):
        kind = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}.get(type(value))
        example = '{"security.protocol": "SASL_SSL"}'
        raise KafkaConfigError(f"this is {kind or 'a number'}, not a JSON object like {example}")
    return value


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with the names that occur twice."""


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        text = str(value)
        if "\0" in text or not _is_utf_8(text):
            raise KafkaConfigError(f"the value of {name} contains characters that are not text")
        return text
    kind = "null" if value is None else "an array" if type(value) is list else "an object"
    raise KafkaConfigError(f"the value of {name} is {kind}, not a string, a number, true or false")


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _blame(config: Mapping[str, str], error: Exception) -> str:
    """Say which property is wrong, without the value of any."""
    said = str(error.args[0].str() if hasattr(error.args[0], "str") else error)
    said = said.removeprefix("Failed to create producer: ").removeprefix("Failed to create consumer: ")
    names = sorted((name for name in (*ALIASES, *config) if name in said), key=len, reverse=True)
    name = next((ALIASES.get(name, name) for name in names), "sasl.mechanism" if "mechanism" in said else "")
    for value in sorted(set(config.values()), key=len, reverse=True):
        if len(value) > 1 and value.upper() not in HARMLESS:
            said = said.replace(value, "…")
    said = " ".join(said.split()).rstrip(".")
    return said if not name or name in said else f"{name}: {said}"
