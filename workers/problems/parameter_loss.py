"""A user's loss that depends on the parameters alone: an equation, a factorisation, a spin glass.

`objective: {name: "module:callable", …options}` calls `callable(**options)`, which returns an object with

* `dimension`: the number d of parameters;
* `loss(point)`: the loss, a scalar, at a point [d]; or `terms(point, indices)`: the values [b] of some of its
  terms, whose mean over all of them is the loss, and `count`: how many there are. Terms make minibatches;
* `start(seed)`, which may be left out: initial parameters [d]; standard normal by default.

A run treats it as a network with one parameter, `point`, whose examples are the numbers of the terms and
whose outputs are their values.
"""

from typing import Any

import torch
from torch import Tensor, nn

from workers.problems.user_code import BadReference, resolve
from workers.tasks.specs import OBJECTIVE, Spec


class ParameterLoss(nn.Module):
    """The user's loss as a network.

    Args:
        objective: what the user's callable returned.
        start: initial parameters [d].
    """

    def __init__(self, objective: Any, start: Tensor) -> None:
        super().__init__()
        self._objective = objective
        self.point = nn.Parameter(start)

    def forward(self, indices: Tensor) -> Tensor:
        """Values [b] of the terms `indices` [b]."""
        if hasattr(self._objective, "terms"):
            terms: Tensor = self._objective.terms(self.point, indices)
            return terms
        loss: Tensor = self._objective.loss(self.point)
        return loss.reshape(1).expand(len(indices))

    def __deepcopy__(self, memo: dict[int, Any]) -> "ParameterLoss":
        """A copy with parameters of its own. The user's object is shared: it holds no parameters."""
        return ParameterLoss(self._objective, self.point.detach().clone())


def build_parameter_loss(spec: Spec, seed: int) -> ParameterLoss:
    """The loss of a spec at the initial parameters of a seed.

    Raises:
        BadReference: the user's object lacks something or fails; one sentence.
    """
    objective, dimension = _objective(spec)
    name = spec.name.removeprefix(OBJECTIVE)
    if not hasattr(objective, "start"):
        return ParameterLoss(objective, torch.randn(dimension))
    try:
        start = torch.as_tensor(objective.start(seed)).detach().clone()
    except (Exception, SystemExit) as error:
        raise BadReference(
            f"start of objective {name!r} fails with {type(error).__name__}: {error}"
        ) from error
    if start.shape != (dimension,) or not start.is_floating_point():
        raise BadReference(
            f"start of objective {name!r} returns {start.dtype} of shape {tuple(start.shape)}; it must "
            f"return floating numbers of shape ({dimension},)"
        )
    return ParameterLoss(objective, start)


def count_terms(spec: Spec) -> int:
    """Terms of the loss of a spec; 1 without minibatches.

    Raises:
        BadReference: the user's object lacks something; one sentence.
    """
    objective, _ = _objective(spec)
    if not hasattr(objective, "terms"):
        return 1
    count = getattr(objective, "count", None)
    if not isinstance(count, int) or count < 1:
        raise BadReference(
            f"objective {spec.name.removeprefix(OBJECTIVE)!r} has terms and count {count!r}; count must be "
            "their number, 1 or more"
        )
    return count


def _objective(spec: Spec) -> tuple[Any, int]:
    """The user's object and its dimension."""
    name = spec.name.removeprefix(OBJECTIVE)
    function = resolve(name)
    try:
        objective = function(**spec.keywords())
    except (Exception, SystemExit) as error:
        raise BadReference(
            f"objective {name!r} fails with {type(error).__name__}: {error}"
        ) from error
    dimension = getattr(objective, "dimension", None)
    if not isinstance(dimension, int) or dimension < 1:
        raise BadReference(
            f"objective {name!r} has dimension {dimension!r}; it must have the number of its parameters"
        )
    if not hasattr(objective, "loss") and not hasattr(objective, "terms"):
        raise BadReference(
            f"objective {name!r} has neither loss(point) nor terms(point, indices); give it one of them"
        )
    return objective, dimension
