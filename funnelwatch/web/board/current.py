"""The freshness of a page; a pure function. The page shows its message above all figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.schemas.freshness import Freshness, Why, aged, clock, freshness, unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.web.board.record import Record


def current(
    record: Record,
    funnel: str,
    errors: Mapping[str, str | None],
    answered_ms: Mapping[str, int | None],
    now_ms: int,
    *,
    stale_ms: int,
    lag_known: bool,
) -> Freshness:
    """How current the figures of a funnel are, as far as this server knows.

    Args:
        record: the last reading of the database.
        funnel: which is shown.
        errors: by server the reason that it does not answer; None: it answers.
        answered_ms: by server when it answered last; None: never.
        now_ms: this server's clock.
        stale_ms: from this age on the newest closed window is too old.
        lag_known: whether the ends of Kafka's logs are known.
    """
    if error := errors.get("TimescaleDB"):
        return unreachable("The database", error, record.at_ms or None, now_ms)
    seen = record.funnels.get(funnel)
    if seen is None:
        message = f"Nothing of {funnel} was ever counted" if record.at_ms else "The database has not been read yet"
        return Freshness("unknown", Why.NO_WINDOW, None, message)
    found = freshness(*aged(seen, record.workers, max(0, now_ms - record.at_ms)), stale_ms)
    if found.state != "fresh":
        return found
    return _others_away(errors, answered_ms, now_ms, seen.closed_through_ms or 0, lag_known=lag_known) or found


def _others_away(
    errors: Mapping[str, str | None],
    answered_ms: Mapping[str, int | None],
    now_ms: int,
    through_ms: int,
    *,
    lag_known: bool,
) -> Freshness | None:
    if error := errors.get("Kafka"):
        return unreachable("Kafka", error, answered_ms.get("Kafka"), now_ms)
    if error := errors.get("Redis"):
        through = clock(through_ms, now_ms)
        message = f"{error.rstrip('.')}: these figures come from the database, complete up to {through}"
        return Freshness("unknown", Why.UNREACHABLE, answered_ms.get("Redis"), message)
    if not lag_known:
        return Freshness(
            "unknown", Why.UNREACHABLE, None, "The lag is not known: Kafka has not said where its logs end"
        )
    return None
