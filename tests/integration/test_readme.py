"""What the README shows is what happens: its code and its commands are run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.redaction import revealed
from tests.stack import wait_until
from tests.traffic import totals
from tests.worker import environment, worker

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def block(language: str) -> str:
    """The one block of that language."""
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def commands() -> list[str]:
    """The commands of the README that look at something and end by themselves."""
    found = re.findall(
        r"^(funnelwatch (?:rate|doctor|dead-letters list|rules list|silence add).*?)(?:\s+#.*)?$", README, re.MULTILINE
    )
    assert len(found) >= 6
    return found


def test_a_reader_of_the_readme_produces_counts_queries_and_looks(settings: Settings, tmp_path: Path) -> None:
    """The Python block is counted by a worker, the SQL block and each command answer, and the rate is right."""
    env = environment(settings)
    env["PATH"] = f"{BIN}:{env['PATH']}"
    with worker(settings) as running:
        running.wait_assigned()
        subprocess.run([sys.executable, "-c", block("python")], env=env, cwd=tmp_path, check=True, timeout=120)
        wait_until(lambda: totals(settings)["counted"] == 2, "the impression and the verification are counted")
        for command in commands():
            done = subprocess.run(
                command, shell=True, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            if "--json" in command:
                text = done.stdout
    answer = json.loads(text)
    assert (answer["rows"][0]["impressions"], answer["rows"][0]["successes"]) == (1, 1), answer
    with psycopg.connect(revealed(settings.timescale_url)) as connection:
        assert [row[1:] for row in connection.execute(block("sql")).fetchall()] == [("iOS", 1.0)]
