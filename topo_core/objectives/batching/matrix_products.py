"""Which library computes matrix products on a CPU.

torch computes float32 products with MKL. On some CPUs that are not from Intel, its kernels use only half of
the arithmetic units: on a CPU with 256 GFLOP/s per core it reached 105, and oneDNN reached 235. torch
includes oneDNN but offers its products only under a private name. If a release removes that name, only this
choice is lost.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from topo_core.random_streams import generator

Product = Callable[[Tensor, Tensor], Tensor]
"""A function that maps a [m, k] and b [n, k] to a bᵀ [m, n]."""

_CLEARLY = 1.5  # processors that were timed had ratios of 0.8, 1.1 and 2.2, far from this threshold
# (m, k, n) of the first layer of a 784-32-32-10 network at 17 points, on a minibatch
_SHAPE = (544, 784, 256)
_REPEATS = 9
_LARGE = 1 << 20  # multiplications below which a call of oneDNN takes longer than the product


def blas(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ by the default library of torch."""
    return a @ b.T


def onednn(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ by oneDNN if the product is large and in float32, otherwise by the default library of torch."""
    if a.dtype is not torch.float32 or a.numel() * len(b) < _LARGE:
        return blas(a, b)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product


def has_onednn() -> bool:
    """Whether this torch offers oneDNN's products."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_is_clearly_faster() -> bool:
    """Whether `blas` takes more than 1.5 times as long as `onednn` on this CPU, timed alternately on one
    thread.

    False if oneDNN's product raises an error or gives another result.

    The answer decides the last bits of the results of a run, so it must not depend on noise. A small
    advantage does not count. One thread is timed, since several threads on a busy machine gave ratios from
    0.1 to 11.
    """
    m, k, n = _SHAPE
    draw = generator("products")
    a, b = (torch.randn(rows, k, generator=draw) for rows in (m, n))
    times: dict[Product, list[float]] = {blas: [], onednn: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if not torch.allclose(onednn(a, b), blas(a, b), rtol=1e-3, atol=1e-3):
            return False
        for _ in range(_REPEATS):
            for product, taken in times.items():
                started = time.process_time()
                product(a, b)
                taken.append(time.process_time() - started)
    except RuntimeError:
        return False
    finally:
        torch.set_num_threads(threads)
    return min(times[blas]) > _CLEARLY * min(times[onednn])
