"""Rule files to checked rules; a fault is named with file, line, field, what is wrong and what would be right."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from funnelwatch.alert_rules.instruments import INSTRUMENTS, SIGNALS
from funnelwatch.alert_rules.metrics import METRIC_KINDS
from funnelwatch.alert_rules.model import KINDS, NamedRule, Rule, Rules
from funnelwatch.schemas.plain_values import in_words
from funnelwatch.schemas.yaml_files import YamlFileError, line_of, parse_yaml, place_of, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Declared = Mapping[str, Sequence[str]]
    """Funnels and their steps."""

SHIPPED = Path(__file__).parent
"""The folder of the rules that come with funnelwatch."""

SHOWN = 200
"""Characters of a value in a message."""


class RuleFileError(YamlFileError):
    """A rule file cannot be used; the message is for the person who wrote it."""


def load_rules(path: Path | None = None, declared: Declared | None = None) -> Rules:
    """The rules of a file, or of every ``*.yml`` and ``*.yaml`` of a folder; none: the rules that are shipped.

    With the ``declared`` funnels, a step that a rule names must be one of theirs: a misspelt one would never fire.

    Raises:
        RuleFileError: ``file:line: field: what is wrong; what would be right``.
    """
    path = path or SHIPPED
    files = rule_files(path)
    if not files:
        what = "has no *.yml files" if path.is_dir() else "is neither a file nor a folder"
        raise RuleFileError(f"{path}: {what}; right would be a folder of alert rules, or one rule file")
    rules: list[NamedRule] = []
    for file in files:
        if file.exists() and not file.is_file():
            raise RuleFileError(f"{file}: is no file; right would be a file of alert rules")
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RuleFileError(f"{file}: cannot be read: {error}") from error
        rules += parse_rules(text, str(file), rules, declared)
    return Rules(tuple(rules))


def rule_files(path: Path) -> list[Path]:
    """The rule files that a path names: itself, or those of the folder, by name; empty where there is none."""
    return [path] if path.is_file() else sorted([*path.glob("*.yml"), *path.glob("*.yaml")])


def parse_rules(
    text: str, name: str = "rules", others: Sequence[NamedRule] = (), declared: Declared | None = None
) -> list[NamedRule]:
    """The rules of one file's text; ``name`` stands for the file in messages, ``others`` are those of other files.

    Raises:
        RuleFileError: as `load_rules`.
    """
    try:
        document = parse_yaml(text, name)
    except YamlFileError as error:
        raise RuleFileError(str(error)) from None
    if isinstance(document, dict) and any(difflib.get_close_matches(str(key), ["groups"]) for key in document):
        _only(document, [], {"groups"}, document, name)  # a misspelt key is named, not what is missing for it
    groups = _list(document, ["groups"], name, "groups: [{name: sign_up, rules: [...]}]")
    _only(document, [], {"groups"}, document, name)
    rules: list[NamedRule] = []
    names: set[str] = set()
    for number, group in enumerate(groups):
        _only(group, ["groups", number], {"name", "rules"}, document, name)
        _name_of_group(group, ["groups", number, "name"], names, document, name)
        count = len(_list(document, ["groups", number, "rules"], name, "a list of rules"))
        for index in range(count):
            loc: list[str | int] = ["groups", number, "rules", index]
            rule = _rule(document, loc, name)
            if any((rule.alert, rule.funnel) == (other.alert, other.funnel) for other in (*others, *rules)):
                what = f"{rule.alert} stands twice for funnel {rule.funnel}"
                raise _fault(document, [*loc, "alert"], name, what, "a name of its own")
            if unknown := _unknown_step(rule, declared or {}):
                raise _fault(document, [*loc, "step"], name, *unknown)
            rules.append(rule)
    return rules


def _name_of_group(group: Any, loc: list[str | int], names: set[str], document: Any, name: str) -> None:
    """Reject a group's name that is none, or stands twice; a group needs none."""
    if "name" not in group:
        return
    given, right = group["name"], "a name of its own, such as sign_up"
    if not isinstance(given, str) or not given.strip():
        raise _fault(document, loc, name, "is empty" if not given else f"is {_kind(given)}, not a text", right)
    if given in names:
        raise _fault(document, loc, name, f"{given} stands twice", right)
    names.add(given)


def _unknown_step(rule: NamedRule, declared: Declared) -> tuple[str, str] | None:
    """A step of the rule that its funnel has not, said as a fault with what would be right."""
    if not isinstance(rule, Rule) or not declared or (rule.funnel != "*" and rule.funnel not in declared):
        return None
    funnels = [rule.funnel] if rule.funnel in declared else list(declared)
    known = list(dict.fromkeys(step for funnel in funnels for step in declared[funnel]))
    step = next((step for step in rule.steps if step not in known), None)
    if step is None:
        return None
    right = (difflib.get_close_matches(step, known, n=1) or [f"one of {', '.join(known)}"])[0]
    if rule.funnel in declared:
        return f"{step} is no step of the funnel {rule.funnel}", right
    return f"{step} is no step of a declared funnel", f"{right}, or a rule with the funnel that has it"


def _rule(document: Any, loc: list[str | int], name: str) -> NamedRule:
    """One checked rule."""
    written = _at(document, loc)
    if not isinstance(written, dict):
        raise _fault(document, loc, name, f"is {_kind(written)}, not a map", "a map such as {alert: ConversionDrop}")
    model = _model(written, document, loc, name)
    _only(written, loc, set(_fields(model)), document, name)
    try:
        return model.model_validate(plain(written))
    except ValidationError as error:
        fault = error.errors()[0]
        message = in_words(fault["msg"])
        if fault["loc"]:
            field = str(fault["loc"][0])
        else:  # said by the model about one of its fields
            field, _, message = message.partition(": ")
        if fault["type"] == "missing":
            raise _fault(document, [*loc, field], name, "is missing", _fields(model)[field]) from None
        if fault["type"] != "value_error":
            message = f"{message[0].lower()}{message[1:]}, not {_shown(plain(written[field]))}"
        place = [*loc, *(part for part in fault["loc"] or (field,) if part != "[key]")]
        inner, _, rest = message.partition(": ")
        if isinstance(written.get(field), dict) and inner in written[field]:
            place, message = [*place, inner], rest
        raise _fault(document, place, name, message, _fields(model)[field]) from None


def _shown(value: Any) -> str:
    """A value as a person wrote it, or its beginning."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _model(written: dict[Any, Any], document: Any, loc: list[str | int], name: str) -> type[NamedRule]:
    """What the rule is to be checked against, by its kind and signal."""
    kind, signal = written.get("kind", "drop"), written.get("signal")
    if kind == "instrumentation":
        if isinstance(signal, str) and signal in INSTRUMENTS:
            return INSTRUMENTS[signal]
        what = f"{signal!r} is not a signal" if "signal" in written else "is missing"
        raise _fault(document, [*loc, "signal"], name, what, SIGNALS)
    if "metric" in written and kind != "instrumentation":
        if isinstance(kind, str) and kind in METRIC_KINDS:
            return METRIC_KINDS[kind]
        what = f"{kind!r} is not a kind of rule about a counter or timer"
        raise _fault(document, [*loc, "kind"], name, what, " or ".join(METRIC_KINDS))
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    right = "drop, threshold, change or instrumentation"
    raise _fault(document, [*loc, "kind"], name, f"{kind!r} is not a kind of rule", right)


def _fields(model: type[NamedRule]) -> dict[str, str]:
    """The names of a rule's fields as they are written, and what would be right for each."""
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def _only(written: Any, loc: list[str | int], known: set[str], document: Any, name: str) -> None:
    """Reject fields that nobody reads."""
    if not isinstance(written, dict):
        raise _fault(document, loc, name, f"is {_kind(written)}, not a map", f"a map with {', '.join(sorted(known))}")
    for key in written:
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), n=1)
            right = near[0] if near else f"one of {', '.join(sorted(known))}"
            raise _fault(document, [*loc, key], name, "is not a known field", right)


def _list(document: Any, loc: list[str | int], name: str, right: str) -> Sequence[Any]:
    """The list at that place, which must be there and not be empty."""
    try:
        found = _at(document, loc)
    except (KeyError, IndexError, TypeError):
        raise _fault(document, loc, name, "is missing", right) from None
    if not isinstance(found, list) or not found:
        raise _fault(document, loc, name, "is empty" if not found else f"is {_kind(found)}, not a list", right)
    return found


def _at(document: Any, loc: Sequence[str | int]) -> Any:
    """The value at that place."""
    for part in loc:
        document = document[part]
    return document


def _fault(document: Any, loc: Sequence[str | int], name: str, what: str, right: str) -> RuleFileError:
    """The error for the deepest place that the file has of ``loc``."""
    field = ".".join(str(part) for part in loc[4:] or loc[-1:]) if len(loc) > 4 else place_of(loc)  # noqa: PLR2004
    return RuleFileError(f"{name}:{line_of(document, loc)}: {field}: {what}; right would be {right}")


def _kind(value: object) -> str:
    """What a value is, in a person's words."""
    names = {dict: "a map", list: "a list", str: "a text", bool: "a truth value", type(None): "empty"}
    return next((text for kind, text in names.items() if isinstance(value, kind)), "a number")
