"""Faust's credentials, from the librdkafka properties that every other Kafka client uses.

Faust connects through aiokafka, in Python's own TLS. A property that Faust cannot honour is rejected at the start: a
worker that connects in a weaker way than its user asked for, or never connects, is worse than one that does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import tempfile
from typing import TYPE_CHECKING

from aiokafka.conn import AIOKafkaConnection, get_ip_port_afi
from aiokafka.errors import KafkaError
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from funnelwatch.schemas.kafka_config import KafkaConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from funnelwatch.schemas.settings import Settings

    Credentials = SASLCredentials | SSLCredentials

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

PEM_ONLY = (
    "the worker (Faust) reads PEM files only: convert the store with `openssl pkcs12`, and set "
    "ssl.certificate.location, ssl.key.location and ssl.ca.location"
)
BEYOND_PYTHON = "the worker (Faust) uses Python's TLS, which cannot be restricted in this way"
REJECTED = {
    "ssl.keystore.location": PEM_ONLY,
    "ssl.keystore.password": PEM_ONLY,
    "ssl.curves.list": BEYOND_PYTHON,
    "ssl.sigalgs.list": BEYOND_PYTHON,
    "ssl.providers": BEYOND_PYTHON,
    "ssl.engine.location": BEYOND_PYTHON,
    "ssl.engine.id": BEYOND_PYTHON,
}
"""Properties of TLS that Faust cannot honour, and why."""

CLOSE_S = 0.5
"""A connection that was made is closed by then, s."""

FALSE = {"false", "f", "0"}
"""Texts that librdkafka reads as false."""


def broker_credentials(config: Mapping[str, str]) -> Credentials | None:
    """Translate the properties of ``Settings.revealed_kafka_config``; None: a plaintext connection without a login.

    Raises:
        KafkaConfigError: Faust cannot connect in this way; the message names the property.
    """
    protocol = config.get("security.protocol", "plaintext").lower()
    context = _ssl_context(config) if protocol in {"ssl", "sasl_ssl"} else None
    if not protocol.startswith("sasl_"):
        return None if context is None else SSLCredentials(context)
    mechanism = config.get("sasl.mechanism", "GSSAPI")
    if mechanism not in MECHANISMS:
        known = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
        raise KafkaConfigError(f"sasl.mechanism: the worker (Faust) logs in with {known} only")
    for name in ("sasl.username", "sasl.password"):
        if not config.get(name):
            raise KafkaConfigError(f"{name} is not set, and sasl.mechanism needs it")
    return SASLCredentials(
        username=config["sasl.username"],
        password=config["sasl.password"],
        mechanism=mechanism,
        ssl_context=context,
    )


def broker_addresses(settings: Settings) -> list[str]:
    """Return host and port of each broker; librdkafka allows "SASL_SSL://" before them, which Faust does not."""
    entries = (entry.strip().rpartition("://")[2] for entry in settings.kafka_bootstrap_servers.split(","))
    return [entry for entry in entries if entry]


def connection_error(settings: Settings, timeout_s: float) -> str | None:
    """Connect and log in once, as a worker does; return the reason why that fails, None if it works.

    Raises:
        KafkaConfigError: Faust cannot connect in this way.
    """
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # else it prints what is returned here
    auth = credentials_to_aiokafka_auth(broker_credentials(settings.revealed_kafka_config))

    async def connect(address: str) -> str | None:
        host, port, _ = get_ip_port_afi(address)
        connection = AIOKafkaConnection(host, port, request_timeout_ms=int(timeout_s * 1000), **auth)
        try:
            async with asyncio.timeout(timeout_s):
                await connection.connect()
        except TimeoutError:
            return f"{address} does not answer within {timeout_s:g} s"
        except (OSError, KafkaError, ValueError) as error:
            return f"{address}: {str(error) or type(error).__name__}".rstrip(".")
        finally:
            if closed := connection.close():
                await asyncio.wait({closed}, timeout=CLOSE_S)
        return None

    async def connect_to_one() -> str | None:
        errors = []
        for address in broker_addresses(settings):
            error = await connect(address)
            if error is None:
                return None
            errors.append(error)
        return "; ".join(errors) or "no broker is named"

    return asyncio.run(connect_to_one())


def _ssl_context(config: Mapping[str, str]) -> ssl.SSLContext:
    for name, reason in REJECTED.items():
        if name in config:
            raise KafkaConfigError(f"{name}: {reason}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if config.get("enable.ssl.certificate.verification", "true").lower() in FALSE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _load_authorities(context, config)
    if ciphers := config.get("ssl.cipher.suites"):
        with _named("ssl.cipher.suites"):
            context.set_ciphers(ciphers)
    _load_own_certificate(context, config)
    return context


def _load_authorities(context: ssl.SSLContext, config: Mapping[str, str]) -> None:
    place, pem = config.get("ssl.ca.location", ""), config.get("ssl.ca.pem", "")
    if place == "probe":
        place = ""
    if not place and not pem:
        context.load_default_certs()
    if place:
        with _named("ssl.ca.location"):
            if os.path.isdir(place):  # noqa: PTH112 - a string, as librdkafka takes it
                context.load_verify_locations(capath=place)
            else:
                context.load_verify_locations(cafile=place)
    if pem:
        with _named("ssl.ca.pem"):
            context.load_verify_locations(cadata=pem)
    if revoked := config.get("ssl.crl.location"):
        with _named("ssl.crl.location"):
            context.load_verify_locations(cafile=revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _load_own_certificate(context: ssl.SSLContext, config: Mapping[str, str]) -> None:
    with _file(config, "ssl.certificate") as certificate, _file(config, "ssl.key") as key:
        if not certificate and not key:
            return
        for found, name in ((certificate, "ssl.certificate.location"), (key, "ssl.key.location")):
            if not found:
                raise KafkaConfigError(f"{name} is not set: the certificate of a client needs its key, and vice versa")
        with _named("ssl.certificate.location, ssl.key.location or ssl.key.password"):
            # Without a function Python asks the terminal for the password of a key that needs one.
            context.load_cert_chain(certificate, key, lambda: config.get("ssl.key.password", ""))


@contextlib.contextmanager
def _file(config: Mapping[str, str], name: str) -> Iterator[str]:
    """Provide the file of a property that has two forms; ``….pem`` contains what the file ``….location`` would."""
    if place := config.get(f"{name}.location"):
        yield place
    elif pem := config.get(f"{name}.pem"):
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # readable by this user only
            file.write(pem)
            file.flush()
            yield file.name
    else:
        yield ""


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not in PEM format"
        raise KafkaConfigError(f"{name} cannot be used: {reason}") from error
