"""Declared funnels: their steps, in order.

An event of a declared funnel with a step that the funnel does not have is rejected; an undeclared funnel takes any
step. The file is YAML::

    funnels:
      sign_up: [INPUT_PHONE_NUMBER, VERIFY_SMS_CODE, INPUT_NAME, INPUT_PASSWORD]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.file_errors import FilePart
from funnelwatch.schemas.plain_values import Text, once
from funnelwatch.schemas.yaml_files import Document

if TYPE_CHECKING:
    from pathlib import Path

SIGN_UP = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")

Funnels = Mapping[str, tuple[str, ...]]

BUILT_IN: Funnels = {"sign_up": SIGN_UP}


class FunnelsFileError(FileError):
    """The funnels file is rejected."""


def _name(name: str) -> str:
    if name == "*":
        raise ValueError("* means every funnel")
    return name


def _step(step: str) -> str:
    if step in {"*", "all"}:
        raise ValueError(f"{step} means every step")
    return step


Step = Annotated[Text, AfterValidator(_step), Field(description="a name such as VERIFY_SMS_CODE, in quotes if numeric")]


class FunnelsFile(FilePart):
    """The funnels file."""

    funnels: dict[
        Annotated[Text, AfterValidator(_name), Field(description="a name such as sign_up")],
        Annotated[
            tuple[Step, ...],
            AfterValidator(once),
            Field(min_length=1, description="a list of different names, in order, such as [STEP, STEP]"),
        ],
    ] = Field(min_length=1, description="a map of names to steps such as {sign_up: [STEP, STEP]}")


def load_funnels(path: Path | None) -> Funnels:
    """The declared funnels, name to ordered steps.

    Raises:
        FunnelsFileError: the file is missing, is not YAML, or is not of the form above.
    """
    if path is None:
        return BUILT_IN
    document = Document.read(path, FunnelsFileError)
    funnels = document.validated(FunnelsFile).funnels
    for name in document.at(["funnels"]):
        if not isinstance(name, str):
            raise document.rejected(["funnels", str(name)], "the name is not a text", "a name, in quotes")
    return funnels
