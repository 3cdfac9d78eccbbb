"""FUNNELWATCH_KAFKA_CONFIG: what is accepted, what is rejected in a sentence, and which client takes what."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from funnelwatch.schemas.kafka_config import OURS, KafkaConfigError, parse
from funnelwatch.schemas.settings import Settings

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("", {}),
        ("{}", {}),
        ('{"linger.ms": 10}', {"linger.ms": "10"}),
        ('{"linger.ms": 2.5}', {"linger.ms": "2.5"}),
        ('{"enable.ssl.certificate.verification": true}', {"enable.ssl.certificate.verification": "true"}),
        ('{"queue.buffering.max.ms": "5"}', {"linger.ms": "5"}),
        ('{"security.protocol": "ssl"}', {"security.protocol": "ssl"}),
    ],
)
def test_values_are_taken_as_librdkafka_takes_them(text: str, config: dict[str, str]) -> None:
    """JSON's numbers and truth values are what people write; a second name is the first one."""
    assert parse(text) == config


SASL = '"security.protocol": "sasl_ssl", "sasl.username": "u"'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f'{{"sasl.password": "{SECRET}"', "not JSON"),
        (f"sasl.password={SECRET}", "not JSON"),
        (f'{{"sasl.password": {SECRET}}}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        (f'["{SECRET}"]', "an array, not a JSON object"),
        (f'"{SECRET}"', "a string, not a JSON object"),
        ("7", "a number, not a JSON object"),
        ("null", "null, not a JSON object"),
        ("true", "true or false, not a JSON object"),
        (f'{{"sasl.password": ["{SECRET}"]}}', "sasl.password is an array"),
        (f'{{"sasl.password": {{"a": "{SECRET}"}}}}', "sasl.password is an object"),
        ('{"sasl.password": null}', "sasl.password is null"),
        (f'{{"sasl.password": "{SECRET}\\ud800"}}', "sasl.password contains characters"),
        (f'{{"sasl.password": "{SECRET}\\u0000"}}', "sasl.password contains characters"),
        (f'{{"sasl.pasword": "{SECRET}"}}', '"sasl.pasword"'),
        (f'{{"": "{SECRET}"}}', "No such configuration property"),
        (f'{{"Linger.ms": "{SECRET}"}}', "Linger.ms"),
        (f'{{"linger.ms": "{SECRET}"}}', "linger.ms"),
        (f'{{"log_level": "{SECRET}"}}', "log_level"),
        ('{"log_level": "debug"}', "log_level"),
        ('{"log_level": 99}', "log_level"),
        ('{"linger.ms": true}', "linger.ms"),
        ('{"linger.ms": 99999999}', "linger.ms"),
        ('{"linger.ms": 1, "linger.ms": 2}', "linger.ms is set twice"),
        ('{"linger.ms": 1, "queue.buffering.max.ms": 2}', "queue.buffering.max.ms and linger.ms are one property"),
        (f'{{"security.protocol": "{SECRET}"}}', "security.protocol"),
        (f'{{{SASL}, "sasl.password": "{SECRET}"}}', "needs sasl.mechanism"),
        (f'{{{SASL}, "sasl.mechanism": "{SECRET}", "sasl.password": "x"}}', "sasl.mechanism"),
        (f'{{"security.protocol": "ssl", "ssl.key.pem": "{SECRET}"}}', "ssl.key.pem"),
        (f'{{"security.protocol": "ssl", "ssl.ca.location": "/{SECRET}"}}', "ssl.ca.location"),
        ('{"retries": 0}', "retries"),
        ('{"max.in.flight": 6}', "max.in.flight"),
        (f'{{"error_cb": "{SECRET}"}}', "error_cb"),
        (f'{{"oauth_cb": "{SECRET}"}}', "oauth_cb"),
        (f'{{"default.topic.config": "{SECRET}"}}', "default.topic.config"),
        ('{"metadata.broker.list": "a:1"}', "FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS"),
        ('{"request.required.acks": 1}', "request.required.acks cannot be set here"),
        *((f'{{"{name}": "x"}}', f"{name} cannot be set here") for name in OURS),
    ],
)
def test_what_cannot_be_used_is_named_in_a_sentence_without_a_value(text: str, named: str) -> None:
    """A value may be a password, also where it stands in the wrong place."""
    with pytest.raises(KafkaConfigError) as raised:
        parse(text)
    assert named in str(raised.value)
    assert SECRET not in str(raised.value).lower()
    assert "\n" not in str(raised.value)
    with pytest.raises(ValidationError) as wrapped:
        Settings(kafka_config=text)  # type: ignore[arg-type]
    assert SECRET not in str(wrapped.value).lower()


def test_each_client_gets_what_it_takes_and_the_user_wins() -> None:
    """A property of consumers does not reach a producer, and vice versa; the code sets defaults."""
    config = {"fetch.wait.max.ms": "7", "linger.ms": "9", "client.id": "theirs", "security.protocol": "plaintext"}
    settings = Settings(kafka_bootstrap_servers="k:1", kafka_config=config)
    everyone = {"bootstrap.servers": "k:1", "client.id": "theirs", "security.protocol": "plaintext"}
    ours: dict[str, Any] = {"client.id": "ours"}
    assert settings.kafka(**ours) == everyone
    assert settings.kafka("consumer", **ours, **{"fetch.wait.max.ms": 1}) == {**everyone, "fetch.wait.max.ms": "7"}
    assert settings.kafka("producer", **ours, **{"linger.ms": 1}) == {**everyone, "linger.ms": "9"}


COMMANDS = [
    ["worker"],
    ["status"],
    ["board"],
    ["collector"],
    ["rate"],
    ["alerts"],
    ["notify"],
    ["exporter"],
    ["dead-letters", "list"],
    ["produce", "-"],
    ["simulate"],
]


@pytest.mark.parametrize("config", [f'{{"sasl.password": "{SECRET}"', f'{{"sasl.pasword": "{SECRET}"}}'])
def test_every_command_says_what_is_wrong_in_one_line(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, no traceback, no password."""
    from funnelwatch.cli.commands import run
    from funnelwatch.schemas.settings import load_settings

    monkeypatch.setenv("FUNNELWATCH_KAFKA_CONFIG", config)
    told: list[str] = []
    monkeypatch.setattr("click.echo", lambda message="", **_: told.append(str(message)))
    for command in COMMANDS:
        load_settings.cache_clear()
        told.clear()
        with pytest.raises(SystemExit) as ended:
            run(command)
        assert ended.value.code == 2, command
        assert [line.startswith("Error: FUNNELWATCH_KAFKA_CONFIG: ") for line in told] == [True], (command, told)
        assert SECRET not in told[0]
    load_settings.cache_clear()
