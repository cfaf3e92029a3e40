"""`data.labels: map`: number the different labels of a user's targets, in sorted order, as classes from 0."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.problems.user_arrays import array_of
from workers.problems.user_code import BadReference

IGNORED = -100
"""PyTorch's default `ignore_index`: targets with this value do not count in the loss. It is not
renumbered."""

_SHOWN = 6  # labels that a note lists


def mapped(name: str, train: Any, test: Any | None) -> tuple[Tensor, Tensor | None, str]:
    """Training and test targets as class numbers, and a note on what they were.

    Text and whole numbers, with signs and gaps, are numbered in sorted order. One-hot rows become the number
    of their column, and a column [n, 1] becomes [n].

    Raises:
        BadReference: the targets are no labels; one sentence.
    """
    parts = [
        _labels(name, part, value)
        for part, value in (("train", train), ("test", test))
        if value is not None
    ]
    one_hot = all(_is_one_hot(part) for part in parts)
    if one_hot:
        classes = [torch.from_numpy(part.astype(np.float64)).argmax(1) for part in parts]
        note = f"rows of {parts[0].shape[1]} targets with a single 1 are read as the number of its column"
        return classes[0], classes[1] if len(classes) > 1 else None, note
    parts = [part[:, 0] if part.ndim == 2 and part.shape[1] == 1 else part for part in parts]
    values = np.unique(np.concatenate([part.ravel() for part in parts]))
    if values.dtype.kind in "iuf":
        values = values[values != IGNORED]
    if values.dtype.kind == "f" and not bool((values == np.round(values)).all()):
        raise BadReference(
            f"data.labels is 'map' and data.name {name!r} returns targets with fractions "
            f"({values[values != np.round(values)][0]:g}), which are no labels: leave data.labels out"
        )
    numbered = [_numbered(part, values) for part in parts]
    shown = [str(value.item()) for value in values[:_SHOWN]]
    more = ", …" if len(values) > _SHOWN else ""
    note = f"the labels {', '.join(shown)}{more} are read as the classes 0 to {len(values) - 1}"
    return numbered[0], numbered[1] if len(numbered) > 1 else None, note


def _labels(name: str, part: str, value: Any) -> np.ndarray[Any, Any]:
    array = array_of(name, f"{part}_targets", value)
    if array.dtype == object:
        missing = [row for row, label in enumerate(array.ravel()) if not isinstance(label, str)]
        if missing:
            raise BadReference(
                f"data.name {name!r} returns {part}_targets with labels that are neither text nor numbers, "
                f"the first in row {missing[0]}: leave these examples out"
            )
        array = array.astype(str)
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise BadReference(
            f"data.name {name!r} returns {part}_targets with NaN or infinite numbers, the first in row "
            f"{row}: leave these examples out"
        )
    if array.ndim == 0 or array.dtype.kind not in "iufbUS":
        raise BadReference(
            f"data.name {name!r} returns {part}_targets of {array.dtype}, which are no labels"
        )
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _is_one_hot(array: np.ndarray[Any, Any]) -> bool:
    """Whether each row is zero but for a single 1, in two columns or more."""
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "iuf":
        return False
    return bool(((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all())


def _numbered(part: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> Tensor:
    """The position of each label among the sorted values; `IGNORED` stays."""
    classes = np.searchsorted(values, part).astype(np.int64)
    if part.dtype.kind in "iuf":
        classes[part == IGNORED] = IGNORED
    return torch.from_numpy(classes.reshape(part.shape))
