"""Which errors of the database are waited out, and which are somebody's fault."""

from __future__ import annotations

import psycopg
import pytest

from funnelwatch.sinks.timescale.errors import ErrorKind, is_outage, kind_of, kind_of_code

CODES = {
    "08000": ErrorKind.OUTAGE,
    "08006": ErrorKind.OUTAGE,
    "08P01": ErrorKind.OUTAGE,  # PgBouncer: no more connections, query_wait_timeout, server_login_retry
    "0A000": ErrorKind.DATA,
    "21000": ErrorKind.DATA,
    "22001": ErrorKind.DATA,
    "22003": ErrorKind.DATA,
    "22021": ErrorKind.DATA,
    "22P05": ErrorKind.DATA,
    "23502": ErrorKind.DATA,
    "23505": ErrorKind.DATA,
    "23514": ErrorKind.DATA,
    "25001": ErrorKind.BUG,
    "25006": ErrorKind.OUTAGE,
    "25P02": ErrorKind.BUG,
    "25P03": ErrorKind.OUTAGE,
    "25P04": ErrorKind.LIMIT,
    "26000": ErrorKind.OUTAGE,
    "28000": ErrorKind.OUTAGE,
    "28P01": ErrorKind.OUTAGE,
    "2BP01": ErrorKind.BUG,
    "34000": ErrorKind.BUG,
    "38000": ErrorKind.DATA,
    "39P01": ErrorKind.DATA,
    "3D000": ErrorKind.OUTAGE,
    "3F000": ErrorKind.BUG,
    "40001": ErrorKind.OUTAGE,
    "40002": ErrorKind.DATA,
    "40P01": ErrorKind.OUTAGE,
    "42501": ErrorKind.OUTAGE,
    "42601": ErrorKind.BUG,
    "42703": ErrorKind.BUG,
    "42883": ErrorKind.BUG,
    "42P01": ErrorKind.BUG,
    "42P05": ErrorKind.OUTAGE,
    "44000": ErrorKind.DATA,
    "53000": ErrorKind.OUTAGE,
    "53100": ErrorKind.OUTAGE,
    "53200": ErrorKind.LIMIT,
    "53300": ErrorKind.OUTAGE,
    "53400": ErrorKind.DATA,
    "54000": ErrorKind.DATA,
    "54001": ErrorKind.DATA,
    "55000": ErrorKind.OUTAGE,
    "55006": ErrorKind.OUTAGE,
    "55P03": ErrorKind.OUTAGE,
    "57014": ErrorKind.LIMIT,
    "57P01": ErrorKind.OUTAGE,
    "57P02": ErrorKind.OUTAGE,
    "57P03": ErrorKind.OUTAGE,
    "57P04": ErrorKind.OUTAGE,
    "57P05": ErrorKind.OUTAGE,
    "58000": ErrorKind.OUTAGE,
    "58030": ErrorKind.OUTAGE,
    "58P01": ErrorKind.OUTAGE,
    "F0000": ErrorKind.OUTAGE,
    "P0001": ErrorKind.DATA,
    "XX000": ErrorKind.DATA,
    "XX001": ErrorKind.DATA,
    "XX002": ErrorKind.DATA,
    "ZZZZZ": ErrorKind.BUG,
}


@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_the_code_decides_what_is_done(code: str, kind: ErrorKind) -> None:
    """Waiting, smaller parts, looking for the row, or stopping: whatever class psycopg gives the error."""
    assert kind_of_code(code) is kind
    try:
        error = psycopg.errors.lookup(code)("as the server said")
    except KeyError:
        return
    assert kind_of(error) is kind
    assert is_outage(error) is (kind in {ErrorKind.OUTAGE, ErrorKind.LIMIT})


def test_every_operational_error_is_decided_on() -> None:
    """Psycopg calls these operational; of them only wrong savepoints, of which there are none here, are a bug."""
    classes = vars(psycopg.errors).values()
    codes = {
        one.sqlstate
        for one in classes
        if isinstance(one, type) and issubclass(one, psycopg.OperationalError) and one.sqlstate
    }
    assert len(codes) > 40
    assert {code[:2] for code in codes if kind_of_code(code) is ErrorKind.BUG} == {"3B"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("connection refused"), ErrorKind.OUTAGE),
        (psycopg.InterfaceError("the connection is closed"), ErrorKind.OUTAGE),
        (psycopg.errors.ConnectionTimeout("timeout"), ErrorKind.OUTAGE),
        (psycopg.DataError("text fields cannot contain NUL"), ErrorKind.DATA),
        (psycopg.ProgrammingError("invalid connection option"), ErrorKind.BUG),
        (ValueError("anything"), ErrorKind.BUG),
    ],
)
def test_what_the_client_raises_has_no_code(error: Exception, kind: ErrorKind) -> None:
    """A connection that fails is an outage, whatever the reason; a value that cannot be sent is the value's fault."""
    assert kind_of(error) is kind
