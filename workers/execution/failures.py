"""Why a task ended without a result, as a kind by which the scheduler decides what follows.

Either the task or its worker is the cause. The task is, where its loss diverges or the user's network has a
bug. The worker is, where a device is broken, other processes took the memory, its node lacks the data, or its
credentials have expired: the same task may succeed on another worker.
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
"""Parts of messages of errors after which the process cannot use its device."""


def failure_of(key: str, error: Exception, *, loading: bool = False) -> Failed:
    """The report on a task that ended with `error`.

    Args:
        key: of the task.
        error: what was raised.
        loading: it was raised while the worker loaded the data and the network, which the driver had
            loaded before without an error: so the worker's machine is the cause.
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
    # A bug, in this program or in the user's code: its traceback is kept whole.
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
