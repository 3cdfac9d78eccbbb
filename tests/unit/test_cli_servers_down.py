"""What the commands say where a server is down, or an argument is garbage."""

from __future__ import annotations

import pytest

from funnelwatch.cli import rebuild_progress
from funnelwatch.producers.kafka import topic_reader
from funnelwatch.schemas.settings import Settings
from tests.command import run

NOWHERE = Settings(
    timescale_url="postgresql://me:secret@127.0.0.1:1/db",
    kafka_bootstrap_servers="127.0.0.1:1",
    redis_url="redis://me:secret@127.0.0.1:1/0",
)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["alerts"], "the database at postgresql://me:***@127.0.0.1:1/db does not answer"),
        (["alerts", "--follow"], "Kafka at 127.0.0.1:1 does not answer"),
        (["dead-letters", "list"], "Kafka at 127.0.0.1:1 does not answer"),
        (["dead-letters", "show", "0:1"], "Kafka at 127.0.0.1:1 does not answer"),
        (["dead-letters", "replay", "--yes"], "the database at postgresql://me:***@127.0.0.1:1/db does not answer"),
        (["rebuild", "redis"], "the database at postgresql://me:***@127.0.0.1:1/db does not answer"),
        (["rebuild", "progress"], "the database at postgresql://me:***@127.0.0.1:1/db does not answer"),
    ],
)
def test_a_server_that_is_down_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], wrong: str
) -> None:
    """One message with the address, without its password, and the remedy; exit code 1, and no traceback."""
    monkeypatch.setattr(topic_reader, "METADATA_TIMEOUT_S", 0.5)
    monkeypatch.setattr(rebuild_progress, "METADATA_TIMEOUT_S", 0.5)
    result = run(NOWHERE, *arguments)
    assert result.exit_code == 1
    assert wrong in result.stderr
    assert "`funnelwatch up` starts one here" in result.stderr
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["alerts", "--last", "0"], "0 is not in the range"),
        (["alerts", "--state", "burning"], "'burning' is not one of 'firing', 'resolved'"),
        (["alerts", "--from-beginning"], "--from-beginning goes with --follow"),
        (["alerts", "--follow", "--last", "3"], "do not go with --follow"),
        (["alerts", "--follow", "--current"], "do not go with --follow"),
        (["dead-letters", "list", "--reason", "BORED"], "'BORED' is not one of"),
        (["dead-letters", "list", "--since", "soon"], "'soon' is neither a span"),
        (["dead-letters", "show", "12"], "'12' is no position in the topic; right would be 2:1507"),
        (["dead-letters", "show", "1:-2"], "'1:-2' is no position"),
        (["dead-letters", "replay", "--json"], "add --yes or --dry-run"),
        (["rebuild", "progress", "--to", "middle"], "'middle' is not one of"),
        (["rebuild", "progress", "--partition", "x"], "'x' is not a valid integer"),
        (["rebuild", "progress", "--json"], "add --yes"),
        (["rebuild", "everything"], "No such command 'everything'"),
        (["exporter", "--port", "65536"], "65536 is not in the range"),
        (["notify", "--web-port", "65536"], "65536 is not in the range"),
        (["worker", "--web-port", "65536"], "65536 is not in the range"),
        (["simulate", "--speed", "nan"], "--speed must be above 0"),
        (["simulate", "--rate", "1e308"], "rate must be above 0 and at most 10,000,000"),
    ],
)
def test_a_garbage_argument_is_a_usage_error(arguments: list[str], wrong: str) -> None:
    """Exit code 2, and the message names what was typed; no server is asked."""
    result = run(NOWHERE, *arguments)
    assert (result.exit_code, wrong in result.stderr) == (2, True), result.output
