"""Data sets by name: images, text, and a user's own data, and what a specification does to all of them."""

import inspect
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from topo_core.random_streams import generator
from workers.problems.dataset import Dataset
from workers.problems.image_data import IMAGES, data_folder, shrunk
from workers.problems.input_layout import InputShape
from workers.problems.parameter_loss import count_terms
from workers.problems.text import (
    CHARACTERS,
    CONTEXT,
    HELD_OUT_SHARE,
    KINDS,
    alphabet,
    common_characters,
    descriptions,
    text_of_file,
    windows,
)
from workers.problems.user_arrays import is_mapped
from workers.problems.user_code import BadReference, resolve
from workers.problems.user_data import user_data
from workers.tasks.specs import OBJECTIVE, DataSpec


@dataclass(frozen=True)
class Sizes:
    """Sizes of a data set: numbers of training and test examples, shape of an example, classes."""

    train: int
    test: int
    input_shape: InputShape
    classes: int = 10


SIZES = {
    "mnist5k": Sizes(4000, 1000, (1, 28, 28)),
    "digits": Sizes(1437, 360, (1, 8, 8)),
    "mnist": Sizes(60_000, 10_000, (1, 28, 28)),
    "fmnist": Sizes(60_000, 10_000, (1, 28, 28)),
    "cifar10": Sizes(50_000, 10_000, (3, 32, 32)),
    "cifar100": Sizes(50_000, 10_000, (3, 32, 32), classes=100),
    "svhn": Sizes(73_257, 26_032, (3, 32, 32)),
}


def sizes(spec: DataSpec) -> Sizes:
    """The sizes of the data that `load_dataset` returns. Data that are in `SIZES` are not loaded.

    If the file of a text is not on this machine, the text is taken to be as long, and to have as many
    different characters, as its options allow: the cost of a study is asked for where the data are not.

    Raises:
        BadReference: the data must be loaded and are missing.
    """
    known = SIZES.get(spec.name)
    file = text_file(spec)
    if known is None and file is not None and not file.exists():
        known = _sizes_of_text(spec)
    if known is None:
        data = load_dataset(spec)
        train, test = len(data.train_inputs), len(data.test_inputs)
        return Sizes(train, test, data.input_shape, data.classes or _counted(data))
    subset, shrink = spec.option("subset", None), spec.option("shrink", 1)
    if isinstance(shrink, int) and shrink > 1:
        channels, *sides = (side for side in known.input_shape if isinstance(side, int))
        known = replace(known, input_shape=(channels, *(side // shrink for side in sides)))
    return replace(known, train=subset) if isinstance(subset, int) else known


def _sizes_of_text(spec: DataSpec) -> Sizes:
    characters, context = _count(spec, "characters", CHARACTERS), _count(spec, "context", CONTEXT)
    test = round(characters * HELD_OUT_SHARE)
    kinds = _count(spec, "kinds", KINDS) + 1
    return Sizes(characters - test - context, test - context, (context,), kinds)


def _counted(data: Dataset) -> int:
    """Number of classes of integer targets, else the size of an example's target."""
    if data.train_targets.is_floating_point():
        return data.train_targets.shape[-1] if data.train_targets.ndim > 1 else 1
    return int(torch.cat([data.train_targets.flatten(), data.test_targets.flatten()]).max()) + 1


def load_dataset(spec: DataSpec) -> Dataset:
    """Load the data of a specification.

    Raises:
        BadReference: the data are missing, an option is not possible, or a user's function returns no data.
    """
    if spec.name.startswith(OBJECTIVE):
        terms = torch.arange(count_terms(spec))
        return Dataset(terms, torch.zeros_like(terms), terms, torch.zeros_like(terms), classes=1)
    if ":" in spec.name:
        own, others = _apart(spec)
        return _with_noise(_subset(_users(own, others), others), others)
    loaded = _text(spec) if spec.name == "text" else shrunk(IMAGES[spec.name](), spec)
    return _with_noise(_subset(loaded, spec), spec)


def _text(spec: DataSpec) -> Dataset:
    """Text in windows of `context` characters: the user's `file`, or else descriptions of data sets, as
    scikit-learn ships them."""
    context, file = _count(spec, "context", CONTEXT), text_file(spec)
    characters, kinds = _count(spec, "characters", CHARACTERS), _count(spec, "kinds", KINDS)
    every = spec.option("every_token", False)
    if not isinstance(every, bool):
        raise BadReference(f"data.every_token is {every!r}; it must be true or false")
    if file is None:
        text = common_characters(descriptions()[:characters], kinds)
    else:
        text = text_of_file(file, characters, kinds)
    train, test = windows(text, context, every_token=every)
    return Dataset(
        train.tokens, train.following, test.tokens, test.following, classes=len(alphabet(text))
    )


def text_file(spec: DataSpec) -> Path | None:
    """The file of a text, in `data_folder()` if its name is relative; None if no file is named."""
    file = spec.option("file", None)
    if spec.name != "text" or file is None:
        return None
    return data_folder() / Path(str(file)).expanduser()


def _count(spec: DataSpec, option: str, default: int) -> int:
    value = spec.option(option, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadReference(
            f"data.{option} is {value!r}; it must be a number of characters, 1 or more"
        )
    return value


def _subset(data: Dataset, spec: DataSpec) -> Dataset:
    """`subset: n` takes n training examples, drawn from a fixed seed."""
    count = spec.option("subset", None)
    if count is None:
        return data
    whole = isinstance(count, int) and not isinstance(count, bool)
    if not whole or not 1 <= count <= len(data.train_inputs):
        raise BadReference(
            f"data.subset is {count!r}; it must be a number of training examples, "
            f"1 to {len(data.train_inputs)}"
        )
    chosen = torch.randperm(len(data.train_inputs), generator=generator("subset", spec.name))
    chosen = chosen[:count]
    return replace(
        data,
        train_inputs=data.train_inputs[chosen],
        train_targets=data.train_targets[chosen],
        mapped=False,
    )


def _with_noise(data: Dataset, spec: DataSpec) -> Dataset:
    """`label_noise: f` gives a fraction f of the training examples a random label."""
    fraction = spec.option("label_noise", 0.0)
    number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    if not number or not 0 <= fraction <= 1:
        raise BadReference(f"data.label_noise is {fraction!r}; it must be a fraction, 0 to 1")
    if not fraction:
        return data
    draw = generator("label noise", spec.name, float(fraction))
    count = len(data.train_targets)
    noisy = torch.randperm(count, generator=draw)[: round(fraction * count)]
    targets = data.train_targets.clone()
    if targets.is_floating_point():
        raise BadReference("data.label_noise is for class numbers, and the targets are no integers")
    shape = (len(noisy), *targets.shape[1:])
    targets[noisy] = torch.randint(data.classes or _counted(data), shape, generator=draw)
    return replace(data, train_targets=targets)


def _apart(spec: DataSpec) -> tuple[DataSpec, DataSpec]:
    """Split the options into those of a user's function, and those that toscore applies to its result.

    toscore applies `subset`, `label_noise` and `labels`, unless the function has a parameter of that name.
    """
    try:
        taken = inspect.signature(resolve(spec.name)).parameters
    except (TypeError, ValueError):
        return spec, DataSpec(spec.name)
    everything = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    for_all = {k for k in ("subset", "label_noise", "labels") if k not in taken and not everything}
    return (
        DataSpec(spec.name, tuple(o for o in spec.options if o[0] not in for_all)),
        DataSpec(spec.name, tuple(o for o in spec.options if o[0] in for_all)),
    )


def _users(spec: DataSpec, others: DataSpec) -> Dataset:
    labels = others.option("labels", None)
    if labels not in (None, "map"):
        raise BadReference(
            f"data.labels is {labels!r}; it must be map (number the labels), or left out"
        )
    function = resolve(spec.name)
    try:
        returned = function(**spec.keywords())
    except (Exception, SystemExit) as error:
        raise BadReference(
            f"data.name {spec.name!r} fails with {type(error).__name__}: {error}"
        ) from error
    parts = user_data(spec.name, returned, map_labels=labels == "map")
    return Dataset(
        parts.train_inputs,
        parts.train_targets,
        parts.test_inputs,
        parts.test_targets,
        classes=0,
        layout=parts.layout,
        mapped=is_mapped(parts.train_inputs),
        notes=parts.notes,
    )
