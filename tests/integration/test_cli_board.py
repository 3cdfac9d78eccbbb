"""``funnelwatch board`` as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.command import run
from tests.filling import count
from tests.worker import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

NOWHERE = "postgresql://me:secret@127.0.0.1:1/db"


@contextmanager
def board(settings: Settings, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address that it prints."""
    command = [Path(sys.executable).with_name("funnelwatch"), "board", "--port", "0", *options]
    with subprocess.Popen(
        command, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def get(url: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=90) as reply:
            return reply.status, dict(reply.headers), reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_board_binds_to_this_machine_answers_and_ends_cleanly(settings: Settings, ending: signal.Signals) -> None:
    """It prints where it is, is healthy and counted, rejects other host names, and a signal ends it without a trace."""
    count(settings, {})
    with board(settings) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert get(f"{url}healthz")[::2] == (200, "ok\n")
        assert json.loads(get(f"{url}readyz")[2]) == {"database": "ok", "redis": "ok"}
        status, headers, _ = get(f"{url}api/v1/openapi.json")
        assert status == 200
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]
        status, _, body = get(f"{url}healthz", Host="elsewhere.example")
        assert (status, "FUNNELWATCH_BOARD_HOSTS" in body) == (400, True)
        shown = get(f"{url}metrics")[2]
        assert 'funnelwatch_board_requests_total{route="/healthz",status="200"} 1.0' in shown
        assert "process_resident_memory_bytes" in shown
        process.send_signal(ending)
        assert process.wait(60) in {0, -ending}
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_board_whose_database_is_away_says_so_and_waits(settings: Settings) -> None:
    """It starts all the same, tells what to do without the password, and answers 503 until the database is there."""
    with board(settings.model_copy(update={"timescale_url": NOWHERE})) as (process, url):
        status, headers, body = get(f"{url}api/v1/rates")
        problem = json.loads(body)
        assert (status, headers["content-type"], headers["retry-after"]) == (503, "application/problem+json", "5")
        assert problem["detail"] == "the database does not answer"
        assert get(f"{url}readyz")[0] == 503
        assert get(f"{url}healthz")[0] == 200
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert process.stderr is not None
        told = process.stderr.read()
    assert "postgresql://me:***@127.0.0.1:1/db does not answer" in told
    assert "funnelwatch up" in told
    assert "secret" not in told + body


def test_a_port_that_is_taken_is_told(settings: Settings) -> None:
    """Exit code 1, and how to name another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(settings, "board", "--port", str(taken.getsockname()[1]))
    assert (result.exit_code, "--port" in result.stderr) == (1, True), result.output
