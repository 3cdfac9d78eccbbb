"""A worker whose FUNNELWATCH_KAFKA_CONFIG is wrong, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from funnelwatch.schemas.settings import Settings
from tests.worker import ROOT, environment

SECRET = "hunter2"


@pytest.mark.parametrize(
    "program", [["-m", "funnelwatch.stream", "worker"], ["-m", "faust", "-A", "funnelwatch.stream.app", "worker"]]
)
@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"sasl.pasword": SECRET}, "sasl.pasword"),
        (
            {
                "security.protocol": "sasl_plaintext",
                "sasl.mechanism": "OAUTHBEARER",
                "sasl.oauthbearer.config": SECRET,
            },
            "sasl.mechanism",
        ),
    ],
)
def test_a_worker_that_cannot_connect_ends_with_a_sentence(
    program: list[str], config: dict[str, str], named: str
) -> None:
    """Also one that Faust starts: exit code 2 instead of a crash loop."""
    env = {**environment(Settings()), "FUNNELWATCH_KAFKA_CONFIG": json.dumps(config)}
    ended = subprocess.run(
        [sys.executable, *program], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("Error: FUNNELWATCH_KAFKA_CONFIG: ")
    assert named in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert SECRET not in ended.stderr + ended.stdout
