"""Django, several processes, Celery, Lambda, tests of an app: what those pages and the example say, run for real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.collector import own_settings
from tests.integration.topic import read_events, read_messages
from tests.served_app import ROOT, blocks, browse, check_sign_up, served
from tests.worker import environment

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

DOCS = ROOT / "docs"
FORM = "application/x-www-form-urlencoded"


def page(name: str) -> str:
    """The text of a page."""
    return (DOCS / f"{name}.md").read_text()


@pytest.fixture
def own(stack: Servers) -> Settings:
    """Topics of this test's own."""
    return own_settings(stack)


def test_the_django_project_tells_the_steps_of_a_sign_up(own: Settings, tmp_path: Path) -> None:
    """With Django's own server, its sessions and its protection against forged requests."""
    shutil.copytree(DOCS / "examples" / "django", tmp_path, dirs_exist_ok=True)
    with served(own, tmp_path, None, 'manage.py runserver --noreload "127.0.0.1:$PORT"') as url:
        ask = browse(url)
        assert ask("POST", "/sign-up/code", b"code=1234", FORM) == 403
        assert ask("GET", "/sign-up/code") == 200
        assert ask("POST", "/sign-up/code", b"code=9", FORM) == 200
        assert ask("POST", "/sign-up/code", b"code=1234", FORM) == 200
        events = read_events(own, 4)
    forged, *events = events
    assert forged["status"] == "FAILURE"
    check_sign_up(events)
    assert events[1]["contexts"] == {"reason": "WRONG_CODE"}


def test_the_lines_of_the_django_project_are_those_of_the_page() -> None:
    """The two blocks that the page shows stand in the project."""
    shown = [block.strip() for block in blocks(page("instrument"), "python no-run")]
    project = [(DOCS / "examples" / "django" / "shop" / f"{name}.py").read_text() for name in ("wsgi", "settings")]
    assert len(shown) == 2
    assert all(block in text for block, text in zip(shown, project, strict=True))


@pytest.mark.parametrize("number", [0, 1], ids=["uvicorn", "gunicorn"])
def test_workers_of_a_web_server_lose_no_event(own: Settings, tmp_path: Path, number: int) -> None:
    """Each request is an impression; the server is ended right after the last."""
    code, command = (
        blocks(page("instrument-prefork"), "python")[number],
        blocks(page("instrument-prefork"), "sh")[number],
    )
    with served(own, tmp_path, code, f"-m {command}") as url:
        assert [browse(url)("GET", "/sign-up/code") for _ in range(20)] == [200] * 20
    assert len(read_events(own, 20)) == 20


def test_the_pool_of_a_celery_worker_loses_no_event(own: Settings, tmp_path: Path) -> None:
    """With a broker of files, which the test adds; the worker is ended as soon as the last task is done."""
    (tmp_path / "tasks").mkdir()
    folders = {f"data_folder_{way}": str(tmp_path / "tasks") for way in ("in", "out")}
    broker = f"\napp.conf.broker_transport_options = {folders}\n"
    (tmp_path / "shop.py").write_text(blocks(page("instrument-celery"), "python")[0] + broker)
    [command] = blocks(page("instrument-celery"), "sh")
    env = environment(own) | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "BROKER": "filesystem://"}
    send = "import shop\nfor n in range(6): shop.send_code.delay(f's-{n}')"
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=env, check=True, timeout=120)
    with (tmp_path / "log").open("wb") as log:
        shell = ["bash", "-ec", f"exec {sys.executable} -m {command}"]
        process = subprocess.Popen(shell, cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while list((tmp_path / "tasks").glob("*.msg")) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(120)
    assert len(read_events(own, 6)) == 6, (tmp_path / "log").read_text()
    assert len(read_messages(own, own.metrics_topic, 6)) == 6


LAMBDA = """
import os, signal
print(handler({"session": "s-1", "code": "1234"}, None), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
print(handler({"session": "s-1", "code": "9"}, None), flush=True)
os._exit(0)
"""


def test_a_function_that_is_frozen_after_its_answer_has_sent_its_event(own: Settings, tmp_path: Path) -> None:
    """Stopped, continued for the next request, then ended without an exit handler; the first may have to connect."""
    code = blocks(page("instrument-lambda"), "python")[0]
    # A machine that runs many tests at once is slower than a function that Lambda starts.
    program = code.replace("flush(1.0)", "flush(60.0)") + LAMBDA
    env = environment(own) | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == "{'statusCode': 200, 'undelivered': 0}\n"
        assert len(read_events(own, 1)) == 1
    finally:
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGCONT)
    assert process.stdout.readline() == "{'statusCode': 422, 'undelivered': 0}\n"
    process.stdout.close()
    assert process.wait(60) == 0
    assert [event["status"] for event in read_events(own, 2)] == ["SUCCESS", "FAILURE"]


def test_the_tests_of_the_page_about_tests_pass(tmp_path: Path) -> None:
    """As two files beside each other."""
    conftest, tests = blocks(page("testing-your-app"), "python")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_sign_up.py").write_text(tests)
    env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
