"""Puts the data of a run into Ray's object store, so that they are loaded once and not by each worker.

The driver has to load the data anyway, to hash them. A worker gets a copy from the object store of its node,
which fetches them once. So only the driver downloads the data, and no other node needs the files.
"""

import warnings
from dataclasses import fields
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from workers.problems.data_sets import load_dataset
from workers.problems.dataset import Dataset
from workers.tasks.specs import DataSpec

_FETCH_SECONDS = 600.0
"""After this time a worker loads the data itself. 10 GB take 80 s over a link of 1 Gbit/s."""


class SharedData:
    """Loads the data of one specification from the object store, and any other with `load_dataset`.

    Args:
        spec: of `data`.
        data: the data as the driver has loaded them.
    """

    def __init__(self, spec: DataSpec, data: Dataset) -> None:
        self._spec = spec
        parts = {field.name: getattr(data, field.name) for field in fields(data)}
        arrays = {name: p.numpy() for name, p in parts.items() if isinstance(p, torch.Tensor)}
        self._others = {name: part for name, part in parts.items() if name not in arrays}
        self._arrays = ray.put(arrays)

    def __call__(self, spec: DataSpec) -> Dataset:
        """Return the data of a specification.

        Raises:
            BadReference: this process had to load the data itself, and they are missing here.
        """
        if spec != self._spec:
            return load_dataset(spec)
        try:
            arrays = ray.get(self._arrays, timeout=_FETCH_SECONDS)
        except RayError:  # the node that held them was lost, or the object store was full
            return load_dataset(spec)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            tensors: dict[str, Any] = {n: torch.from_numpy(a) for n, a in arrays.items()}
        if not self._others["mapped"]:
            # Clones: the memory of the object store is read-only, and a network may write to its input.
            # Data that were in a memory-mapped file may be too large for one.
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return Dataset(**tensors, **self._others)
