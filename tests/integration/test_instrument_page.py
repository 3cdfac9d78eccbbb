"""docs/instrument.md and docs/collector.md: every block does what the page says, on a real Kafka."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from funnelwatch.producers.collector.line_mapping import load_line_mapping
from tests.collector import KEY, collector, own_settings
from tests.integration.topic import read_events, read_messages
from tests.served_app import blocks, browse, check_sign_up, served, sign_up
from tests.stack import kcat_config
from tests.worker import environment

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

ROOT = Path(__file__).parents[2]
INSTRUMENT = (ROOT / "docs" / "instrument.md").read_text()
COLLECTOR = (ROOT / "docs" / "collector.md").read_text()


UVICORN = '-m uvicorn shop:app --port "$PORT"'
WSGIREF = (
    "-c 'import os, shop; from wsgiref.simple_server import make_server; "
    'make_server("", int(os.environ["PORT"]), shop.app).serve_forever()\''
)
ASGI, WSGI, FLASK, API, DECORATORS, ASYNC = blocks(INSTRUMENT, "python")


@pytest.fixture
def own(stack: Servers) -> Settings:
    """Topics of this test's own."""
    return own_settings(stack)


def test_the_asgi_block_tells_the_steps_of_a_sign_up(own: Settings, tmp_path: Path) -> None:
    """With uvicorn, as one would run it; the page promises ten lines."""
    instrumentation = [line for line in ASGI.split("@app.get")[0].splitlines() if line.strip()]
    assert len(instrumentation) <= 10
    with served(own, tmp_path, ASGI, UVICORN) as url:
        assert sign_up(url) == [200, 422, 200]
        check_sign_up(read_events(own, 3))


def test_an_app_goes_on_when_there_is_no_kafka(own: Settings, tmp_path: Path) -> None:
    """Nobody who signs up notices."""
    away = own.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with served(away, tmp_path, ASGI, UVICORN) as url:
        assert sign_up(url) == [200, 422, 200]


@pytest.mark.parametrize("block", [WSGI, FLASK], ids=["wsgi", "flask"])
def test_the_wsgi_blocks_tell_the_steps_of_a_sign_up(own: Settings, tmp_path: Path, block: str) -> None:
    """With the standard library's server; the app answers 200 to a wrong code, and says that it was wrong."""
    with served(own, tmp_path, block, WSGIREF) as url:
        assert sign_up(url) == [200, 200, 200]
        events = read_events(own, 3)
    check_sign_up(events)
    assert events[1]["contexts"] == {"reason": "WRONG_CODE"}


def test_the_api_block_tells_what_was_shown_without_a_page(own: Settings, tmp_path: Path) -> None:
    """By the endpoint of the middleware, and by the server's own word."""
    with served(own, tmp_path, API, UVICORN) as url:
        ask = browse(url)
        assert ask("POST", "/funnel/impressions", b'{"step": "VERIFY_SMS_CODE"}') == 204
        assert ask("POST", "/funnel/impressions", b'{"step": "INVENTED"}') == 422
        assert ask("POST", "/api/code?code=1234") == 200
        events = read_events(own, 3)
    assert sorted((event["step"], event["status"] or "") for event in events) == [
        ("INPUT_NAME", ""),
        ("VERIFY_SMS_CODE", ""),
        ("VERIFY_SMS_CODE", "SUCCESS"),
    ]
    assert len({event["sign_up_session_id"] for event in events}) == 1


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
