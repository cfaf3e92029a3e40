"""Which library computes matrix products on a CPU.

torch leaves float32 products to MKL, which on some processors of other makers uses kernels for half of their
units: on one with 256 GFLOP/s a core it reached 105, and oneDNN 235. torch ships oneDNN and offers its
products under a private name only; a release that drops or changes it loses this choice and nothing else.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from topo_core.random_streams import generator

Product = Callable[[Tensor, Tensor], Tensor]
"""a [m, k] and b [n, k] to a bᵀ [m, n]."""

_CLEARLY = 1.5  # processors that were timed had ratios of 0.8, 1.1 and 2.2, far from this threshold
_SHAPE = (544, 784, 256)  # of the first layer of 784-32-32-10 at 17 points, on a minibatch
_REPEATS = 9
_LARGE = 1 << 20  # multiplications; below, the calls of oneDNN take longer than the work


def blas(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ by torch's own library."""
    return a @ b.T


def onednn(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ by oneDNN where it is large and in float32, else by torch's own library."""
    if a.dtype is not torch.float32 or a.numel() * len(b) < _LARGE:
        return blas(a, b)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product


def has_onednn() -> bool:
    """Whether this torch offers oneDNN's products."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_is_clearly_faster() -> bool:
    """Whether `blas` takes at least 1.5 times as long on this processor, timed in turn on one thread.

    False if oneDNN's product fails here, or differs.

    The answer decides the last bits of a run's results, so it must not depend on noise: a small advantage
    does not count, and one thread is timed, since several on a busy machine gave ratios from 0.1 to 11.
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
