"""What the stack of a data folder runs: the file ``stack.json``, which settings and later commands read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from funnelwatch.settings import PREFIX, STACK_FILE

if TYPE_CHECKING:
    from pathlib import Path

SERVICES = ("kafka", "postgres", "redis")
VARIABLES = {
    "kafka": f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS",
    "postgres": f"{PREFIX}TIMESCALE_URL",
    "redis": f"{PREFIX}REDIS_URL",
}
"""The environment variable that names each service's address."""


@dataclass
class ServiceState:
    """One service: which program serves it, why that one, and where."""

    service: str
    program: str
    """Name and version, as "apache-kafka 4.1.0"; "external" for a server that the stack did not start."""
    why: str
    url: str
    port: int | None = None
    pid: int | None = None
    """None: not running, or not ours."""
    created: float | None = None
    """When the process started, epoch seconds; with the pid its identity."""
    log: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def external(self) -> bool:
        """Whether the server was named by the environment, so that the stack neither starts nor ends it."""
        return self.program == "external"


@dataclass
class StackState:
    """All services of one data folder."""

    services: dict[str, ServiceState] = field(default_factory=dict)
    timescaledb: bool | None = None
    """Whether the database has TimescaleDB; None: not known yet."""

    @property
    def env(self) -> dict[str, str]:
        """The addresses by environment variable, of the services that are up; what ``up --env`` exports."""
        return {
            VARIABLES[name]: self.services[name].url
            for name in SERVICES
            if name in self.services and (self.services[name].pid or self.services[name].external)
        }

    def save(self, data_dir: Path) -> None:
        """Write ``stack.json`` as a whole or not at all."""
        content = {
            "env": self.env,
            "timescaledb": self.timescaledb,
            "services": {name: asdict(service) for name, service in self.services.items()},
        }
        temporary = data_dir / f"{STACK_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        temporary.replace(data_dir / STACK_FILE)

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
            return cls(services, content.get("timescaledb"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()
