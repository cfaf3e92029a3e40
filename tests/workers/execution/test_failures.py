"""Who is to blame when a task ends without a result."""

import errno

import pytest
import torch

from tests.helpers.made_run import made_run
from workers.execution.failures import failure_of
from workers.execution.progress import TaskFailure
from workers.execution.worker import Worker, WorkerContext
from workers.problems.evaluation import Evaluation
from workers.problems.user_code import BadReference
from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable
from workers.tasks.results import FailureKind


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors …"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        RuntimeError("No CUDA GPUs are available"),
        RuntimeError("HIP error: out of memory"),
        MemoryError(),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/images"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ESTALE, "Stale file handle"),
        NotWritable("s3://b/r refuses (403, ExpiredToken): renew the credentials"),
    ],
)
def test_the_set_up_of_a_worker_is_no_fault_of_its_task(error):
    """A broken device, no memory, missing data, no descriptors, expired credentials: elsewhere it works."""
    failed = failure_of("a", error)
    assert failed.kind is FailureKind.WORKER
    assert failed.reason and "\n" not in failed.reason


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TaskFailure(FailureKind.DIVERGED, "loss is nan"), FailureKind.DIVERGED),
        (StoreUnreachable("503"), FailureKind.STORE),
        (StoreFull("no space left"), FailureKind.DISK_FULL),
        (torch.OutOfMemoryError("CUDA out of memory. Tried 8 GiB"), FailureKind.OUT_OF_MEMORY),
        (RuntimeError("shape '[2, 3]' is invalid for input of size 7"), FailureKind.BUG),
        (KeyError("hidden"), FailureKind.BUG),
    ],
)
def test_faults_of_tasks_and_of_the_store_stay_theirs(error, kind):
    """Only what another worker would do better is a worker's fault."""
    assert failure_of("a", error).kind is kind


@pytest.mark.parametrize(
    "error", [BadReference("data: no module mydata"), ImportError("libfoo.so"), KeyError("x")]
)
def test_what_the_driver_could_load_and_a_worker_cannot(error):
    """Data and network were loaded by the driver before: a worker that fails to differs from it."""
    assert failure_of("a", error, loading=True).kind is FailureKind.WORKER


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotWritable("403: the token has expired"), FailureKind.WORKER),
        (StoreFull("no space left"), FailureKind.DISK_FULL),
        (RuntimeError("unforeseen"), FailureKind.BUG),
    ],
)
def test_a_record_that_cannot_be_published_is_a_result(tmp_path, monkeypatch, error, kind):
    """It is returned with its cause; raised, it would look as if the task had killed its worker."""
    settings = {"epochs": 1, "batch_size": 500}
    made = made_run(tmp_path, 2, minima={"count": 2, **settings})
    context = WorkerContext(str(made.folder), 1, Evaluation())

    def refused(*arguments, **options):
        raise error

    monkeypatch.setattr("workers.storage.run_store.Store.publish_segment", refused)
    monkeypatch.setattr("workers.execution.worker.check_identity", lambda problem, data: None)
    (result,) = Worker(context, "w").run([made.plan.minima[0]])
    assert result.kind is kind and str(error) in result.reason
