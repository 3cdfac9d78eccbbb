"""How clients, and the node itself, log in to the embedded Apache Kafka: nobody may connect without a password.

Clients and the broker log in with SCRAM-SHA-512, whose users are part of Kafka's metadata. The controller's listener
has to work before the metadata are read, so there the node logs in with PLAIN, by a user of its configuration file.
Clients may use PLAIN, too: librdkafka before 2.6.1, as in Debian's kcat, fails with SCRAM on Kafka 4
(github.com/confluentinc/librdkafka/pull/4895).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from funnelwatch.deploy.embedded import java, kafka_jars, private
from funnelwatch.deploy.embedded.apache_kafka import ApacheKafka, Security, has_data
from funnelwatch.deploy.embedded.errors import StackError, UnusableError
from funnelwatch.deploy.embedded.kafka_client import admin
from funnelwatch.deploy.embedded.private import FOLDER, password

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from funnelwatch.deploy.embedded.server import Context

CLIENT, NODE = "funnelwatch", "node"
MECHANISM = "SCRAM-SHA-512"
JAAS = "org.apache.kafka.common.security"
ITERATIONS = 4096
SET_USERS_TIMEOUT_S = 30.0


class ClosedKafka(ApacheKafka):
    """An Apache Kafka on which everybody has to log in.

    Data of earlier versions have no users of SCRAM. At the first start on them the broker itself logs in with PLAIN,
    and this class sets the users; then the broker starts again.
    """

    def __init__(self, context: Context, java_binary: Path, jars: Path, why: str) -> None:
        """See the base."""
        self._client, self._node = (password(context.data_dir, name) for name in ("kafka", "kafka-node"))
        super().__init__(context, java_binary, jars, why, self._security(has_users=True))

    def prepare(self) -> None:
        """Format the storage with the users, the first time; see whether data that are there have them."""
        had_data = has_data(self.context.data_dir)
        super().prepare()
        if not had_data:
            private.write(self._users_file, self._digest)
        self.security = self._security(has_users=self._has_users())

    def config(self) -> dict[str, str]:
        """See the base."""
        return self._login(MECHANISM, CLIENT, self._client)

    def after_start(self, port: int) -> bool:
        """Set the users where the data have none, and write the files by which kcat and Java's clients log in."""
        own, folder = self.config(), self.context.data_dir / FOLDER
        private.write(folder / "kcat.conf", _lines(self._login("PLAIN", CLIENT, self._client)))
        login = f'{JAAS}.scram.ScramLoginModule required username="{CLIENT}" password="{self._client}";'
        java = {name: own[name] for name in ("security.protocol", "sasl.mechanism")} | {"sasl.jaas.config": login}
        private.write(folder / "client.properties", _lines({"bootstrap.servers": self.url(port), **java}))
        if self._has_users():
            return False
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        users = {CLIENT: self._client, NODE: self._node}
        wanted: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(name, info, secret.encode()) for name, secret in users.items()
        ]
        client = admin({"bootstrap.servers": self.url(port), **self.security.client})
        try:
            for done in client.alter_user_scram_credentials(wanted).values():
                done.result(SET_USERS_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise StackError(f"The users of Apache Kafka could not be set: {error}. See {self.log}.") from error
        private.write(self._users_file, self._digest)
        self.security = self._security(has_users=True)
        return True

    @property
    def _users_file(self) -> Path:
        """A digest of the passwords that the users were created with."""
        return self.folder / "users"

    @property
    def _digest(self) -> str:
        return hashlib.sha256(f"{self._client} {self._node}".encode()).hexdigest()

    def _has_users(self) -> bool:
        return self._users_file.exists() and self._users_file.read_text() == self._digest

    def _login(self, mechanism: str, user: str, secret: str) -> dict[str, str]:
        own = {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": secret}
        return {"security.protocol": "SASL_PLAINTEXT", **own}

    def _security(self, *, has_users: bool) -> Security:
        login = f'username="{NODE}" password="{self._node}"'
        node = f'{JAAS}.plain.PlainLoginModule required {login} user_{NODE}="{self._node}"'
        properties = {
            "sasl.mechanism.inter.broker.protocol": MECHANISM if has_users else "PLAIN",
            "listener.name.broker.sasl.enabled.mechanisms": f"{MECHANISM},PLAIN",
            "listener.name.broker.plain.sasl.jaas.config": f'{node} user_{CLIENT}="{self._client}";',
            f"listener.name.broker.{MECHANISM.lower()}.sasl.jaas.config": (
                f"{JAAS}.scram.ScramLoginModule required {login};"
            ),
            "sasl.mechanism.controller.protocol": "PLAIN",
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.controller.plain.sasl.jaas.config": f"{node};",
        }
        return Security(
            protocols={"BROKER": "SASL_PLAINTEXT", "CONTROLLER": "SASL_PLAINTEXT"},
            properties=properties,
            scram={CLIENT: self._client, NODE: self._node},
            client=self.config() if has_users else self._login("PLAIN", NODE, self._node),
        )


def _lines(properties: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def choose(context: Context) -> ClosedKafka:
    """Apache Kafka, if this machine can run it; fetches it the first time.

    Raises:
        UnusableError: Java is missing or too old, or Kafka cannot be fetched.
    """
    binary = java.find_java(context.environ)
    folder = kafka_jars.jars(context, binary)
    version = java.java_version(binary)
    if version is None:
        raise UnusableError(f"{binary} does not run any more")
    return ClosedKafka(context, binary, folder, f"Java {version} is there")
