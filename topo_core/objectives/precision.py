"""The precision of products on a GPU while gradients are computed.

``float32``  products in float32; the default.
``tf32``     inputs of products and convolutions are rounded to 10 bits of mantissa; sums are in float32.
``bf16``     inputs are rounded to 7 bits; only for strategies that compute gradients by autograd.

Rounded gradients change the trajectory of a path, as other minibatches would. The height is still that of the
resulting path, since losses are not computed in reduced precision, but paths may end higher. CPUs have no
units for the reduced precisions, so these are refused there.

torch is imported inside the functions: planning a run reads this module and does not need torch.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bf16"]

_AMPERE = (8, 0)  # compute capability of the first GPUs with units for tf32 and bf16


def check_precision(precision: Precision, device: "torch.device") -> None:
    """Check that a device has units for a precision.

    Raises:
        ValueError: the device has no such units; the message is one sentence.
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
    """A context in which products have this precision; on a CPU it has no effect."""
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
