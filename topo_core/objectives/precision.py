"""How precisely a GPU multiplies while it computes gradients.

``float32``  every product in full; the default.
``tf32``     inputs of products and convolutions with 10 bits after the point, sums in float32.
``bf16``     inputs with 7 bits; only for strategies that leave the arithmetic to autograd.

Rounded gradients send a path along another trajectory, as other minibatches would: each height is still the
true one of the path, since losses are always measured in full, but paths may end higher. A CPU computes in
full whatever is asked for, so it refuses the others.

torch is imported when it is needed: whoever only plans a run has no use for it.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bf16"]

_AMPERE = (8, 0)  # compute capability of the first GPUs with units for either


def check_precision(precision: Precision, device: "torch.device") -> None:
    """See that a device has units for a precision.

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
    before = matmul.allow_tf32, cudnn.allow_tf32  # convolutions may use TF32 unless told otherwise
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    rounded: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if precision == "bf16":
        # Rounded weights are not kept: a CUDA graph would go on with those of its recording.
        rounded = torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
    try:
        with rounded:
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
