"""Write the dashboards as JSON: ``python -m deploy.grafana``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.alerts import alerts
from deploy.grafana.funnel import funnel
from deploy.grafana.pipeline import pipeline
from deploy.grafana.step import step

PLACE = Path(__file__).parent / "dashboards"


def documents() -> dict[str, str]:
    """Name of the file to the JSON of its dashboard."""
    made = {"funnel": funnel, "step": step, "alerts": alerts, "pipeline": pipeline}
    return {
        f"{name}.json": json.dumps(make().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, make in made.items()
    }


def main() -> None:
    """Write them all."""
    for name, text in documents().items():
        (PLACE / name).write_text(text)
        sys.stdout.write(f"{PLACE / name}\n")


if __name__ == "__main__":
    main()
