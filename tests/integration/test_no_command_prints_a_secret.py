"""Every command, with secrets in every setting that takes one, in every spelling, and nothing that answers."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from funnelwatch.schemas.settings import PREFIX

ROOT = Path(__file__).parents[2]
SECRET = "Tr0ub4dor"
HERE = "127.0.0.1:1"
LOGIN = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "me"}
SPELLED_WELL = {
    "TIMESCALE_URL": f"postgresql://me:a{SECRET}@{HERE}/db?sslpassword=b{SECRET}",
    "REDIS_URL": f"redis://:c{SECRET}@{HERE}/0",
    "SCHEMA_REGISTRY_URL": f"http://me:d{SECRET}@{HERE}",
    "KAFKA_CONFIG": json.dumps({**LOGIN, "sasl.password": f"e{SECRET}"}),
}
SETTINGS: dict[str, dict[str, str]] = {
    "spelled well": SPELLED_WELL,
    "raw slashes and @": {
        "TIMESCALE_URL": f"postgresql://me:1/a{SECRET}@b{SECRET}@{HERE}/db",
        "REDIS_URL": f"redis://:1/c{SECRET}@{HERE}/0",
        "SCHEMA_REGISTRY_URL": f"http://me:1/d{SECRET}@{HERE}",
        "KAFKA_CONFIG": json.dumps({**LOGIN, "sasl.password": f"e{SECRET}", "no.such": f"f{SECRET}"}),
        "COLLECTOR_KEYS": f"web:g{SECRET}",
    },
    "connection strings and broken percents": {
        "TIMESCALE_URL": f"host=127.0.0.1 port=1 password='x a{SECRET}' dbname=db",
        "REDIS_URL": f"redis://:%zzc{SECRET}@127.0.0.1:x/0",
        "SCHEMA_REGISTRY_URL": f"ftp://me:d{SECRET}@{HERE}",
        "KAFKA_CONFIG": json.dumps({**LOGIN, "sasl.password": f"e{SECRET}", "socket.timeout.ms": f"f{SECRET}"}),
    },
    "passwords in queries, unquoted spaces": {
        "TIMESCALE_URL": f"host=127.0.0.1 port=1 password=x a{SECRET} dbname=db",
        "REDIS_URL": f"redis://{HERE}/0?password=c{SECRET}",
        "SCHEMA_REGISTRY_URL": f"http://{HERE}:x/?token=d{SECRET}",
        "KAFKA_CONFIG": json.dumps({"ssl.key.pem": f"-----BEGIN PRIVATE KEY-----\ne{SECRET}\n"}),
    },
    "another setting is wrong": {**SPELLED_WELL, "KEEP_WINDOWS_DAYS": "5"},
    "several others are wrong": {**SPELLED_WELL, "WINDOW_S": "soon", "TOPIC_PARTITIONS": "0"},
    "no JSON": {**SPELLED_WELL, "KAFKA_CONFIG": f'{{"sasl.password": "e{SECRET}"'},
    "no text in JSON": {**SPELLED_WELL, "KAFKA_CONFIG": json.dumps({"sasl.password": {"of": f"e{SECRET}"}})},
    "a list in JSON": {**SPELLED_WELL, "KAFKA_CONFIG": json.dumps([f"e{SECRET}"])},
}
THOROUGH = ("spelled well", "raw slashes and @")
"""With these every output of every command is tried; with the others each command once."""

ROUTES = f"""
routes:
- {{name: hook, kind: webhook, url: 'http://{HERE}/h{SECRET}/x', secret: i{SECRET}, headers: {{X-Token: j{SECRET}}}}}
- {{name: chat, kind: slack, url: 'https://hooks.slack.com/services/k{SECRET}', timeout: 1s}}
- {{name: page, kind: pagerduty, routing_key: l{SECRET}, url: 'http://{HERE}/v2/enqueue'}}
- {{name: am, kind: alertmanager, url: 'http://me:m{SECRET}@{HERE}', username: me, password: n{SECRET}}}
- {{name: mail, kind: email, host: 127.0.0.1, port: 1, tls: starttls, username: me, password: o{SECRET},
   from: a@example.com, to: b@example.com}}
"""
BRIDGE = f"""
targets:
- name: web
  url: http://me:p{SECRET}@{HERE}/metrics?token=q{SECRET}
  every: 1s
  maps: [{{metric: sent_total, counter: {{name: sent}}}}]
"""


def files(folder: Path) -> None:
    """The files that commands read."""
    (folder / "notify.yml").write_text(ROUTES)
    (folder / "bridge.yml").write_text(BRIDGE)
    (folder / "file.jsonl").write_text("{}\n")


def leaks(printed: str) -> list[str]:
    """The lines that show a secret, or what it is in base64 behind any user's name."""
    marks = [SECRET, *(base64.b64encode(f"{'x' * shift}{SECRET}".encode())[4:10].decode() for shift in range(3))]
    return [line for line in printed.splitlines() if any(mark in line for mark in marks)]


def environ(case: str, folder: Path) -> dict[str, str]:
    """The environment variables of a case."""
    settings: dict[str, Any] = {
        "KAFKA_BOOTSTRAP_SERVERS": HERE,
        "NOTIFY_PATH": str(folder / "notify.yml"),
        "NOTIFY_PORT": "0",
        "EXPORTER_PORT": "0",
        "BOARD_PORT": "0",
        "COLLECTOR_PORT": "0",
        "WEB_PORT": "0",
        **SETTINGS[case],
    }
    return {f"{PREFIX}{name}": value for name, value in settings.items()}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what every command printed in every case."""
    folder = tmp_path_factory.mktemp("tried")
    files(folder)
    cases = {case: {"environ": environ(case, folder), "brief": case not in THOROUGH} for case in SETTINGS}
    (folder / "cases.json").write_text(json.dumps(cases))
    # Commands are ended after some seconds, and coverage would print a traceback of its own where it is just saving.
    env = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "COVERAGE_"))}
    subprocess.run([sys.executable, "-m", "tests.every_command", folder], cwd=ROOT, env=env, check=True, timeout=900)
    return folder


@pytest.mark.timeout(1_000)
@pytest.mark.parametrize("case", SETTINGS)
def test_no_command_prints_a_secret(case: str, tried: Path) -> None:
    """Neither its help nor an error, a finding or a traceback; in text and in JSON."""
    calls = json.loads((tried / case / "calls.json").read_text())
    printed = {" ".join(args): (tried / case / f"{number}.txt").read_text() for number, args in enumerate(calls)}
    assert len(printed) > (100 if case in THOROUGH else 30)
    assert {call: found for call, text in printed.items() if (found := leaks(text))} == {}
    silent = {call for call, text in printed.items() if not text and "--help" in call}
    assert silent == set()
    assert {call for call, text in printed.items() if "Traceback" in text} == set()
