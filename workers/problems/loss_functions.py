"""Make the loss function of a specification: one of the registry, or a user's callable."""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from topo_core.objectives.loss_registry import LOSSES
from topo_core.objectives.losses import Loss, Ridge, UserLoss
from workers.problems.user_code import BadReference, resolve, source_fingerprint
from workers.tasks.specs import LossSpec


def make_loss(spec: LossSpec) -> Loss:
    """The loss function of a spec.

    Raises:
        BadReference: no such function, or options that it does not take; one sentence.
    """
    options = spec.own_keywords()
    if ":" in spec.name:
        function: Callable[..., Any] = resolve(spec.name)
        chosen: Callable[[Tensor, Tensor], Tensor] = functools.partial(function, **options)
        return UserLoss(chosen)
    if "class_weights" in options:
        options["class_weights"] = tuple(map(float, options["class_weights"]))
    try:
        return LOSSES[spec.name](**options)
    except (TypeError, ValueError) as error:
        raise BadReference(str(error)) from None


def make_ridge(spec: LossSpec) -> Ridge | None:
    """The ridge of a spec; None for none.

    Raises:
        BadReference: it is not possible.
    """
    if not spec.ridge:
        return None
    try:
        return Ridge(spec.ridge, spec.ridge_on)
    except ValueError as error:
        raise BadReference(str(error)) from None


def loss_fingerprint(spec: LossSpec) -> str:
    """Identifies the code of a user's loss function; empty for toscore's own."""
    return source_fingerprint(spec.name) if ":" in spec.name else ""
