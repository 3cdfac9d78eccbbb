"""The values of settings: secrets, addresses, and the messages about wrong values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from funnelwatch.schemas.redaction import redacted, revealed
from funnelwatch.schemas.web_client import without_login

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "FUNNELWATCH_"

SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")

ENCODE = "in names and passwords percent-encode @ / : ? # % and spaces"


def _read_database(address: str) -> None:
    """Check that PostgreSQL's client can parse an address.

    Raises:
        ValueError: it cannot; the message has no part of the address.
    """
    try:
        import psycopg  # noqa: PLC0415 - an app that only produces events names no database
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - likewise
    except ImportError:
        return
    try:
        conninfo_to_dict(address)
    except (psycopg.Error, UnicodeError):
        right = "postgresql://user@host:5432/name"
        raise ValueError(f"is not an address of PostgreSQL; right would be {right}; {ENCODE}") from None


def _read_redis(address: str) -> None:
    """Check that Redis's client can parse an address; raises as above. Those of Sentinels the first use parses."""
    if address.startswith(SENTINEL_SCHEMES):
        return
    try:
        from redis.connection import parse_url  # noqa: PLC0415 - likewise
    except ImportError:
        return
    try:
        parse_url(address)  # type: ignore[no-untyped-call]
    except ValueError:
        raise ValueError(f"is not an address of Redis; right would be redis://host:6379/0; {ENCODE}") from None


def _read_registry(address: str) -> None:
    """Check that the schema registry's client can parse an address; raises as above."""
    try:
        without_login(address)
    except ValueError:
        raise ValueError(f"is not a web address; right would be http://host:8081; {ENCODE}") from None


def read_link(address: str) -> None:
    """Check that an address that is sent to people has no login.

    Raises:
        ValueError: it has one.
    """
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise ValueError("holds a login, and everybody who gets an alert would get it: leave it out")


READERS = {"timescale_url": _read_database, "redis_url": _read_redis, "schema_registry_url": _read_registry}


class StackLogin(dict[str, str]):
    """Properties that ``funnelwatch up`` has written, which are not checked again."""


def without_secrets(value: object) -> object:
    """Reveal the values of a dictionary, for the library that reads them."""
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, dict) else value


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


SECRETS = frozenset({"kafka_config", "schema_registry_url", "timescale_url", "redis_url", "collector_keys"})
"""Settings that are or contain secrets; they cannot be printed."""


def secret(value: str | SecretStr) -> SecretStr:
    """Make a secret of a text."""
    return SecretStr(revealed(value))


def dict_of_secrets(values: Mapping[str, str | SecretStr]) -> dict[str, SecretStr]:
    """Properties whose values cannot be printed."""
    return {name: secret(value) for name, value in values.items()}


def as_text(value: Any) -> str:
    """A setting's value as an environment variable has it; secrets are revealed."""
    if isinstance(value, dict):
        return json.dumps({name: revealed(one) for name, one in value.items()})
    return revealed(value) if isinstance(value, SecretStr) else str(value)


def explain(error: ValidationError) -> list[str]:
    """Name the settings that are wrong, a sentence for each.

    The sentence contains the value, except of a secret setting, and no value of another setting.
    """
    lines = []
    for found in error.errors(include_url=False, include_context=False):
        message = redacted(found["msg"].removeprefix("Value error, "))
        name = str(found["loc"][0]).lower() if found["loc"] else ""
        if not name:  # a check of several settings names them itself
            lines.append(message)
        elif name in SECRETS:
            part = f" ({found['loc'][1]})" if len(found["loc"]) > 1 else ""
            lines.append(f"{PREFIX}{name.upper()}{part}: {message}")
        else:
            lines.append(f"{PREFIX}{name.upper()}: {message}, not {redacted(repr(found['input']))}")
    return lines
