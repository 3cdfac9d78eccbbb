"""Declared funnels: their steps, in order.

An event of a declared funnel with a step that the funnel does not have is refused; a funnel that nobody declared
takes any step. The file is YAML::

    funnels:
      sign_up: [INPUT_PHONE_NUMBER, VERIFY_SMS_CODE, INPUT_NAME, INPUT_PASSWORD]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

if TYPE_CHECKING:
    from pathlib import Path

SIGN_UP = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")

Funnels = Mapping[str, tuple[str, ...]]

BUILT_IN: Funnels = {"sign_up": SIGN_UP}


class FunnelsFileError(ValueError):
    """The funnels file cannot be used; the message names the file, what is wrong and what would be right."""


def load_funnels(path: Path | None) -> Funnels:
    """The declared funnels, name to ordered steps.

    Raises:
        FunnelsFileError: the file is missing, is no YAML, or is not of the form above.
    """
    if path is None:
        return BUILT_IN
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FunnelsFileError(f"{path}: cannot be read: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FunnelsFileError(f"{path}: is not YAML: {error}") from error
    declared = content.get("funnels") if isinstance(content, dict) else None
    if not isinstance(declared, dict) or not declared:
        raise FunnelsFileError(f"{path}: has no funnels; right would be 'funnels: {{sign_up: [STEP, STEP]}}'")
    funnels: dict[str, tuple[str, ...]] = {}
    for name, steps in declared.items():
        if not isinstance(steps, list) or not steps or not all(isinstance(step, str) and step for step in steps):
            raise FunnelsFileError(f"{path}: funnel {name}: the steps must be a list of names, in order")
        if len(set(steps)) != len(steps):
            raise FunnelsFileError(f"{path}: funnel {name}: a step stands twice")
        funnels[str(name)] = tuple(steps)
    return funnels
