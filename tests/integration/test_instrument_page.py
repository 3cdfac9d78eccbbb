"""docs/instrument.md and docs/collector.md: every block does what the page says, on a real Kafka."""

from __future__ import annotations

import http.cookiejar
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.producers.collector.line_mapping import load_line_mapping
from tests.collector import KEY, collector, own_settings
from tests.integration.topic import read_events, read_messages
from tests.stack import kcat_config, wait_until
from tests.worker import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

ROOT = Path(__file__).parents[2]
INSTRUMENT = (ROOT / "docs" / "instrument.md").read_text()
COLLECTOR = (ROOT / "docs" / "collector.md").read_text()
CHROME = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36"


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


ASGI, WSGI, DECORATORS, ASYNC = blocks(INSTRUMENT, "python")


@pytest.fixture
def own(stack: Servers) -> Settings:
    """Topics of this test's own."""
    return own_settings(stack)


@contextmanager
def served(settings: Settings, folder: Path, code: str, command: list[str]) -> Iterator[str]:
    """The app of a block as a process; yields its address."""
    port = free_port()
    (folder / "shop.py").write_text(code)
    env = environment(settings) | {"PYTHONPATH": f"{folder}:{ROOT}", "PORT": str(port)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=env, stdout=log, stderr=log)
    try:
        url = f"http://{HOST}:{port}"

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{url}/none", timeout=30).close()
            except urllib.error.HTTPError as error:
                error.close()
            except OSError:
                return False
            return True

        wait_until(answers, "the app answers", 120)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def sign_up(url: str) -> list[int]:
    """One person: sees the form, types a wrong code, then the right one; the statuses."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    browser.addheaders = [("User-Agent", CHROME)]
    statuses = []
    for method, query in (("GET", ""), ("POST", "?code=9"), ("POST", "?code=1234")):
        request = urllib.request.Request(f"{url}/sign-up/code{query}", method=method)
        try:
            with browser.open(request, timeout=60) as answer:
                statuses.append(answer.status)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
            error.close()
    return statuses


def check_sign_up(events: list[dict[str, Any]]) -> None:
    """What one person's way through the step is on the topic, in order."""
    assert [(event["phase"], event["status"]) for event in events] == [
        ("IMPRESSION", None),
        ("POST_VERIFICATION", "FAILURE"),
        ("POST_VERIFICATION", "SUCCESS"),
    ]
    assert len({event["sign_up_session_id"] for event in events}) == 1
    assert {(event["step"], event["os"], event["browser"]) for event in events} == {
        ("VERIFY_SMS_CODE", "Android", "Chrome")
    }
    assert all(event["duration_ms"] >= 0 for event in events[1:])


def test_the_asgi_block_tells_the_steps_of_a_sign_up(own: Settings, tmp_path: Path) -> None:
    """With uvicorn, as one would run it; the page promises ten lines."""
    instrumentation = [line for line in ASGI.split("@app.get")[0].splitlines() if line.strip()]
    assert len(instrumentation) <= 10
    with served(
        own, tmp_path, ASGI, ["-c", "import os, uvicorn; uvicorn.run('shop:app', port=int(os.environ['PORT']))"]
    ) as url:
        assert sign_up(url) == [200, 422, 200]
        check_sign_up(read_events(own, 3))


def test_an_app_goes_on_when_there_is_no_kafka(own: Settings, tmp_path: Path) -> None:
    """Nobody who signs up notices."""
    away = own.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with served(
        away, tmp_path, ASGI, ["-c", "import os, uvicorn; uvicorn.run('shop:app', port=int(os.environ['PORT']))"]
    ) as url:
        assert sign_up(url) == [200, 422, 200]


def test_the_wsgi_block_tells_the_steps_of_a_sign_up(own: Settings, tmp_path: Path) -> None:
    """With the standard library's server; the app answers 200 to a wrong code, and says that it was wrong."""
    serve = (
        "import os, shop\n"
        "from wsgiref.simple_server import make_server\n"
        "make_server('', int(os.environ['PORT']), shop.app).serve_forever()"
    )
    with served(own, tmp_path, WSGI, ["-c", serve]) as url:
        assert sign_up(url) == [200, 200, 200]
        events = read_events(own, 3)
    check_sign_up(events)
    assert events[1]["contexts"] == {"reason": "WRONG_CODE"}


@pytest.mark.parametrize(("block", "step", "samples"), [(DECORATORS, "INPUT_NAME", 0), (ASYNC, "INPUT_PASSWORD", 1)])
def test_the_blocks_that_are_programs_run(own: Settings, tmp_path: Path, block: str, step: str, samples: int) -> None:
    """Each tells an impression and a success."""
    env = environment(own) | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", block], env=env, cwd=tmp_path, check=True, timeout=120)
    events = read_events(own, 2)
    assert [(event["step"], event["status"]) for event in events] == [(step, None), (step, "SUCCESS")]
    if samples:
        assert len(read_messages(own, own.metrics_topic, samples)) == samples


def test_node_and_kcat_produce_straight_to_the_topic(own: Settings, stack: Servers, tmp_path: Path) -> None:
    """The shell block of the page, as it stands there but for the topic's name."""
    missing = [program for program in ("node", "npm", "kcat") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"NOT TESTED: {', '.join(missing)} is not here, so Avro from another language was not produced")
    for file in (ROOT / "docs" / "examples" / "event.mjs", ROOT / "schemas" / "funnel_event.avsc"):
        shutil.copy(file, tmp_path)
    (script,) = blocks(INSTRUMENT, "sh")
    install, rest = script.split("\n", 1)
    installed = subprocess.run(
        install, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    if installed.returncode:
        pytest.skip(
            f"NOT TESTED: npm cannot install avsc, so Avro from Node was not produced: {installed.stderr[-300:]}"
        )
    env = os.environ | {"KAFKA": own.kafka_bootstrap_servers, "KCAT_CONFIG": kcat_config(stack)}
    rest = rest.replace("-t funnel.events", f"-t {own.events_topic}")
    subprocess.run(["bash", "-ec", rest], cwd=tmp_path, env=env, check=True, timeout=120)
    (event,) = read_events(own, 1)
    assert (event["sign_up_session_id"], event["step"], event["phase"]) == ("session-1", "INPUT_NAME", "IMPRESSION")
    (message,) = read_messages(own, own.events_topic, 1)
    assert message.key() == b"session-1"


def test_the_curl_block_of_the_collectors_page_is_accepted(own: Settings, tmp_path: Path) -> None:
    """Two events, a counter and a timer."""
    if shutil.which("curl") is None:
        pytest.skip("NOT TESTED: curl is not here, so the block of docs/collector.md was not run")
    command = next(block for block in blocks(COLLECTOR, "sh") if block.startswith("curl"))
    with collector(own, tmp_path / "log") as running:
        env = os.environ | {"COLLECTOR": running.url, "KEY": KEY}
        done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert '"accepted":4,"rejected":0,"undelivered":0' in done.stdout
    assert {event["event_id"] for event in read_events(own, 2)} == {"e-1", "e-2"}
    assert len(read_messages(own, own.metrics_topic, 2)) == 2


def test_the_mapping_of_the_collectors_page_can_be_used(tmp_path: Path) -> None:
    """As a file of its own."""
    (text,) = [block for block in blocks(COLLECTOR, "yaml") if "lines:" in block]
    path = tmp_path / "lines.yml"
    path.write_text(text)
    mapping = load_line_mapping(path)
    assert len(mapping.lines) == 4
    entry = mapping.entry("page_a", {"app": "shop"})
    assert entry is not None
    assert entry.event is not None
