"""``python -m stream worker``: the Faust app's own command line, with errors that a person can read.

``faust -A stream.app worker`` is the same without the latter.
"""

from __future__ import annotations

import sys

from pydantic import ValidationError

from alert_rules.loader import RuleFileError
from funnelwatch.funnels import FunnelsFileError


def main() -> None:
    """Run the app; a wrong setting, rule file or funnels file is a sentence and exit code 2."""
    try:
        from stream.app import app  # noqa: PLC0415 - reads settings, rules and funnels as it is imported
    except (RuleFileError, FunnelsFileError) as error:
        sys.exit(f"Error: {error}")
    except ValidationError as error:
        sys.exit(f"Error: settings: {error}")
    app.main()


if __name__ == "__main__":
    main()
