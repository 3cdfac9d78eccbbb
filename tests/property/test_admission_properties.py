"""Admission of series: the same in any order where limits are not reached, and never taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.schemas.admission import Admitting, SeriesLimits
from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import Funnel, dimensions_of

FUNNELS = {
    "wide": Funnel(("A", "B")),
    "narrow": Funnel(("A", "B"), dimensions=("country", "os"), values={"country": 2}, max_series=3),
}
NAMES = st.sampled_from(["", "x", "y", "z", "w"])
SERIES = st.builds(
    lambda funnel, step, *values: Series.of(
        funnel, step, **dict(zip(dimensions_of(funnel, FUNNELS), values, strict=False))
    ),
    st.sampled_from(["wide", "narrow", "other"]),
    st.sampled_from("AB"),
    NAMES,
    NAMES,
    NAMES,
)


@given(st.lists(SERIES, max_size=40), st.randoms(use_true_random=False))
def test_the_order_does_not_matter_where_no_limit_is_reached(wanted: list[Series], chance: object) -> None:
    """Workers that see the same series in different orders count them alike."""
    roomy = {name: Funnel(one.steps, one.dimensions) for name, one in FUNNELS.items()}
    other = list(wanted)
    chance.shuffle(other)  # type: ignore[attr-defined]
    first, second = (Admitting(roomy, SeriesLimits(), {}) for _ in range(2))
    one = {series: first(series) for series in wanted}
    assert one == {series: second(series) for series in other}
    assert set(first.new) == set(second.new)


@given(st.lists(SERIES, max_size=60))
def test_what_was_admitted_once_is_admitted_the_same_ever_after(wanted: list[Series]) -> None:
    """However full the funnel becomes, an admitted series counts as itself."""
    admit = Admitting(FUNNELS, SeriesLimits(1, 2, 2, 6, 4), {})
    admitted = [found for found in map(admit, wanted) if isinstance(found, Series)]
    assert [admit(one) for one in admitted] == admitted
    assert len(set(admit.new)) == len(admit.new)
