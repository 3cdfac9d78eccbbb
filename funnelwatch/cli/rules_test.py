"""``funnelwatch rules test``: series in, expected alerts out, evaluated by the production evaluator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from funnelwatch.alert_rules.cases import Cases, load_cases
from funnelwatch.alert_rules.loader import RuleFileError, load_rules, rule_files
from funnelwatch.format import lasting
from funnelwatch.schemas.settings import load_settings
from funnelwatch.stream.backtest.cases import Mismatch, run_case


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
