"""API keys of the collector, of which only hashes are kept.

Keys can only write, so a key in a web page gives away nothing but the right to send. A key has 32 random bytes, which
nobody can guess; one round of SHA-256 therefore hides it as well as a slow hash would.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, Field

from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.file_errors import FilePart
from funnelwatch.schemas.plain_values import once, some
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.yaml_files import Document

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

EVENTS: Final = "events"
LINES: Final = "lines"
USES: Final = (EVENTS, LINES)
KEY_PREFIX = "fw_"
HEX_DIGITS = 64
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.:\[\]_-]+/?|null")
"""The form in which browsers send an origin: scheme, host and port in lower case, without a path; or null."""


class KeysError(FileError):
    """The API keys of the collector are rejected."""


def _name(name: str) -> str:
    if name != name.strip() or not name.isprintable():
        raise ValueError(f"{name!r} begins or ends with a space, or has an invisible character")
    return name


def _hash(sha256: str) -> str:
    if len(sha256) != HEX_DIGITS or set(sha256.lower()) - set("0123456789abcdef"):
        raise ValueError(f"is not {HEX_DIGITS} hex digits; right would be what 'funnelwatch collector-key' prints")
    return sha256.lower()


def _origin(origin: str) -> str:
    if not ORIGIN.fullmatch(origin):
        raise ValueError(f"{origin!r} is not an origin that a browser sends")
    return origin.rstrip("/")


class ApiKey(FilePart):
    """One key.

    Attributes:
        name: the name in logs and limits.
        sha256: hash of the key, hexadecimal.
        use: the requests that it may send: events, lines, or both.
        origins: web origins whose pages may use the key; empty: any page, and programs that send no origin.
    """

    name: Annotated[str, AfterValidator(_name)] = Field(min_length=1, description="a name of its own, such as web")
    sha256: Annotated[str, AfterValidator(_hash)] = Field(description=f"{HEX_DIGITS} hex digits")
    use: Annotated[tuple[Literal["events", "lines"], ...], AfterValidator(once)] = Field(
        USES, min_length=1, description="events, lines, or both, in a list such as [events]"
    )
    origins: Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], AfterValidator(some)] = Field(
        (), description="a list such as ['https://app.example']"
    )


class KeysFile(FilePart):
    """The file of keys."""

    keys: tuple[ApiKey, ...] = Field(
        min_length=1,
        description="a list such as [{name: web, sha256: <64 hex digits>, use: [events], origins: ['https://a.b']}]",
    )


class Keys:
    """The keys of a collector; without keys everybody may send.

    Args:
        keys: all of them.
    """

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = keys
        self.required = bool(keys)

    def find(self, given: str) -> ApiKey | None:
        """The key with this secret, in constant time; None where there is none."""
        digest = hash_of(given)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


def new_key() -> str:
    """A new random key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """The hash that is kept of a key."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def load_keys(settings: Settings) -> Keys:
    """The keys of the environment and those of the file.

    Raises:
        KeysError: one of them cannot be used; the message shows no key and no hash.
    """
    keys: list[ApiKey] = []
    if pairs := [pair.strip() for pair in revealed(settings.collector_keys).split(",") if pair.strip()]:
        given = [dict(zip(("name", "sha256"), pair.partition(":")[::2], strict=True)) for pair in pairs]
        variable = Document(
            "FUNNELWATCH_COLLECTOR_KEYS", {"keys": given}, KeysError, shows_values=False, has_lines=False
        )
        keys += variable.validated(KeysFile).keys
    if settings.collector_keys_path:
        keys += Document.read(settings.collector_keys_path, KeysError, shows_values=False).validated(KeysFile).keys
    names = [key.name for key in keys]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise KeysError(f"the API key {repeated} appears twice; right would be a name of its own for each")
    hashes = [key.sha256 for key in keys]
    if same := next((key for number, key in enumerate(keys) if key.sha256 in hashes[:number]), None):
        other = keys[hashes.index(same.sha256)].name
        raise KeysError(f"the API keys {other} and {same.name} are the same key; right would be one name for it")
    return Keys(tuple(keys))
