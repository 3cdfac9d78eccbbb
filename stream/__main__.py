"""``python -m stream worker``: the Faust app's own command line, with errors that a person can read.

``faust -A funnelwatch.stream.app worker`` is the same without the latter.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from funnelwatch.alert_rules.loader import RuleFileError
from funnelwatch.schemas import redacted_output
from funnelwatch.schemas.funnels import FunnelsFileError
from funnelwatch.schemas.redaction import redacted


def main() -> None:
    """Run the app; a wrong setting, rule file or funnels file is a sentence and exit code 2."""
    try:
        redacted_output.install()
        from funnelwatch.stream.app import app  # noqa: PLC0415 - reads settings, rules and funnels as it is imported
    except (RuleFileError, FunnelsFileError) as error:
        fail(f"Error: {error}")
    app.main()


def fail(message: str) -> NoReturn:
    """Print what is wrong, and exit as for a wrong command line."""
    print(redacted(message), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
