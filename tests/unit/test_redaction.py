"""What may be printed of addresses and texts that hold secrets."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from pydantic import SecretStr, ValidationError

from funnelwatch.schemas import redacted_output
from funnelwatch.schemas.redaction import (
    error_text,
    know,
    know_address,
    know_config,
    redacted,
    revealed,
    shown,
    shown_brokers,
)
from funnelwatch.schemas.settings import Settings, explain
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.timescale.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "Tr0ub4dor"
SPELLINGS = {
    "an ordinary URL": f"postgresql://me:{SECRET}@db:5432/funnel",
    "an encoded @": f"postgresql://me:{SECRET}%40x@db/funnel",
    "a raw @": f"postgresql://me:x@{SECRET}@db/funnel",
    "a raw @ at its end": f"postgresql://me:{SECRET}@@db/funnel",
    "a raw /": f"postgresql://me:x/{SECRET}@db/funnel",
    "a raw / after digits": f"postgresql://me:12/{SECRET}@db/funnel",
    "a raw / and @": f"postgresql://me:1/@{SECRET}/x@db/funnel",
    "a raw :": f"postgresql://me:x:{SECRET}@db/funnel",
    "a raw ?": f"postgresql://me:12?{SECRET}@db/funnel",
    "a raw #": f"postgresql://me:12#{SECRET}@db/funnel",
    "a raw space": f"postgresql://me:x {SECRET}@db/funnel",
    "a raw bracket": f"postgresql://me:[{SECRET}]@db/funnel",
    "a broken percent": f"postgresql://me:%zz{SECRET}@db/funnel",
    "a password in the query": f"postgresql://db/funnel?user=me&password={SECRET}",
    "one with an @ in the query": f"postgresql://db/funnel?password=x@{SECRET}",
    "one with an encoded name": f"postgresql://db/funnel?pass%77ord={SECRET}",
    "an sslpassword": f"postgresql://me@db/funnel?sslpassword={SECRET}",
    "several hosts": f"postgresql://me:{SECRET}@one:1,two:2/funnel",
    "no user": f"redis://:{SECRET}@cache:6379/0",
    "no password": f"redis://{SECRET}@cache:6379/0",
    "a password of Redis in the query": f"redis://cache:6379/0?password={SECRET}",
    "a socket of Redis": f"unix://me:{SECRET}@/run/redis.sock?db=1",
    "Sentinel": f"redis+sentinel://:{SECRET}@one:26379,two:26379/mymaster/0?sentinel_password={SECRET}",
    "a port that is none": f"rediss://me:x@cache:{SECRET}/0",
    "a registry": f"https://me:{SECRET}@registry:8081",
    "a token for a user": f"https://{SECRET}@registry:8081",
    "a token with an empty password": f"https://{SECRET}:@registry:8081",
    "a broken IPv6 address": f"https://me:{SECRET}@[::1/x",
    "a connection string": f"host=db dbname=funnel password={SECRET}",
    "a quoted one": f"host=db password='x {SECRET}' dbname=funnel",
    "an unquoted space": f"host=db password=x {SECRET} dbname=funnel",
    "a quote that does not end": f"host=db password='x {SECRET}",
    "an sslpassword of a connection string": f"host=db sslpassword={SECRET}",
    "capital letters": f"POSTGRESQL://me:{SECRET}@db/funnel",
    "no scheme": f"me:{SECRET}@db:5432/funnel",
    "an encoded colon": f"postgresql://me%3A{SECRET}@db/funnel",
    "a login as the user of a connection string": f"host=db user=me:{SECRET}",
    "a short name in the query": f"postgresql://db/funnel?user=me&pass={SECRET}",
    "one slash": f"postgresql:/me:{SECRET}@db/funnel",
    "a line break": f"redis://:x\n{SECRET}@cache/0",
}


@pytest.fixture
def hooks() -> Iterator[None]:
    """The hooks of Python as they were before."""
    factory, hook = logging.getLogRecordFactory(), sys.excepthook
    redacted_output.install()
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook = hook


@pytest.mark.parametrize("address", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_an_address_is_shown_without_its_password(address: str) -> None:
    """However the password is spelled, whether or not a program could read it."""
    assert SECRET not in shown(address)
    assert SECRET not in shown(SecretStr(address))
    assert SECRET not in shown_brokers(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://me:pw@db:5432/funnel", "postgresql://me:***@db:5432/funnel"),
        ("postgresql://postgres@127.0.0.1:5432/funnelwatch", "postgresql://postgres@127.0.0.1:5432/funnelwatch"),
        ("postgresql://me:pw@[::1]:5432/funnel?sslmode=require", "postgresql://me:***@[::1]:5432/funnel"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:pw@cache/0", "redis://:***@cache/0"),
        ("https://registry.example/base", "https://registry.example/base"),
        ("host=db port=5432 dbname=funnel password=pw user=me", "host=db port=5432 dbname=funnel user=me"),
        ("", ""),
        ("localhost:6379/0", "localhost:6379/0"),
    ],
)
def test_of_an_address_everything_else_is_shown(address: str, expected: str) -> None:
    """A person must see which server is meant."""
    assert shown(address) == expected


def test_brokers_are_shown_unless_they_hold_a_login() -> None:
    """Each by itself."""
    assert shown_brokers(f"one:9092, me:{SECRET}@two:9092") == "one:9092,***"


@pytest.mark.parametrize("address", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_errors_of_libraries_do_not_show_the_password(address: str) -> None:
    """Neither of the database's nor of Redis's, which repeat parts of an address that they cannot read."""
    know_address(address)
    said = []
    try:
        psycopg.connect(address, connect_timeout=2, host="127.0.0.1", port=1).close()
    except (psycopg.Error, ValueError, UnicodeError) as error:
        said.append(error_text(error))
    try:
        redis.Redis.from_url(address).close()
    except (redis.RedisError, ValueError, AttributeError) as error:
        said.append(error_text(error))
    assert said
    assert [text for text in said if SECRET in text] == []


@pytest.mark.parametrize(
    "text",
    [
        f"connection to postgresql://me:{SECRET}@db failed",
        f"see redis://:a@b/{SECRET}@cache:1/0, please",
        f"cannot parse host=db password={SECRET} dbname=x",
        f"cannot parse host=db password='a {SECRET}' dbname=x",
        f"GET /subjects?token={SECRET}&x=1",
        f'{{"sasl.password": "{SECRET}"}}',
        f"{{'ssl.key.password': '{SECRET}'}}",
        f'sasl.jaas.config=Login required username="me" password="{SECRET}";',
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"POST https://hooks.slack.com/services/T0/B0/{SECRET} failed",
    ],
)
def test_a_text_shows_no_secret_by_its_form(text: str) -> None:
    """Also of a secret that no setting has."""
    assert SECRET not in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8060/api/v1/rates?since=1h&by=os",
        "routes[0].password: is missing; right would be their password, such as ${SMTP_PASSWORD}",
        "the database at postgresql://me:***@127.0.0.1:1/db does not answer",
        "mail to on-call@example.com was sent",
        "FUNNELWATCH_KEEP_WINDOWS_DAYS is 5",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    """Messages remain readable."""
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sasl.password", SECRET),
        ("ssl.key.password", SECRET),
        ("ssl.keystore.password", SECRET),
        ("ssl.key.pem", f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"),
        ("sasl.jaas.config", f'org.x.Login required username="me" password="{SECRET}";'),
        ("sasl.oauthbearer.client.secret", SECRET),
        ("sasl.oauthbearer.config", f"principal=me secret={SECRET}"),
        ("sasl.oauthbearer.token.endpoint.url", f"https://me:{SECRET}@login.example/token"),
        ("Authorization", f"Bearer {SECRET}"),
        ("X-Api-Key", SECRET),
    ],
)
def test_secrets_of_kafka_and_of_headers_are_known(name: str, value: str) -> None:
    """A text that repeats one shows none of it; the names of ordinary properties and values stay."""
    know_config({name: value, "security.protocol": "SASL_SSL", "linger.ms": "500"})
    assert redacted(f"cannot use {SECRET} with SASL_SSL, 500") == "cannot use *** with SASL_SSL, 500"


def test_known_secrets_are_hidden_in_every_encoding() -> None:
    """Percent-encoded, decoded, escaped and in base64."""
    know_address("https://me:p%40ss%2Fword%22@registry")
    for text in ("p%40ss%2Fword%22", 'p@ss/word"', json.dumps('p@ss/word"'), "bWU6cEBzcy93b3JkIg=="):
        assert redacted(f"it is {text}").replace('"', "") == "it is ***"


def test_short_secrets_are_hidden_as_words_only() -> None:
    """A password such as "one" must not make other words unreadable."""
    know("one", "ab")
    assert redacted("one, phone, 'one' and ab") == "***, phone, '***' and ab"


def test_the_secrets_of_settings_cannot_be_printed() -> None:
    """In no way in which a program prints an object; only whoever asks for it gets it."""
    settings = Settings(
        timescale_url=f"postgresql://me:{SECRET}@db/x",
        redis_url=f"redis://:{SECRET}@cache/0",
        schema_registry_url=f"https://me:{SECRET}@registry",
        kafka_config={"sasl.password": SECRET},
        collector_keys=f"web:{SECRET}",
    ).model_copy(update={"redis_url": f"redis://:{SECRET}@other/0", "kafka_config": {"sasl.password": SECRET}})
    printed = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()} {vars(settings)}"
    assert SECRET not in printed
    assert SECRET in revealed(settings.redis_url)
    assert settings.kafka()["sasl.password"] == SECRET
    assert settings.environment()["FUNNELWATCH_REDIS_URL"] == f"redis://:{SECRET}@other/0"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"])
def test_every_kind_of_redis_can_be_named(scheme: str) -> None:
    """As docs/running.md lists them; the secret of each is known."""
    settings = Settings(redis_url=f"{scheme}://:{SECRET}@one:26379/main/0")
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("address", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("name", ["timescale_url", "redis_url", "schema_registry_url"])
def test_an_address_that_cannot_be_read_is_told_without_it(name: str, address: str) -> None:
    """The error names the setting, and what is right; whatever can be read is taken as it is."""
    printed = ""
    try:
        settings = Settings(**{name: address})  # type: ignore[arg-type]
    except ValidationError as error:
        [message] = explain(error)
        printed = f"{message} {error} {error!r}"
    else:
        assert revealed(getattr(settings, name)) == address
    assert SECRET not in printed
    assert not printed or printed.startswith(f"FUNNELWATCH_{name.upper()}: is not a")


def test_a_link_for_people_holds_no_login() -> None:
    """It would be in every alert."""
    with pytest.raises(ValidationError) as rejected:
        Settings(grafana_url=f"https://me:{SECRET}@grafana/d/step")
    [message] = explain(rejected.value)
    assert message.startswith("FUNNELWATCH_GRAFANA_URL: holds a login")
    assert SECRET not in f"{message} {rejected.value}"


def test_a_wrong_setting_is_told_with_its_value_and_none_of_another() -> None:
    """A check of several settings tells none at all of those that it does not name."""
    secrets = {"timescale_url": f"postgresql://me:{SECRET}@db/x", "kafka_config": {"sasl.password": SECRET}}
    with pytest.raises(ValidationError) as rejected:
        Settings(keep_windows_days=5, **secrets)  # type: ignore[arg-type]
    [message] = explain(rejected.value)
    assert message.startswith("FUNNELWATCH_KEEP_WINDOWS_DAYS is 5, but an event may be as old as")
    assert SECRET not in f"{message} {rejected.value} {rejected.value!r}"
    with pytest.raises(ValidationError) as rejected:
        Settings(window_s="soon", **secrets)  # type: ignore[arg-type]
    [message] = explain(rejected.value)
    assert (message.partition(":")[0], message[-10:]) == ("FUNNELWATCH_WINDOW_S", "not 'soon'")


def test_connections_do_not_print_their_address() -> None:
    """Neither the database's nor Redis's, in a debugger or a log."""
    database = Database(f"postgresql://me:{SECRET}@db/x")
    assert SECRET not in f"{database} {vars(database)}"
    cache = CountCache(f"redis://:{SECRET}@cache/0", "fw", 60.0)
    assert SECRET not in f"{cache}"
    cache.close()


@pytest.mark.usefixtures("hooks")
def test_log_records_and_their_tracebacks_show_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever logs them: the message, its arguments, and a chain of errors."""
    know(SECRET)
    cause = ValueError(f"cannot read {SECRET}")
    try:
        raise RuntimeError(f"host={SECRET}") from cause  # noqa: TRY301 - one that is caught is what is tested
    except RuntimeError:
        logging.getLogger("other.library").exception("failed with %s", SECRET)
    text = logging.Formatter().format(caplog.records[-1])
    assert SECRET not in text
    assert "ValueError: cannot read ***" in text


@pytest.mark.usefixtures("hooks")
def test_an_uncaught_error_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback that Python prints when a program crashes."""
    know(SECRET)
    error = ValueError(f"cannot read {SECRET}")
    sys.excepthook(ValueError, error, None)
    assert capsys.readouterr().err == "ValueError: cannot read ***\n"
