"""Which errors of the database are waited out, and which are an error of a value."""

from __future__ import annotations

import psycopg
import pytest

from funnelwatch.sinks.errors import ErrorClass, class_of_sqlstate, classify, is_transient

CODES = {
    "08000": ErrorClass.OUTAGE,
    "08006": ErrorClass.OUTAGE,
    "08P01": ErrorClass.OUTAGE,  # PgBouncer: no more connections, query_wait_timeout, server_login_retry
    "0A000": ErrorClass.REJECTED,
    "21000": ErrorClass.REJECTED,
    "22001": ErrorClass.REJECTED,
    "22003": ErrorClass.REJECTED,
    "22021": ErrorClass.REJECTED,
    "22P05": ErrorClass.REJECTED,
    "23502": ErrorClass.REJECTED,
    "23505": ErrorClass.REJECTED,
    "23514": ErrorClass.REJECTED,
    "25001": ErrorClass.BUG,
    "25006": ErrorClass.OUTAGE,
    "25P02": ErrorClass.BUG,
    "25P03": ErrorClass.OUTAGE,
    "25P04": ErrorClass.BUSY,
    "26000": ErrorClass.OUTAGE,
    "28000": ErrorClass.OUTAGE,
    "28P01": ErrorClass.OUTAGE,
    "2BP01": ErrorClass.BUG,
    "34000": ErrorClass.BUG,
    "38000": ErrorClass.REJECTED,
    "39P01": ErrorClass.REJECTED,
    "3D000": ErrorClass.OUTAGE,
    "3F000": ErrorClass.BUG,
    "40001": ErrorClass.OUTAGE,
    "40002": ErrorClass.REJECTED,
    "40P01": ErrorClass.OUTAGE,
    "42501": ErrorClass.OUTAGE,
    "42601": ErrorClass.BUG,
    "42703": ErrorClass.BUG,
    "42883": ErrorClass.BUG,
    "42P01": ErrorClass.BUG,
    "42P05": ErrorClass.OUTAGE,
    "44000": ErrorClass.REJECTED,
    "53000": ErrorClass.OUTAGE,
    "53100": ErrorClass.OUTAGE,
    "53200": ErrorClass.BUSY,
    "53300": ErrorClass.OUTAGE,
    "53400": ErrorClass.REJECTED,
    "54000": ErrorClass.REJECTED,
    "54001": ErrorClass.REJECTED,
    "55000": ErrorClass.OUTAGE,
    "55006": ErrorClass.OUTAGE,
    "55P03": ErrorClass.OUTAGE,
    "57014": ErrorClass.BUSY,
    "57P01": ErrorClass.OUTAGE,
    "57P02": ErrorClass.OUTAGE,
    "57P03": ErrorClass.OUTAGE,
    "57P04": ErrorClass.OUTAGE,
    "57P05": ErrorClass.OUTAGE,
    "58000": ErrorClass.OUTAGE,
    "58030": ErrorClass.OUTAGE,
    "58P01": ErrorClass.OUTAGE,
    "F0000": ErrorClass.OUTAGE,
    "P0001": ErrorClass.REJECTED,
    "XX000": ErrorClass.REJECTED,
    "XX001": ErrorClass.REJECTED,
    "XX002": ErrorClass.REJECTED,
    "ZZZZZ": ErrorClass.BUG,
}


@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_the_code_decides_what_is_done(code: str, kind: ErrorClass) -> None:
    """Waiting, smaller parts, looking for the row, or stopping: whatever class psycopg gives the error."""
    assert class_of_sqlstate(code) is kind
    try:
        error = psycopg.errors.lookup(code)("as the server said")
    except KeyError:
        return
    assert classify(error) is kind
    assert is_transient(error) is (kind in {ErrorClass.OUTAGE, ErrorClass.BUSY})


def test_every_operational_error_is_decided_on() -> None:
    """Psycopg calls these operational; of them only wrong savepoints, of which there are none here, are a bug."""
    classes = vars(psycopg.errors).values()
    codes = {
        one.sqlstate
        for one in classes
        if isinstance(one, type) and issubclass(one, psycopg.OperationalError) and one.sqlstate
    }
    assert len(codes) > 40
    assert {code[:2] for code in codes if class_of_sqlstate(code) is ErrorClass.BUG} == {"3B"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("connection refused"), ErrorClass.OUTAGE),
        (psycopg.InterfaceError("the connection is closed"), ErrorClass.OUTAGE),
        (psycopg.errors.ConnectionTimeout("timeout"), ErrorClass.OUTAGE),
        (psycopg.DataError("text fields cannot contain NUL"), ErrorClass.REJECTED),
        (psycopg.ProgrammingError("invalid connection option"), ErrorClass.BUG),
        (ValueError("anything"), ErrorClass.BUG),
    ],
)
def test_what_the_client_raises_has_no_code(error: Exception, kind: ErrorClass) -> None:
    """A connection that fails is an outage, whatever the reason; a value that cannot be sent is the value's error."""
    assert classify(error) is kind
