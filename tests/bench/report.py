"""What stands beside figures, so that they can be assessed and measured again: machine, command, date, versions."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.stack import Servers


def machine() -> str:
    """What this ran on."""
    processor = platform.processor()
    if (told := Path("/proc/cpuinfo")).exists():
        models = [line.partition(":")[2].strip() for line in told.read_text().splitlines() if "model name" in line]
        processor = (models or [processor])[0]
    memory = psutil.virtual_memory().total / 2**30
    return f"{processor}, {psutil.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release()}"


def command(target: str, arguments: Sequence[str]) -> str:
    """The make command that has run this, without where the figures went."""
    given = list(arguments)
    while "--json" in given:
        place = given.index("--json")
        del given[place : place + 2]
    return f'make {target} ARGS="{shlex.join(given)}"' if given else f"make {target}"


def circumstances(target: str, running: Servers) -> dict[str, Any]:
    """What stands beside the figures of a bench."""
    return {
        "machine": machine(),
        "command": command(target, sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "kafka": running.kafka,
        "database": running.database,
        "versions": {"python": platform.python_version(), "funnelwatch": version("funnelwatch")}
        | {name: version(name) for name in ("confluent-kafka", "numpy")},
    }


def write(path: Path | None, report: dict[str, Any]) -> None:
    """Write it as JSON, if it is wanted."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n")
