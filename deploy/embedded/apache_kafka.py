"""Apache Kafka, one node in KRaft mode."""

from __future__ import annotations

import base64
import contextlib
import shlex
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded import kafka_jars, private, process
from funnelwatch.deploy.embedded.kafka_client import brokers
from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.deploy.embedded.server import Context, Server, failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CONFIG = """\
# Written by `funnelwatch up` at each start; changes are lost.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners={listeners},CONTROLLER://{host}:{controller_port}
advertised.listeners={listeners}
listener.security.protocol.map={protocols}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={folder}/log
# One node holds one replica of everything.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
auto.create.topics.enable=false
# After a kill the node is let in again when its old session has ended: 3 s instead of 9.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The first member of a group does not wait for others.
group.initial.rebalance.delay.ms=0
# Drills want dead workers noticed within seconds.
group.min.session.timeout.ms=1000
# Events carry their own time: a backfill of last year must be neither rejected nor deleted at once.
log.retention.ms=-1
log.message.timestamp.before.max.ms=9223372036854775807
log.message.timestamp.after.max.ms=9223372036854775807
"""

LOG_CONFIG = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""

FORMAT_TIMEOUT_S = 60.0
JVM_OPTIONS = "KAFKA_JVM_PERFORMANCE_OPTS"
"""Environment variable with options for the broker's Java, by the name that Kafka's own scripts read."""
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Security:
    """Access to a broker: listeners, protocols and logins; the default accepts every client on this machine.

    Attributes:
        protocols: security protocol of each listener. BROKER is the one on the server's own port; CONTROLLER is the one
            on which the node speaks to itself.
        ports: the port of each further listener in ``protocols``.
        properties: more properties of the broker, such as ``listener.name.broker.sasl.enabled.mechanisms`` or
            ``authorizer.class.name``; they win over those above.
        scram: name to password of users that are created when the storage is formatted, for SCRAM-SHA-256 and -512.
        client: librdkafka properties with which a client connects to BROKER.
    """

    protocols: Mapping[str, str] = field(default_factory=lambda: {"BROKER": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"})
    ports: Mapping[str, int] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    scram: Mapping[str, str] = field(default_factory=dict)
    client: Mapping[str, str] = field(default_factory=dict)


OPEN = Security()


class ApacheKafka(Server):
    """A broker that is its own controller; its data survive."""

    service = "kafka"
    grace_s = 20.0
    start_s = 90.0

    def __init__(self, context: Context, java_binary: Path, jars: Path, why: str, security: Security = OPEN) -> None:
        """``jars`` is the folder of Kafka's jars."""
        super().__init__(context, f"apache-kafka {kafka_jars.VERSION}", why)
        self.java = java_binary
        self.jars = jars
        self.security = security
        self.folder = context.data_dir / "kafka"

    def prepare(self) -> None:
        """Format the storage, the first time."""
        private.folder(self.folder)
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(LOG_CONFIG)
        if has_data(self.context.data_dir):
            return
        config = self._configure(free_port())
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        users = [
            part
            for name, password in self.security.scram.items()
            for mechanism in SCRAM
            for part in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
        arguments = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(config), *users]
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self._argument_file(arguments) as file:
            code = process.run(self._java(f"@{file}"), self.log, self.context.cancel, FORMAT_TIMEOUT_S)
        if code != 0:
            raise failure(self, offset, f"could not format its storage (exit code {code})")

    def command(self, port: int) -> process.Command:
        """Write its configuration for this port."""
        return self._java("kafka.Kafka", str(self._configure(port)))

    def answers(self, port: int) -> bool:
        """Whether its broker is part of the cluster."""
        return brokers({"bootstrap.servers": self.url(port), **self.security.client}, 2.0) > 0

    def url(self, port: int) -> str:
        """Bootstrap servers."""
        return f"{HOST}:{port}"

    def _configure(self, port: int) -> Path:
        security = self.security
        ports = {"BROKER": port, **security.ports}
        text = CONFIG.format(
            host=HOST,
            listeners=",".join(f"{name}://{HOST}:{number}" for name, number in ports.items()),
            protocols=",".join(f"{name}:{protocol}" for name, protocol in security.protocols.items()),
            controller_port=free_port(),
            folder=self.folder,
        )
        # Java takes the last value of a name that occurs twice.
        text += "".join(f"{name}={_escaped(value)}\n" for name, value in security.properties.items())
        config = self.folder / "server.properties"
        private.write(config, text)
        return config

    @contextlib.contextmanager
    def _argument_file(self, arguments: Sequence[str]) -> Iterator[Path]:
        """Provide a file of arguments for Java: passwords on a command line would be visible to every user."""
        file = self.folder / "arguments"
        quoted = ('"{}"'.format(one.replace("\\", "\\\\").replace('"', '\\"')) for one in arguments)
        private.write(file, "\n".join(quoted))
        try:
            yield file
        finally:
            file.unlink()

    def _java(self, main: str, *args: str) -> process.Command:
        return process.Command(
            [
                self.java,
                "-Xms128m",
                "-Xmx1G",
                *shlex.split(self.context.environ.get(JVM_OPTIONS, "")),
                "-XX:-UsePerfData",
                "-Djava.awt.headless=true",
                f"-Djava.io.tmpdir={self.folder / 'tmp'}",
                f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
                "-cp",
                f"{self.jars}/*",
                main,
                *args,
            ],
            self.folder,
        )


def _escaped(text: str) -> str:
    """Write a value as Java reads it back from a properties file."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return "".join(sign if sign.isascii() else f"\\u{ord(sign):04x}" for sign in text)


def has_data(data_dir: Path) -> bool:
    """Whether an Apache Kafka has run on this data folder."""
    return (data_dir / "kafka" / "log" / "meta.properties").exists()
