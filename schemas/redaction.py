"""Removes secrets from printed texts, logs, stored messages and served pages.

``shown`` prints an address by a list of parts that are allowed, so that an address whose password has a raw ``@``,
``/``, ``?`` or ``#`` shows nothing but its scheme. ``redacted`` cleans free text, such as an error of a library, in two
ways: by the secrets that this process has loaded (``know``), and by the forms in which secrets stand in texts.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_plus

from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HIDDEN = "***"

HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Za-z:.%]+\])(?::\d{0,5})?"
CLEAN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+._-]*)://"
    rf"(?:(?P<user>[^@/?#:\s]*)(?P<password>:[^@/?#\s]*)?@)?"
    rf"(?P<hosts>(?:{HOST}(?:,{HOST})*)?)"
    rf"(?P<path>(?:/[^?#@\s]*)?)"
    rf"(?P<query>(?:\?[^#@\s]*)?)(?:\#[^@\s]*)?",
    re.IGNORECASE,
)
"""An address whose parts are unambiguous: no second ``@`` follows the user and password."""
SCHEME = re.compile(r"[a-z][a-z0-9+._-]*://", re.IGNORECASE)
BROKER = re.compile(HOST)
PLACE = re.compile(rf"(?:{HOST}(?:/\w*)?)?")
"""An address without scheme and login, or an empty text."""
COLON = re.compile("%3a|:", re.IGNORECASE)
"""In a user's name it is taken for the one before a password."""
CONNINFO_SHOWN = ("host", "hostaddr", "port", "dbname", "user")
CONNINFO_VALUE = re.compile(r"[\w.,:/-]+")

SECRET_NAME = re.compile(
    r"passw|passwd|\bpass\b|\bpwd|secret|token(?!\.endpoint)|credential|private|\.pem$|jaas|oauthbearer\.config|basic\.auth"
    r"|api_?key|routing_?key|\bkey$|\bauth$|authorization",
    re.IGNORECASE,
)
"""Names of librdkafka properties, query parameters and HTTP headers whose values are secrets."""
DELIMITERS = re.compile(r"[@/:?#&=%\s'\"]+")
LEAST = 3
"""Shorter secrets are not removed: messages would become unreadable, and so short a password protects nothing."""
LEAST_INSIDE_A_WORD = 8
"""Shorter secrets are removed only where they are separate words."""
ORDINARY = frozenset({"funnelwatch", "postgres", "postgresql", "redis", "kafka", "localhost", "http", "https"})
"""Words that stay in texts even if one is a password: without them messages would be unreadable."""
KNOWN_AT_MOST = 2_000

PARAMETER = r"[\w.-]*(?:passwo?r?d|passwd|secret|token|api_?key|routing_?key|credentials?|jaas\.config|key\.pem)"
FORMS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"(?i)(https?://hooks\.slack\.com/|https?://discord\.com/api/webhooks/)[^\s'\"]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|token)\s+)[^\s'\"]+"), rf"\1{HIDDEN}"),
    (
        re.compile(rf"""(?i)(?<![\w$.-])({PARAMETER})(=)(?!\s)("[^"]*"?|'(?:[^'\\]|\\.)*'?|[^\s,;&'"\)\]}}]+)"""),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(rf"""(?i)(["']{PARAMETER}["']\s*:\s*)("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)"""), rf'\1"{HIDDEN}"'),
)
"""Forms of secrets in texts, and their replacements."""
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+")


class _Known:
    """The secrets that this process has loaded; the newest are kept. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, secrets: Iterable[str]) -> None:
        new = {form for secret in secrets if secret.lower() not in ORDINARY for form in _forms(secret)}
        with self._lock:
            if not new or new <= self._secrets.keys():
                return
            self._secrets |= dict.fromkeys(new)
            for oldest in list(self._secrets)[:-KNOWN_AT_MOST]:
                del self._secrets[oldest]
            longest_first = sorted(self._secrets, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(_as_pattern, longest_first)))

    def clear(self) -> None:
        with self._lock:
            self._secrets, self._pattern = {}, None

    def hide(self, text: str) -> str:
        pattern = self._pattern
        return pattern.sub(HIDDEN, text) if pattern is not None else text


_known = _Known()


def _forms(secret: str) -> set[str]:
    """The forms in which programs write a secret: unchanged, percent-encoded, decoded, escaped and base64."""
    forms = {secret, unquote(secret), quote(secret), quote(secret, safe="")}
    forms |= {repr(secret)[1:-1], json.dumps(secret)[1:-1]}
    if len(secret) >= LEAST_INSIDE_A_WORD:
        forms.add(base64.b64encode(secret.encode(errors="surrogatepass")).decode())
    return {form for form in forms if len(form) >= LEAST and form != HIDDEN and form.lower() not in ORDINARY}


def _as_pattern(secret: str) -> str:
    pattern = re.escape(secret)
    if len(secret) >= LEAST_INSIDE_A_WORD:
        return pattern
    before = r"(?<![A-Za-z0-9])" if secret[0].isalnum() else ""
    after = r"(?![A-Za-z0-9])" if secret[-1].isalnum() else ""
    return f"{before}{pattern}{after}"


def revealed(value: str | SecretStr) -> str:
    """The text itself, for the library that needs it; never for a message."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def shown(address: str | SecretStr) -> str:
    """An address as it may be printed: without passwords and query; only its scheme where it is ambiguous.

    It may be a URL or a PostgreSQL connection string such as ``host=db password=…``.
    """
    text = revealed(address).strip()
    if SCHEME.match(text) is None:
        return _shown_conninfo(text) if "=" in text else text if PLACE.fullmatch(text) else HIDDEN
    clean = CLEAN.fullmatch(text)
    if clean is None:
        return f"{text.partition('://')[0]}://{HIDDEN}"
    return f"{clean['scheme']}://{_shown_user(clean)}{clean['hosts']}{clean['path']}"


def shown_brokers(brokers: str) -> str:
    """Kafka's addresses as they may be printed: ``host:port``, comma separated; anything else is hidden."""
    return ",".join(one if BROKER.fullmatch(one) else shown(one) for one in map(str.strip, brokers.split(",")) if one)


def _shown_user(clean: re.Match[str]) -> str:
    """The user's name, except where it may be a token or a misplaced password."""
    if clean["user"] is None:
        return ""
    if clean["scheme"].lower().startswith("http"):
        return f"{HIDDEN}@"
    if COLON.search(clean["user"]):
        return f"{HIDDEN}@"
    if clean["password"] is not None:
        return f"{clean['user']}:{HIDDEN}@"
    return f"{clean['user']}@" if clean["scheme"].lower().startswith("postgres") else f"{HIDDEN}@"


def _conninfo(text: str) -> dict[str, str] | None:
    """The parts of a PostgreSQL connection string; None for another text."""
    try:
        import psycopg  # noqa: PLC0415 - an app that only produces events does without it
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - likewise
    except ImportError:
        return None
    try:
        return {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except (psycopg.Error, UnicodeError):
        return None


def _shown_conninfo(text: str) -> str:
    parts = _conninfo(text)
    if parts is None:
        return HIDDEN
    told = [
        f"{name}={parts[name] if _is_plain(name, parts[name]) else HIDDEN}" for name in CONNINFO_SHOWN if name in parts
    ]
    return " ".join(told) or HIDDEN


def _is_plain(name: str, value: str) -> bool:
    """Whether a part of a connection string holds no login."""
    return CONNINFO_VALUE.fullmatch(value) is not None and not (name == "user" and ":" in value)


def know_address(address: str | SecretStr, *, whole: bool = False) -> None:
    """Remember the secrets of an address, so that no text shows them; with ``whole`` its path is one, too."""
    _known.add(_secrets_of(revealed(address).strip()))
    text = revealed(address).strip()
    path = SCHEME.sub("", text).partition("/")[2]
    if whole and path:
        _known.add([text, path, *(part for part in re.split(r"[/?&=#]", path) if len(part) >= LEAST_INSIDE_A_WORD)])


def know_config(properties: Mapping[str, str | SecretStr]) -> None:
    """Remember the secrets among properties of librdkafka or headers of HTTP."""
    for name, value in properties.items():
        text = revealed(value)
        _known.add(_secrets_of(text) if SCHEME.match(text) else [])
        if SECRET_NAME.search(name):
            pieces = re.findall(r'"([^"]+)"|=([^\s;"]+)', text) if "=" in text else []
            lines = text.splitlines() if "\n" in text else []
            parts = [part for piece in pieces for part in piece if part]
            know(text, text.rpartition(" ")[2], *parts, *lines)


def know(*secrets: str | SecretStr) -> None:
    """Remember secrets, so that no text shows them."""
    _known.add(map(revealed, secrets))


def forget() -> None:
    """Forget all secrets, as a new process; for tests, which share one."""
    _known.clear()


def _secrets_of(text: str) -> list[str]:
    """Everything in an address that may be a secret; every piece of an ambiguous address."""
    found = [
        part
        for name, value in re.findall(r"[?&]([^=&#]+)=([^&#]*)", text)
        if SECRET_NAME.search(name)
        for part in (value, unquote_plus(value))
    ]
    if SCHEME.match(text) is None:
        parts = _conninfo(text) if "=" in text else None
        if parts is not None:
            behind_colons = parts.get("user", "").split(":")[1:]
            return [*found, *(value for name, value in parts.items() if SECRET_NAME.search(name)), *behind_colons]
        rest = re.split(r"(?i)password\s*=", text, maxsplit=1)[-1] if "=" in text else text
        return [*found, *_pieces(rest)] if "=" in text or "@" in text else found
    clean = CLEAN.fullmatch(text)
    if clean is None:
        rest = SCHEME.sub("", text)
        credentials = rest.rpartition("@")[0]
        # A login whose @ is missing looks like a host and its port.
        ports = re.findall(r":([^\d/@:,?#][^/@?#]*)", rest.rpartition("@")[2])
        return [*found, credentials, *_pieces(credentials), *ports]
    found += COLON.split(clean["user"] or "")[1:]
    if clean["password"]:
        password = clean["password"][1:]
        found += [password, unquote(password), f"{clean['user']}:{password}"]
        if clean["scheme"].lower().startswith("http"):
            decoded = f"{unquote(clean['user'])}:{unquote(password)}"
            found.append(base64.b64encode(decoded.encode()).decode())
    if clean["user"] and len(clean["password"] or "") <= 1:  # no password, or an empty one after its colon
        found += [] if clean["scheme"].lower().startswith("postgres") else [clean["user"]]
    return found


def _pieces(text: str) -> list[str]:
    return [text, *re.split(r"[@:]", text), *DELIMITERS.split(text)]


def redacted(text: str) -> str:
    """A text without the secrets that this process knows, and without anything in the form of a secret."""
    text = _known.hide(text)
    for form, instead in FORMS:
        text = form.sub(instead, text)
    return ADDRESS.sub(_redacted_address, text) if "://" in text else text


def _redacted_address(found: re.Match[str]) -> str:
    """An address within a text; its query stays, in which the forms above are hidden already."""
    text = found[0]
    if "@" not in text:
        return text
    clean = CLEAN.fullmatch(text)
    if clean is None:
        return f"{text.partition('://')[0]}://{HIDDEN}"
    return f"{clean['scheme']}://{_shown_user(clean)}{clean['hosts']}{clean['path']}{clean['query']}"


def error_text(error: BaseException) -> str:
    """An error's text in one line without its secrets; its type's name where it has none."""
    return redacted(" ".join(str(error).split())) or type(error).__name__


def error_clause(error: BaseException) -> str:
    """As `error_text`, without a closing full stop: a sentence may go on after it."""
    return error_text(error).rstrip(".")
