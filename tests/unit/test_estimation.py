"""Noise is estimated piece by piece, and every window is evaluated by the same estimate whoever evaluates it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import Series
from funnelwatch.stream.detector.counts import Counts
from funnelwatch.stream.detector.estimation import Estimation, estimate
from funnelwatch.stream.detector.panel import SPREAD, Panel

if TYPE_CHECKING:
    from funnelwatch.stream.detector.scan import Estimates

WINDOW = 600_000
DAY = 144
BEGIN = 1_700_438_400_000
COLUMNS = 40
DUE = 9 * DAY
"""The row from which an estimate is worked out."""
IN_USE = DUE + DAY // SPREAD
END = IN_USE + 6


@pytest.fixture(scope="module")
def history() -> Counts:
    """Nine days and some hours, of 40 overdispersed columns in two steps."""
    rng = np.random.default_rng(5)
    shown = rng.poisson(60, (END, COLUMNS))
    rho = 0.02
    made = rng.binomial(shown, rng.beta(0.8 * (1 / rho - 1), 0.2 * (1 / rho - 1), shown.shape))
    series = [Series.of("f", "AB"[i % 2], os=f"{i}") for i in range(COLUMNS)]
    counts = Counts([("os",)], ["impressions", "window"], WINDOW, 30 * DAY)
    counts.append(Block.dense(BEGIN, series, np.stack([shown, made, shown - made, made, shown - made], axis=2)))
    return counts


def same(one: Estimates, other: Estimates) -> bool:
    """To the last bit."""
    return all(
        np.array_equal(ours, theirs)
        for ours, theirs in ((one.rho, other.rho), (one.kernel, other.kernel), (one.sigma, other.sigma))
    )


def looked(counts: Counts, begin: int, steps: list[int]) -> Panel:
    """A panel that has looked at rows from ``begin`` on, up to each of these."""
    panel = Panel(counts, "window", 2 * WINDOW, "auto")
    for end in steps:
        panel.snapshot(begin, end)
        begin = end
    return panel


def test_an_estimate_in_pieces_is_the_estimate_at_once(history: Counts) -> None:
    """However the pieces fall."""
    whole = estimate(history, "window", DUE, 3)
    for shares in ([0.01, 0.5, 1.0], [0.3, 0.3, 1.0, 1.0], np.linspace(0, 1, 50).tolist()):
        pieces = Estimation(history, "window", history.first + DUE, 3)
        for share in shares:
            pieces.advance(share)
        assert same(pieces.estimates, whole)
    assert whole.rho.mean() == pytest.approx(0.02, abs=0.006)


def test_a_panel_that_begins_amid_the_work_agrees_with_one_that_did_all_of_it(history: Counts) -> None:
    """Before the estimate comes into use all use the one before; from then on the same new one."""
    before = estimate(history, "window", DUE - DAY, 3)
    after = estimate(history, "window", DUE, 3)
    for begin, step in ((DUE - 9, 1), (DUE - 9, IN_USE - DUE + 9), (DUE + 3, 1), (DUE + 3, 2)):
        ends = list(range(begin + step, IN_USE + 1, step))
        assert ends[-1] <= IN_USE
        assert same(looked(history, begin, ends).estimates, before)
        last = ends[-1]
        assert same(looked(history, begin, [*ends, *([IN_USE] if last < IN_USE else []), END]).estimates, after)
    assert same(looked(history, IN_USE, [END]).estimates, after)
    assert not same(before, after)


def test_a_panel_evaluates_no_further_at_once_than_one_estimate_is_in_use(history: Counts) -> None:
    """So a block ends where a single window would change over."""
    panel = Panel(history, "window", 2 * WINDOW, "auto")

    assert panel.steady_until(DUE - 9) == IN_USE
    assert panel.steady_until(IN_USE - 1) == IN_USE
    assert panel.steady_until(IN_USE) == END


def test_no_window_does_more_than_its_share_of_an_estimate(history: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight pieces over six windows: two at the most, none before their time."""
    done: list[float] = []
    advance = Estimation.advance
    monkeypatch.setattr(Estimation, "advance", lambda self, share: (done.append(share), advance(self, share)))
    looked(history, DUE - 9, list(range(DUE - 8, IN_USE + 2)))

    assert done == pytest.approx([1.0, *np.arange(1, 7) / 6, 1.0])
