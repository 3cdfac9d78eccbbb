"""Every setting of funnelwatch, in one place: its name, its default, its unit and a sentence.

A setting is read from the environment as ``FUNNELWATCH_`` and its name in capitals. The three addresses, where they
are not set, come from the embedded stack of the data folder when one has been started (``funnelwatch up``), else they
are the services' usual ports on this machine.
"""

from __future__ import annotations

import json
from functools import lru_cache
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from funnelwatch.schemas import kafka_config as kafka_properties
from funnelwatch.schemas.redaction import know_address, know_config, revealed
from funnelwatch.schemas.setting_values import (
    PREFIX,
    READERS,
    SECRETS,
    StackLogin,
    as_text,
    dict_of_secrets,
    explain,
    read_link,
    secret,
    without_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PREFIX", "STACK_FILE", "Settings", "explain", "load_settings"]

STACK_FILE = "stack.json"
"""The file in the data folder that describes the embedded stack. The keys of its "env" object are environment names."""

STACK_LOGIN = "stack_login"
"""The name of the librdkafka properties by which a client logs in to the embedded Kafka."""

KEPT_LONGER_DAYS = 7
"""Retention exceeds the maximum event age by this: after an outage, events are counted later."""


class StackFileSource(PydanticBaseSettingsSource):
    """The addresses of the embedded stack, from the data folder; below the environment, above the defaults."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Not used: the whole file is read at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The settings that the stack file names; empty where there is none."""
        data_dir = Path(self.current_state.get("data_dir") or Settings.model_fields["data_dir"].default)
        try:
            stack = json.loads((data_dir / STACK_FILE).read_text())
            found = {name.removeprefix(PREFIX).lower(): value for name, value in stack["env"].items()}
            found[STACK_LOGIN] = json.loads(found.pop("kafka_config", "{}"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        if self.current_state.get("kafka_bootstrap_servers", "") not in ("", found.get("kafka_bootstrap_servers")):
            del found[STACK_LOGIN]  # another Kafka must not get the password of this one
        return found


class Settings(BaseSettings):
    """The settings of one process; immutable, so that a test makes its own with ``Settings(name=value)``."""

    # An error must not print a value: it may be a password.
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    # Where things are
    data_dir: Path = Field(Path(".funnelwatch"), description="Folder of the embedded stack: its data, logs and state.")
    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma separated.")
    kafka_config: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        description="More librdkafka properties for every Kafka client: security.protocol, sasl.*, ssl.* and others.",
    )
    schema_registry_url: SecretStr = Field(
        SecretStr(""), description="Confluent schema registry; empty: Avro single-object encoding."
    )
    timescale_url: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/funnelwatch"),
        description="TimescaleDB or PostgreSQL 15 or later.",
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis, for the cache of recent windows; empty: none, and readers read the database.",
    )
    redis_prefix: str = Field("fw", description="First part of every Redis key.")

    # Topics
    events_topic: str = Field("funnel.events", description="Topic of the events.")
    metrics_topic: str = Field("funnel.metrics", description="Topic of counters and timers beside the events.")
    windows_topic: str = Field("funnel.windows", description="Topic of the closed windows.")
    alerts_topic: str = Field("funnel.alerts", description="Topic of the alerts (compacted).")
    dead_letters_topic: str = Field("funnel.dead_letters", description="Topic of what was rejected, with the reason.")
    topic_partitions: int = Field(4, ge=1, description="Partitions of a topic that funnelwatch creates.")
    topic_replication: int = Field(1, ge=1, description="Replicas of a topic that funnelwatch creates.")
    consumer_group: str = Field("funnelwatch", description="Consumer group of the workers and id of the Faust app.")
    session_timeout_s: float = Field(10.0, gt=0, description="A silent worker loses its partitions after this, s.")

    # What counts
    funnels_path: Path | None = Field(None, description="YAML file of declared funnels; none: the built-in sign_up.")
    rules_path: Path | None = Field(None, description="Folder of alert rules; none: the rules that are shipped.")
    window_s: int = Field(60, ge=1, description="Length of a window, s; fixed once a database has counts.")
    allowed_disorder_s: float = Field(10.0, ge=0, description="How far the watermark stays behind the largest ts, s.")
    idle_timeout_s: float = Field(10.0, gt=0, description="A partition with nothing unread this long is idle, s.")
    max_future_s: float = Field(300.0, ge=0, description="An event further ahead of the wall clock is rejected, s.")
    max_age_days: float = Field(3650.0, gt=0, description="An event older than this is rejected, days.")
    max_value_bytes: int = Field(1_000_000, ge=1, description="A larger event is rejected unread, bytes.")
    count_sessions: bool = Field(True, description="Whether sessions (people) are counted beside events.")
    max_sessions: int = Field(
        250_000, ge=1, description="Sessions that a partition remembers, about 130 bytes each; twice as many at most."
    )
    duplicate_horizon_s: float = Field(600.0, ge=0, description="How long an event_id is remembered, s; 0: not at all.")
    active_horizon_s: float = Field(86_400.0, gt=0, description="A series is active this long after its last event, s.")
    undeclared_funnels: Literal["accept", "reject"] = Field(
        "accept", description="Whether events of undeclared funnels are counted: accept or reject."
    )
    undeclared_max_funnels: int = Field(20, ge=0, description="Undeclared funnels that may exist; others are rejected.")
    undeclared_max_steps: int = Field(50, ge=1, description="Steps that one of them may have; others are rejected.")
    undeclared_max_series: int = Field(
        1_000, ge=1, description="Combinations of dimensions of one of them; others count under (other)."
    )
    funnel_max_values: int = Field(
        500,
        ge=1,
        description="Values of each dimension of a funnel that does not limit them; others count under (other).",
    )
    funnel_max_series: int = Field(
        10_000, ge=1, description="Combinations of dimensions of a declared funnel; others count under (other)."
    )
    metric_max_names: int = Field(200, ge=1, description="Counters and timers that may exist; others are rejected.")
    metric_max_series: int = Field(
        1_000, ge=1, description="Combinations of dimensions that one of them may have; others are rejected."
    )

    # Apps that emit events
    producer_unreachable_wait_s: float = Field(
        0.7, ge=0, description="A producer that closes waits this long for a Kafka that does not answer, s."
    )

    # The collector
    collector_host: str = Field("127.0.0.1", description="Address that the collector binds to.")
    collector_port: int = Field(8086, ge=0, description="Port of the collector; 0: a free one.")
    collector_keys: SecretStr = Field(
        SecretStr(""), description="API keys of the collector, NAME:SHA256, comma separated."
    )
    collector_keys_path: Path | None = Field(None, description="YAML file of more API keys of the collector.")
    collector_origins: str = Field("*", description="Web origins that may send events, comma separated; *: any.")
    collector_trusted_proxies: str = Field(
        "", description="Proxies whose X-Forwarded-For is believed, addresses or networks, comma separated."
    )
    collector_max_body_bytes: int = Field(1_000_000, ge=1, description="A larger body, unpacked, is rejected, bytes.")
    collector_max_events: int = Field(5_000, ge=1, description="Most events (or lines) in one request.")
    collector_max_waiting: int = Field(50_000, ge=1, description="Most events that wait for Kafka; beyond that: 503.")
    collector_max_connections: int = Field(1_000, ge=1, description="Most open connections; beyond that: 503.")
    collector_max_connections_per_address: int = Field(
        0, ge=0, description="Most open connections of one address; 0: no limit but that of all connections."
    )
    collector_delivery_timeout_s: float = Field(10.0, gt=0, description="Kafka must acknowledge within this, s.")
    collector_header_timeout_s: float = Field(10.0, gt=0, description="A request's head must be there after this, s.")
    collector_body_timeout_s: float = Field(20.0, gt=0, description="A request's body must be there after this, s.")
    collector_key_rate: float = Field(2_000.0, ge=0, description="Events a second with one API key; 0: any number.")
    collector_address_rate: float = Field(50.0, ge=0, description="Requests a second from one address; 0: any number.")
    lines_path: Path | None = Field(None, description="YAML file that maps line protocol; none: the shipped mapping.")

    # How long counts are kept
    keep_windows_days: int = Field(
        0,
        ge=0,
        description="Counts by window are kept this long, days; 0: for ever. A new value of this or the next three "
        "drops nothing for ten minutes.",
    )
    keep_5m_days: int = Field(0, ge=0, description="Counts by 5 minutes are kept this long, days; 0: for ever.")
    keep_1h_days: int = Field(0, ge=0, description="Counts by the hour are kept this long, days; 0: for ever.")
    keep_1d_days: int = Field(0, ge=0, description="Counts by the day are kept this long, days; 0: for ever.")
    keep_alerts_days: int = Field(
        365, ge=0, description="Alerts that have ended, and what was sent, are kept this long, days; 0: for ever."
    )

    # How it runs
    flush_interval_s: float = Field(
        0.25, gt=0, description="Events are collected twice as long as the last flush took, and at most this long, s."
    )
    flush_max_events: int = Field(
        100_000, ge=1, description="At most this many events in one fetch; fetches that wait are flushed together."
    )
    cache_horizon_s: float = Field(86_400.0, gt=0, description="Windows younger than this are in Redis, s.")
    late_settle_s: float = Field(5.0, ge=0, description="A late change is re-emitted when quiet for this long, s.")
    watchdog_every_s: float = Field(60.0, ge=0, description="How often the alerting says that it works, s; 0: never.")
    grafana_url: str = Field(
        "", description="Address of the dashboard Step in Grafana, for the links in alerts; empty: none."
    )
    web_host: str = Field("127.0.0.1", description="Address that a worker's health and metrics bind to.")
    web_port: int = Field(6066, ge=0, description="Port of the first worker's health and metrics; 0: a free one.")
    web_hosts: str = Field(
        "",
        description="Host names that worker, exporter and notifier answer to beside addresses, localhost and their "
        "own, comma separated; *: any.",
    )
    web_max_connections: int = Field(
        250, ge=1, description="Most open connections of a board, exporter, notifier or worker."
    )
    web_max_connections_per_address: int = Field(
        100, ge=0, description="The same of one address; 0: no limit but that of all. Behind a proxy all are its."
    )
    web_header_timeout_s: float = Field(
        10.0, gt=0, description="A request's head must be there after this, of the same servers, s."
    )
    board_host: str = Field("127.0.0.1", description="Address that the board and the query API bind to.")
    board_port: int = Field(8060, ge=0, description="Port of the board and the query API; 0: a free one.")
    board_hosts: str = Field(
        "",
        description="Host names that the board answers to beside addresses, localhost and its own, comma separated; "
        "*: any.",
    )
    board_max_pages_per_address: int = Field(
        50, ge=1, description="Most pages of the board that one address has open. Behind a proxy all are its."
    )
    notify_path: Path | None = Field(None, description="YAML file of the routes of alerts.")
    notify_port: int = Field(6091, ge=0, description="Port of the notifier's metrics; 0: none.")
    exporter_port: int = Field(6090, ge=0, description="Port of the exporter for Prometheus; 0: a free one.")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the stack file."""
        return init_settings, env_settings, StackFileSource(settings_cls)

    @field_validator("timescale_url", "redis_url", "schema_registry_url")
    @classmethod
    def _can_be_read(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        """Reject an address that its client cannot parse, without repeating it."""
        if value:
            READERS[str(info.field_name)](revealed(value))
        return value

    @field_validator("kafka_config", mode="before")
    @classmethod
    def _check_kafka_config(cls, value: object) -> Mapping[str, str]:
        """Read librdkafka's properties and reject those that no client can use."""
        return value if isinstance(value, StackLogin) else kafka_properties.parse(without_secrets(value))

    @field_validator("grafana_url")
    @classmethod
    def _without_login(cls, value: str) -> str:
        """Reject a login in the address of links: people have logins of their own."""
        read_link(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _log_in_to_the_stack(cls, values: Any) -> Any:
        """Add the login of the embedded Kafka to the user's own properties, which win."""
        if not isinstance(values, dict) or STACK_LOGIN not in values:
            return values
        values = dict(values)
        login, own = values.pop(STACK_LOGIN), values.get("kafka_config")
        if not own:
            return values | {"kafka_config": StackLogin(login)}
        try:
            return values | {"kafka_config": {**login, **kafka_properties.parse(without_secrets(own))}}
        except kafka_properties.KafkaConfigError:
            return values  # which the check of the setting itself reports

    @model_validator(mode="after")
    def _outlive(self) -> Self:
        """Check that retention exceeds the maximum event age, and that rollups outlive their sources."""
        levels = ["keep_windows_days", "keep_5m_days", "keep_1h_days", "keep_1d_days"]
        kept = [getattr(self, level) or inf for level in levels]
        least = self.max_age_days + KEPT_LONGER_DAYS
        if kept[0] < least:
            raise ValueError(
                f"{PREFIX}KEEP_WINDOWS_DAYS is {kept[0]}, but an event may be as old as {PREFIX}MAX_AGE_DAYS, "
                f"{self.max_age_days:g}, and is counted up to {KEPT_LONGER_DAYS} days later: keep windows for "
                f"{ceil(least)} days at least, or lower the age"
            )
        for finer, coarser, short, long in zip(levels, levels[1:], kept, kept[1:], strict=False):
            if long < short:
                raise ValueError(
                    f"{PREFIX}{coarser.upper()} is {long}, but {PREFIX}{finer.upper()} keeps what it is made of for "
                    f"{'ever' if short == inf else f'{short} days'}: a rollup is kept as long as that, or longer"
                )
        return self

    def model_post_init(self, context: Any, /) -> None:
        """Register the secrets, so that this process prints none."""
        brokers = [one.strip() for one in self.kafka_bootstrap_servers.split(",")]
        for address in (self.timescale_url, self.redis_url, self.schema_registry_url):
            know_address(address)
        for place in (self.grafana_url, *brokers):
            know_address(place)
        know_config(self.kafka_config)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values; secrets may be text."""
        values = dict(update or {})
        for name in SECRETS & values.keys():
            value = values[name]
            values[name] = secret(value) if isinstance(value, str | SecretStr) else dict_of_secrets(value)
        copy = super().model_copy(update=values, deep=deep)
        copy.model_post_init(None)
        return copy

    def environment(self) -> dict[str, str]:
        """The environment variables that give another process these settings, secrets included."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {f"{PREFIX}{name.upper()}": as_text(value) for name, value in values.items() if value is not None}

    @property
    def window_ms(self) -> int:
        """Length of a window in milliseconds."""
        return self.window_s * 1000

    def kafka(self, role: kafka_properties.Role = "any", /, **more: Any) -> dict[str, Any]:
        """Return the librdkafka properties of a client: ``more``, and the user's own, which win; secrets revealed.

        Args:
            role: decides which of the user's properties the client takes; "any": those that every client takes.
            more: the properties of this client. Those in ``kafka_config.OURS`` cannot be among the user's.
        """
        own = kafka_properties.properties(role, self.revealed_kafka_config)
        return {"bootstrap.servers": self.kafka_bootstrap_servers, **more, **own}

    @property
    def revealed_kafka_config(self) -> dict[str, str]:
        """The user's librdkafka properties, secrets revealed."""
        return {name: revealed(value) for name, value in self.kafka_config.items()}


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        pydantic.ValidationError: a setting has an invalid value.
    """
    return Settings()
