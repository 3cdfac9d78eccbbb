"""``funnelwatch produce`` and ``simulate`` from the command line, on a real Kafka."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.producers.simulate.profile import SIGN_UP_PROFILE, Dimension, Incident
from funnelwatch.producers.simulate.simulator import Simulator
from funnelwatch.program import PROGRAM
from tests.ecom import ecom_counts, ecom_path
from tests.integration.topic import read_events
from tests.stack import wait_until
from tests.traffic import everything
from tests.worker import environment

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

T0 = 1_767_571_200_000


def run(settings: Settings, *arguments: str, given: bytes = b"", code: int = 0) -> tuple[str, str]:
    """Stdout and stderr of a command, which must end with the exit code."""
    done = subprocess.run(
        command(*arguments), input=given, capture_output=True, env=environment(settings), timeout=120, check=False
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, err
    return out, err


def command(*arguments: str) -> list[str]:
    """The installed entry point's own function, in this interpreter."""
    return [*PROGRAM, *arguments]


def simulated() -> list[dict[str, Any]]:
    """Some events."""
    return list(Simulator(rate=60).events(T0, T0 + 120_000))


def as_jsonl(events: list[dict[str, Any]]) -> bytes:
    """One event a line."""
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def by_id(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In an order that partitions do not change."""
    return sorted(events, key=lambda event: event["event_id"])


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "csv.gz", "stdin", "stdin gzip"])
def test_events_of_a_file_of_each_kind_arrive(settings: Settings, tmp_path: Path, kind: str) -> None:
    """Whole events, without a mapping."""
    events = simulated()
    path = tmp_path / f"events.{kind}"
    data = as_jsonl(events)
    if "csv" in kind:
        plain = tmp_path / "plain"
        with plain.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*events[0].keys() - {"contexts"}, "contexts.country"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(event | {"contexts.country": "DE"} for event in events)
        data = plain.read_bytes()
        events = [event | {"contexts": {"country": "DE"}} for event in events]
    data = gzip.compress(data) if "gz" in kind else data
    path.write_bytes(data)
    out, _ = run(settings, "produce", "-" if "stdin" in kind else str(path), "--json", given=data)
    assert json.loads(out) | {"seconds": 0, "read_bytes": 0} == {
        "lines": len(events),
        "events": len(events),
        "nothing": 0,
        "rejected": {},
        "examples": {},
        "read_bytes": 0,
        "produced": len(events),
        "failed": 0,
        "seconds": 0,
        "interrupted": False,
        "error": None,
    }
    assert by_id(read_events(settings, len(events))) == by_id(events)


def test_the_clickstream_arrives_as_an_independent_group_by_counts_it(settings: Settings) -> None:
    """The shipped mapping by its name, through Kafka."""
    out, _ = run(settings, "produce", str(ecom_path()), "--map", "ecom", "--json")
    summary = json.loads(out)
    assert (summary["lines"], summary["rejected"]) == (31_106, {})
    expected: Counter[str] = Counter()
    for counts in ecom_counts(ecom_path(), 86_400_000).values():
        expected += Counter({name: n for name, n in counts.items() if "cohort" not in name})
    names = {None: "impressions", "SUCCESS": "successes", "FAILURE": "failures"}
    arrived = Counter(names[event["status"]] for event in read_events(settings, summary["events"]))
    assert arrived == expected


def test_rejected_lines_are_counted_and_shown_and_stop_nothing(settings: Settings) -> None:
    """Each kind of bad line by its number; the good ones around them arrive."""
    good = simulated()[:2]
    lines = [
        as_jsonl(good[:1]),
        b"{no json\n",
        b"[1]\n",
        b"\n",
        as_jsonl([good[0] | {"step": ""}]),
        as_jsonl([good[0] | {"ts": "yesterday"}]),
        as_jsonl([good[0] | {"colour": "red"}]),
        as_jsonl([good[0] | {"step": "\ud800"}]),
        b"\xff\xfe\n",
        b'{"a": "' + b"x" * 5_000_000 + b'"}\n',
        as_jsonl(good[1:]),
    ]
    out, err = run(settings, "produce", "-", given=b"".join(lines))
    assert "10 lines, 2 events, 8 lines rejected; 2 events produced" in out
    for message in (
        "rejected 3 NO_JSON",
        "-:2: ",
        "-:3: is not a JSON object",
        "-:5: step: is missing or empty",
        "-:6: ts: 'yesterday' is neither",
        "-:7: colour: is not a field of an event; use --map",
        "-:8: step: '\\ud800' has a lone surrogate",
        "-:10: longer than 4000000 bytes",
    ):
        assert message in err
    assert by_id(read_events(settings, 2)) == by_id(good)


def test_rejected_lines_fail_the_command_where_that_is_wanted(settings: Settings) -> None:
    """For use in scripts."""
    run(settings, "produce", "-", "--fail-on-rejected", "--dry-run", given=b"{}\n", code=1)
    run(settings, "produce", "-", "--dry-run", given=b"{}\n", code=0)


def test_a_dry_run_prints_the_same_events_with_the_same_ids_every_time(settings: Settings) -> None:
    """And needs no Kafka."""
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    line = b"sign_up_session_id,step,phase,ts\ns-1,A,IMPRESSION,2026-01-05T00:00:00Z\n"
    first, again = (run(away, "produce", "-", "--dry-run", "--funnel", "shop", given=line)[0] for _ in range(2))
    assert first == again
    assert json.loads(first)["funnel"] == "shop"
    assert json.loads(first)["ts"] == T0


def test_a_gzip_file_that_ends_in_the_middle_is_an_error_after_its_good_part(
    settings: Settings, tmp_path: Path
) -> None:
    """The message names the file, and what could be read has arrived."""
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(as_jsonl(simulated()))[:-2000])
    out, err = run(settings, "produce", str(path), "--json", code=1)
    assert f"Error: {path}: Compressed file ended" in err
    assert len(read_events(settings, json.loads(out)["events"])) == json.loads(out)["events"] > 0


def test_what_cannot_be_used_is_one_clear_line(settings: Settings, tmp_path: Path) -> None:
    """A missing file, a bad mapping, a Kafka that is away: nothing is produced."""
    _, err = run(settings, "produce", "nowhere.csv", code=1)
    assert err == "Error: nowhere.csv: there is no such file; nothing was produced\n"
    bad = tmp_path / "bad.yml"
    bad.write_text("funnel: shop\n")
    _, err = run(settings, "produce", "-", "--map", str(bad), code=1)
    assert f"{bad}:1: session_id: is missing" in err
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    _, err = run(away, "simulate", "--from", "-1m", code=1)
    assert "Error: Kafka at 127.0.0.1:9 does not answer" in err


def test_simulated_history_arrives(settings: Settings) -> None:
    """What the command produces is what the simulator makes, and missing topics are made."""
    span = ("--from", "2026-01-05", "--to", "2026-01-05T00:02:00")
    out, err = run(settings, "simulate", *span, "--rate", "60", "--json")
    assert "made the topics" in err
    assert json.loads(out)["produced"] == len(simulated())
    assert by_id(read_events(settings, len(simulated()))) == by_id(simulated())


def test_simulated_dimensions_arrive_in_the_contexts_and_an_incident_can_be_of_one_value(settings: Settings) -> None:
    """What the options say is what the simulator makes of them, through Avro and Kafka."""
    span = ("--from", "2026-01-05", "--to", "2026-01-05T00:02:00", "--rate", "60", "--json")
    more = ("--dimension", "country=DE:0.5,AT,CH", "--dimension", "plan=free,paid")
    incident = "step=INPUT_PHONE_NUMBER,country=DE,loss=1,start=2026-01-05"
    run(settings, "simulate", *span, *more, "--incident", incident)
    dimensions = (Dimension("country", (("DE", 0.5), ("AT", 0.25), ("CH", 0.25))), Dimension.parse("plan=free,paid"))
    trouble = Incident(T0, T0 + 600_000, "INPUT_PHONE_NUMBER", 1.0, {"country": "DE"})
    profile = replace(SIGN_UP_PROFILE, dimensions=dimensions)
    made = list(Simulator(profile, rate=60, incidents=[trouble]).events(T0, T0 + 120_000))
    found = read_events(settings, len(made))
    assert by_id(found) == by_id(made)
    assert {event["contexts"]["plan"] for event in found} == {"free", "paid"}
    passed = [one for one in found if (one["step"], one["status"]) == ("INPUT_PHONE_NUMBER", "SUCCESS")]
    assert {one["contexts"]["country"] for one in passed} == {"AT", "CH"}


def test_live_traffic_flows_until_ctrl_c_and_what_was_taken_is_delivered(settings: Settings) -> None:
    """Its end is no failure."""
    ensure_topics(settings)
    live = subprocess.Popen(
        command("simulate", "--live", "--rate", "6000", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(settings),
    )
    wait_until(lambda: len(everything(settings, settings.events_topic)) >= 50, "events flow")
    live.send_signal(signal.SIGINT)
    out, err = live.communicate(timeout=120)
    assert live.returncode == 0, err
    summary = json.loads(out)
    assert (summary["interrupted"], summary["failed"]) == (True, 0)
    assert len(read_events(settings, summary["produced"])) == summary["produced"]


def test_a_wrong_incident_is_a_usage_error(settings: Settings) -> None:
    """The message says what would be right."""
    for incident, message in (
        ("os=iOS", "step= is missing"),
        ("step=VERIFY_SMS_CODE,Colour=red", "'Colour=red' is not one of step=, loss=, start=, for= or a dimension"),
        ("step=VERIFY_SMS_CODE,colour=red", "colour: is not a dimension; right would be one of os, browser"),
        ("step=VERIFY_SMS_CODE,loss=much", "loss=much is not a number between 0 and 1"),
        ("step=SMS", "'SMS' is not one of INPUT_PHONE_NUMBER"),
        ("step=VERIFY_SMS_CODE,for=ever", "'ever' is not a span of time; right would be 90s"),
    ):
        _, err = run(settings, "simulate", "--incident", incident, code=2)
        assert message in err
