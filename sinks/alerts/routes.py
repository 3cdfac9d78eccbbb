"""The file of routes: read, checked, and every fault named with file, line, route, field and what would be right.

::

    routes:
      - name: on-call
        kind: pagerduty
        routing_key: ${PAGERDUTY_KEY}
        when: {severity: critical}

``${NAME}`` stands for an environment variable, ``${file:/run/secrets/key}`` for what a file has, so that the file of
routes itself holds no secrets.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import ValidationError

from funnelwatch.alert_rules.model import Severity
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.plain_values import in_words
from funnelwatch.schemas.texts import legible
from funnelwatch.schemas.yaml_files import YamlFileError, line_of, parse_yaml, plain
from funnelwatch.sinks.alerts.alertmanager import Alertmanager
from funnelwatch.sinks.alerts.mail import Email
from funnelwatch.sinks.alerts.pagerduty import PagerDuty
from funnelwatch.sinks.alerts.receiver import Receiver, When
from funnelwatch.sinks.alerts.slack import Slack
from funnelwatch.sinks.alerts.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic.fields import FieldInfo

__all__ = ["KINDS", "Receiver", "RoutesFileError", "When", "load_routes", "parse_routes"]

KINDS: Final[Mapping[str, type[Receiver]]] = {
    "alertmanager": Alertmanager,
    "pagerduty": PagerDuty,
    "email": Email,
    "slack": Slack,
    "webhook": Webhook,
}
"""What may stand as a route's ``kind``."""

EXAMPLE = "a list such as [{name: on-call, kind: pagerduty, routing_key: '${PAGERDUTY_KEY}'}]"
REFERENCE = re.compile(r"\$\{(file:)?([^}]*)\}")


class RoutesFileError(FunnelwatchError, ValueError):
    """The file of routes cannot be used; the message is for the person who wrote it."""


def load_routes(path: Path, environ: Mapping[str, str] | None = None) -> list[Receiver]:
    """The routes of a file, in its order; at least one.

    Raises:
        RoutesFileError: ``file:line: route NAME: field: what is wrong; what would be right``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RoutesFileError(f"{path}: cannot be read: {error}") from error
    return parse_routes(text, str(path), os.environ if environ is None else environ)


def parse_routes(text: str, name: str, environ: Mapping[str, str]) -> list[Receiver]:
    """The routes of a file's text; ``name`` stands for the file in messages.

    Raises:
        RoutesFileError: as ``load_routes``.
    """
    try:
        document = parse_yaml(text, name)
    except YamlFileError as error:
        raise RoutesFileError(str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("routes"), list) or not document["routes"]:
        raise RoutesFileError(f"{name}:1: routes: is missing or empty; right would be {EXAMPLE}")
    for key in document:
        if key != "routes":
            raise RoutesFileError(f"{name}:{line_of(document, [key])}: {key}: is not known; right would be routes")
    found: dict[str, Receiver] = {}
    for number in range(len(document["routes"])):
        place = _Place(document, number, name, environ)
        route = _route(place)
        if route.name in found:
            raise place.fault(["name"], "stands twice", "a name of its own")
        found[route.name] = route
    return list(found.values())


@dataclass(frozen=True)
class _Place:
    """One route as it is written, and where."""

    document: Any
    number: int
    file: str
    environ: Mapping[str, str]

    @property
    def written(self) -> Any:
        return self.document["routes"][self.number]

    def fault(self, loc: Sequence[str | int], what: str, right: str) -> RoutesFileError:
        """The error for a part of the route, which is named, or numbered where it has no name."""
        called = self.written.get("name") if isinstance(self.written, dict) else None
        route = legible(called) if isinstance(called, str) and called else f"routes[{self.number}]"
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
        where = f"{self.file}:{line_of(self.document, ['routes', self.number, *loc])}: route {route}"
        return RoutesFileError(f"{where}: {field + ': ' if field else ''}{what}; right would be {right}")


def _route(place: _Place) -> Receiver:
    written = place.written
    if not isinstance(written, dict):
        raise place.fault([], "is not a map", EXAMPLE)
    kind = written.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        what = f"{kind!r} is not a kind of route" if "kind" in written else "is missing"
        raise place.fault(["kind"], what, f"one of {', '.join(KINDS)}")
    try:
        route = KINDS[kind].model_validate(_with_secrets(plain(written), place, []))
    except ValidationError as error:
        raise _explained(error, KINDS[kind], place) from None
    if isinstance(route, PagerDuty):
        known = get_args(Severity)
        if unknown := next((name for name in route.severities if name not in known), None):
            raise place.fault(["severities", unknown], "is no severity of a rule", f"one of {', '.join(known)}")
    return route


def _explained(error: ValidationError, model: type[Receiver], place: _Place) -> RoutesFileError:
    fault = error.errors()[0]
    loc = [part for part in fault["loc"] if part != "[key]"]
    message = in_words(fault["msg"])
    if not loc:  # said by the model about one of its fields: "valid_for: is less than …"
        field, _, message = message.partition(": ")
        loc = [field]
    inner, _, rest = message.partition(": ")
    if (
        fault["type"] == "value_error"
        and isinstance(place.written.get(loc[0]), dict)
        and inner in place.written[loc[0]]
    ):
        loc, message = [*loc, inner], rest
    within = loc[0] == "when" and len(loc) > 1
    fields, known = _fields(When if within else model), str(loc[1] if within else loc[0])
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(known, fields, n=1)
        return place.fault(loc, "is not a known field", near[0] if near else f"one of {', '.join(fields)}")
    right = fields[known].description if known in fields else None
    if fault["type"] == "missing":
        return place.fault(loc, "is missing", right or "a value")
    if fault["type"] != "value_error":
        # The value is not shown: it may be a secret.
        message = f"{message[0].lower()}{message[1:]}"
    return place.fault(loc, message, right or "another value")


def _fields(model: type[When | Receiver]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _with_secrets(value: Any, place: _Place, loc: list[str | int]) -> Any:
    """The value with every ``${…}`` filled in."""
    if isinstance(value, dict):
        return {key: _with_secrets(part, place, [*loc, key]) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_secrets(part, place, [*loc, index]) for index, part in enumerate(value)]
    return REFERENCE.sub(lambda match: _secret(match, place, loc), value) if isinstance(value, str) else value


def _secret(match: re.Match[str], place: _Place, loc: list[str | int]) -> str:
    name = match[2].strip()
    if not match[1]:
        if place.environ.get(name):
            return place.environ[name]
        what = f"{name} is empty in the environment" if name in place.environ else f"the environment has no {name}"
        raise place.fault(loc, what, f"to set {name} where the notifier is started")
    try:
        if secret := Path(name).read_text(encoding="utf-8").strip():
            return secret
        what = f"{name} is empty"
    except (OSError, UnicodeDecodeError) as error:
        what = f"{name} cannot be read: {getattr(error, 'strerror', None) or error}"
    raise place.fault(loc, what, "a file with the secret and nothing else")
