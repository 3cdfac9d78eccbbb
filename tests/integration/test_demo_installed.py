"""Imports in a fresh process: packages of the runtime only, progress before they load, and no settings read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

DISTRIBUTIONS = """
import importlib, json, sys
from importlib.metadata import packages_distributions
for module in sys.argv[1:]:
    importlib.import_module(module)
owners = packages_distributions()
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps(sorted({owner for name in loaded for owner in owners.get(name, [])})))
"""
HEAVY = "confluent_kafka psycopg numpy redis rich fastavro pydantic"

IMPORTED = """
import os, sys
os.environ |= {"FUNNELWATCH_WINDOW_S": "no number", "FUNNELWATCH_RULES_PATH": "/no/such/rules.yml"}
import funnelwatch.web.app, funnelwatch.producers.collector.app
"""


def python(script: str, *args: str) -> str:
    """Run a script in a fresh interpreter, which loads no coverage; its stdout."""
    command = [sys.executable, "-c", script, *args]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def test_the_demo_imports_no_package_of_the_test_group() -> None:
    """The demo, its worker and its board load the packages of the extras, and none that only tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = [one for one in project["dependency-groups"]["test"] if isinstance(one, str)]
    tests_only = {canonicalize_name(Requirement(one).name) for one in texts}
    assert "pytest" in tests_only
    modules = ("funnelwatch.demo.session", "funnelwatch.stream.app", "funnelwatch.web.app", "funnelwatch.cli.board")
    loaded = {canonicalize_name(one) for one in json.loads(python(DISTRIBUTIONS, *modules))}
    assert {"confluent-kafka", "fastapi", "faust-streaming"} <= loaded
    # Faust looks whether Django is there.
    assert loaded & tests_only <= {"django"}


def test_the_first_line_of_the_demo_does_not_wait_for_its_packages() -> None:
    """The command imports none of the large packages, so that its first line appears at once."""
    script = "import sys, funnelwatch.cli.demo; print([one for one in sys.argv[1].split() if one in sys.modules])"
    assert python(script, HEAVY).strip() == "[]"


def test_importing_the_apps_reads_no_settings() -> None:
    """A wrong setting and missing rules do not matter before an application is created."""
    python(IMPORTED)
