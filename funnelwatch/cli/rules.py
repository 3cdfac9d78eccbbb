"""``funnelwatch rules``: check alert rules before they are used, and see which are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from funnelwatch.alert_rules.cases import Cases, load_cases
from funnelwatch.alert_rules.instruments import DeadLettersRule, ImpressionsRule, Instrument, SilentRule
from funnelwatch.alert_rules.loader import SHIPPED, RuleFileError, load_rules, rule_files
from funnelwatch.alert_rules.metrics import MetricRules, metric_criterion
from funnelwatch.alert_rules.model import DropRule, Rule, Rules, ThresholdRule
from funnelwatch.cli.backtest import backtest
from funnelwatch.format import lasting
from funnelwatch.schemas.funnels import FunnelsFileError, load_funnels
from funnelwatch.schemas.settings import load_settings
from funnelwatch.stream.backtest.cases import Mismatch, run_case

PATH = click.Path(path_type=Path)


@click.group()
def rules() -> None:
    """Check and test alert rules, backtest them on history, and show the rules in use.

    Rules are YAML files in a folder that FUNNELWATCH_RULES_PATH names; without it, the shipped ones are used.

    \b
    Example:
      funnelwatch rules check my_rules/
    """  # noqa: D301 - click's mark is the character, not a backslash


@rules.command()
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: ok, rules, errors.")
def check(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check rule files or folders (PATHS; none: the rules in use).

    Each error names file, line, field, what is wrong and what would be right. The exit code is 1 if there is an error.
    Steps must be those of the declared funnels (FUNNELWATCH_FUNNELS_PATH), unless the rule names another funnel.

    \b
    Example:
      funnelwatch rules check my_rules/ --json
    """  # noqa: D301 - click's mark is the character, not a backslash
    number, errors = 0, []
    for path in paths or (used(),):
        try:
            number += len(load_rules(path, load_funnels(load_settings().funnels_path)).rules)
        except (RuleFileError, FunnelsFileError) as error:
            errors.append(str(error))
    if as_json:
        click.echo(json.dumps({"ok": not errors, "rules": number, "errors": errors}))
    else:
        for line in errors:
            click.echo(line, err=True)
        if not errors:
            click.echo(f"{number} rule{'' if number == 1 else 's'}, no errors")
    if errors:
        raise click.exceptions.Exit(1)


@rules.command("list")
@click.argument("path", required=False, type=PATH)
@click.option("--json", "as_json", is_flag=True, help="A JSON list with every field of every rule.")
def list_rules(path: Path | None, as_json: bool) -> None:
    """List the rules of PATH (none: the rules in use).

    \b
    Example:
      funnelwatch rules list
    """  # noqa: D301 - click's mark is the character, not a backslash
    path = path or used()
    loaded = opened(path)
    if as_json:
        click.echo(json.dumps(loaded.describe()))
        return
    click.echo(f"# {path}")
    for rule in loaded.rules:
        click.echo(f"{rule.alert}  {rule.severity}  {rule.version}")
        if isinstance(rule, Instrument):
            click.echo(f"    {signal(rule)}; funnel {rule.funnel}")
        if isinstance(rule, MetricRules):
            levels = f"by {', '.join(rule.by)}" if rule.by else "all together"
            click.echo(f"    {metric_criterion(rule)}; {levels}")
        if not isinstance(rule, Rule):
            continue
        levels = " and ".join(f"by {', '.join(level)}" if level else "all together" for level in rule.by)
        steps = ", ".join(rule.steps) or "every step"
        click.echo(f"    {criterion(rule)}; funnel {rule.funnel}, {steps}, {levels}, {rule.basis} basis")


@rules.command()
@click.argument("name")
@click.argument("path", required=False, type=PATH)
def show(name: str, path: Path | None) -> None:
    """Show every field of the rules called NAME, defaults filled in, as JSON.

    \b
    Example:
      funnelwatch rules show ConversionDrop
    """  # noqa: D301 - click's mark is the character, not a backslash
    loaded = opened(path or used())
    found = [rule for rule in loaded.describe() if rule["alert"] == name]
    if not found:
        known = ", ".join(sorted({rule.alert for rule in loaded.rules}))
        raise click.ClickException(f"there is no rule {name}; there are {known}")
    for rule in found:
        click.echo(json.dumps(rule, indent=2))


def used() -> Path:
    """The folder of the rules in use."""
    return load_settings().rules_path or SHIPPED


def opened(path: Path) -> Rules:
    """Load the rules; an error is one clear line."""
    try:
        return load_rules(path)
    except RuleFileError as error:
        raise click.ClickException(str(error)) from error


def criterion(rule: Rule) -> str:
    """When the rule fires, in a person's words."""
    if isinstance(rule, DropRule):
        return f"a drop of at least {rule.min_drop:.0%} that scores above {rule.score:g}"
    if isinstance(rule, ThresholdRule):
        return f"a rate below {rule.below:.0%} over {rule.over_ms // 1000} s"
    return f"a rate {rule.drop:.0%} lower over {rule.over_ms // 1000} s than {rule.offset_ms // 3_600_000} h before"


def signal(rule: Instrument) -> str:
    """The scope of the rule, in a person's words."""
    minutes = f"{rule.over_ms / 60_000:g} min"
    if isinstance(rule, ImpressionsRule):
        return f"impressions of every step below {rule.below:.0%} of what is usual, over {minutes}"
    if isinstance(rule, DeadLettersRule):
        return f"more than {rule.above:.0%} and {rule.times:g} times the usual share rejected, over {minutes}"
    if isinstance(rule, SilentRule):
        return f"a partition without records for {minutes} while the others have theirs"
    return f"a partition that is not read on for {minutes}, so that no window closes"


@click.command("test")
@click.argument("paths", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object: ok, errors, tests.")
def run_tests(paths: tuple[Path, ...], to_json: bool) -> None:
    r"""Run tests of alert rules: files, or folders of them.

    A test states series (or events) over consecutive windows, what was before, and the alerts that are expected at
    some times; docs/rules.md shows one. The evaluator is the one that runs live. Exit code 1 when a test fails, or a
    file cannot be used: it is named with line and field.

    \b
    Example:
      funnelwatch rules test my_rules/tests/
    """
    errors: list[str] = []
    results: list[dict[str, Any]] = []
    for path in [file for named in paths for file in rule_files(named) or [named]]:
        try:
            cases = load_cases(path)
            rules = cases.content.rules
            loaded = load_rules(path.parent / rules if rules else load_settings().rules_path)
        except RuleFileError as error:
            errors.append(str(error))
            continue
        for case, line in zip(cases.content.tests, cases.lines, strict=True):
            try:
                wrong = run_case(case, loaded, cases.content.window)
            except ValueError as error:
                errors.append(f"{path}:{line}: {error}")
                continue
            results.append(_result(cases, case.name, line, wrong))
    failed = [one for one in results if not one["ok"]]
    if to_json:
        click.echo(json.dumps({"ok": not errors and not failed, "errors": errors, "tests": results}, indent=2))
    else:
        for message in errors:
            click.echo(message, err=True)
        for one in failed:
            click.echo(_told(one))
        click.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    if errors or failed:
        raise click.exceptions.Exit(1)


def _result(cases: Cases, name: str, line: int, wrong: list[Mismatch]) -> dict[str, Any]:
    """One test."""
    return {
        "file": str(cases.path),
        "line": line,
        "name": name,
        "ok": not wrong,
        "differences": [
            {"at_s": one.at_ms // 1000, "missing": one.missing, "unexpected": one.unexpected} for one in wrong
        ],
    }


def _told(failed: dict[str, Any]) -> str:
    """A failed test, as a person reads it."""
    lines = [f"FAILED {failed['file']}:{failed['line']}: {failed['name']}"]
    for one in failed["differences"]:
        lines.append(f"  at {lasting(one['at_s'] * 1000)}")
        lines += [f"    - expected  {alert}" for alert in one["missing"]]
        lines += [f"    + found     {alert}" for alert in one["unexpected"]]
    return "\n".join(lines)


rules.add_command(run_tests)
rules.add_command(backtest)
