"""Rule files to validated rules."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from funnelwatch.alert_rules.instruments import INSTRUMENTS, SIGNALS, ImpressionsRule
from funnelwatch.alert_rules.metrics import METRIC_KINDS
from funnelwatch.alert_rules.model import KINDS, NamedRule, Rule, Rules
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS, in_order
from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.file_errors import NOT_BLANK, FilePart
from funnelwatch.schemas.funnels import dimensions_of
from funnelwatch.schemas.yaml_files import Document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.schemas.funnels import Funnels

SHIPPED = Path(__file__).parent
"""The folder of the rules that come with funnelwatch."""


class RuleFileError(FileError):
    """A file of alert rules, or of their tests, is rejected."""


class Group(FilePart):
    """A group of rules, each still as it is written."""

    name: str = Field("", pattern=NOT_BLANK, description="a name of its own, such as sign_up")
    rules: list[Annotated[dict[str, Any], Field(description="a map such as {alert: ConversionDrop}")]] = Field(
        min_length=1, description="a list of rules"
    )


class RuleFile(FilePart):
    """A file of rules."""

    groups: list[Group] = Field(min_length=1, description="a list such as [{name: sign_up, rules: [...]}]")


def load_rules(path: Path | None = None, declared: Funnels | None = None) -> Rules:
    """The rules of a file, or of every ``*.yml`` and ``*.yaml`` of a folder; none: the shipped rules.

    With the ``declared`` funnels, a step that a rule names must be one of theirs: a misspelt one would never fire.

    Raises:
        RuleFileError: ``file:line: field: what is wrong; right would be …``.
    """
    path = path or SHIPPED
    files = rule_files(path)
    if not files:
        what = "has no *.yml files" if path.is_dir() else "is neither a file nor a folder"
        raise RuleFileError(f"{path}: {what}; right would be a folder of alert rules, or one rule file")
    rules: list[NamedRule] = []
    for file in files:
        if file.exists() and not file.is_file():  # a pipe would block for ever
            raise RuleFileError(f"{file}: is not a file; right would be a file of alert rules")
        rules += _rules(Document.read(file, RuleFileError), rules, declared or {})
    return Rules(tuple(rules))


def rule_files(path: Path) -> list[Path]:
    """The rule files that a path names: itself, or those of the folder, by name; empty where there is none."""
    return [path] if path.is_file() else sorted([*path.glob("*.yml"), *path.glob("*.yaml")])


def parse_rules(
    text: str, name: str = "rules", others: Sequence[NamedRule] = (), declared: Funnels | None = None
) -> list[NamedRule]:
    """The rules of one file's text; ``name`` stands for the file in messages, ``others`` are those of other files.

    Raises:
        RuleFileError: as `load_rules`.
    """
    return _rules(Document.parse(text, name, RuleFileError), others, declared or {})


def _rules(document: Document, others: Sequence[NamedRule], declared: Funnels) -> list[NamedRule]:
    rules: list[NamedRule] = []
    names: set[str] = set()
    for number, group in enumerate(document.validated(RuleFile).groups):
        if group.name in names:
            what = f"{group.name} appears twice"
            raise document.rejected(["groups", number, "name"], what, "a name of its own, such as sign_up")
        names |= {group.name} - {""}
        for index, written in enumerate(group.rules):
            place: list[str | int] = ["groups", number, "rules", index]
            rule = document.validated(_model(written, document, place), place)
            if any((rule.alert, rule.funnel) == (other.alert, other.funnel) for other in (*others, *rules)):
                what = f"{rule.alert} appears twice for funnel {rule.funnel}"
                raise document.rejected([*place, "alert"], what, "a name of its own")
            if unknown := _unknown_step(rule, declared):
                raise document.rejected([*place, "step"], *unknown)
            if unknown := _unknown_dimension(rule, declared):
                raise document.rejected([*place, "by"], *unknown)
            rules.append(rule)
    return rules


def _unknown_step(rule: NamedRule, declared: Funnels) -> tuple[str, str] | None:
    """A step of the rule that its funnel has not, and the right one."""
    if not isinstance(rule, Rule) or not declared or (rule.funnel != "*" and rule.funnel not in declared):
        return None
    funnels = [rule.funnel] if rule.funnel in declared else list(declared)
    known = list(dict.fromkeys(step for funnel in funnels for step in declared[funnel].steps))
    step = next((step for step in rule.steps if step not in known), None)
    if step is None:
        return None
    right = (difflib.get_close_matches(step, known, n=1) or [f"one of {', '.join(known)}"])[0]
    if rule.funnel in declared:
        return f"{step} is not a step of the funnel {rule.funnel}", right
    return f"{step} is not a step of a declared funnel", f"{right}, or a rule with the funnel that has it"


def _unknown_dimension(rule: NamedRule, declared: Funnels) -> tuple[str, str] | None:
    """A dimension of the rule that its funnel, or every funnel, has not, and the right one."""
    if not isinstance(rule, Rule | ImpressionsRule) or not declared:
        return None
    known = set(dimensions_of(rule.funnel, declared))
    if rule.funnel == "*":
        known |= set(DIMENSION_FIELDS).union(*(funnel.dimensions for funnel in declared.values()))
    name = next((name for level in rule.by for name in level if name not in known), None)
    if name is None:
        return None
    right = (difflib.get_close_matches(name, known, n=1) or [f"one of {', '.join(in_order(known))}"])[0]
    owner = "any funnel" if rule.funnel == "*" else f"the funnel {rule.funnel}"
    return f"{name} is not a dimension of {owner}", f"{right}, or a declaration of the funnel with it"


def _model(written: dict[str, Any], document: Document, loc: list[str | int]) -> type[NamedRule]:
    """The model of a rule, by its kind and signal."""
    kind, signal = written.get("kind", "drop"), written.get("signal")
    if kind == "instrumentation":
        if isinstance(signal, str) and signal in INSTRUMENTS:
            return INSTRUMENTS[signal]
        what = f"{signal!r} is not a signal" if "signal" in written else "is missing"
        raise document.rejected([*loc, "signal"], what, SIGNALS)
    if "metric" in written:
        if isinstance(kind, str) and kind in METRIC_KINDS:
            return METRIC_KINDS[kind]
        what = f"{kind!r} is not a kind of rule about a counter or timer"
        raise document.rejected([*loc, "kind"], what, " or ".join(METRIC_KINDS))
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    right = "drop, threshold, change or instrumentation"
    raise document.rejected([*loc, "kind"], f"{kind!r} is not a kind of rule", right)


Signature = tuple[tuple[str, int, int], ...]


class LiveRules:
    """The last valid rules of a file or folder.

    Args:
        path: the file or folder; None: the shipped rules, which belong to the program and are read once.

    Raises:
        RuleFileError: the rules are invalid at the start.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._taken = self._seen = self._signature()
        self.rules: Rules = load_rules(path)
        self.error: str | None = None
        """The error of the current files; None while they are valid."""

    def look(self) -> bool:
        """Load edits; True if the rules have changed. To be called every few seconds.

        Files are read once they are unchanged between two calls, so that a half-written file is not read.
        """
        if self._path is None:
            return False
        signature = self._signature()
        settled, self._seen = signature == self._seen, signature
        if not settled or signature == self._taken:
            return False
        self._taken = signature
        try:
            found = load_rules(self._path)
        except RuleFileError as error:
            self.error = str(error)
            return False
        self.error = None
        changed = found.version != self.rules.version
        self.rules = found
        return changed

    def _signature(self) -> Signature:
        """Names, modification times and sizes of the files; unreadable files are left out."""
        found = []
        for file in rule_files(self._path) if self._path else ():
            try:
                stat = file.stat()
            except OSError:
                continue
            found.append((file.name, stat.st_mtime_ns, stat.st_size))
        return tuple(found)
