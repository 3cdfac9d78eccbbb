"""Rules that follow their files: an edit is taken up, a broken one is rejected and the rules before it go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.alert_rules.loader import RuleFileError, load_rules, rule_files

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.alert_rules.model import Rules

Signature = tuple[tuple[str, int, int], ...]


class LiveRules:
    """The rules of a file or folder as they were when they could last be used.

    Args:
        path: the file or folder; None: the shipped rules, which belong to the program and are read once.

    Raises:
        RuleFileError: they cannot be used even now, at the start.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._taken = self._seen = self._signature()
        self.rules: Rules = load_rules(path)
        self.fault: str | None = None
        """Why the files as they are now cannot be used; None while they can."""

    def look(self) -> bool:
        """Take up what was edited since; True if there are other rules now. To be called every few seconds.

        Files are read once they have been the same for two looks in a row: half of a file that is being written is
        nobody's edit.
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
            self.fault = str(error)
            return False
        self.fault = None
        changed = found.version != self.rules.version
        self.rules = found
        return changed

    def _signature(self) -> Signature:
        """Names, times of change and sizes of the files; what cannot be looked at is left out."""
        found = []
        for file in rule_files(self._path) if self._path else ():
            try:
                stat = file.stat()
            except OSError:
                continue
            found.append((file.name, stat.st_mtime_ns, stat.st_size))
        return tuple(found)
