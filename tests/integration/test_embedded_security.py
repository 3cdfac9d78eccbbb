"""Who gets into the embedded servers, and what these know of whoever started them."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis

from funnelwatch.cli.doctor import check_stack
from funnelwatch.deploy.embedded.private import FOLDER
from funnelwatch.deploy.embedded.probe import probe
from funnelwatch.deploy.embedded.state import StackState
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import STACK_FILE
from tests.command import run
from tests.stack import docker_is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.deploy.embedded.stack import Stack
    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

ROOT = Path(__file__).parents[2]
PLANTED = "pl4nted-secret"

INTRUDER = r"""
import json, os, sys
from urllib.parse import urlsplit
import psycopg, redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

given = json.loads(sys.stdin.read())
for client in (lambda: redis.Redis("127.0.0.1", 1).ping(), lambda: psycopg.connect("host=127.0.0.1 port=1")):
    try:
        client()  # what they import as they go, the other user may not be able to
    except (psycopg.Error, redis.RedisError):
        pass
if given["uid"] is not None:
    os.setgroups([]); os.setgid(given["gid"]); os.setuid(given["uid"])
postgres, cache = urlsplit(given["postgres"]), urlsplit(given["redis"])
got_in, told = [], []

def tried(what, attempt):
    try:
        attempt()
        got_in.append(what)
    except (psycopg.Error, redis.RedisError, KafkaException, OSError) as error:
        told.append(f"{what}: {error}")

for user in ("postgres", "funnelwatch", "nobody"):
    for database in ("postgres", "funnelwatch", "template1"):
        for password in (None, "", "postgres", "wrong"):
            where = {"host": postgres.hostname, "port": postgres.port, "user": user, "dbname": database}
            tried(f"postgres as {user}", lambda: psycopg.connect(**where, password=password, connect_timeout=5).close())
for options in ({}, {"password": "wrong"}, {"username": "default", "password": ""}):
    client = redis.Redis(cache.hostname, cache.port, socket_timeout=5, **options)
    tried("redis", client.ping)
    tried("redis", lambda: client.config_get("requirepass"))
if given["kafka"]:
    for login in ({}, {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512"},
                  {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}):
        who = {"sasl.username": "funnelwatch", "sasl.password": "wrong"} if login else {}
        for address in given["kafka"]:
            quiet = {"log_level": 0, "error_cb": lambda _: None}
            client = AdminClient({"bootstrap.servers": address, **quiet, **login, **who})
            tried(f"kafka at {address} with {login}", lambda: client.list_topics(timeout=3))
for file in given["files"]:
    tried(f"file {file}", lambda: open(file).read())
print(json.dumps({"got_in": got_in, "told": told}))
"""


def somebody_else() -> tuple[int | None, int | None]:
    """User and group of another user of this machine; None where only root could become one."""
    if os.geteuid() != 0:
        return None, None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def intrude(postgres: str, cache: str, kafka: list[str], files: list[Path]) -> list[str]:
    """Where another user of this machine got in without a password."""
    uid, gid = somebody_else()
    given = {"uid": uid, "gid": gid, "postgres": postgres, "redis": cache, "kafka": kafka}
    readable = [str(file) for file in files if uid is not None]  # one's own files can always be read
    done = subprocess.run(
        [sys.executable, "-c", INTRUDER],
        input=json.dumps({**given, "files": readable}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["told"]) >= 30
    return list(answer["got_in"])


@pytest.mark.skipif(docker_is_wanted(), reason="the servers are not embedded ones")
def test_no_other_user_gets_into_a_server_or_reads_a_password(stack: Servers) -> None:
    """Neither the database, Redis nor Kafka, on its clients' port or on that of its controller."""
    assert stack.data_dir is not None
    kafka = [] if stack.tansu else [stack.kafka_bootstrap_servers, controller(stack.data_dir)]
    configs = [file for name in ("server.properties", "redis.conf") for file in stack.data_dir.rglob(name)]
    files = [stack.data_dir / STACK_FILE, *configs]
    files += list((stack.data_dir / FOLDER).iterdir())
    assert intrude(stack.timescale_url, stack.redis_url, kafka, files) == []


@pytest.mark.skipif(docker_is_wanted(), reason="the servers are not embedded ones")
@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"], ["alerts"], ["rebuild", "redis"], ["status"]])
def test_a_wrong_password_is_told_and_not_printed(settings: Settings, stack: Servers, arguments: list[str]) -> None:
    """By servers that answer; neither the wrong one nor the right one."""
    wrong = "wr0ng-passw0rd"
    right = [urlsplit(url).password or "" for url in (stack.timescale_url, stack.redis_url)]
    right += [stack.kafka_config["sasl.password"]] if stack.kafka_config else []
    given = settings.model_copy(
        update={
            "timescale_url": revealed(settings.timescale_url).replace(right[0], wrong),
            "redis_url": stack.redis_url.replace(right[1], wrong),
            "kafka_config": {**stack.kafka_config, **({"sasl.password": wrong} if stack.kafka_config else {})},
        }
    )
    done = run(given, *arguments)
    assert done.exit_code != 0
    assert not [one for one in (wrong, *right) if one in done.output]
    assert arguments == ["status"] or "password" in done.output


def controller(data_dir: Path) -> str:
    """The address on which Kafka speaks to itself."""
    text = (data_dir / "kafka" / "server.properties").read_text()
    return text.partition("CONTROLLER://")[2].splitlines()[0]


@pytest.fixture
def started(own_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch) -> tuple[Stack, StackState]:
    """A stack of somebody whose environment holds a secret."""
    monkeypatch.setenv("FUNNELWATCH_TEST_PLANTED", PLANTED)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED)
    stack = own_stack("tansu")
    return stack, stack.up(lambda _: None)


def passwords(stack: Stack) -> set[str]:
    """The passwords of its servers."""
    return {(stack.data_dir / FOLDER / name).read_text().strip() for name in ("postgres", "redis")}


def test_servers_know_nothing_of_the_environment_and_show_no_password(started: tuple[Stack, StackState]) -> None:
    """Nor does a program that a superuser runs by the database; passwords are in no argument, no log, no open file."""
    stack, state = started
    with psycopg.connect(state.services["postgres"].url, autocommit=True) as session:
        session.execute("CREATE TEMP TABLE told (line text)")
        session.execute('COPY told FROM PROGRAM \'env; cat /proc/$PPID/environ | tr "\\000" "\\n"\'')
        told = [line for (line,) in session.execute("SELECT line FROM told").fetchall()]
    assert told
    assert not [line for line in told if PLANTED in line or line.startswith(("AWS_", "HOME=/root"))]
    secret = passwords(stack)
    assert len(secret) == 2
    for service in state.services.values():
        assert service.pid is not None
        process = psutil.Process(service.pid)
        assert PLANTED not in str(process.environ())
        assert not [one for one in secret if one in " ".join(process.cmdline())]
    for log in (stack.data_dir / "logs").iterdir():
        assert not [one for one in secret if one in log.read_text(errors="replace")]
    holding = [
        file for file in stack.data_dir.rglob("*") if stack._postgres_data not in file.parents and file.is_file()
    ]
    holding = [file for file in holding if any(one.encode() in file.read_bytes() for one in secret)]
    assert {STACK_FILE, "redis.conf", "pgpass"} <= {file.name for file in holding}
    assert {stat.S_IMODE(file.stat().st_mode) for file in holding} == {0o600}
    assert stat.S_IMODE((stack.data_dir / FOLDER).stat().st_mode) == 0o700


def test_data_of_an_earlier_version_let_nobody_in_any_more(started: tuple[Stack, StackState]) -> None:
    """Its database trusted everybody; its servers that still run are started again."""
    stack, state = started
    with psycopg.connect(state.services["postgres"].url) as session:
        session.execute("CREATE TABLE kept AS SELECT 7 AS number")
    stack.down()
    (stack._postgres_data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    for file in (stack.data_dir / FOLDER).iterdir():
        file.unlink()
    again = stack.up(lambda _: None).services
    bare = again["postgres"].url.replace(urlsplit(again["postgres"].url).password or "", "wrong")
    assert "password authentication failed" in str(probe("postgres", bare, {}, 10.0))
    with psycopg.connect(again["postgres"].url) as session:
        assert session.execute("SELECT number FROM kept").fetchone() == (7,)
        assert session.execute("SHOW password_encryption").fetchone() == ("scram-sha-256",)
    recorded = StackState.load(stack.data_dir)
    recorded.services["redis"].url = f"redis://127.0.0.1:{recorded.services['redis'].port}/0"
    recorded.save(stack.data_dir)
    said: list[str] = []
    newest = stack.up(said.append).services
    assert any("ending it (it was started without a password)" in line for line in said)
    assert newest["redis"].pid != again["redis"].pid
    assert redis.Redis.from_url(newest["redis"].url).ping()
    assert newest["postgres"].pid == again["postgres"].pid


def test_doctor_tells_who_else_can_use_the_stack(started: tuple[Stack, StackState]) -> None:
    """Tansu takes everybody; a file that others may read is named."""
    stack, _ = started
    assert [one.message.split(" at ")[0] for one in check_stack(stack.data_dir)] == ["tansu 0.6.0"]
    (stack.data_dir / STACK_FILE).chmod(0o644)
    messages = [one.message for one in check_stack(stack.data_dir)]
    assert f"other users can read passwords in {stack.data_dir / STACK_FILE}" in messages
