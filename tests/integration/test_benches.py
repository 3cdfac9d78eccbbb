"""Benchmarks that `make bench-backtest` and `make bench-detector` run, in their short form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench import backtest, detector

if TYPE_CHECKING:
    from pathlib import Path


def test_the_benchmark_backtests_the_counts_it_wrote(tmp_path: Path) -> None:
    """All rows are there, most incidents are found, and hardly anything else."""
    cost = backtest.measure(tmp_path, 23, incidents=6)

    with (tmp_path / "counts.csv").open() as file:
        assert sum(1 for _ in file) == 1 + 23 * 1440 * 4 * len(backtest.SYSTEMS)
    assert cost.incidents == 6
    assert cost.detected >= 5
    assert cost.false_alarms <= 2
    assert cost.cpu_s > 0
    assert cost.memory_mb > 50


def test_the_benchmark_evaluates_the_windows_it_counts() -> None:
    """Counts are kept, the rate is the one drawn, an even funnel raises nothing."""
    cost = detector.measure(20, days=8, windows=3)

    assert (cost.columns, cost.windows, cost.transitions) == (20, 3, 0)
    assert cost.rate == pytest.approx(0.8, abs=0.01)
    # Eight days and the evaluated one of two channels at 4 bytes, for 20 columns and the spare ones.
    assert cost.counts_mb >= 20 * 2 * 4 * 9 * 1440 / 1e6
