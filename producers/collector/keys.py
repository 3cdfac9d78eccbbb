"""Who may send: API keys, of which only hashes are kept.

Keys can only write, so one that stands in a web page gives away nothing but the right to send. They are 32 random
bytes, which nobody guesses, so that one round of SHA-256 hides them as well as a slow hash would.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ruamel.yaml.error import YAMLError

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.yaml_files import line_of, load_yaml, plain

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

EVENTS, LINES = "events", "lines"
USES = (EVENTS, LINES)
KEY_PREFIX = "fw_"
HEX_DIGITS = 64
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.:\[\]_-]+/?|null")
"""What a browser sends: a scheme, a host and perhaps a port, in lower case, without a path; or null."""

RIGHT = "{name: web, sha256: <64 hex digits>, use: [events], origins: ['https://app.example']}"


class KeysError(FunnelwatchError, ValueError):
    """The keys cannot be used; the message names the place, what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key.

    Attributes:
        name: what logs and limits call it.
        sha256: hash of the key, hexadecimal.
        use: what it may send: events, lines, or both.
        origins: web origins whose pages may use it; empty: any, and programs that name none.
    """

    name: str
    sha256: str
    use: tuple[str, ...] = USES
    origins: tuple[str, ...] = ()


class Keys:
    """The keys of a collector; with none of them everybody may send.

    Args:
        keys: all of them.
    """

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = keys
        self.required = bool(keys)

    def find(self, given: str) -> ApiKey | None:
        """The key with this secret; takes as long whichever it is, or none."""
        digest = hash_of(given)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


def new_key() -> str:
    """A key that nobody has."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def load_keys(settings: Settings) -> Keys:
    """The keys of the environment and those of the file.

    Raises:
        KeysError: one of them cannot be used.
    """
    keys = [_of_pair(pair.strip()) for pair in revealed(settings.collector_keys).split(",") if pair.strip()]
    if settings.collector_keys_path:
        keys += _of_file(settings.collector_keys_path)
    names = [key.name for key in keys]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise KeysError(f"the API key {twice} stands twice; right would be a name of its own for each")
    hashes = [key.sha256 for key in keys]
    if same := next((key for number, key in enumerate(keys) if key.sha256 in hashes[:number]), None):
        other = keys[hashes.index(same.sha256)].name
        raise KeysError(f"the API keys {other} and {same.name} are the same key; right would be one name for it")
    return Keys(tuple(keys))


def _of_pair(pair: str) -> ApiKey:
    name, _, sha256 = pair.partition(":")
    return _key({"name": name, "sha256": sha256}, "FUNNELWATCH_COLLECTOR_KEYS", "web:<64 hex digits>")


def _of_file(path: Path) -> list[ApiKey]:
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeysError(f"{path}: cannot be read: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # the parser's own text repeats the lines, hashes and all
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise KeysError(f"{place}: is not YAML; right would be well-formed YAML with each key once") from None
    keys = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(keys, list) or not keys:
        raise KeysError(f"{path}: has no keys; right would be 'keys: [{RIGHT}]'")
    for name in content:
        if name != "keys":
            line = line_of(content, [name])
            raise KeysError(f"{path}: {name}: is not known; right would be 'keys: [{RIGHT}]' (line {line})")
    found = []
    for number, key in enumerate(plain(keys), 1):
        try:
            found.append(_key(key, f"{path}: key {number}", RIGHT))
        except KeysError as error:
            raise KeysError(f"{error} (line {line_of(content, ['keys', number - 1])})") from None
    return found


def _key(given: Any, place: str, right: str) -> ApiKey:
    """A checked key; messages never show what might be the secret itself."""
    if not isinstance(given, dict) or not set(given) <= {"name", "sha256", "use", "origins"}:
        raise KeysError(f"{place}: is not of the form {right}")
    name, sha256 = given.get("name"), given.get("sha256")
    if not isinstance(name, str) or not name:
        raise KeysError(f"{place}: has no name; right would be {right}")
    if name != name.strip() or not name.isprintable():
        raise KeysError(
            f"{place}: {name!r}: the name has a space at an end, or a character that nobody sees; right would be web"
        )
    if not isinstance(sha256, str) or len(sha256) != HEX_DIGITS or set(sha256.lower()) - set("0123456789abcdef"):
        raise KeysError(
            f"{place}: {name}: the hash is not {HEX_DIGITS} hex digits; 'funnelwatch collector-key' makes one"
        )
    use, origins = given.get("use", list(USES)), given.get("origins", [])
    if not isinstance(use, list) or not use or any(one not in USES for one in use) or len(set(use)) < len(use):
        raise KeysError(f"{place}: {name}: use: {use!r} is not a list of {', '.join(USES)}; right would be each once")
    if not isinstance(origins, list) or not all(isinstance(origin, str) for origin in origins):
        raise KeysError(f"{place}: {name}: origins: {origins!r} is not a list like ['https://app.example']")
    if "origins" in given and not origins:
        raise KeysError(
            f"{place}: {name}: origins: is empty; right would be a list, or no origins where any may use it"
        )
    if wrong := next((origin for origin in origins if not ORIGIN.fullmatch(origin)), None):
        raise KeysError(
            f"{place}: {name}: origins: {wrong!r} is no origin that a browser sends; right would be {RIGHT}"
        )
    return ApiKey(name, sha256.lower(), tuple(use), tuple(origin.rstrip("/") for origin in origins))
