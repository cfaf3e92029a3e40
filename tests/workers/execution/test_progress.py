"""When running tasks publish checkpoints, and when they are interrupted."""

import pytest

from workers.execution.progress import Interrupted, TaskProgress


def test_checkpoints_are_due_by_time():
    """One a minute, however many epochs a minute has; the time of a task begins with it."""
    now = 0.0
    progress = TaskProgress(clock=lambda: now)
    due = []
    for now in range(0, 300, 7):
        if progress.checkpoint_is_due():
            due.append(now)
    assert due == [63, 126, 189, 252]
    now = 311.0
    progress.start("another")
    assert not progress.checkpoint_is_due()


def test_a_stop_makes_a_checkpoint_due_and_then_interrupts():
    """The state is published before the task ends, although no minute has passed."""
    asked = iter([False, True])
    progress = TaskProgress(lambda: next(asked))
    assert not progress.checkpoint_is_due()
    progress.share("a", 0.1)
    assert progress.checkpoint_is_due()
    with pytest.raises(Interrupted):
        progress.share("a", 0.2)


def test_a_stop_within_a_step_is_seen_within_a_second():
    """The request is looked for at most once a second, however often the loss is evaluated."""
    now, looks = 0.0, []

    def stopping():
        looks.append(now)
        return now >= 5

    progress = TaskProgress(stopping, clock=lambda: now)
    with pytest.raises(Interrupted):
        for tenth in range(100):
            now = tenth / 10
            progress.stop_if_asked()
    assert looks == [1, 2, 3, 4, 5]
