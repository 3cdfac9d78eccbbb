"""A client of a Confluent schema registry: a schema by id, and an id for a schema.

An outage is never mistaken for a bad event: every response except the registry's own "no such schema" raises
``RegistryUnavailable``, on which a caller pauses and retries.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.redaction import know_address, revealed, shown
from funnelwatch.schemas.web_client import Unanswered, ask, without_login

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

MAX_ID = 2**31 - 1
"""The registry's ids are Java ints; for a larger id it responds as if the address were wrong."""

NOT_FOUND = (40401, 40402, 40403)
"""The registry's own codes for a subject, a version and an id that it does not have; a plain 404 may be a proxy's."""

MAX_REFERENCES = 100
"""A schema refers to at most this many others, directly and through others."""

OK = 200
DENIED = (401, 403)
REDIRECTS = range(300, 400)
"""Redirects that were not followed: to another scheme, or of a request that registers a schema."""

REJECTED = (409, 422)
"""Incompatible with the earlier version of the subject; not a valid schema."""

UNKNOWN_KEPT_S = 30.0
"""An unknown id is requested again after this long: a replica of the registry may lag behind, but a flood of garbage
that looks like one id must not become a flood of requests."""

UNKNOWN_KEPT = 1024
"""At most this many unknown ids are remembered."""


class RegistryUnavailable(FunnelwatchError):  # noqa: N818 - the project's word for it, like Undecodable
    """The schema registry is unavailable (network, 5xx, permissions); pause and retry."""


class RegistryRejected(FunnelwatchError, ValueError):  # noqa: N818 - likewise
    """The registry rejects a schema, for instance because it is incompatible with the subject's last one."""


class UnknownSchemaId(FunnelwatchError, LookupError):  # noqa: N818 - likewise
    """The registry has no Avro schema of that id."""


class Registry:
    """A client of one registry. Known ids are cached forever (an id never changes its schema), unknown ids briefly.

    Args:
        url: http or https; ``https://user:password@host`` for basic authentication.
        timeout_s: how long one request may take, in seconds.
        clock: a monotonic clock, seconds.

    Raises:
        ValueError: the address is not http or https.
    """

    def __init__(
        self, url: str | SecretStr, timeout_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        know_address(url)
        try:
            bare, login = without_login(revealed(url).strip())
        except ValueError:
            raise ValueError(
                f"schema registry {shown(url)!r} is not a web address; right would be 'http://host:8081'"
            ) from None
        self.url = bare.partition("?")[0].rstrip("/")
        self._headers = {"Content-Type": "application/vnd.schemaregistry.v1+json", **login}
        self._timeout_s = timeout_s
        self._clock = clock
        self._known: dict[int, list[Any]] = {}
        self._unknown: dict[int, tuple[float, str]] = {}

    def schemas(self, schema_id: int) -> list[Any]:
        """Return the schema of that id as parsed JSON, after the schemas that it refers to; each follows its own.

        Raises:
            UnknownSchemaId: the schema does not exist or is not Avro, or one that it refers to.
            RegistryUnavailable: the registry is unavailable.
        """
        if schema_id in self._known:
            return self._known[schema_id]
        until, why = self._unknown.get(schema_id, (0.0, ""))
        if schema_id > MAX_ID or self._clock() < until:
            raise UnknownSchemaId(why or f"{schema_id} is larger than any id of a registry")
        try:
            schemas = self._schemas_now(schema_id)
        except UnknownSchemaId as error:
            if len(self._unknown) >= UNKNOWN_KEPT:
                self._unknown.pop(next(iter(self._unknown)))
            self._unknown[schema_id] = self._clock() + UNKNOWN_KEPT_S, str(error)
            raise
        self._known[schema_id] = schemas
        return schemas

    def register(self, subject: str, schema: Any) -> int:
        """The id of a schema under a subject; registered if it is new.

        Raises:
            RegistryRejected: the registry rejects it; the message has its reason.
            RegistryUnavailable: the registry is unavailable.
        """
        path = f"/subjects/{urllib.parse.quote(subject, safe='')}/versions"
        status, answer = self._ask(path, json.dumps({"schema": json.dumps(schema)}).encode())
        if status in REJECTED:
            raise RegistryRejected(f"{self.url} rejects the schema of subject {subject}: {answer.get('message')}")
        if not isinstance(answer.get("id"), int):
            raise RegistryUnavailable(f"{self.url}{path}: HTTP {status}: {answer.get('message', answer)}")
        return int(answer["id"])

    def ping(self) -> None:
        """Check that the registry responds to this user.

        Raises:
            RegistryUnavailable: it does not; the message has the reason.
        """
        path = "/subjects"
        try:
            reply = ask(self.url + path, timeout_s=self._timeout_s, headers=self._headers)
        except Unanswered as error:
            raise RegistryUnavailable(str(error)) from None
        if reply.status in DENIED:
            raise RegistryUnavailable(
                f"{self.url} denies access: HTTP {reply.status}; name a user and a password that it knows in the "
                "address, before the host and percent-encoded"
            )
        if reply.status != OK:
            raise RegistryUnavailable(f"{self.url}{path}: HTTP {reply.status}")

    def _schemas_now(self, schema_id: int) -> list[Any]:
        found: dict[tuple[str, str], Any] = {}
        own = self._one(f"schema {schema_id}", f"/schemas/ids/{schema_id}", found)
        return [*found.values(), own]

    def _one(self, what: str, path: str, found: dict[tuple[str, str], Any]) -> Any:
        """Return the schema at a path; the schemas that it refers to are added to ``found``, by subject and version."""
        status, answer = self._ask(path)
        if answer.get("error_code") in NOT_FOUND:
            raise UnknownSchemaId(f"{self.url} has no {what}")
        if "schema" not in answer:
            raise RegistryUnavailable(f"{self.url}{path}: HTTP {status}: {answer.get('message', answer)}")
        kind = answer.get("schemaType") or "AVRO"
        if kind != "AVRO":
            raise UnknownSchemaId(f"{what} of {self.url} is {kind}, not Avro")
        try:
            schema = json.loads(answer["schema"])
        except (TypeError, ValueError) as error:
            raise UnknownSchemaId(f"{what} of {self.url} is not JSON") from error
        for reference in answer.get("references") or ():
            self._refer(what, reference, found)
        return schema

    def _refer(self, what: str, reference: Any, found: dict[tuple[str, str], Any]) -> None:
        try:
            name = str(reference["subject"]), str(reference["version"])
        except (TypeError, KeyError) as error:
            raise UnknownSchemaId(f"{what} of {self.url} has a reference without subject and version") from error
        if name in found:
            return
        if len(found) >= MAX_REFERENCES:
            raise UnknownSchemaId(f"{what} of {self.url} refers to more than {MAX_REFERENCES} schemas")
        found[name] = None  # ends a cycle
        subject, version = (urllib.parse.quote(part, safe="") for part in name)
        # Other schemas may refer to a deleted version.
        path = f"/subjects/{subject}/versions/{version}?deleted=true"
        schema = self._one(f"version {name[1]} of subject {name[0]}, to which {what} refers,", path, found)
        del found[name]
        found[name] = schema  # behind those that it refers to

    def _ask(self, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of a response; a 4xx is a response too, a 5xx is an outage."""
        try:
            reply = ask(self.url + path, timeout_s=self._timeout_s, headers=self._headers, body=body)
        except Unanswered as error:
            raise RegistryUnavailable(str(error)) from None
        if reply.status in REDIRECTS:
            raise RegistryUnavailable(f"{self.url}{path}: HTTP {reply.status}: it is elsewhere; name that address")
        try:
            answer = json.loads(reply.body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise RegistryUnavailable(f"{self.url}{path}: HTTP {reply.status}, and no JSON object")
        return reply.status, answer
