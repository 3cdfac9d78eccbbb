"""``deploy/compose.yml`` and the image's files, as linters and pip see them; no engine runs here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.worker import ROOT

DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def lint(program: str, *arguments: str | Path) -> None:
    """A linter has nothing to say."""
    done = subprocess.run([BIN / program, *arguments], capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_is_of_the_compose_specification() -> None:
    """As the specification's own JSON schema has it."""
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yml")


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    """Down to matters of style."""
    lint("hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile")


def test_the_wheel_has_every_file_that_is_read_at_run_time(tmp_path: Path) -> None:
    """SQL, schemas, rules, pages: what is no Python and belongs to a package is in what the image installs."""
    source = tmp_path / "source"
    for name in re.findall(r"^!(\w[\w.]*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    build = ["pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    subprocess.run([sys.executable, "-m", *build, "--wheel-dir", tmp_path, source], check=True, timeout=400)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        inside = set(opened.namelist())
    assert {name.split("/")[0] for name in inside if ".dist-info/" not in name} == {"funnelwatch"}
    read = {".sql", ".avsc", ".lua", ".css", ".js", ".html", ".svg"}
    package = ROOT / "funnelwatch"
    roots = [package, *(path.resolve() for path in package.iterdir() if path.is_symlink())]
    files = [path for root in roots for path in root.rglob("*") if path.suffix in read]
    needed = {("" if package in path.parents else "funnelwatch/") + path.relative_to(ROOT).as_posix() for path in files}
    needed |= {f"funnelwatch/alert_rules/{path.name}" for path in (ROOT / "alert_rules").glob("*.yml")}
    assert needed
    assert needed - inside == set()
