"""One part of a user's data, training or test, as inputs and targets.

A part may be a pair of arrays, a mapping with a key for the targets, a table with such a column, a list of
examples, a `Dataset`, or a `DataLoader`. Inputs are one array, or a mapping or tuple of several.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

from workers.problems.user_arrays import is_array
from workers.problems.user_code import BadReference

TARGETS = ("targets", "target", "labels", "label", "y", "train_targets", "classes")
"""Keys and columns that hold targets, in this order of preference."""

INPUTS = ("inputs", "input", "data", "x", "X", "features", "images", "image")
"""Keys that hold all inputs; without one of them every key but that of the targets is an input."""

MOST_EXAMPLES = 1_000_000
"""Largest number of examples that are read from an iterator without a length, which may be endless."""


def target_key(mapping: Mapping[str, Any] | Iterable[str]) -> str | None:
    """The key of the targets in a mapping or among columns; None for none."""
    keys = set(mapping)
    return next((key for key in TARGETS if key in keys), None)


def is_part(value: Any) -> bool:
    """Whether a value holds inputs and targets, and is no array."""
    if _is_list_of_examples(value):
        return True
    if isinstance(value, tuple | list):
        return len(value) == 2 and all(_holds_rows(half) for half in value)
    if isinstance(value, Mapping):
        return target_key(value) is not None
    if _is_table(value):
        return target_key(map(str, value.columns)) is not None
    return _is_data_set(value)


def inputs_and_targets(name: str, part: str, value: Any) -> tuple[Any, Any]:
    """The inputs and targets of a part: arrays, or a tuple or mapping of arrays for several inputs.

    Raises:
        BadReference: it has no targets, or its examples differ in their form; one sentence.
    """
    if _is_table(value):
        table = {str(column): value[column] for column in value.columns}
        if (key := target_key(table)) is not None:
            inputs = [np.asarray(column) for own, column in table.items() if own != key]
            if any(column.dtype.kind in "mM" for column in inputs):
                raise BadReference(
                    f"data.name {name!r} returns {part} with a column of dates or durations: leave it out or "
                    "make it numbers"
                )
            return np.stack(inputs, axis=1), table[key]
    if isinstance(value, TensorDataset):
        return _of_columns(name, part, value.tensors)
    if _is_list_of_examples(value) or _is_data_set(value):
        value = _collated(name, part, value)
    if isinstance(value, Mapping):
        return _of_keys(name, part, value)
    if isinstance(value, tuple | list):
        return _of_columns(name, part, value)
    raise BadReference(
        f"data.name {name!r} returns {part} as {type(value).__name__} without targets: return inputs and "
        "targets"
    )


def _of_keys(name: str, part: str, value: Mapping[str, Any]) -> tuple[Any, Any]:
    """Inputs and targets by their keys."""
    key = target_key(value)
    if key is None:
        keys = ", ".join(map(str, list(value)[:8])) or "none"
        raise BadReference(
            f"data.name {name!r} returns {part} with the keys {keys}; none of them names the targets: call "
            f"one of them {TARGETS[0]}"
        )
    whole = next((value[own] for own in INPUTS if own in value), None)
    if whole is not None:
        return whole, value[key]
    inputs = {own: column for own, column in value.items() if own != key}
    return next(iter(inputs.values())) if len(inputs) == 1 else inputs, value[key]


def _of_columns(name: str, part: str, columns: Sequence[Any]) -> tuple[Any, Any]:
    """The last column is that of the targets."""
    if len(columns) < 2:
        raise BadReference(
            f"data.name {name!r} returns {part} with one value for each example: return inputs and targets "
            "(for a network that computes its own loss: zeros)"
        )
    *inputs, targets = columns
    return inputs[0] if len(inputs) == 1 else tuple(inputs), targets


def _batches(name: str, part: str, value: Any) -> Iterator[Any]:
    """The examples of a data set one by one, or a loader's batches, in the order of the data set."""
    if isinstance(value, DataLoader):
        yield from _of_loader(name, part, value)
        return
    if not isinstance(value, IterableDataset) and hasattr(value, "__len__"):
        for index in range(len(value)):
            yield _one(value[index])
        return
    # `iter` of a loader or of an iterable data set may have no end.
    for number, example in enumerate(islice(value, MOST_EXAMPLES + 1)):
        if number == MOST_EXAMPLES:
            raise BadReference(
                f"data.name {name!r} returns {part} as {type(value).__name__}, which does not end after "
                f"{MOST_EXAMPLES:,} examples: return a part of it as a tensor"
            )
        yield _one(example)


def _of_loader(name: str, part: str, loader: DataLoader[Any]) -> Iterator[Any]:
    """Batches in the order of the data set: shuffling and dropping the last batch are for training."""
    sampler = loader.sampler
    order: list[int] | None = None
    if not isinstance(loader.dataset, IterableDataset):
        every = type(sampler) is RandomSampler and not sampler.replacement
        if every or type(sampler) is SequentialSampler:
            order = list(range(len(loader.dataset)))  # type: ignore[arg-type]
        elif type(sampler) is SubsetRandomSampler:
            order = sorted(map(int, sampler.indices))
    if order is None or not loader.batch_size:
        most = MOST_EXAMPLES // (loader.batch_size or 1)
        for number, batch in enumerate(loader):
            if number == most:
                raise BadReference(
                    f"data.name {name!r} returns {part} as a DataLoader that does not end after "
                    f"{MOST_EXAMPLES:,} examples: return a part of it as a tensor"
                )
            yield batch
        return
    for first in range(0, len(order), loader.batch_size):
        examples = [loader.dataset[index] for index in order[first : first + loader.batch_size]]
        yield loader.collate_fn(examples)


def _one(example: Any) -> Any:
    """An example as a batch of one, so that batches and examples are joined alike."""
    if isinstance(example, Mapping):
        return {key: _one(value) for key, value in example.items()}
    if isinstance(example, tuple):
        return tuple(_one(value) for value in example)
    if isinstance(example, Tensor):
        return example[None]
    return np.asarray(example)[None]


def _collated(name: str, part: str, value: Any) -> Any:
    """The examples of a data set joined along their first axis, in the form of one example.

    Raises:
        BadReference: the data set fails, or the forms or shapes of its examples differ.
    """
    try:
        every = list(_batches(name, part, value))
    except BadReference:
        raise
    except (Exception, SystemExit) as error:
        raise BadReference(
            f"data.name {name!r}: reading the examples of {part} fails with {type(error).__name__}: {error}"
        ) from error
    if not every:
        raise BadReference(f"data.name {name!r} returns {part} without any example")
    return _joined(name, part, every)


def _joined(name: str, part: str, batches: Sequence[Any]) -> Any:
    first = batches[0]
    if isinstance(first, Mapping):
        keys = [key for key in first if all(isinstance(b, Mapping) and key in b for b in batches)]
        return {key: _joined(name, part, [b[key] for b in batches]) for key in keys}
    if isinstance(first, tuple | list):
        if any(not isinstance(b, tuple | list) or len(b) != len(first) for b in batches):
            raise BadReference(
                f"data.name {name!r} returns {part} with examples of different forms"
            )
        return tuple(_joined(name, part, column) for column in zip(*batches, strict=True))
    try:
        if isinstance(first, Tensor):
            return torch.cat([batch.detach().cpu() for batch in batches])
        return np.concatenate([np.asarray(batch) for batch in batches])
    except (TypeError, ValueError, RuntimeError, AttributeError):
        shapes = sorted({tuple(getattr(batch, "shape", ())[1:]) for batch in batches})[:3]
        raise BadReference(
            f"data.name {name!r} returns {part} with examples of different shapes "
            f"({', '.join(map(str, shapes))}): give all of them one shape (pad or crop them)"
        ) from None


def _holds_rows(value: Any) -> bool:
    """Whether a value can be the inputs or the targets of a part: rows, and no single number."""
    if isinstance(value, Mapping):
        return bool(value)
    if isinstance(value, tuple | list):
        return len(value) > 0
    return is_array(value)


def _is_table(value: Any) -> bool:
    """A table of pandas or polars."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def _is_data_set(value: Any) -> bool:
    """A `Dataset`, a `DataLoader`, or an object with examples by number as they have."""
    if isinstance(value, Dataset | DataLoader):
        return True
    if isinstance(value, str | bytes | Mapping | tuple | list) or is_array(value):
        return False
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def _is_list_of_examples(value: Any) -> bool:
    """A list of (input, target) or of mappings, one for each example."""
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], Mapping):
        return all(isinstance(e, Mapping) and target_key(e) is not None for e in value)
    return all(isinstance(e, tuple) and len(e) == 2 and hasattr(e[0], "shape") for e in value)
