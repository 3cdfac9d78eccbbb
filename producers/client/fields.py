"""The arguments of the client's calls, once for all of them, and the events that they make."""

from __future__ import annotations

import difflib
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

from funnelwatch.producers.client.quiet import quietly
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.dimensions import EVENT_FIELDS, check_dimension, check_dimension_name, merged_contexts
from funnelwatch.schemas.events import FunnelEvent, Phase, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Concatenate, ParamSpec, Protocol, TypeVar, overload

    from funnelwatch.schemas.metrics import MetricKind

    PhaseName = Phase | Literal["IMPRESSION", "POST_VERIFICATION"]
    StatusName = Status | Literal["SUCCESS", "FAILURE"]
    KindName = MetricKind | Literal["COUNTER", "TIMER"]

    P = ParamSpec("P")
    R = TypeVar("R")
    R_co = TypeVar("R_co", covariant=True)

    class EmitCall(Protocol[R_co]):
        """The arguments of ``emit``."""

        @overload
        def __call__(self, event: FunnelEvent | Mapping[str, Any], /, **changes: Any) -> R_co: ...

        @overload
        def __call__(
            self,
            /,
            *,
            sign_up_session_id: str,
            step: str,
            phase: PhaseName,
            status: StatusName | None = ...,
            ts: int | None = ...,
            duration_ms: float | None = ...,
            funnel: str | None = ...,
            event_id: str | None = ...,
            contexts: dict[str, str] | None = ...,
            **dimensions: str | None,
        ) -> R_co: ...

    class EmitMethod(Protocol[R_co]):
        """A method with the arguments of ``emit``."""

        def __get__(self, instance: object, owner: type | None = None, /) -> EmitCall[R_co]:
            """The method of an instance."""
            ...


logger = logging.getLogger("funnelwatch.producer")

ALIKE = 0.85
"""The likeness from which on a name is taken for a misspelt one, as difflib measures it."""


def emit_arguments(method: Callable[..., R]) -> EmitMethod[R]:
    """Type a method by ``EmitCall``. Its body takes ``**fields``, because naming nine arguments costs time."""
    return cast("EmitMethod[R]", method)


def arguments_of(
    method: Callable[Concatenate[Any, P], Any],
) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Type a method that passes its arguments on by those of another one; the result is its own."""

    def typed(own: Callable[..., R]) -> Callable[Concatenate[Any, P], R]:
        own.__wrapped__ = method  # type: ignore[attr-defined] # inspect and help() show the arguments
        return own

    return typed


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None: an absent field takes its default."""
    return {name: value for name, value in fields.items() if value is not None}


def event_of(defaults: Mapping[str, Any], event: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event that is put together from three parts, of which a later one counts more.

    None stands for an absent field. Keys that are no field of an event are further dimensions, and go into its
    contexts.

    Raises:
        ValueError: a dimension is invalid; the message names it.
    """
    record = {**defaults, **event, **fields}
    if None in record.values():
        record = {**defaults, **given(**event), **given(**fields)}
    if "contexts" in record or not EVENT_FIELDS.issuperset(record):
        contexts = merged_contexts(defaults, event, fields)
        for name in record.keys() - EVENT_FIELDS:
            warn_if_misspelt(name)
            del record[name]
        record["contexts"] = contexts
    return record


@lru_cache(maxsize=1_000)
def warn_if_misspelt(name: str, others: tuple[str, ...] = ()) -> None:
    """Log, once, that a dimension's name is almost that of a field, or of another argument: it may be misspelt."""
    if alike := difflib.get_close_matches(name, (*EVENT_FIELDS, *others), n=1, cutoff=ALIKE):
        logger.warning("%s: counts as a dimension; is it %s, misspelt?", name, alike[0])


def check_dimensions(dimensions: Iterable[str], others: tuple[str, ...] = ()) -> None:
    """Reject names that no dimension can have, where an app is set up and not at its first event.

    Args:
        dimensions: the names of keyword arguments.
        others: arguments that a misspelt name may stand for.

    Raises:
        ValueError: a name is invalid.
    """
    for name in dimensions:
        check_dimension_name(name)
        if name not in EVENT_FIELDS:
            warn_if_misspelt(name, others)


def impression_of(session_id: str, step: str, /, **fields: Any) -> dict[str, Any]:
    """The fields of an impression; ts is now unless ``fields`` has one."""
    _no_reserved(fields, ("phase", "status", "duration_ms", "sign_up_session_id"))
    shown = {"sign_up_session_id": session_id, "step": step, "phase": Phase.IMPRESSION, "ts": wall_clock_ms()}
    return {**shown, **given(**fields)}


def verification_of(
    session_id: str, step: str, status: StatusName, /, shown_at: int | None = None, **fields: Any
) -> dict[str, Any]:
    """The fields of a verification; its duration is the time since ``shown_at``, ms, and never negative."""
    _no_reserved(fields, ("phase", "sign_up_session_id"))
    verified = {"sign_up_session_id": session_id, "step": step, "phase": Phase.POST_VERIFICATION, "status": status}
    record = {**verified, "ts": wall_clock_ms(), **given(**fields)}
    if shown_at is not None:
        record["duration_ms"] = max(0, record["ts"] - shown_at)
    return record


def with_dimensions(event: Mapping[str, Any], dimensions: Mapping[str, str | None]) -> dict[str, Any]:
    """The fields of an event with dimensions that count more than its own ones and than its contexts.

    Raises:
        ValueError: a dimension has the name of another field.
    """
    found, contexts = dict(event), dict(event.get("contexts") or {})
    for name, value in dimensions.items():
        check_dimension_name(name)
        if value is not None:
            (found if name in EVENT_FIELDS else contexts)[name] = value
    return {**found, "contexts": contexts}


def dimensions_now(
    dimensions: Mapping[str, str | Callable[..., str | None] | None], *args: Any, **kwargs: Any
) -> dict[str, str]:
    """The dimensions of one event: texts as they are, functions called. One that fails is left out, and logged."""
    found: dict[str, str] = {}
    for name, value in dimensions.items():
        with quietly(f"the dimension {name}"):
            text = value(*args, **kwargs) if callable(value) else value
            if text is not None:
                found[name] = check_dimension(name, text)
    return found


def _no_reserved(fields: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Reject, as a dimension, a field that the call itself sets."""
    for name in names:
        if name in fields:
            check_dimension_name(name)
