"""Offsets that are counted are committed to Kafka, until it confirms them."""

from __future__ import annotations

from funnelwatch.stream.intake.offsets import COMMIT_AGAIN_S, CommittedOffsets


def test_an_offset_is_committed_again_until_it_is_confirmed() -> None:
    """Not at once, as the answer may be on its way; a start is to be committed at once."""
    committed = CommittedOffsets()
    committed.want({0: 7}, now_s=100.0)
    committed.want({1: 3})
    assert committed.due([0, 1], 101.0) == {1: 3}
    assert committed.due([0, 1], 100.0 + COMMIT_AGAIN_S) == {0: 7, 1: 3}
    committed.confirm({0: 7, 1: 3})
    assert committed.due([0, 1], 1_000.0) == {}


def test_the_answer_to_an_older_commit_does_not_confirm_a_newer_one() -> None:
    """Commits are asynchronous: the answer to the first one may come after the second one was sent and lost."""
    committed = CommittedOffsets()
    committed.want({0: 7}, now_s=100.0)
    committed.want({0: 9}, now_s=101.0)
    committed.confirm({0: 7})
    assert committed.due([0], 200.0) == {0: 9}


def test_nothing_is_committed_for_a_partition_that_another_worker_has_by_now() -> None:
    """It would set back what that one has committed; not even when the partition comes back."""
    committed = CommittedOffsets()
    committed.want({0: 7, 1: 3}, now_s=100.0)
    assert committed.due([1], 200.0) == {1: 3}
    assert committed.due([0, 1], 200.0) == {1: 3}
