"""Convert what a user's `load()` returns to training inputs and targets, and test inputs and targets if any.

A table in `docs/howto/own-data.md` lists what it may return.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workers.problems.input_layout import InputLayout
from workers.problems.user_arrays import is_array, tensor_of
from workers.problems.user_code import BadReference
from workers.problems.user_examples import INPUTS, TARGETS, inputs_and_targets, is_part, target_key
from workers.problems.user_labels import mapped

TRAIN = ("train", "training")
VALIDATION = ("validation", "valid", "val", "dev")
TEST = ("test", "testing", "eval", "evaluation")
"""Names of the parts of a mapping."""

_FORMS = (
    "return train_inputs, train_targets, test_inputs, test_targets, or two pairs, data sets or loaders, or a "
    "mapping with train and test"
)


@dataclass(frozen=True)
class UserData:
    """The parts as tensors.

    Attributes:
        train_inputs, test_inputs: [n, ...]; several inputs are packed into one tensor [n, f].
        train_targets, test_targets: [n, ...].
        layout: of several inputs; None for one.
        notes: what was chosen or left out; each is a clause that follows the name of the function.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    layout: InputLayout | None
    notes: tuple[str, ...]


def user_data(name: str, returned: Any, *, map_labels: bool = False) -> UserData:
    """The parts of what a function returned.

    Args:
        name: of the function, for messages.
        returned: by the function.
        map_labels: whether the labels of the targets are replaced by class numbers (`data.labels: map`).

    Raises:
        BadReference: it is no data, or its parts do not fit together; one sentence.
    """
    parts, notes = _parts(name, returned)
    _check_nested(name, parts)
    train = inputs_and_targets(name, "the training part", parts[0])
    test = inputs_and_targets(name, "the test part", parts[1]) if len(parts) > 1 else None
    train_targets, test_targets = train[1], test[1] if test is not None else None
    if map_labels:
        train_targets, test_targets, note = mapped(name, train_targets, test_targets)
        notes = (*notes, note)
    train_inputs, layout = _inputs(name, "train_inputs", train[0])
    train_targets = tensor_of(name, "train_targets", train_targets)
    if test is None:
        notes = (*notes, "there is no test set, so nothing is measured on one")
        test_inputs, test_targets = train_inputs[:0], train_targets[:0]
    else:
        test_inputs, other = _inputs(name, "test_inputs", test[0])
        if other != layout:
            raise BadReference(
                f"data.name {name!r} returns train_inputs of the shapes {_shapes(layout, train_inputs)} and "
                f"test_inputs of {_shapes(other, test_inputs)}: return the same inputs in both"
            )
        test_targets = tensor_of(name, "test_targets", test_targets)
        _check_kinds(name, (train_inputs, train_targets), (test_inputs, test_targets))
    _check_counts(name, "train", train_inputs, train_targets)
    if test is not None:
        _check_counts(name, "test", test_inputs, test_targets)
    return UserData(train_inputs, train_targets, test_inputs, test_targets, layout, notes)


def _parts(name: str, returned: Any) -> tuple[list[Any], tuple[str, ...]]:
    """The training part and the test part if there is one, and notes on what was left out."""
    if isinstance(returned, Mapping):
        return _of_mapping(name, returned)
    if isinstance(returned, tuple | list):
        parts = _of_sequence(returned)
        if parts is not None:
            return parts
    elif is_part(returned):
        return [returned], ()
    count = f" of {len(returned)} values" if isinstance(returned, tuple | list) else ""
    raise BadReference(
        f"data.name {name!r} returns {type(returned).__name__}{count}, which is no data: {_FORMS}"
    )


def _check_nested(name: str, parts: Sequence[Any]) -> None:
    """Refuse nested tensors: not even their length can be asked for."""
    for part in parts:
        for value in part if isinstance(part, tuple | list) else (part,):
            if isinstance(value, Tensor) and value.is_nested:
                raise BadReference(
                    f"data.name {name!r} returns a nested tensor, whose rows may have different lengths: "
                    "pad them to one length (torch.nested.to_padded_tensor)"
                )


def _of_sequence(returned: Sequence[Any]) -> tuple[list[Any], tuple[str, ...]] | None:
    left_out = ("the second of three parts, validation, is not used",)
    match list(returned):
        case [*parts] if len(parts) in (2, 3) and all(is_part(part) for part in parts):
            return [parts[0], parts[-1]], left_out if len(parts) == 3 else ()
        case [inputs, targets]:
            return ([(inputs, targets)], ()) if is_array(targets) else None
        case [a, b, c, d]:
            return [(a, b), (c, d)], ()
        case [a, b, _, _, c, d]:
            return [(a, b), (c, d)], left_out
        case [part] if is_part(part):
            return [part], ()
    return None


def _of_mapping(name: str, returned: Mapping[Any, Any]) -> tuple[list[Any], tuple[str, ...]]:
    keys = {str(key).lower(): key for key in returned}

    def part(names: Sequence[str]) -> Any:
        for own in names:
            if own in keys:
                return returned[keys[own]]
            pairs = [
                (keys[first], keys[second])
                for x in INPUTS
                for y in TARGETS
                for first, second in ((f"{own}_{x}", f"{own}_{y}"), (f"{x}_{own}", f"{y}_{own}"))
                if first in keys and second in keys
            ]
            if pairs:
                return returned[pairs[0][0]], returned[pairs[0][1]]
        return None

    train, validation, test = part(TRAIN), part(VALIDATION), part(TEST)
    if train is None:
        if target_key(returned) is not None:
            return [returned], ()
        raise BadReference(
            f"data.name {name!r} returns a mapping with the keys {', '.join(map(str, list(returned)[:8]))}, "
            f"which is no data: {_FORMS}"
        )
    if test is None and validation is not None:
        return [train, validation], ("the validation part is taken as the test set",)
    notes = () if validation is None else ("the validation part is not used",)
    return [train] if test is None else [train, test], notes


def _inputs(name: str, part: str, value: Any) -> tuple[Tensor, InputLayout | None]:
    """Inputs as one tensor, and the layout of several."""
    given: dict[str, Any] | None = None
    if isinstance(value, Mapping):
        given = {str(key): own for key, own in value.items()}
    elif isinstance(value, tuple) and not _is_rows(value):
        given = {str(number): own for number, own in enumerate(value)}
    if given is not None:
        tensors = {k: tensor_of(name, f"{part} {k}", v, truths=True) for k, v in given.items()}
        return _packed(tensors if isinstance(value, Mapping) else [*tensors.values()], name, part)
    return tensor_of(name, part, value), None


def _is_rows(value: tuple[Any, ...]) -> bool:
    """Whether a tuple holds the rows of one input: numbers, or lists of them."""
    return not all(hasattr(item, "shape") or hasattr(item, "to_numpy") for item in value)


def _packed(
    inputs: Mapping[str, Tensor] | Sequence[Tensor], name: str, part: str
) -> tuple[Tensor, InputLayout | None]:
    tensors = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
    counts = {len(tensor) for tensor in tensors}
    if len(counts) != 1:
        raise BadReference(
            f"data.name {name!r} returns {part} with {', '.join(map(str, sorted(counts)))} rows: every input "
            "needs one row for each example"
        )
    if any(tensor.is_complex() for tensor in tensors):
        raise BadReference(
            f"data.name {name!r} returns {part} with complex numbers: return real ones"
        )
    if len(tensors) == 1 and not isinstance(inputs, Mapping):
        return tensors[0], None
    layout = InputLayout.of(inputs)
    return layout.pack(inputs), layout


def _check_counts(name: str, part: str, inputs: Tensor, targets: Tensor) -> None:
    if len(inputs) != len(targets) or not len(inputs):
        raise BadReference(
            f"data.name {name!r} returns {len(inputs)} {part} inputs and {len(targets)} {part} "
            "targets; return as many, and at least one"
        )


def _check_kinds(name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> None:
    """Training and test examples have as many axes, and the same kind of numbers."""
    for first, second, what in zip(train, test, ("inputs", "targets"), strict=True):
        if first.ndim != second.ndim:
            raise BadReference(
                f"data.name {name!r} returns train_{what} of shape {tuple(first.shape)} and test_{what} "
                f"of shape {tuple(second.shape)}; an example must have as many axes in both"
            )
        if first.is_floating_point() != second.is_floating_point():
            raise BadReference(
                f"data.name {name!r} returns train_{what} of {_dtype(first)} and test_{what} of "
                f"{_dtype(second)}; return the same kind of numbers in both"
            )


def _shapes(layout: InputLayout | None, inputs: Tensor) -> str:
    return str(tuple(inputs.shape[1:]) if layout is None else layout.input_shape)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
