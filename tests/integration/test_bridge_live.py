"""A bridge process between an app's /metrics and Kafka, which is killed and started again while the app counts."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.schemas.codec import Decoder
from tests import command
from tests.stack import wait_until
from tests.traffic import everything, prepared

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

STEP = "VERIFY_SMS_CODE"


class App:
    """An app with counters of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.shown = Counter("signup_shown", "Shown.", ["step", "platform"], registry=self.registry)
        self.verified = Counter("signup_verified", "Verified.", ["step", "platform", "result"], registry=self.registry)
        self.sms = Counter("sms", "Messages.", ["platform"], registry=self.registry)
        Gauge("queue", "No counter.", registry=self.registry).set(5)


@contextmanager
def serving(app: App, port: int) -> Iterator[int]:
    """The app's /metrics; the port."""
    server, thread = start_http_server(port, HOST, app.registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def file_for(port: int, folder: Path) -> Path:
    """What the app's counters mean."""
    verified = {"phase": "POST_VERIFICATION", "step": "{step}", "os": "{platform}"}
    maps = [
        {"metric": "signup_shown_total", "event": {"phase": "IMPRESSION", "step": "{step}", "os": "{platform}"}},
        {"metric": "signup_verified_total", "where": {"result": "ok"}, "event": {**verified, "status": "SUCCESS"}},
        {"metric": "signup_verified_total", "where": {"result": "no"}, "event": {**verified, "status": "FAILURE"}},
        {"metric": "sms_total", "counter": {"name": "sms_sent", "dimensions": {"os": "{platform}"}}},
        {"metric": "queue", "counter": {"name": "queue"}},
    ]
    target = {"name": "web", "url": f"http://{HOST}:{port}/metrics", "every": "1s", "maps": maps}
    gone = {"name": "gone", "url": f"http://{HOST}:1/metrics", "every": "1s", "maps": maps[:1]}
    file = folder / "bridge.yml"
    file.write_text(json.dumps({"targets": [gone, target]}))
    return file


def on(settings: Settings, topic: str, schema: str) -> dict[str, dict[str, Any]]:
    """The records of a topic, each id once."""
    decode = Decoder(schema)
    found = [decode(message.value()) for message in everything(settings, topic)]
    return {one["event_id"]: one for one in found}


def counted(settings: Settings) -> tuple[int, int, int, int]:
    """Impressions, successes, failures, and the sum of the counter."""
    events = list(on(settings, settings.events_topic, "FunnelEvent").values())
    said = [(one["phase"], one["status"]) for one in events]
    samples = on(settings, settings.metrics_topic, "Metric").values()
    kinds = [("IMPRESSION", None), ("POST_VERIFICATION", "SUCCESS"), ("POST_VERIFICATION", "FAILURE")]
    one, two, three = (said.count(kind) for kind in kinds)
    return one, two, three, sum(sample["value"] for sample in samples)


def test_what_an_app_counts_arrives_once_through_kills_of_bridge_and_app(settings: Settings, tmp_path: Path) -> None:
    """The bridge is killed, and the app counts on; then the app begins at zero. Another target is away all the time."""
    fast = prepared(settings)
    app = App()
    app.shown.labels(STEP, "iOS").inc(1_000)  # before anybody asked
    started: list[subprocess.Popen[bytes]] = []

    def start() -> Path:
        out = tmp_path / f"bridge-{len(started)}"
        started.append(command.start(fast, "bridge", str(file), "--state", str(tmp_path / "state"), out=out))
        return out.with_name(f"{out.name}.err")

    try:
        with serving(app, free_port()) as port:
            file = file_for(port, tmp_path)
            log = start()
            state = tmp_path / "state" / "web.json"
            wait_until(lambda: state.exists() and json.loads(state.read_text())["scraped_ms"], "it was asked once")
            app.shown.labels(STEP, "iOS").inc(30)
            app.verified.labels(STEP, "iOS", "ok").inc(20)
            app.verified.labels(STEP, "iOS", "no").inc(5)
            app.sms.labels("iOS").inc(40)
            wait_until(lambda: counted(fast) == (30, 20, 5, 40), "it is taken over")
            for said in ("gone: ", "queue is a gauge: only counters can be taken over"):
                wait_until(lambda said=said: said in log.read_text(), f"it says {said!r}")  # type: ignore[misc]
            started[0].kill()
            started[0].wait(60)
            app.shown.labels(STEP, "iOS").inc(7)
            app.shown.labels(STEP, "Android").inc(2)
            start()
            wait_until(lambda: counted(fast) == (39, 20, 5, 40), "so is what was counted meanwhile")
        anew = App()
        anew.shown.labels(STEP, "iOS").inc(3)
        with serving(anew, port):
            wait_until(lambda: counted(fast) == (42, 20, 5, 40), "an app that begins at zero again is taken over")
        started[1].terminate()
        assert started[1].wait(60) == 0
    finally:
        for one in started:
            if one.poll() is None:
                one.kill()
                one.wait(60)
