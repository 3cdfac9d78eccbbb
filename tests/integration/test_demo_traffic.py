"""The demo's traffic with further dimensions, on a real Kafka."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from funnelwatch.demo.plan import Plan
from funnelwatch.demo.traffic import Traffic
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.producers.simulate.profile import SIGN_UP_PROFILE, Dimension
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.funnels import SIGN_UP, load_funnels
from tests.integration.topic import read_events
from tests.stack import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

DIMENSIONS = (Dimension.parse("country=DE:0.5,AT:0.3,CH:0.2"), Dimension.parse("plan=free,paid"))
PLAN = Plan(
    history_days=0.01,
    history_rate=60.0,
    live_rate=1_200.0,
    incident_s=1.0,
    garbage=0,
    profile=replace(SIGN_UP_PROFILE, dimensions=DIMENSIONS),
)


def test_history_and_live_traffic_have_the_further_dimensions(settings: Settings) -> None:
    """Before the incident, in it and after it; each value in its share of the sessions."""
    ensure_topics(settings)
    traffic = Traffic(settings, PLAN)
    traffic.start()
    incident = traffic.begin_incident(wall_clock_ms() + 3_000)
    wait_until(lambda: wall_clock_ms() > incident.end_ms + 1_000 and traffic.live > 100, "the incident is over", 120)
    traffic.stop()
    events = read_events(settings, traffic.produced)
    assert max(event["ts"] for event in events) > incident.end_ms
    assert {frozenset(event["contexts"]) for event in events} == {frozenset({"country", "plan"})}
    sessions = {event["sign_up_session_id"]: event["contexts"]["country"] for event in events}
    shares = {country: count / len(sessions) for country, count in Counter(sessions.values()).items()}
    assert shares.keys() == {"DE", "AT", "CH"}
    assert abs(shares["DE"] - 0.5) < 0.1


def test_the_demo_declares_its_dimensions(tmp_path: Path) -> None:
    """The funnel is the built-in one, with the further dimensions."""
    path = tmp_path / "funnels.yml"
    path.write_text(PLAN.funnels)
    funnels = load_funnels(path)
    assert [*funnels] == ["sign_up"]
    assert funnels["sign_up"].steps == SIGN_UP
    assert funnels["sign_up"].dimensions == ("os", "browser", "app_version", "country", "plan")
