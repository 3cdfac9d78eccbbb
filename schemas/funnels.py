"""Declared funnels: their steps, in order.

An event of a declared funnel with a step that the funnel does not have is rejected; a funnel that nobody declared
takes any step. The file is YAML::

    funnels:
      sign_up: [INPUT_PHONE_NUMBER, VERIFY_SMS_CODE, INPUT_NAME, INPUT_PASSWORD]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.plain_values import a_text
from funnelwatch.schemas.yaml_files import YamlFileError, line_of, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIGN_UP = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")

Funnels = Mapping[str, tuple[str, ...]]

BUILT_IN: Funnels = {"sign_up": SIGN_UP}


class FunnelsFileError(FunnelwatchError, ValueError):
    """The funnels file cannot be used; the message names the file, what is wrong and what would be right."""


def load_funnels(path: Path | None) -> Funnels:
    """The declared funnels, name to ordered steps.

    Raises:
        FunnelsFileError: the file is missing, is no YAML, or is not of the form above.
    """
    if path is None:
        return BUILT_IN
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise FunnelsFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FunnelsFileError(f"{path}: is not YAML: {error}") from error
    except YamlFileError as error:
        raise FunnelsFileError(str(error)) from error
    try:
        declared = _known_keys(document)
        return {_name(name): _steps(name, steps) for name, steps in declared.items()}
    except _FaultError as fault:
        where = f"{path}:{line_of(document, fault.loc)}"
        raise FunnelsFileError(f"{where}: {fault.what}; right would be {fault.right}") from None


class _FaultError(FunnelwatchError):
    """A fault at a place of the file."""

    def __init__(self, loc: Sequence[str | int], what: str, right: str) -> None:
        self.loc, self.what, self.right = loc, what, right
        super().__init__(what)


def _known_keys(document: Any) -> dict[Any, Any]:
    """What stands under ``funnels``."""
    declared = document.get("funnels") if isinstance(document, dict) else None
    for key in document if isinstance(document, dict) else ():
        if key != "funnels":
            raise _FaultError([key], f"{key}: is not a known field", "funnels")
    if not isinstance(declared, dict) or not declared:
        raise _FaultError(["funnels"], "has no funnels", "'funnels: {sign_up: [STEP, STEP]}'")
    return declared


def _name(name: Any) -> str:
    """A funnel's name, as an event can have it."""
    if name == "*":
        raise _FaultError(["funnels", name], "funnel *: is every funnel", "a name such as sign_up")
    return _text(name, ["funnels", name], f"funnel {name!r}: the name")


def _steps(name: Any, steps: Any) -> tuple[str, ...]:
    """The steps of a funnel."""
    loc = ["funnels", name]
    if not isinstance(steps, list) or not steps:
        raise _FaultError(loc, f"funnel {name}: the steps must be a list of names, in order", "[STEP, STEP]")
    found: list[str] = []
    for number, step in enumerate(steps):
        text = _text(step, [*loc, number], f"funnel {name}: step {number + 1}:")
        if text in {"*", "all"}:
            raise _FaultError([*loc, number], f"funnel {name}: {text} is every step", "the name of one step")
        if text in found:
            raise _FaultError([*loc, number], f"funnel {name}: a step stands twice: {text}", "each step once")
        found.append(text)
    return tuple(found)


def _text(value: Any, loc: Sequence[Any], what: str) -> str:
    if not isinstance(value, str):
        raise _FaultError(loc, f"{what} is no text", "a name, in quotes where YAML takes it for a number")
    try:
        return a_text(str(value))
    except ValueError as error:
        raise _FaultError(loc, f"{what} {error}", "a name such as VERIFY_SMS_CODE") from None
