"""The evaluation settings of a run. They are chosen once, so that every worker computes the same bits.

torch is imported on first use: reading a run does not need it.
"""

import contextlib
import ctypes
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topo_core.objectives.precision import Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Evaluation:
    """The device, and the settings that decide the last bits of a result on it."""

    device: str = "cpu"
    strategy: str = "auto"
    threads: int = 1
    """Threads of a worker. Two workers with one thread are faster than one worker with two threads."""
    paths_at_once: int = 1
    """Number of paths that a worker optimises together; 1 on a CPU, so that no path changes another's last
    bits."""
    precision: Precision = "float32"
    """Precision of gradients on a GPU (`topo_core.objectives.precision`); losses are never rounded."""


GPU_SHARE = "TOSCORE_GPU_SHARE"
"""Environment variable with the fraction of a GPU that a worker may use, if several workers share one."""


def worker_environment(evaluation: Evaluation) -> dict[str, str]:
    """Environment variables for a worker process. They must be set before torch is imported."""
    threads = dict.fromkeys(THREAD_VARIABLES, str(evaluation.threads))
    # By default glibc returns large blocks to the system when they are freed, which causes page faults at the
    # next use. Without this, convolutions are at least 1.3 times faster.
    malloc = {
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
        "MALLOC_TOP_PAD_": str(64 << 20),
    }
    return {**threads, **{k: v for k, v in malloc.items() if k not in os.environ}}


def device_name(device: str) -> str:
    """The name of a device in records: `cpu`, or the model of the GPU."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def device_type(device: str) -> str:
    """The kind of a device: model and memory of a GPU, or the instruction set of a CPU.

    One evaluation strategy is chosen for all devices of a kind.
    """
    import torch

    if device.startswith("cuda"):
        gpu = torch.cuda.get_device_properties(device)
        return f"{gpu.name}, {round(gpu.total_memory / 2**30)} GiB"
    return f"{device} {torch.backends.cpu.get_cpu_capability()}"


def free_memory(device: "torch.device") -> int | None:
    """Free bytes of a GPU, or of this process's share of it; None on a CPU."""
    if device.type != "cuda":
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free * float(os.environ.get(GPU_SHARE, "1")))


def pinned(tensor: "Tensor") -> "Tensor":
    """A tensor in page-locked memory, from which a GPU copies without waiting for the CPU.

    A tensor is returned as it is where there is no GPU, or not enough memory to lock.
    """
    import torch

    if not torch.cuda.is_available() or tensor.device.type != "cpu":
        return tensor
    try:
        return tensor.pin_memory()
    except RuntimeError:
        return tensor


def prepare_process(evaluation: Evaluation) -> None:
    """Set threads, memory and determinism of this process; safe to call again."""
    import torch

    from topo_core.objectives.batching.memory_budget import share_device

    torch.set_num_threads(evaluation.threads)
    with contextlib.suppress(RuntimeError):  # cannot be changed after the first parallel work
        torch.set_num_interop_threads(1)
    keep_memory()
    share = float(os.environ.get(GPU_SHARE, "1"))
    share_device(share)
    if share < 1 and evaluation.device == "cuda":
        torch.cuda.set_per_process_memory_fraction(share)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # on by default
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def keep_memory() -> None:
    """Keep freed memory in this process, as `worker_environment` does for processes that are started.

    Does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim, top_pad, mmap = -1, -2, -3  # of malloc.h
    mallopt(trim, (1 << 31) - 1)
    mallopt(top_pad, 64 << 20)
    if not mallopt(mmap, 1 << 30):  # older releases refuse more than half a heap
        mallopt(mmap, 1 << 25)
