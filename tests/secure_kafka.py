"""An Apache Kafka that takes nobody's word: TLS, logins, client certificates, and denied by default."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from funnelwatch.deploy.embedded import apache_kafka, java, kafka_jars, process
from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.deploy.embedded.server import Context, launch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ADMIN, WORKER, APP, READER = "admin", "worker", "app", "reader"
KEY_PASSWORD = 'key "pass\\word"'
JAAS = "org.apache.kafka.common.security"


def password(user: str) -> str:
    """Their password, with the characters that are most often quoted wrongly."""
    return f"{user}: 1/2+3=ü"


@dataclass
class SecureKafka:
    """A running one.

    Attributes:
        folder: its certificates: ``ca.pem``, ``worker.pem``, ``worker.key`` (encrypted).
        sasl_ssl: bootstrap servers of the listener with TLS and SCRAM or PLAIN.
        mtls: those of the listener that asks for a client's certificate.
        sasl_plaintext: those of the listener with SCRAM or PLAIN without TLS.
    """

    folder: Path
    sasl_ssl: str = ""
    mtls: str = field(default_factory=lambda: f"{HOST}:{free_port()}")
    sasl_plaintext: str = field(default_factory=lambda: f"{HOST}:{free_port()}")

    @property
    def ca(self) -> dict[str, str]:
        """What a client needs to trust the broker."""
        return {"ssl.ca.location": str(self.folder / "ca.pem")}

    def login(self, user: str, mechanism: str = "SCRAM-SHA-512", *, tls: bool = True) -> dict[str, str]:
        """Properties with which a user logs in."""
        own = {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password(user)}
        return (
            {"security.protocol": "SASL_SSL", **self.ca, **own}
            if tls
            else {"security.protocol": "SASL_PLAINTEXT", **own}
        )

    def certificate(self, user: str) -> dict[str, str]:
        """Properties with which a client shows its certificate."""
        return {
            "security.protocol": "SSL",
            **self.ca,
            "ssl.certificate.location": str(self.folder / f"{user}.pem"),
            "ssl.key.location": str(self.folder / f"{user}.key"),
            "ssl.key.password": KEY_PASSWORD,
        }

    def allow(self, user: str, kind: ResourceType, prefix: str, operations: Iterable[AclOperation]) -> None:
        """Let a user do something with everything whose name begins so."""
        admin = AdminClient({"bootstrap.servers": self.sasl_ssl, **self.login(ADMIN)})
        principal, where = f"User:{user}", ResourcePatternType.PREFIXED
        wanted = [
            AclBinding(kind, prefix, where, principal, "*", operation, AclPermissionType.ALLOW)
            for operation in operations
        ]
        for future in admin.create_acls(wanted).values():
            future.result(60)


@contextlib.contextmanager
def secure_kafka(folder: Path) -> Iterator[SecureKafka]:
    """Start one on a folder of its own, and end it whatever happens."""
    made = SecureKafka(folder)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    _write_certificate(authority, folder, "broker", None)
    _write_certificate(authority, folder, WORKER, KEY_PASSWORD)
    store = (folder / "broker.key").read_bytes() + (folder / "broker.pem").read_bytes()
    (folder / "broker.store.pem").write_bytes(store)
    context = Context(folder / "data", os.environ, lambda _: None, threading.Event())
    binary = java.find_java(os.environ)
    server = apache_kafka.ApacheKafka(context, binary, kafka_jars.jars(context, binary), "a test", _security(made))
    state = launch(server, free_port(), lambda _: None)
    try:
        made.sasl_ssl = state.url
        yield made
    finally:
        running = process.alive(state.pid, state.created)
        assert running is not None, "Kafka has ended by itself"
        process.stop(running, server.stop_signal, server.grace_s)


def _write_certificate(authority: trustme.CA, folder: Path, name: str, key_password: str | None) -> None:
    issued = authority.issue_cert(HOST, "localhost", common_name=name)
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    sealed = BestAvailableEncryption(key_password.encode()) if key_password else NoEncryption()
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
    (folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))


def _security(made: SecureKafka) -> apache_kafka.Security:
    users = (ADMIN, WORKER, APP, READER)
    plain = " ".join(f'user_{user}="{password(user)}"' for user in users)
    properties = {
        "inter.broker.listener.name": "MTLS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(made.folder / "broker.store.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(made.folder / "ca.pem"),
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{ADMIN};User:broker",
    }
    for listener in ("broker", "logins"):
        prefix = f"listener.name.{listener}"
        properties[f"{prefix}.sasl.enabled.mechanisms"] = "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN"
        properties[f"{prefix}.plain.sasl.jaas.config"] = f"{JAAS}.plain.PlainLoginModule required {plain};"
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            properties[f"{prefix}.{mechanism}.sasl.jaas.config"] = f"{JAAS}.scram.ScramLoginModule required;"
    return apache_kafka.Security(
        protocols={"BROKER": "SASL_SSL", "MTLS": "SSL", "LOGINS": "SASL_PLAINTEXT", "CONTROLLER": "SSL"},
        ports={
            name: int(url.rpartition(":")[2]) for name, url in (("MTLS", made.mtls), ("LOGINS", made.sasl_plaintext))
        },
        properties=properties,
        scram={user: password(user) for user in users},
        client=made.login(ADMIN),
    )
