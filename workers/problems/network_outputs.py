"""Select the output from which the loss is computed, for networks that return more than one tensor.

Networks of training libraries return a mapping, a dataclass or a tuple, for instance logits with hidden
states. A forward hook replaces it by one tensor.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from workers.problems.user_code import BadReference

NAMES = ("logits", "outputs", "output", "out", "predictions", "prediction", "y_hat")
"""Names under which networks return what a loss takes, in this order of preference."""


@dataclass(frozen=True)
class OutputSelection:
    """A forward hook that replaces a network's outputs by one of them.

    Attributes:
        key: a name, or a position in a tuple.
    """

    key: str | int

    def __call__(self, module: nn.Module, args: Any, outputs: Any) -> Any:
        """The chosen tensor; a tensor is returned as it is."""
        del module, args
        if isinstance(outputs, Tensor):
            return outputs
        if isinstance(outputs, Mapping) or isinstance(self.key, int):
            return outputs[self.key]
        return getattr(outputs, self.key)


def chosen_output(name: str, outputs: Any, examples: int) -> tuple[OutputSelection, str] | None:
    """Select one of the outputs of a network.

    From a mapping or an object, the tensor with a name in `NAMES` is selected, or else its only tensor with a
    row for each example. From a tuple or list, the first tensor with a row for each example is selected.

    Args:
        name: of the network, for the message.
        outputs: of the network.
        examples: number of examples that it was called with.

    Returns:
        The hook that selects the output, and a note for the user; None if the network returns one tensor.

    Raises:
        BadReference: there is no such tensor, or several with unknown names; one sentence.
    """
    if isinstance(outputs, Tensor):
        return None
    kind = type(outputs).__name__
    if isinstance(outputs, tuple | list) and not hasattr(outputs, "_fields"):
        first = next((i for i, v in enumerate(outputs) if _has_rows(v, examples)), None)
        if first is None:
            raise BadReference(
                f"network.name {name!r} returns a {kind} without a tensor of {examples} rows for {examples} "
                "examples: return the tensor that the loss takes"
            )
        return OutputSelection(
            first
        ), f"of the {kind} that it returns, element {first} goes into the loss"
    named = _named(outputs)
    tensors = {key: value for key, value in named.items() if _has_rows(value, examples)}
    key = next((own for own in NAMES if own in tensors), None)
    if key is None and len(tensors) == 1:
        key = next(iter(tensors))
    if key is None:
        held = f"with {', '.join(named)}" if named else "and no tensor"
        raise BadReference(
            f"network.name {name!r} returns a {kind} {held}: return the tensor that the loss takes, or call "
            f"it {NAMES[0]}"
        )
    return OutputSelection(key), f"of the {kind} that it returns, {key} goes into the loss"


def _named(outputs: Any) -> dict[str, Any]:
    """The entries of a mapping, the fields of a dataclass or named tuple, the attributes of an object."""
    if isinstance(outputs, Mapping):
        return {key: value for key, value in outputs.items() if isinstance(key, str)}
    if hasattr(outputs, "_fields"):
        return dict(zip(outputs._fields, outputs, strict=True))
    if dataclasses.is_dataclass(outputs):
        return {f.name: getattr(outputs, f.name) for f in dataclasses.fields(outputs)}
    return dict(vars(outputs)) if hasattr(outputs, "__dict__") else {}


def _has_rows(value: Any, examples: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == examples
