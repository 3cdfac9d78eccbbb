"""A detector that was frozen while another worker went on with its funnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from funnelwatch.sinks.timescale.alerts import AlertStore, OvertakenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.sinks.timescale.database import Database


def test_a_detector_that_was_frozen_does_not_write_old_states_over_newer_ones(connect: Callable[[], Database]) -> None:
    """What a zombie evaluated before it froze is rejected whole: states, alerts and progress stay its successor's."""
    zombie, successor = AlertStore(connect()), AlertStore(connect())
    first = zombie.save("f", 60_000, {"s": '{"seen": 1}'}, [], zombie.saves("f"))
    before = successor.saves("f")
    assert before == first == 1
    successor.save("f", 180_000, {"s": '{"seen": 3}'}, [], before)

    with pytest.raises(OvertakenError, match="funnel f"):
        zombie.save("f", 120_000, {"s": '{"seen": 2}'}, [{"alert_id": "a", "sequence": 0, "funnel": "f"}], first)

    assert successor.states("f") == ['{"seen": 3}']
    assert successor.outbox("f") == []
    assert successor.last_window("f") == 180_000
    assert zombie.save("f", 180_000, {}, [], zombie.saves("f")) == 3


def test_two_detectors_that_begin_a_funnel_at_once_do_not_both_save(connect: Callable[[], Database]) -> None:
    """Where nothing was ever saved, the second of two first saves is rejected as well."""
    one, other = AlertStore(connect()), AlertStore(connect())
    assert one.saves("f") == other.saves("f") == 0
    one.save("f", 60_000, {}, [], 0)
    with pytest.raises(OvertakenError):
        other.save("f", 60_000, {"s": "{}"}, [], 0)
