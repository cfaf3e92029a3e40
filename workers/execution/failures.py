"""Classify the error that ended a task, so that the scheduler can decide whether to try the task again.

The cause is either the task or its worker. The task is the cause if its loss diverges or the user's network
has a bug. The worker is the cause if its device is broken, other processes use up the memory, its node lacks
the data, or its credentials have expired: the same task may then succeed on another worker.
"""

import traceback

import torch

from workers.execution.progress import TaskFailure
from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable
from workers.storage.run_store import Damaged
from workers.tasks.results import Failed, FailureKind

BROKEN_DEVICE = (
    "cuda error",
    "cuda driver",
    "cudnn error",
    "cudnn_status",
    "cublas_status",
    "cusolver error",
    "cusparse error",
    "hip error",
    "nccl error",
    "device-side assert",
    "no cuda gpus are available",
    "invalid device ordinal",
)
"""Parts of error messages, in lower case, after which the process cannot use its device any more."""


def failure_of(key: str, error: Exception, *, loading: bool = False) -> Failed:
    """The failure to report for a task that raised `error`.

    Args:
        key: of the task.
        error: the exception.
        loading: whether the error was raised while the worker loaded the data and the network. The driver has
            loaded both without an error, so the worker's machine is the cause.
    """
    reason = str(error)
    match error:
        case TaskFailure():
            return Failed(key, error.kind, reason)
        case StoreUnreachable():
            return Failed(key, FailureKind.STORE, reason)
        case StoreFull():
            return Failed(key, FailureKind.DISK_FULL, reason)
        case Damaged():
            # The next start of the run finds the damaged object in the store and computes it again.
            return Failed(key, FailureKind.DAMAGED, reason)
        case torch.OutOfMemoryError() if not loading:
            return Failed(key, FailureKind.OUT_OF_MEMORY, _first_line(error))
    details = "".join(traceback.format_exception(error))
    if loading or _blames_worker(error):
        return Failed(key, FailureKind.WORKER, _first_line(error), details)
    # A bug in this program or in the user's code: the failure keeps the whole traceback.
    return Failed(key, FailureKind.BUG, f"{type(error).__name__}: {error}", details)


def _blames_worker(error: Exception) -> bool:
    """Whether the machine, the device or the credentials of the worker are the cause of an error."""
    if isinstance(error, MemoryError | OSError | NotWritable):
        return True
    return isinstance(error, RuntimeError) and any(
        part in str(error).lower() for part in BROKEN_DEVICE
    )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
