"""Rules that follow their files: edits are loaded, and after a broken edit the previous rules stay in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.alert_rules.loader import RuleFileError, load_rules, rule_files

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.alert_rules.model import Rules

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
