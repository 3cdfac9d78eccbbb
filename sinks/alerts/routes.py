"""The file of routes: the receivers of alerts.

::

    routes:
      - name: on-call
        kind: pagerduty
        routing_key: ${PAGERDUTY_KEY}
        when: {severity: critical}

``${NAME}`` stands for an environment variable, ``${file:/run/secrets/key}`` for the content of a file, so that the file
of routes itself holds no secrets.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

from pydantic import Field

from funnelwatch.alert_rules.model import Severity
from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.file_errors import FilePart
from funnelwatch.schemas.yaml_files import Document, plain
from funnelwatch.sinks.alerts.alertmanager import Alertmanager
from funnelwatch.sinks.alerts.mail import Email
from funnelwatch.sinks.alerts.pagerduty import PagerDuty
from funnelwatch.sinks.alerts.receiver import Receiver, When
from funnelwatch.sinks.alerts.slack import Slack
from funnelwatch.sinks.alerts.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "Receiver", "RoutesFileError", "When", "load_routes", "parse_routes"]

KINDS: Final[Mapping[str, type[Receiver]]] = {
    "alertmanager": Alertmanager,
    "pagerduty": PagerDuty,
    "email": Email,
    "slack": Slack,
    "webhook": Webhook,
}
"""The values of a route's ``kind``."""

EXAMPLE = "a list such as [{name: on-call, kind: pagerduty, routing_key: '${PAGERDUTY_KEY}'}]"
REFERENCE = re.compile(r"\$\{(file:)?([^}]*)\}")


class RoutesFileError(FileError):
    """The file of routes is rejected."""


class RoutesFile(FilePart):
    """The file, each route still as it is written."""

    routes: list[Annotated[dict[str, Any], Field(description=EXAMPLE)]] = Field(min_length=1, description=EXAMPLE)


def load_routes(path: Path, environ: Mapping[str, str] | None = None) -> list[Receiver]:
    """The routes of a file, in its order; at least one.

    Raises:
        RoutesFileError: ``file:line: field: what is wrong; right would be …``; the message shows no secret.
    """
    document = Document.read(path, RoutesFileError, shows_values=False)
    return _routes(document, os.environ if environ is None else environ)


def parse_routes(text: str, name: str, environ: Mapping[str, str]) -> list[Receiver]:
    """The routes of a file's text; ``name`` stands for the file in messages.

    Raises:
        RoutesFileError: as ``load_routes``.
    """
    return _routes(Document.parse(text, name, RoutesFileError, shows_values=False), environ)


def _routes(document: Document, environ: Mapping[str, str]) -> list[Receiver]:
    found: dict[str, Receiver] = {}
    for number in range(len(document.validated(RoutesFile).routes)):
        route = _route(document, number, environ)
        if route.name in found:
            raise document.rejected(["routes", number, "name"], f"{route.name} appears twice", "a name of its own")
        found[route.name] = route
    return list(found.values())


def _route(document: Document, number: int, environ: Mapping[str, str]) -> Receiver:
    loc: list[str | int] = ["routes", number]
    written = document.at(loc)
    kind = written.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        what = f"{kind!r} is not a kind of route" if "kind" in written else "is missing"
        raise document.rejected([*loc, "kind"], what, f"one of {', '.join(KINDS)}")
    route = document.validated(KINDS[kind], loc, _with_secrets(plain(written), document, loc, environ))
    if isinstance(route, PagerDuty):
        known = get_args(Severity)
        if unknown := next((name for name in route.severities if name not in known), None):
            place = [*loc, "severities", unknown]
            raise document.rejected(place, "is not a severity of a rule", f"one of {', '.join(known)}")
    return route


def _with_secrets(value: Any, document: Document, loc: list[str | int], environ: Mapping[str, str]) -> Any:
    """The value with every ``${…}`` filled in."""
    if isinstance(value, dict):
        return {key: _with_secrets(part, document, [*loc, key], environ) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_secrets(part, document, [*loc, index], environ) for index, part in enumerate(value)]
    if not isinstance(value, str):
        return value
    return REFERENCE.sub(lambda match: _secret(match, document, loc, environ), value)


def _secret(match: re.Match[str], document: Document, loc: list[str | int], environ: Mapping[str, str]) -> str:
    name = match[2].strip()
    if not match[1]:
        if environ.get(name):
            return environ[name]
        what = f"{name} is empty in the environment" if name in environ else f"the environment has no {name}"
        raise document.rejected(loc, what, f"to set {name} where the notifier is started")
    try:
        if secret := Path(name).read_text(encoding="utf-8").strip():
            return secret
        what = f"{name} is empty"
    except OSError as error:
        what = f"{name} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        what = f"{name} is not UTF-8"
    raise document.rejected(loc, what, "a file with the secret and nothing else")
