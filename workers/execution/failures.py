"""Why a task ended without a result, as a kind: what is done about it is decided by kind, by the scheduler.

The question is who is to blame. A task is, for a loss that diverges or a bug in the user's network. Its
worker is, for a broken device, memory that other processes took, data that are missing on its node, or
credentials that have expired there: the same task may well succeed elsewhere.
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
"""Parts of messages after which the process cannot use its device any more, or never could."""


def failure_of(key: str, error: Exception, *, loading: bool = False) -> Failed:
    """What is reported of a task that ended with `error`.

    Args:
        key: of the task.
        error: what was raised.
        loading: it was raised while the worker loaded the data and the network, which the driver had
            loaded before: what differs is the worker's machine.
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
            # Starting the run again finds the damage in the store and makes the object again.
            return Failed(key, FailureKind.DAMAGED, reason)
        case torch.OutOfMemoryError() if not loading:
            return Failed(key, FailureKind.OUT_OF_MEMORY, _first_line(error))
    details = "".join(traceback.format_exception(error))
    if loading or _blames_worker(error):
        return Failed(key, FailureKind.WORKER, _first_line(error), details)
    # A bug, ours or in the user's code: kept whole for its owner.
    return Failed(key, FailureKind.BUG, f"{type(error).__name__}: {error}", details)


def _blames_worker(error: Exception) -> bool:
    """Whether the machine, the device or the credentials of the worker made the task fail."""
    if isinstance(error, MemoryError | OSError | NotWritable):
        return True
    return isinstance(error, RuntimeError) and any(
        part in str(error).lower() for part in BROKEN_DEVICE
    )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
