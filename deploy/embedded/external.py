"""Servers that the environment names: they are used as they are, never started or ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.probe import probe
from funnelwatch.deploy.embedded.state import VARIABLES, ServiceState, StackState
from funnelwatch.schemas.kafka_config import KafkaConfigError, parse, properties
from funnelwatch.schemas.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBE_S = 10.0


def named(environ: Mapping[str, str], recorded: StackState) -> dict[str, str]:
    """Address by service, of those that the environment names.

    The stack's own addresses do not count: a shell that ran ``eval "$(funnelwatch up --env)"`` names them too.
    """
    own = {name: service.url for name, service in recorded.services.items() if not service.external}
    addresses = {service: environ.get(variable, "") for service, variable in VARIABLES.items()}
    return {service: url for service, url in addresses.items() if url and url != own.get(service)}


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
        wrong = probe(service, url, config, PROBE_S)
        if wrong is not None:
            where = state(service, url).shown_url
            raise StackError(
                f"{VARIABLES[service]} names {where}, which does not answer: {wrong}. Start that server, or unset the "
                "variable to have one started here."
            )


def state(service: str, url: str) -> ServiceState:
    """How a named server is recorded."""
    return ServiceState(service, "external", f"{VARIABLES[service]} names it", url)
