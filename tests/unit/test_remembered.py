"""An answer that is kept for a while."""

from __future__ import annotations

import pytest

from funnelwatch.stream.worker.kafka_admin import Remembered


def test_an_answer_is_asked_for_again_after_a_while() -> None:
    """And at once after an error."""
    now, asked, answers = 0.0, 0, iter([4, 5, RuntimeError("away"), 6])

    def ask() -> int:
        nonlocal asked
        asked += 1
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    remembered = Remembered(ask, 10.0, lambda: now)
    assert [remembered() for _ in range(40)] == [4] * 40
    now = 10.0
    assert [remembered() for _ in range(40)] == [5] * 40
    assert asked == 2
    now = 20.0
    with pytest.raises(RuntimeError, match="away"):
        remembered()
    assert remembered() == 6
