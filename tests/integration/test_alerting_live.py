"""A real worker follows edited rules: what a person does to alerts while they fire."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from schemas.codec import Decoder
from tests.stack import wait_until
from tests.traffic import event, everything, prepared, produce
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from funnelwatch.settings import Settings

QUICK = {"session_timeout_s": 2.0, "allowed_disorder_s": 0.2, "idle_timeout_s": 0.5, "window_s": 1}


def rule(name: str, *, below: str = "0.9") -> str:
    """A rule file with one rule, which fires on traffic without successes."""
    return (
        f"groups: [{{name: g, rules: [{{alert: {name}, kind: threshold, below: {below}, over: 3s, by: [os], "
        "min_impressions: 1}]}]\n"
    )


@contextmanager
def failing_traffic(settings: Settings) -> Iterator[None]:
    """Impressions of two systems, none of which ends in a success, for as long as the block runs."""
    over = threading.Event()

    def go() -> None:
        while not over.wait(0.3):
            produce(settings, [event(os=system) for system in ("iOS", "Android") for _ in range(5)])

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def said(settings: Settings) -> list[dict[str, Any]]:
    """Every message about an alert that is on the topic."""
    decode = Decoder("Alert")
    found = [decode(message.value()) for message in everything(settings, settings.alerts_topic)]
    return sorted(found, key=lambda alert: (alert["alert_id"], alert["sequence"]))


def quick(settings: Settings, tmp_path: Path) -> tuple[Settings, Path]:
    """Settings with short windows and a folder of rules; the rule file."""
    folder = tmp_path / "rules"
    folder.mkdir()
    file = folder / "mine.yml"
    file.write_text(rule("Dropped"))
    return prepared(settings.model_copy(update={**QUICK, "rules_path": folder})), file


def test_edited_rules_are_taken_up_by_a_running_worker(settings: Settings, tmp_path: Path) -> None:
    """A broken edit is refused, told and counted; a removed rule's alerts are resolved; its successor's fire."""
    fast, file = quick(settings, tmp_path)

    def of_rule(name: str) -> list[tuple[str, str]]:
        return sorted((one["dimensions"]["os"], one["reason"]) for one in said(fast) if one["rule"] == name)

    with worker(fast) as one, failing_traffic(fast):
        begun = [("Android", "FIRST_DROP"), ("iOS", "FIRST_DROP")]
        wait_until(lambda: of_rule("Dropped") == begun or not one.running, f"both fire {one.text()}", 60)
        file.write_text(rule("Dropped", below="much"))
        wait_until(lambda: json.loads(one.get("/readyz")[1] or "{}").get("rules_fault"), "the fault is shown")
        status, page = one.get("/readyz")
        assert (status, "mine.yml:1: below: input should be a valid number" in page) == (200, True), page
        assert "funnelwatch_rules_refused_total 1.0" in one.get("/metrics")[1]
        assert "alert rules: refused, the ones before go on" in one.text()

        file.write_text(rule("Renamed"))
        wait_until(lambda: of_rule("Renamed") == begun or not one.running, "the new rule's alerts fire")
        assert of_rule("Dropped") == [*begun[:1], ("Android", "RULE_REMOVED"), begun[1], ("iOS", "RULE_REMOVED")]
        assert "funnelwatch_rules_taken_total 1.0" in one.get("/metrics")[1]

        file.write_text(rule("Renamed", below="0.91"))
        wait_until(lambda: "funnelwatch_rules_taken_total 2.0" in one.get("/metrics")[1], "the edit is taken up")
        assert of_rule("Renamed") == begun
        assert one.stop() == 0, one.text()
