"""What the detector keeps, on a real database: all of it or nothing, and an outbox in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from funnelwatch.sinks.timescale.alerts import AlertStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.sinks.timescale.database import Database


def alert(alert_id: str, sequence: int, window: int, **more: Any) -> dict[str, Any]:
    """What the store looks at of an alert."""
    return {"alert_id": alert_id, "sequence": sequence, "window_start": window, "funnel": "f"} | more


@pytest.fixture
def alerts(connect: Callable[[], Database]) -> AlertStore:
    """An empty store."""
    return AlertStore(connect())


def test_states_alerts_and_progress_are_saved_together_and_found_again(alerts: AlertStore) -> None:
    """A state is replaced by its next; the progress never goes back."""
    assert alerts.last_window("f") is None
    alerts.save("f", 120_000, {"a": '{"n": 1}', "b": '{"n": 1}'}, [])
    alerts.save("f", 60_000, {"a": '{"n": 2}'}, [])
    assert alerts.last_window("f") == 120_000
    assert sorted(alerts.states("f")) == ['{"n": 1}', '{"n": 2}']
    assert alerts.states("g") == []


def test_a_save_that_fails_leaves_nothing_behind(alerts: AlertStore) -> None:
    """A state that is no JSON is rejected, and the alert and the progress of the same save with it."""
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        alerts.save("f", 60_000, {"a": "no JSON"}, [alert("x", 0, 60_000)])
    assert alerts.last_window("f") is None
    assert alerts.outbox("f") == []


def test_the_outbox_holds_each_message_once_in_order_until_it_is_published(alerts: AlertStore) -> None:
    """The same id and sequence again changes nothing, before and after it is published."""
    first, second = alert("x", 0, 60_000), alert("x", 1, 120_000)
    alerts.save("f", 120_000, {}, [first, second])
    alerts.save("f", 120_000, {}, [first | {"changed": True}])
    assert [(one["alert_id"], one["sequence"]) for one in alerts.outbox("f")] == [("x", 0), ("x", 1)]
    alerts.published([first])
    assert [one["sequence"] for one in alerts.outbox("f")] == [1]
    alerts.save("f", 120_000, {}, [first])
    assert [one["sequence"] for one in alerts.outbox("f")] == [1]
    assert alerts.outbox("g") == []


def test_messages_of_one_window_keep_the_order_in_which_they_were_said(alerts: AlertStore) -> None:
    """An alert resolved in a window comes before one that begins in a revision of it, whatever their ids."""
    alerts.save("f", 60_000, {}, [alert("z", 0, 60_000)])
    alerts.save("f", 120_000, {}, [alert("z", 1, 120_000)])
    alerts.save("f", 120_000, {}, [alert("a", 0, 120_000)])
    assert [one["alert_id"] for one in alerts.outbox("f")] == ["z", "z", "a"]
    assert [one["alert_id"] for one in alerts.recent(2)] == ["a", "z"]
