"""What a device does for each `Precision`."""

import contextlib
from collections.abc import Iterator

import torch

from topo_core.objectives.precision_names import Precision

_AMPERE = (8, 0)  # compute capability of the first GPUs with units for either


def check_precision(precision: Precision, device: torch.device) -> None:
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
    if torch.cuda.get_device_capability(device) < _AMPERE:
        raise ValueError(
            f"precision is {precision!r}, which {torch.cuda.get_device_name(device)} has no units for; "
            "choose float32"
        )


@contextlib.contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Products of this precision inside; on a CPU nothing changes."""
    if device.type != "cuda":
        yield
        return
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
