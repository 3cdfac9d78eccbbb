"""What Faust makes of the librdkafka properties that every other client takes."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from faust.auth import SASLCredentials, SSLCredentials

from funnelwatch.schemas.kafka_config import KafkaConfigError
from funnelwatch.schemas.settings import Settings
from funnelwatch.stream.worker.broker_credentials import broker_addresses, broker_credentials

if TYPE_CHECKING:
    from pathlib import Path

LOGIN = {"sasl.username": "worker", "sasl.password": "hunter2"}
AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("kafka.example")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Certificates as files: of an authority, of a client, and its key, plain and encrypted."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ISSUED.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    ISSUED.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    key = load_pem_private_key(ISSUED.private_key_pem.bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
    (tmp_path / "sealed.key").write_bytes(sealed)
    return {path.name: str(path) for path in tmp_path.iterdir()}


def test_no_properties_and_plaintext_need_no_credentials() -> None:
    """TLS properties without TLS are ignored, as librdkafka does."""
    assert broker_credentials({}) is None
    assert (
        broker_credentials({"security.protocol": "PLAINTEXT", "ssl.ca.location": "/nowhere", "linger.ms": "1"}) is None
    )


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "sasl_plaintext", "SASL_SSL", "sasl_ssl"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("name", ["sasl.mechanism", "sasl.mechanisms"])
def test_every_login_works_with_tls_and_without_it(protocol: str, mechanism: str, name: str) -> None:
    """In both spellings of the property, and the mechanism in any case."""
    for given in (mechanism, mechanism.lower()):
        made = broker_credentials(
            Settings(kafka_config={"security.protocol": protocol, name: given, **LOGIN}).revealed_kafka_config
        )
        assert isinstance(made, SASLCredentials)
        assert (made.username, made.password, made.mechanism.value) == ("worker", "hunter2", mechanism)
        assert made.protocol.value == protocol.upper()
        assert (made.ssl_context is not None) == protocol.upper().endswith("_SSL")


def test_the_broker_is_verified_unless_the_user_says_otherwise() -> None:
    """The name alone, or nothing of it."""

    def context(**more: str) -> ssl.SSLContext:
        properties = {name.replace("_", "."): value for name, value in more.items()}
        made = broker_credentials({"security.protocol": "ssl", **properties})
        assert isinstance(made, SSLCredentials)
        return made.context

    assert (context().check_hostname, context().verify_mode) == (True, ssl.CERT_REQUIRED)
    named = context(ssl_endpoint_identification_algorithm="none")
    assert (named.check_hostname, named.verify_mode) == (False, ssl.CERT_REQUIRED)
    for word in ("false", "False", "0", "f"):
        unverified = context(enable_ssl_certificate_verification=word)
        assert (unverified.check_hostname, unverified.verify_mode) == (False, ssl.CERT_NONE)
    assert context(enable_ssl_certificate_verification="true").verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("form", ["location", "pem", "directory and probe"])
def test_authorities_come_from_a_file_from_text_or_from_the_system(form: str, files: dict[str, str]) -> None:
    """Only those that are named are trusted."""
    text = AUTHORITY.cert_pem.bytes().decode()
    given = {"location": {"ssl.ca.location": files["ca.pem"]}, "pem": {"ssl.ca.pem": text}}.get(form)
    for properties in (
        [given] if given else [{"ssl.ca.location": "probe"}, {"ssl.ca.location": files["ca.pem"].rpartition("/")[0]}]
    ):
        made = broker_credentials({"security.protocol": "ssl", **properties})
        assert isinstance(made, SSLCredentials)
        loaded = [one["subject"] for one in made.context.get_ca_certs()]
        assert (len(loaded) == 1) == bool(given)


def test_a_client_certificate_comes_from_files_or_from_text(files: dict[str, str]) -> None:
    """Also with an encrypted key; a mixture of both forms is allowed."""
    certificate, key = (blob.bytes().decode() for blob in (ISSUED.cert_chain_pems[0], ISSUED.private_key_pem))
    for own in (
        {"ssl.certificate.location": files["client.pem"], "ssl.key.location": files["client.key"]},
        {"ssl.certificate.pem": certificate, "ssl.key.pem": key},
        {"ssl.certificate.location": files["client.pem"], "ssl.key.pem": key},
        {
            "ssl.certificate.location": files["client.pem"],
            "ssl.key.location": files["sealed.key"],
            "ssl.key.password": "hunter2",
        },
    ):
        assert isinstance(broker_credentials({"security.protocol": "ssl", **own}), SSLCredentials)


REJECTED = [
    ({"security.protocol": "sasl_ssl"}, "sasl.mechanism"),
    ({"security.protocol": "sasl_ssl", "sasl.mechanism": "GSSAPI"}, "sasl.mechanism"),
    ({"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER"}, "sasl.mechanism"),
    ({"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.password": "x"}, "sasl.username"),
    ({"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "x"}, "sasl.password"),
    ({"security.protocol": "ssl", "ssl.ca.location": "/nowhere/ca.pem"}, "ssl.ca.location"),
    ({"security.protocol": "ssl", "ssl.ca.pem": "hunter2"}, "ssl.ca.pem"),
    ({"security.protocol": "ssl", "ssl.crl.location": "/nowhere/crl.pem"}, "ssl.crl.location"),
    ({"security.protocol": "ssl", "ssl.cipher.suites": "hunter2"}, "ssl.cipher.suites"),
    ({"security.protocol": "ssl", "ssl.keystore.location": "client.p12"}, "ssl.keystore.location"),
    ({"security.protocol": "ssl", "ssl.curves.list": "P-256"}, "ssl.curves.list"),
    ({"security.protocol": "ssl", "ssl.sigalgs.list": "rsa"}, "ssl.sigalgs.list"),
    ({"security.protocol": "ssl", "ssl.certificate.location": "{client.pem}"}, "ssl.key.location"),
    ({"security.protocol": "ssl", "ssl.key.location": "{client.key}"}, "ssl.certificate.location"),
    (
        {
            "security.protocol": "ssl",
            "ssl.certificate.location": "{client.pem}",
            "ssl.key.location": "{sealed.key}",
            "ssl.key.password": "wrong, hunter2",
        },
        "ssl.key.password",
    ),
    (
        {
            "security.protocol": "ssl",
            "ssl.certificate.location": "{client.pem}",
            "ssl.key.location": "{sealed.key}",
        },
        "ssl.key.password",
    ),
]


@pytest.mark.parametrize(("config", "name"), REJECTED)
def test_what_faust_cannot_do_is_rejected_by_name(config: dict[str, str], name: str, files: dict[str, str]) -> None:
    """One sentence, without a value, and without a question on the terminal."""
    for file, path in files.items():
        config = {key: value.replace(f"{{{file}}}", path) for key, value in config.items()}
    with pytest.raises(KafkaConfigError) as raised:
        broker_credentials(config)
    assert name in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_faust_takes_the_addresses_that_librdkafka_takes() -> None:
    """A protocol before an address, spaces and empty entries are no address."""
    settings = Settings(kafka_bootstrap_servers=" SASL_SSL://one:9093,two ,, [::1]:9094,")
    assert broker_addresses(settings) == ["one:9093", "two", "[::1]:9094"]
