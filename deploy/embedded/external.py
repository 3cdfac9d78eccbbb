"""Servers that the environment names: they are used as they are, never started or ended.

It may also say that there is no Redis, by an empty ``FUNNELWATCH_REDIS_URL``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.probe import probe
from funnelwatch.deploy.embedded.state import EXTERNAL, NONE, VARIABLES, ServiceState, StackState
from funnelwatch.schemas.kafka_config import KafkaConfigError, parse, properties
from funnelwatch.schemas.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBE_S = 10.0
OPTIONAL = frozenset({"redis"})


def named(environ: Mapping[str, str], recorded: StackState) -> dict[str, str]:
    """Address by service, of those that the environment names.

    The stack's own addresses do not count: a shell that ran ``eval "$(funnelwatch up --env)"`` names them too. The
    address of a Redis that is not to be is empty.
    """
    own = {name: service.url for name, service in recorded.services.items() if not service.external}
    found = {service: environ[variable] for service, variable in VARIABLES.items() if variable in environ}
    return {service: url for service, url in found.items() if url != own.get(service) and (url or service in OPTIONAL)}


def kafka_config(environ: Mapping[str, str]) -> dict[str, str]:
    """Read the librdkafka properties in FUNNELWATCH_KAFKA_CONFIG that a client takes which only asks.

    Raises:
        StackError: they cannot be used.
    """
    try:
        return properties("any", parse(environ.get(f"{PREFIX}KAFKA_CONFIG", "")))
    except KafkaConfigError as error:
        raise StackError(f"{PREFIX}KAFKA_CONFIG: {error}") from error


def check(addresses: Mapping[str, str], config: Mapping[str, str]) -> None:
    """See that each answers.

    Raises:
        StackError: one does not.
    """
    for service, url in addresses.items():
        if not url:
            continue
        wrong = probe(service, url, config, PROBE_S)
        if wrong is not None:
            where = state(service, url).shown_url
            raise StackError(
                f"{VARIABLES[service]} names {where}, which does not answer: {wrong}. Start that server, or unset the "
                "variable to have one started here."
            )


def state(service: str, url: str) -> ServiceState:
    """How a named server is recorded."""
    if not url:
        return ServiceState(service, NONE, f"{VARIABLES[service]} is empty", url)
    return ServiceState(service, EXTERNAL, f"{VARIABLES[service]} names it", url)
