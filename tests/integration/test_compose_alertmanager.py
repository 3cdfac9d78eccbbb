"""Whom Alertmanager of ``deploy/compose.yml`` tells, by the script that makes its configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

SCRIPT = Path(__file__).parents[2] / "deploy" / "compose" / "alertmanager.sh"
EMAIL = {"ALERT_EMAIL_TO": "on-call@example.com", "ALERT_SMTP_HOST": "smtp.example.com:587"}


def started(folder: Path, **named: str) -> subprocess.CompletedProcess[str]:
    """The script, run with a program in Alertmanager's place that prints its arguments."""
    stand_in = folder / "bin" / "alertmanager"
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    env = {"PATH": f"{stand_in.parent}:{os.environ['PATH']}", **named}
    command = ["sh", SCRIPT, folder, "--storage.path=/data"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)


def configured(folder: Path, **named: str) -> dict[str, Any]:
    """The configuration that it makes; secrets are in it, so nobody else may read it."""
    done = started(folder, **named)
    assert done.returncode == 0, done.stderr
    file = folder / "alertmanager.yml"
    assert done.stdout == f"--config.file={file} --storage.path=/data\n"
    assert file.stat().st_mode & 0o077 == 0
    config: dict[str, Any] = YAML(typ="safe").load(file.read_text())
    return config


@pytest.mark.parametrize(
    ("named", "kind", "told"),
    [
        ({"ALERT_SLACK_URL": "https://hooks.slack.com/x"}, "slack", {"api_url": "https://hooks.slack.com/x"}),
        ({"ALERT_WEBHOOK_URL": "https://example.com/it's"}, "webhook", {"url": "https://example.com/it's"}),
        (EMAIL, "email", {"to": "on-call@example.com", "from": "on-call@example.com"}),
        (EMAIL | {"ALERT_SMTP_USER": "me", "ALERT_SMTP_PASSWORD": "a'b: #c"}, "email", {"auth_password": "a'b: #c"}),
        (EMAIL | {"ALERT_EMAIL_FROM": "alerts@example.com"}, "email", {"from": "alerts@example.com"}),
    ],
)
def test_who_is_named_is_told_everything(
    tmp_path: Path, named: dict[str, str], kind: str, told: dict[str, str]
) -> None:
    """One receiver of that kind, with what was given, whatever characters it has."""
    config = configured(tmp_path, **named)
    assert config["route"]["receiver"] == "everybody"
    [receiver] = config["receivers"]
    assert set(receiver) == {"name", f"{kind}_configs"}
    [one] = receiver[f"{kind}_configs"]
    assert one | told == one
    assert not (tmp_path / "nobody").exists()


def test_pagerduty_is_paged_for_what_is_critical_only(tmp_path: Path) -> None:
    """Everybody else is told of that, too."""
    config = configured(tmp_path, ALERT_PAGERDUTY_KEY="k", ALERT_SLACK_URL="https://hooks.slack.com/x")
    page, everybody = config["receivers"]
    assert page["pagerduty_configs"][0]["routing_key"] == "k"
    assert list(everybody) == ["name", "slack_configs"]
    critical, rest = config["route"]["routes"]
    assert critical == {"matchers": ['severity = "critical"'], "receiver": "page", "continue": True}
    assert rest == {"receiver": "everybody"}


def test_where_nobody_is_named_it_says_so_and_is_unhealthy_until_told_that_this_is_meant(tmp_path: Path) -> None:
    """The file that the health check looks for is there; and gone once somebody is named."""
    assert "ALERTS ARE TOLD TO NOBODY" in started(tmp_path).stderr
    assert "deploy/.env" in (tmp_path / "nobody").read_text()
    assert configured(tmp_path, ALERT_NOBODY="yes")["receivers"] == [{"name": "everybody"}]
    assert not (tmp_path / "nobody").exists()


def test_email_without_a_server_does_not_start(tmp_path: Path) -> None:
    """It says what is missing."""
    done = started(tmp_path, ALERT_EMAIL_TO="on-call@example.com")
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "ALERT_SMTP_HOST: is missing: ALERT_EMAIL_TO needs a server" in done.stderr
