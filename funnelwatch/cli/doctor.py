"""``funnelwatch doctor``: checks everything that the pipeline needs, and prints what to do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from funnelwatch.alert_rules.loader import RuleFileError, load_rules
from funnelwatch.cli.doctor_database import check_progress, check_retention, check_rights
from funnelwatch.cli.doctor_jobs import check_jobs
from funnelwatch.cli.doctor_lag import check_lag
from funnelwatch.cli.doctor_pipeline import check_pipeline
from funnelwatch.cli.doctor_services import Finding, check_database, check_kafka, check_redis, check_registry
from funnelwatch.deploy.embedded import process
from funnelwatch.deploy.embedded.errors import StackError, UnusableError
from funnelwatch.deploy.embedded.java import find_java
from funnelwatch.deploy.embedded.kafka_jars import cache, damage
from funnelwatch.deploy.embedded.private import FOLDER
from funnelwatch.deploy.embedded.state import StackState
from funnelwatch.schemas.settings import STACK_FILE, Settings, explain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LITTLE_DISK_BYTES = 1_000_000_000
PYTHON = (3, 11)
BAD = ("FAILED", "unknown")
"""Levels with which the exit code is 1: what nobody knows is not ok."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of findings.")
def doctor(as_json: bool) -> None:
    r"""Check settings, services, workers, data folder and programs, and print what to do.

    The exit code is 1 if a check fails or its result is unknown, for example if no worker is alive, a consumer group
    falls behind, or windows are no longer closed or evaluated.

    \b
    Examples:
      funnelwatch doctor
      funnelwatch doctor --json
    """
    findings = []
    for finding in examine(os.environ):
        findings.append(finding)
        if not as_json:
            click.echo(_line(finding))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.level in BAD for finding in findings):
        sys.exit(1)


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Every finding, in the order in which things depend on each other."""
    yield check_python(sys.version_info[:2])
    try:
        settings = Settings()
    except ValidationError as error:
        for sentence in explain(error):
            yield Finding("settings", "FAILED", sentence, "Set it right; see docs/settings.md.")
        return
    yield Finding("settings", "ok", "every setting can be read")
    yield from check_folder(settings.data_dir)
    yield from check_stack(settings.data_dir)
    yield check_rules(settings.rules_path)
    kafka, database = [*check_kafka(settings)], [*check_database(settings)]
    servers = [*kafka, *check_registry(settings), *database]
    yield from servers
    if all(one.level != "FAILED" for one in kafka):
        yield from check_lag(settings)
    if all(one.level != "FAILED" for one in database):
        yield from check_pipeline(settings)
    if all(one.level != "FAILED" for one in servers):
        yield from check_rights(settings)
        yield from check_progress(settings)
        yield from check_retention(settings)
        yield from check_jobs(settings)
    yield from check_redis(settings)
    yield from check_programs(environ, settings.data_dir.absolute())


def check_python(version: tuple[int, ...]) -> Finding:
    """Python is recent enough."""
    if version < PYTHON:
        wanted = ".".join(map(str, PYTHON))
        return Finding("python", "FAILED", f"Python {platform.python_version()}", f"Install Python {wanted} or later.")
    return Finding("python", "ok", f"Python {platform.python_version()}")


def check_folder(data_dir: Path) -> Iterator[Finding]:
    """The data folder can be written, or made, and its disk has room."""
    existing = data_dir.absolute()
    while not os.path.exists(existing):  # noqa: PTH110 - unlike Path's, it takes a forbidden folder for a missing one
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        advice = "Give this user write permission, or name another folder with FUNNELWATCH_DATA_DIR."
        yield Finding("data folder", "FAILED", f"{data_dir} cannot be written ({existing})", advice)
        return
    disk = os.statvfs(existing)
    free = disk.f_bavail * disk.f_frsize
    if free < LITTLE_DISK_BYTES:
        advice = "Free some space, or name a folder on another disk with FUNNELWATCH_DATA_DIR."
        yield Finding("data folder", "warning", f"{data_dir}: only {free / 1e6:.0f} MB are free", advice)
    else:
        yield Finding("data folder", "ok", f"{data_dir} can be written, {free / 1e9:.0f} GB are free")


def check_stack(data_dir: Path) -> Iterator[Finding]:
    """The embedded servers ask for passwords, and nobody else can read these."""
    running = StackState.load(data_dir).services.values()
    for one in running:
        if one.is_open and not one.external and process.alive(one.pid, one.created):
            advice = (
                "Apache Kafka asks for one: install Java 17 and Maven, run `funnelwatch down` and `up --kafka apache`."
                if one.program.startswith("tansu")
                else "Run `funnelwatch up`: it starts it again, with a password."
            )
            message = f"{one.program} at {one.shown_url} asks for no password: every user of this machine can use it"
            yield Finding("embedded stack", "warning", message, advice)
    secret = [data_dir / STACK_FILE, *sorted((data_dir / FOLDER).glob("*"))]
    readable = [str(file) for file in secret if file.exists() and file.stat().st_mode & 0o077]
    if readable:
        message = f"other users can read passwords in {', '.join(readable)}"
        yield Finding("embedded stack", "warning", message, "Run chmod 600 on them, or `funnelwatch up` again.")


def check_rules(path: Path | None) -> Finding:
    """The alert rules can be used; a running worker whose rules were broken by an edit goes on with those before it."""
    try:
        rules = load_rules(path)
    except RuleFileError as error:
        return Finding(
            "alert rules", "FAILED", str(error), "Correct the file; running workers keep the previous rules."
        )
    number = len(rules.rules)
    where = path or "the shipped ones: FUNNELWATCH_RULES_PATH is not set"
    return Finding("alert rules", "ok", f"{number} rule{'' if number == 1 else 's'}, {where}")


def check_programs(environ: Mapping[str, str], data_dir: Path) -> Iterator[Finding]:
    """Checks Java, Maven and the jars; without them `up` takes Tansu, so nothing here is a failure."""
    try:
        java = find_java(environ)
    except UnusableError as error:
        yield Finding("java", "warning", f"{error}: `up` takes Tansu for Kafka", "Install Java 17 or later.")
        return
    yield Finding("java", "ok", str(java))
    folder = cache(environ, data_dir)
    try:
        wrong = damage(folder)
    except (OSError, StackError) as error:
        wrong = str(error)
    maven = shutil.which("mvn", path=environ.get("PATH", ""))
    if wrong is None:
        yield Finding("kafka jars", "ok", f"{folder} is complete")
    elif maven:
        yield Finding("kafka jars", "ok", f"not fetched yet; `up` does it with {maven}")
    else:
        message = f"{wrong}, and Maven (mvn) is not on PATH: `up` takes Tansu for Kafka"
        yield Finding("kafka jars", "warning", message, "Install Maven.")


def _line(finding: Finding) -> str:
    colour = {"ok": "green", "unused": "bright_black", "warning": "yellow", "unknown": "magenta", "FAILED": "red"}[
        finding.level
    ]
    advice = f" {finding.advice}" if finding.advice else ""
    end = "." if finding.advice and finding.message[-1] not in ".?!" else ""
    return f"{click.style(f'{finding.level:<8}', fg=colour)}{finding.name:<16}{finding.message}{end}{advice}"
