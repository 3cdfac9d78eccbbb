"""The benchmark of the backtest measures one that works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.backtest import SYSTEMS, measure

if TYPE_CHECKING:
    from pathlib import Path


def test_the_benchmark_backtests_what_it_wrote(tmp_path: Path) -> None:
    """In its short form: all rows are there, most incidents are found, and hardly anything else."""
    cost = measure(tmp_path, 23, incidents=6)

    with (tmp_path / "counts.csv").open() as file:
        assert sum(1 for _ in file) == 1 + 23 * 1440 * 4 * len(SYSTEMS)
    assert cost.incidents == 6
    assert cost.detected >= 5
    assert cost.false_alarms <= 2
    assert cost.cpu_s > 0
    assert cost.memory_mb > 50
