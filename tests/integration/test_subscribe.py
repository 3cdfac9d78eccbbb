"""The recipes of docs/subscribe.md are run as they stand there: Python, kcat where it is, Java where it is."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from funnelwatch.alert_rules.watchdog import heartbeat
from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.java import find_java
from funnelwatch.deploy.embedded.kafka_jars import cache, damage
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.settings import load_settings
from tests.alerts import alert, publish
from tests.programs import found, needs
from tests.stack import kcat_config, not_on_tansu, wait_until
from tests.traffic import now_ms, prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "subscribe.md").read_text()
AVRO = "org.apache.avro:avro:1.12.0"


def block(language: str) -> str:
    """The one block of that language."""
    [text] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def recipe(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> dict[str, Any]:
    """The names that the Python block defines."""
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    load_settings.cache_clear()
    exec(block("python"), names)
    load_settings.cache_clear()
    return names


def java_config(folder: Path, settings: Settings) -> str:
    """The same for a client in Java."""
    file, own = folder / "client.properties", settings.revealed_kafka_config
    lines = {"bootstrap.servers": settings.kafka_bootstrap_servers}
    if own:
        login = f'username="{own["sasl.username"]}" password="{own["sasl.password"]}"'
        jaas = f"org.apache.kafka.common.security.scram.ScramLoginModule required {login};"
        lines |= {name: own[name] for name in ("security.protocol", "sasl.mechanism")} | {"sasl.jaas.config": jaas}
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return str(file)


def some(settings: Settings) -> None:
    """Alerts on the topic: one twice, one silenced, one that resolves, and a heartbeat."""
    one = alert(alert_id="a")
    publish(
        settings,
        heartbeat(now_ms(), 60_000, "v"),
        one,
        one,
        alert(alert_id="a", sequence=1, silenced_by="3"),
        alert("resolved", alert_id="a", sequence=2),
    )


@not_on_tansu("takes a minute until a group is joined again")
def test_the_python_recipe_gives_each_message_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that comes back goes on behind what it was done with; a new group has everything again."""
    some(settings)
    names = recipe(monkeypatch, settings)
    subscribed = names["alerts"](settings.alerts_topic, "g1")
    assert [(one["alert_id"], one["sequence"]) for one in itertools.islice(subscribed, 2)] == [("a", 0), ("a", 2)]
    subscribed.close()
    again = names["alerts"](settings.alerts_topic, "g1")
    assert next(again)["sequence"] == 2  # it was taken, and not yet done with
    publish(settings, alert(alert_id="b"))
    assert next(again)["alert_id"] == "b"
    again.close()
    replayed = names["alerts"](settings.alerts_topic, "g2")
    assert next(replayed)["sequence"] == 0
    replayed.close()


def test_the_python_recipe_puts_windows_together(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts in any order make a window; a part that comes twice changes nothing; a revision comes as one."""
    prepared(settings)
    series = {"step": "A", "os": "iOS", "browser": "", "app_version": "", "impressions": 3, "successes": 2,
              "failures": 1, "cohort_successes": 2, "cohort_failures": 1}  # fmt: skip

    def part(number: int, parts: int, revision: int, step: str) -> dict[str, Any]:
        one = {"funnel": "f", "window_start": 60_000, "window_end": 120_000, "revision": revision}
        return {**one, "part": number, "parts": parts, "series": [{**series, "step": step}]}

    encode, producer = Encoder("ClosedWindow"), Producer(settings.kafka())
    for one in (part(1, 2, 0, "B"), part(1, 2, 0, "B"), part(0, 2, 0, "A"), part(0, 1, 1, "C"), part(0, 2, 0, "A")):
        producer.produce(settings.windows_topic, encode(one), "f")
    assert producer.flush(60) == 0
    subscribed = recipe(monkeypatch, settings)["windows"](settings.windows_topic, "g")
    told = [(funnel, start, revision, [one["step"] for one in counts])
            for funnel, start, revision, counts in itertools.islice(subscribed, 2)]  # fmt: skip
    subscribed.close()
    assert told == [("f", 60_000, 0, ["A", "B"]), ("f", 60_000, 1, ["C"])]


@needs("kcat")
@not_on_tansu("is not understood by kcat 1.7")
def test_the_kcat_recipe_shows_every_alert(settings: Settings, stack: Servers) -> None:
    """Key, time and place of each message."""
    some(settings)
    assert found("kcat")
    text = block("sh").replace("funnel.alerts", settings.alerts_topic)
    done = subprocess.run(
        text, shell=True, capture_output=True,
        env={**os.environ, "KAFKA": settings.kafka_bootstrap_servers, "KCAT_CONFIG": kcat_config(stack)},
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [key for key, _, _ in lines].count("a") == 4
    assert all(re.fullmatch(r"\d{13}\t\d+/\d+", "\t".join(rest)) for _, *rest in lines)


def java_and_jars(folder: Path) -> tuple[Path, Sequence[Path]]:
    """Java, and folders with the jars that the recipe needs; skips where one cannot be had."""
    try:
        java = find_java(os.environ)
    except StackError as error:
        pytest.skip(f"NOT TESTED: the Java recipe: {error}")
    kafka, maven = cache(os.environ, folder), shutil.which("mvn")
    if damage(kafka) or maven is None:
        pytest.skip("NOT TESTED: the Java recipe: no Maven, or no jars of Apache Kafka from the embedded stack")
    avro = kafka.with_name(AVRO.replace(":", "-"))
    if not list(avro.glob("avro-*.jar")):
        command = [maven, "-q", "-B", "dependency:copy", f"-Dartifact={AVRO}", f"-DoutputDirectory={avro}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=300)
        if done.returncode:
            pytest.skip(f"NOT TESTED: the Java recipe: Maven does not get {AVRO}")
    return java, (kafka, avro)


def test_the_java_recipe_gives_each_message_once(settings: Settings, tmp_path: Path) -> None:
    """As a single file, with the jars of the embedded stack and Avro's."""
    java, folders = java_and_jars(tmp_path)
    some(settings)
    (tmp_path / "Subscribe.java").write_text(block("java"))
    paths = os.pathsep.join(f"{folder}/*" for folder in folders)
    schema = str(ROOT / "schemas" / "alert.avsc")
    arguments = ["-XX:TieredStopAtLevel=1", "-cp", paths, "Subscribe.java", java_config(tmp_path, settings)]
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            [str(java), *arguments, settings.alerts_topic, schema], cwd=tmp_path, stdout=out, stderr=err
        )
    try:
        said = tmp_path / "out"
        wait_until(lambda: process.poll() is not None or "a 2 " in said.read_text(), "it has told the last", 200)
        assert process.poll() is None, (tmp_path / "err").read_text()
    finally:
        process.kill()
        process.wait(60)
    lines = said.read_text().splitlines()
    rules = [f"a {n} {state} ConversionDrop 0.41" for n, state in ((0, "firing"), (1, "firing"), (2, "resolved"))]
    assert [line for line in lines if line.startswith("a ")] == rules
