"""What the fixtures of the integration tests promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from funnelwatch.deploy.embedded.probe import probe
from funnelwatch.schemas.redaction import revealed

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers


def test_the_servers_of_the_test_run_answer(stack: Servers) -> None:
    """All three addresses of the session fixture serve."""
    assert probe("kafka", stack.kafka_bootstrap_servers, stack.kafka_config, 30.0) is None
    assert probe("postgres", stack.timescale_url, {}, 30.0) is None
    assert probe("redis", stack.redis_url, {}, 30.0) is None


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_database(database_url: str, turn: int) -> None:
    """What one test leaves in its database is not seen by the next."""
    with psycopg.connect(database_url) as session:
        assert session.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        session.execute("CREATE TABLE left_over (a int)")


def test_settings_of_a_test_are_its_own(settings: Settings, database_url: str) -> None:
    """Topics and keys carry the test's own prefix, and the database is its own."""
    assert revealed(settings.timescale_url) == database_url
    assert settings.events_topic.startswith(settings.redis_prefix)
    assert settings.consumer_group == settings.redis_prefix
