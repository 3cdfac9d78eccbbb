"""Decorators for the handlers of an app that show a step, or verify its input."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from funnelwatch.producers.client.fields import check_dimensions, dimensions_now, given, with_dimensions
from funnelwatch.producers.client.quiet import quietly
from funnelwatch.schemas.events import Phase, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from funnelwatch.producers.client.quiet import Emits

    Dimension = str | Callable[..., str | None] | None

Handler = TypeVar("Handler", bound="Callable[..., Any]")


def track_impression(
    producer: Emits,
    step: str,
    *,
    session: str | Callable[..., str] = "session_id",
    funnel: str | None = None,
    contexts: dict[str, str] | None = None,
    **dimensions: Dimension,
) -> Callable[[Handler], Handler]:
    """Decorate the handler that shows a step: it emits an IMPRESSION when it returns, and none when it raises.

    The decorated handler, a function or coroutine, keeps its signature.

    Args:
        producer: takes the event.
        step: name of the step.
        session: the handler's argument that is the session's id, or a function of the same arguments that returns it.
        funnel: the funnel of the step; None: the producer's default.
        contexts: other values to keep with every event.
        **dimensions: os, browser, app_version and further dimensions: each a text, or a function of the handler's
            arguments that returns one: ``country=lambda request: request.headers.get("cf-ipcountry")``. None: the
            producer's default.

    Raises:
        TypeError: the handler has no argument of the session's name.
        ValueError: no dimension can have such a name.
    """

    def ended(call: _Call) -> None:
        if call.error is None:
            producer.emit({**call.event, "step": step, "phase": Phase.IMPRESSION})

    return _around(session, given(funnel=funnel, contexts=contexts), dimensions, ended)


def track_verification(
    producer: Emits,
    step: str,
    *,
    session: str | Callable[..., str] = "session_id",
    funnel: str | None = None,
    contexts: dict[str, str] | None = None,
    **dimensions: Dimension,
) -> Callable[[Handler], Handler]:
    """Decorate the handler that verifies the input of a step: it emits a POST_VERIFICATION when it ends.

    The status is SUCCESS when the handler returns; FAILURE when it returns False, and when it raises, with the
    exception's name in ``contexts["error"]``. The exception passes. The decorated handler, a function or coroutine,
    keeps its signature.

    The arguments and the errors are those of ``track_impression``.
    """

    def ended(call: _Call) -> None:
        status = Status.FAILURE if call.error is not None or call.result is False else Status.SUCCESS
        event = {**call.event, "step": step, "phase": Phase.POST_VERIFICATION, "status": status}
        if call.error is not None:
            event = with_dimensions(event, {"error": type(call.error).__name__})
        producer.emit(event)

    return _around(session, given(funnel=funnel, contexts=contexts), dimensions, ended)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a handler, when it has ended; ``event`` has the fields that every event of it shares."""

    event: dict[str, Any]
    result: Any
    error: BaseException | None


def _around(
    session: str | Callable[..., str],
    fields: dict[str, Any],
    dimensions: Mapping[str, Dimension],
    ended: Callable[[_Call], None],
) -> Callable[[Handler], Handler]:
    check_dimensions(dimensions, ("session",))

    def decorate(handler: Handler) -> Handler:
        session_of = _session_of(handler, session)

        def tell(args: Any, kwargs: Any, result: Any, error: BaseException | None) -> None:
            with quietly(f"an event of {handler.__qualname__}"):
                event = with_dimensions(fields, dimensions_now(dimensions, *args, **kwargs))
                ended(_Call({**event, "sign_up_session_id": session_of(*args, **kwargs)}, result, error))

        if inspect.iscoroutinefunction(handler):

            @functools.wraps(handler)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                try:
                    result = await handler(*args, **kwargs)
                except Exception as error:
                    tell(args, kwargs, None, error)
                    raise
                tell(args, kwargs, result, None)
                return result

            return cast("Handler", coroutine)

        @functools.wraps(handler)
        def function(*args: Any, **kwargs: Any) -> Any:
            try:
                result = handler(*args, **kwargs)
            except Exception as error:
                tell(args, kwargs, None, error)
                raise
            tell(args, kwargs, result, None)
            return result

        return cast("Handler", function)

    return decorate


def _session_of(handler: Callable[..., Any], session: str | Callable[..., str]) -> Callable[..., Any]:
    """A function that reads the session's id from the arguments of a call.

    Raises:
        TypeError: the handler has no argument of that name.
    """
    if not isinstance(session, str):
        return session
    signature = inspect.signature(handler)
    if session not in signature.parameters:
        raise TypeError(
            f"{handler.__qualname__} has no argument {session!r}; name the one that is the session's id, "
            "session='...', or give a function that returns it"
        )
    return lambda *args, **kwargs: signature.bind(*args, **kwargs).arguments.get(session)
