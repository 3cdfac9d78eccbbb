"""A schema may change only so that old and new readers and writers go on understanding each other."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from funnelwatch.schemas.files import HERE, SCHEMAS, short_name
from tests.compatibility import incompatibilities

FIXTURES = Path(__file__).parents[1] / "fixtures" / "schemas"
RELEASED = sorted((HERE / "history").glob("*/*.avsc"))


def raw(path: Path) -> dict[str, Any]:
    """A schema as it stands in its file."""
    return dict(json.loads(path.read_text()))


CURRENT = {short_name(raw(path)): raw(path) for path in HERE.glob("*.avsc")}


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_current_schema_can_follow_every_released_one(path: Path) -> None:
    """An incompatible change of a released schema is rejected here."""
    old = raw(path)
    assert incompatibilities(old, CURRENT[short_name(old)]) == []


def test_every_schema_has_been_released() -> None:
    """No schema escapes the check for want of an earlier version."""
    assert {short_name(raw(path)) for path in RELEASED} == set(SCHEMAS)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("enum-symbol-added", "forward.*ABANDONED"),
        ("enum-symbol-removed", "backward.*POST_VERIFICATION"),
        ("field-added-without-default", "backward.*country"),
        ("field-renamed", "backward.*stage"),
        ("needed-field-removed", "forward.*step"),
        ("no-longer-nullable", "backward.*null"),
        ("record-renamed", "backward.*FunnelEvent"),
        ("type-changed", "backward.*string"),
    ],
)
def test_an_incompatible_change_is_rejected(name: str, error: str) -> None:
    """The message says in which direction it fails, and what."""
    errors = incompatibilities(CURRENT["FunnelEvent"], raw(FIXTURES / f"{name}.avsc"))
    with pytest.raises(AssertionError, match=error):
        assert not errors, "; ".join(errors)


def test_every_fixture_is_used() -> None:
    """A fixture that no test reads proves nothing."""
    assert len(list(FIXTURES.glob("*.avsc"))) == 8


def test_a_field_with_a_default_may_come_and_go() -> None:
    """The one change that is always possible, in both directions."""
    changed = copy.deepcopy(CURRENT["FunnelEvent"])
    changed["fields"].append({"name": "country", "type": "string", "default": ""})
    assert incompatibilities(CURRENT["FunnelEvent"], changed) == []
    assert incompatibilities(changed, CURRENT["FunnelEvent"]) == []
