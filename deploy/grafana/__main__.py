"""Write the dashboards of the repository, and pictures of their layout: ``python -m funnelwatch.deploy.grafana``.

``funnelwatch grafana dashboards`` writes those of a deployment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from funnelwatch.deploy.grafana.documents import documents
from funnelwatch.deploy.grafana.layout import svg

PLACE = Path(__file__).parent / "dashboards"
DOCS = Path(__file__).resolve().parents[2] / "docs"


def pictures() -> dict[str, str]:
    """Name of the file to the SVG of a dashboard's layout."""
    return {f"grafana-{Path(name).stem}.svg": svg(json.loads(text)) for name, text in documents().items()}


def main() -> None:
    """Write them all; the pictures where there are docs, which an installed package has not."""
    files = {PLACE / name: text for name, text in documents().items()}
    if DOCS.is_dir():
        files |= {DOCS / name: text for name, text in pictures().items()}
    for path, text in files.items():
        path.write_text(text)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
