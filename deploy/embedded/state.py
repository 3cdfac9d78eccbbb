"""The services of a data folder's stack: the file ``stack.json``, which settings and later commands read.

It holds the servers' passwords, so only the user who runs the stack may read it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from funnelwatch.deploy.embedded import private
from funnelwatch.schemas.redaction import know_address, know_config, shown, shown_brokers
from funnelwatch.schemas.settings import PREFIX, STACK_FILE

if TYPE_CHECKING:
    from pathlib import Path

SERVICES = ("kafka", "postgres", "redis")
VARIABLES = {
    "kafka": f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS",
    "postgres": f"{PREFIX}TIMESCALE_URL",
    "redis": f"{PREFIX}REDIS_URL",
}
"""The environment variable that names each service's address."""
EXTERNAL, NONE = "external", "none"
"""Programs of a service that the stack does not start: the environment names a server, or an empty address."""
KAFKA_CONFIG = f"{PREFIX}KAFKA_CONFIG"


@dataclass
class ServiceState:
    """One service: which program serves it, why that one, and where."""

    service: str
    program: str
    """Name and version, as "apache-kafka 4.1.0"; ``EXTERNAL`` or ``NONE`` where the stack did not start it."""
    why: str
    url: str
    port: int | None = None
    pid: int | None = None
    """None: not running, or not ours."""
    created: float | None = None
    """When the process started, epoch seconds; with the pid its identity."""
    log: str = ""
    notes: list[str] = field(default_factory=list)
    config: dict[str, str] = field(default_factory=dict)
    """librdkafka properties that a client of this Kafka needs besides its address."""

    def __post_init__(self) -> None:
        """No text that this process prints shows its secrets."""
        if self.service != "kafka":
            know_address(self.url)
        know_config(self.config)

    @property
    def is_open(self) -> bool:
        """Whether it accepts every client: Tansu always does, and servers of earlier versions of funnelwatch."""
        return "sasl.username" not in self.config if self.service == "kafka" else urlsplit(self.url).password is None

    @property
    def shown_url(self) -> str:
        """Its address as it may be printed."""
        return shown_brokers(self.url) if self.service == "kafka" else shown(self.url)

    def shown(self) -> dict[str, Any]:
        """Its printable fields: all but its secrets."""
        return {name: value for name, value in asdict(self).items() if name != "config"} | {"url": self.shown_url}

    @property
    def external(self) -> bool:
        """Whether the environment names the server, or says that there is none: the stack starts and ends nothing."""
        return self.program in {EXTERNAL, NONE}

    @property
    def is_used(self) -> bool:
        """Whether there is such a server."""
        return self.program != NONE


@dataclass
class StackState:
    """All services of one data folder."""

    services: dict[str, ServiceState] = field(default_factory=dict)
    timescaledb: bool | None = None
    """Whether the database has TimescaleDB; None: not known yet."""
    kafka: str = "auto"
    """The ``--kafka`` that ``up`` named last: a later ``up`` without one starts the same program."""

    @property
    def env(self) -> dict[str, str]:
        """Addresses and logins by environment variable, of the services that are up, passwords included."""
        up = [one for name in SERVICES if (one := self.services.get(name)) and (one.pid or one.external)]
        found = {VARIABLES[one.service]: one.url for one in up}
        kafka = next((one for one in up if one.service == "kafka"), None)
        return found | ({KAFKA_CONFIG: json.dumps(kafka.config)} if kafka and kafka.config else {})

    def save(self, data_dir: Path) -> None:
        """Write ``stack.json`` atomically, readable for this user only."""
        content = {
            "env": self.env,
            "timescaledb": self.timescaledb,
            "kafka": self.kafka,
            "services": {name: asdict(service) for name, service in self.services.items()},
        }
        private.write(data_dir / STACK_FILE, json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, data_dir: Path) -> StackState:
        """Read ``stack.json``; a missing or unreadable one is an empty state, never an error."""
        try:
            content: dict[str, Any] = json.loads((data_dir / STACK_FILE).read_text())
            known = {entry.name for entry in fields(ServiceState)}
            services = {
                name: ServiceState(**{key: value for key, value in service.items() if key in known})
                for name, service in content["services"].items()
                if name in SERVICES
            }
            return cls(services, content.get("timescaledb"), content.get("kafka", "auto"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()
