"""How precisely a GPU multiplies while it computes gradients.

``float32``  every product in full; the default.
``tf32``     inputs of products and convolutions with 10 bits after the point, sums in float32.
``bf16``     inputs with 7 bits; only for strategies that leave the arithmetic to autograd.

Rounded gradients change the trajectory of a path, as other minibatches would. Each height is still the true
height of the resulting path, since losses are never rounded, but paths may end higher. A CPU has no units for
the rounded precisions, so they are refused there.

torch is imported inside the functions: planning a run reads this module and does not need torch.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bf16"]

_AMPERE = (8, 0)  # compute capability of the first GPUs with units for either


def check_precision(precision: Precision, device: "torch.device") -> None:
    """Check that a device has units for a precision.

    Raises:
        ValueError: it has not; one sentence.
    """
    if precision == "float32":
        return
    if device.type != "cuda":
        raise ValueError(
            f"precision is {precision!r}, which needs a CUDA GPU, and the device is {device.type}; "
            "choose float32"
        )
    import torch

    if torch.cuda.get_device_capability(device) < _AMPERE:
        raise ValueError(
            f"precision is {precision!r}, which {torch.cuda.get_device_name(device)} has no units for; "
            "choose float32"
        )


@contextlib.contextmanager
def arithmetic(precision: Precision, device: "torch.device") -> Iterator[None]:
    """Products of this precision inside; on a CPU nothing changes."""
    if device.type != "cuda":
        yield
        return
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32  # PyTorch's default lets convolutions use TF32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    rounded: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if precision == "bf16":
        # Without autocast's cache of rounded weights: a CUDA graph would reuse those of its recording.
        rounded = torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
    try:
        with rounded:
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
