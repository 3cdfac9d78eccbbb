"""The short form of the detection report: its generator is what it claims, and the detector behaves on it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from funnelwatch.stream.detector.scan import deviance_root
from tests.report.measure import delays, false_alarms, unexplained
from tests.report.people import KINDS, draw_people
from tests.report.rivals import RIVALS, alarms
from tests.report.runner import run
from tests.report.scenario import DAY_MS, MINUTE_MS, Incident, Scenario, beta_binomial, delayed, draw, spread_incidents

DOCS = Path(__file__).parents[2] / "docs" / "detection.md"
SHORT = Scenario(history_ms=8 * DAY_MS, evaluated_ms=DAY_MS)


@pytest.mark.parametrize("rho", [0.0, 0.005, 0.05])
def test_counts_have_the_mean_and_variance_of_a_beta_binomial(rho: float) -> None:
    """Mean n p and variance n p (1 - p) (1 + (n - 1) rho), within four standard errors."""
    rng = np.random.default_rng(3)
    shape, n, p = (100_000, 1), 150, 0.8
    counts = beta_binomial(np.full(shape, n), np.full(shape, p), np.array([rho]), np.ones(shape), rng)

    variance = n * p * (1 - p) * (1 + (n - 1) * rho)
    assert counts.mean() == pytest.approx(n * p, abs=4 * math.sqrt(variance / shape[0]))
    assert counts.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / shape[0]) * 1.5)


def test_a_lagging_success_comes_later_by_the_stated_mean_and_none_is_lost() -> None:
    """The mean lag in windows is that of the exponential, plus what an impression within its window adds."""
    scenario = Scenario(lag_s=90.0)
    cohort = np.zeros((200, 1), dtype=np.int64)
    cohort[10] = 100_000
    seen = delayed(cohort, scenario, np.random.default_rng(4))

    assert seen.sum() == pytest.approx(100_000, abs=50)
    late = (np.arange(200)[:, None] - 10) * seen / seen.sum()
    # Uniform within the window and then exponential: whole windows between have the mean of the lag in windows.
    assert late.sum() == pytest.approx(1.5, abs=0.02)


def test_a_drop_of_60_percent_is_told_at_once_and_hardly_anything_else() -> None:
    """Ten series at 200 a minute with eight days of history: each within two windows; one false alarm may be."""
    group = spread_incidents(SHORT, range(10), 0.6, 60 * MINUTE_MS, 0, np.random.default_rng(5))
    found = [(one.series, one.row) for one in run(SHORT, draw(SHORT, 10, 6, group), [4.5])[4.5]]

    assert delays(found, group).within(2) == 1.0
    assert len(unexplained(found, group, SHORT)) <= 1


def test_a_higher_score_raises_fewer_false_alarms() -> None:
    """The curve over scores falls, and the lowest score does raise some."""
    found = run(SHORT, draw(SHORT, 20, 7), [2.5, 3.0, 3.5, 5.0])
    curve = [false_alarms([(one.series, one.row) for one in one_score], SHORT, 20) for one_score in found.values()]

    assert curve == sorted(curve, reverse=True)
    assert curve[0] > 2 * curve[2] > 0


def test_strong_overdispersion_is_not_taken_for_drops() -> None:
    """At a rate of 0.95 and rho of 0.03 the plain deviance passes 3.7 far more often than a normal; ours does not."""
    rng = np.random.default_rng(8)
    shape, n, p, rho = (300_000, 1), 200, 0.95, 0.03
    seen = beta_binomial(np.full(shape, n), np.full(shape, p), np.array([rho]), np.ones(shape), rng).astype(float)
    over = 1 + (n - 1) * rho
    total, expected = np.full(shape, float(n)), np.full(shape, n * p)
    usual = 0.5 * math.erfc(3.7 / math.sqrt(2))
    plain = (deviance_root(seen, total, expected) / math.sqrt(over) > 3.7).mean()
    ours = (deviance_root(seen, total, expected, 1 - 1 / over) / math.sqrt(over) > 3.7).mean()

    assert plain > 4 * usual
    assert ours < 2 * usual


def test_reloads_and_bots_add_page_loads_and_leave_people_as_they_are() -> None:
    """The same people; more impressions in episodes only; a bot is a session by its id; no rate is above 100%."""
    clean, reloads, retries, bots, new_ids = (draw_people(kind, 3, 11, ()) for kind in KINDS)
    more = reloads.impressions - clean.impressions

    assert (clean.impressions == clean.sessions).all()
    assert (reloads.sessions == clean.sessions).all()
    assert 0 < (more > 0).mean() < 0.1
    assert (retries.sessions == clean.sessions).all()
    assert retries.failures.sum() > 0 == clean.failures.sum()
    loads, begun = ((bots.impressions - clean.impressions).sum(), (bots.sessions - clean.sessions).sum())
    assert loads > 20 * begun > 0
    assert (new_ids.sessions == new_ids.impressions).all()
    for one in (clean, reloads, retries, bots, new_ids):
        _, _, _, _, _, sessions, passed = one.columns(2)
        assert (passed <= sessions).all()


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_a_usual_rule_scores_an_incident_above_the_time_before(rival) -> None:  # noqa: ANN001
    """Each finds a complete failure at its usual threshold, within the first five windows."""
    incident = Incident(0, SHORT.history + 300, 60, 0.95)
    score = rival.score(SHORT, draw(SHORT, 2, 9, [incident]))
    found = [(series, row + SHORT.history) for series, row in alarms(score, rival.usual, quiet=0)]

    assert delays(found, [incident]).within(5) == 1.0
    assert np.nanmax(score[300:305, 0]) > np.nanmax(score[300:305, 1])


def test_the_document_has_a_place_for_every_table_and_each_is_filled() -> None:
    """`make detection-report` has written all of them."""
    text = DOCS.read_text(encoding="utf-8")
    for name in ("run", "targets", "scores", "rivals", "beyond", "people", "people-run", "stays"):
        found = re.search(rf"<!-- {name} -->\n(.+?)\n<!-- /{name} -->", text, flags=re.DOTALL)
        assert found, name
        assert found[1].strip(), name
