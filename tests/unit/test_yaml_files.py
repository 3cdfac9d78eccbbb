"""Documents: every error of a file in one form, by line and field, without a value where values are secrets."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field, SecretStr

from funnelwatch.schemas.errors import FileError, FunnelwatchError
from funnelwatch.schemas.file_errors import FilePart
from funnelwatch.schemas.yaml_files import Document, place_of


class Member(FilePart):
    """One member."""

    name: str = Field(min_length=1, max_length=5, description="a short name")
    age: int | None = Field(None, ge=0, description="a number of years")
    password: SecretStr = SecretStr("")


class Club(FilePart):
    """A file."""

    members: list[Member] = Field(min_length=1, description="a list of members")
    rooms: dict[Annotated[str, Field(min_length=2, description="a room's name")], Member] = Field(
        {}, description="a map of rooms"
    )


def message(text: str, *, shows_values: bool = True) -> str:
    """The message by which a file is rejected."""
    with pytest.raises(FileError) as caught:
        Document.parse(text, "f.yml", FileError, shows_values=shows_values).validated(Club)
    return str(caught.value)


def test_a_message_names_every_error_with_line_field_and_remedy() -> None:
    """One line for each error; unknown fields come first."""
    text = "members:\n- name: ''\n  age: -1\n- {name: [], aeg: 1}\nrooms:\n  x: {name: bathroom}\n"
    assert message(text).splitlines() == [
        "f.yml:4: members[1].aeg: is not a known field; right would be age",
        "f.yml:2: members[0].name: is empty; right would be a short name",
        "f.yml:3: members[0].age: must be at least 0, not -1; right would be a number of years",
        "f.yml:4: members[1].name: is a list, not a text; right would be a short name",
        "f.yml:6: rooms.x: is empty; right would be a room's name",
        "f.yml:6: rooms.x.name: has more than 5 characters; right would be a short name",
    ]


def test_a_misspelt_field_is_not_also_called_missing() -> None:
    """One mistake is one line."""
    assert message("member:\n- name: a\n") == "f.yml:1: member: is not a known field; right would be members"


def test_another_missing_field_is_named_beside_an_unknown_one() -> None:
    """Only the field that was meant is left out."""
    assert message("members: [{nick: a, password: b}]").splitlines() == [
        "f.yml:1: members[0].nick: is not a known field; right would be one of name, age, password",
        "f.yml:1: members[0].name: is missing; right would be a short name",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "members: [{name: a, password: *hunter2}]",
        "members: [{name: a, password: !hunter2!x y}]",
        "members: [{name: a, password: hunter2, password: hunter2}]",
        "members: [{name: a, age: hunter2}]",
        "members: [{name: a, password: [hunter2]}]",
        "members: hunter2",
        "members: [hunter2]",
        "members: {password: hunter2}",
        "members: [{name: a, password: 'hunter2}]",
        "members: [{name: a, password: `hunter2}]",
        'members: [{name: a, password: "\\hunter2"}]',
        "hunter2",
    ],
)
def test_a_message_shows_no_value_where_values_are_secrets(text: str) -> None:
    """Neither an error of the parser nor one of the model repeats a value."""
    found = message(text, shows_values=False)
    assert "hunter2" not in found
    assert found.startswith("f.yml:1: ")
    assert "right would be" in found


def test_a_document_of_the_environment_has_no_lines() -> None:
    """Its messages name the place alone."""
    document = Document("VARIABLE", {"members": [{"name": 5}]}, FileError, has_lines=False)
    with pytest.raises(FunnelwatchError) as caught:
        document.validated(Club)
    assert str(caught.value) == "VARIABLE: members[0].name: is a number, not a text; right would be a short name"


@pytest.mark.parametrize(
    ("loc", "expected"),
    [
        (["groups", 0, "rules", 1, "below"], "groups[0].rules[1].below"),
        (["where", "a b"], "where['a b']"),
        (["where", ""], "where['']"),
        (["lines", "a\nb"], "lines['a\\nb']"),
    ],
)
def test_a_place_is_one_line(loc: list[Any], expected: str) -> None:
    """A key that could be misread is quoted."""
    assert place_of(loc) == expected
