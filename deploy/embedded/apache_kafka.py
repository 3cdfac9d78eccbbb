"""Apache Kafka, one node in KRaft mode."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING

from deploy.embedded import java, kafka_jars, process
from deploy.embedded.errors import UnusableError
from deploy.embedded.kafka_client import brokers
from deploy.embedded.ports import HOST, free_port
from deploy.embedded.server import Context, Server, failure

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
# Written by `funnelwatch up` at each start; changes are lost.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=BROKER://{host}:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
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
# Events carry their own time: a backfill of last year must be neither refused nor deleted at once.
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


class ApacheKafka(Server):
    """A broker that is its own controller; its data survive."""

    service = "kafka"
    grace_s = 20.0
    start_s = 90.0

    def __init__(self, context: Context, java_binary: Path, jars: Path, why: str) -> None:
        """``jars`` is the folder of Kafka's jars."""
        super().__init__(context, f"apache-kafka {kafka_jars.VERSION}", why)
        self.java = java_binary
        self.jars = jars
        self.folder = context.data_dir / "kafka"

    def prepare(self) -> None:
        """Format the storage, the first time."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(LOG_CONFIG)
        if has_data(self.context.data_dir):
            return
        config = self._configure(free_port())
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        command = self._java("kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(config))
        offset = self.log.stat().st_size if self.log.exists() else 0
        code = process.run(command, self.log, self.context.cancel, FORMAT_TIMEOUT_S)
        if code != 0:
            raise failure(self, offset, f"could not format its storage (exit code {code})")

    def command(self, port: int) -> process.Command:
        """Write its configuration for this port."""
        return self._java("kafka.Kafka", str(self._configure(port)))

    def answers(self, port: int) -> bool:
        """Whether its broker is part of the cluster."""
        return brokers({"bootstrap.servers": self.url(port)}, 2.0) > 0

    def url(self, port: int) -> str:
        """Bootstrap servers."""
        return f"{HOST}:{port}"

    def _configure(self, port: int) -> Path:
        config = self.folder / "server.properties"
        config.write_text(CONFIG.format(host=HOST, port=port, controller_port=free_port(), folder=self.folder))
        return config

    def _java(self, main: str, *args: str) -> process.Command:
        return process.Command(
            [
                self.java,
                "-Xms128m",
                "-Xmx1G",
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


def has_data(data_dir: Path) -> bool:
    """Whether an Apache Kafka has run on this data folder."""
    return (data_dir / "kafka" / "log" / "meta.properties").exists()


def choose(context: Context) -> ApacheKafka:
    """Apache Kafka, if this machine can run it; fetches it the first time.

    Raises:
        UnusableError: Java is missing or too old, or Kafka cannot be fetched.
    """
    binary = java.find_java(context.environ)
    folder = kafka_jars.jars(context, binary)
    version = java.java_version(binary)
    if version is None:
        raise UnusableError(f"{binary} does not run any more")
    return ApacheKafka(context, binary, folder, f"Java {version} is there")
