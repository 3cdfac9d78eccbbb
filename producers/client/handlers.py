"""Decorators for the handlers of an app that show a step, or verify its input."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from funnelwatch.producers.client.fields import given
from funnelwatch.producers.client.quiet import quietly
from funnelwatch.schemas.events import Phase, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.producers.client.quiet import Emits

Handler = TypeVar("Handler", bound="Callable[..., Any]")


def track_impression(
    producer: Emits,
    step: str,
    *,
    session: str | Callable[..., str] = "session_id",
    os: str | None = None,
    browser: str | None = None,
    app_version: str | None = None,
    funnel: str | None = None,
    contexts: dict[str, str] | None = None,
) -> Callable[[Handler], Handler]:
    """Decorate the handler that shows a step: it emits an IMPRESSION when it returns, and none when it raises.

    The decorated handler, a function or coroutine, keeps its signature.

    Args:
        producer: takes the event.
        step: name of the step.
        session: the handler's argument that is the session's id, or a function of the same arguments that returns it.
        os: platform of every event; None: the producer's default, as for the fields below.
        browser: browser.
        app_version: version of the app.
        funnel: the funnel of the step.
        contexts: anything else.
    """
    fields = given(os=os, browser=browser, app_version=app_version, funnel=funnel, contexts=contexts)

    def ended(call: _Call) -> None:
        if call.error is None:
            producer.emit({**fields, **call.about(step), "phase": Phase.IMPRESSION})

    return _around(session, ended)


def track_verification(
    producer: Emits,
    step: str,
    *,
    session: str | Callable[..., str] = "session_id",
    os: str | None = None,
    browser: str | None = None,
    app_version: str | None = None,
    funnel: str | None = None,
    contexts: dict[str, str] | None = None,
) -> Callable[[Handler], Handler]:
    """Decorate the handler that verifies the input of a step: it emits a POST_VERIFICATION when it ends.

    The status is SUCCESS when the handler returns; FAILURE when it returns False, and when it raises, with the
    exception's name in ``contexts["error"]``. The exception passes. The decorated handler, a function or coroutine,
    keeps its signature.

    Args:
        producer: takes the event.
        step: name of the step.
        session: the handler's argument that is the session's id, or a function of the same arguments that returns it.
        os: platform of every event; None: the producer's default, as for the fields below.
        browser: browser.
        app_version: version of the app.
        funnel: the funnel of the step.
        contexts: anything else.
    """
    fields = given(os=os, browser=browser, app_version=app_version, funnel=funnel, contexts=contexts)

    def ended(call: _Call) -> None:
        event = {**fields, **call.about(step), "phase": Phase.POST_VERIFICATION}
        event["status"] = Status.FAILURE if call.error is not None or call.result is False else Status.SUCCESS
        if call.error is not None:
            event["contexts"] = {**fields.get("contexts", {}), "error": type(call.error).__name__}
        producer.emit(event)

    return _around(session, ended)


class _Call:
    """One call of a handler, when it has ended."""

    def __init__(self, session_id: Any, result: Any = None, error: BaseException | None = None) -> None:
        self.session_id = session_id
        self.result = result
        self.error = error

    def about(self, step: str) -> dict[str, Any]:
        return {"sign_up_session_id": self.session_id, "step": step}


def _around(session: str | Callable[..., str], ended: Callable[[_Call], None]) -> Callable[[Handler], Handler]:
    def decorate(handler: Handler) -> Handler:
        session_of = _session_of(handler, session)

        def tell(args: Any, kwargs: Any, result: Any, error: BaseException | None) -> None:
            with quietly(handler.__qualname__):
                ended(_Call(session_of(*args, **kwargs), result, error))

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
