"""Interruptions in this process: of a task at each of its checkpoints, and of a run at a state."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from workers.execution.progress import Interrupted, TaskProgress
from workers.execution.task_run import TaskContext
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


def check_interruptions(
    execute: Callable[[Any, TaskContext], Any], task: Any, context: TaskContext, folder: Path
) -> tuple[Any, int]:
    """Check that a task publishes the same record and the same bytes undisturbed and stopped again and again.

    Each start of the second execution is stopped at the first checkpoint that no earlier start has reached.

    Args:
        execute: runs a task.
        task: the task; its dependencies are in the store of `context`.
        context: of the undisturbed execution.
        folder: an empty folder for the store of the second execution.

    Returns:
        The record, and the number of checkpoints at which the task was stopped.
    """
    undisturbed = execute(task, context)
    store = Store(open_objects(str(folder)))
    for name in task.objects:
        store.objects.put(name, context.store.objects.get(name))
    seen: set[int] = set()

    def at_a_new_checkpoint() -> bool:
        checkpoint = store.latest_checkpoint(task.key)
        new = checkpoint is not None and checkpoint.epoch not in seen
        seen.update({checkpoint.epoch} if checkpoint else ())
        return new

    record = None
    while record is None:
        progress = TaskProgress(at_a_new_checkpoint, checkpoint_seconds=0.0)
        with contextlib.suppress(Interrupted):
            record = execute(task, replace(context, store=store, progress=progress))
    assert record == undisturbed
    assert store.objects.get(record.object) == context.store.objects.get(record.object)
    return record, len(seen)


def check_stops_within_steps(
    execute: Callable[[Any, TaskContext], Any],
    task: Any,
    context: TaskContext,
    folder: Path,
    looks: Sequence[int],
) -> None:
    """Check that a task that is stopped between two evaluations of its loss publishes the same bits.

    Args:
        execute, task, context, folder: as for `check_interruptions`.
        looks: for each start, the number of looks for a request to stop at which one is there.
    """
    undisturbed = execute(task, context)
    store = Store(open_objects(str(folder)))
    for name in task.objects:
        store.objects.put(name, context.store.objects.get(name))
    for last in looks:
        numbers = iter(range(1, last + 1))
        progress = TaskProgress(
            lambda n=numbers, last=last: next(n) == last, 1e9, itertools.count(0, 2.0).__next__
        )
        with pytest.raises(Interrupted):
            execute(task, replace(context, store=store, progress=progress))
        assert store.latest_checkpoint(task.key) is not None
    assert execute(task, replace(context, store=store, progress=TaskProgress())) == undisturbed
    assert store.objects.get(undisturbed.object) == context.store.objects.get(undisturbed.object)


class Killed(BaseException):
    """The end of a process, as far as a test in one process can simulate it."""


@contextlib.contextmanager
def killed_when(reached: Callable[[], object]) -> Iterator[None]:
    """Check that a worker dies in this block, before it publishes records in a state.

    Args:
        reached: whether the state is reached.
    """
    publish = Store.publish_segment

    def published(store: Store, *arguments: Any, **options: Any) -> Any:
        if reached():
            raise Killed
        return publish(store, *arguments, **options)

    with mock.patch.object(Store, "publish_segment", published), pytest.raises(Killed):
        yield
