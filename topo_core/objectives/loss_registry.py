"""Losses by the name that a run file gives them; importing this module does not import torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topo_core.registry import Registry, load

if TYPE_CHECKING:
    from topo_core.objectives.losses.protocol import Loss


@dataclass(frozen=True)
class LossKind:
    """A loss function before its options are known.

    Attributes:
        kind: function that makes the loss from its options, or its name ``"module:attribute"``, which is
            imported at the first call.
        words: name of the loss in reports.
        options: names of the keyword arguments of ``kind``, which are the options in a run file.
    """

    kind: "Callable[..., Loss] | str"
    words: str
    options: tuple[str, ...] = ()

    def __call__(self, **options: object) -> "Loss":
        """The loss with these options.

        Raises:
            TypeError, ValueError: the loss does not accept these options.
        """
        kind = load(self.kind) if isinstance(self.kind, str) else self.kind
        loss: Loss = kind(**options)
        return loss


_LOSSES = "topo_core.objectives.losses"

LOSSES: Registry[LossKind] = Registry(
    {
        "cross_entropy": LossKind(
            f"{_LOSSES}.cross_entropy:CrossEntropy",
            "mean cross entropy",
            ("label_smoothing", "class_weights", "ignore_index"),
        ),
        "mse": LossKind(f"{_LOSSES}.squared_error:SquaredError", "mean squared error"),
        "mae": LossKind(f"{_LOSSES}.regression:AbsoluteError", "mean absolute error"),
        "huber": LossKind(f"{_LOSSES}.regression:Huber", "mean Huber loss", ("delta",)),
        "bce": LossKind(
            f"{_LOSSES}.classification:BinaryCrossEntropy",
            "mean binary cross entropy",
            ("positive_weight",),
        ),
        "nll": LossKind(
            f"{_LOSSES}.classification:NegativeLogLikelihood", "mean negative log-likelihood"
        ),
        "poisson": LossKind(
            f"{_LOSSES}.regression:Poisson", "mean Poisson negative log-likelihood", ("log_input",)
        ),
        "outputs": LossKind(f"{_LOSSES}.outputs:OutputLoss", "the mean of the network's outputs"),
    }
)
