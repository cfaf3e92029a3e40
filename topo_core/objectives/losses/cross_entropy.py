"""Cross entropy: of classes, of class probabilities, and of one class for each token."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from topo_core.objectives.losses.base import PerExampleLoss


@dataclass(frozen=True)
class CrossEntropy(PerExampleLoss):
    """−Σ_c p_c log softmax(outputs)_c.

    Targets are class numbers [n], probabilities [n, classes], or one class a token [n, t] with outputs
    [n, t, classes].

    Attributes:
        label_smoothing: fraction of each target that is spread over all classes, 0 to 1.
        class_weights: one weight for each class; the loss is the weighted mean.
        ignore_index: class number of targets that are ignored.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(
                f"loss.label_smoothing is {self.label_smoothing}; it must be a number from 0 to 1"
            )
        weights = self.class_weights
        if weights is not None and not (all(w >= 0 for w in weights) and sum(weights) > 0):
            raise ValueError(
                f"loss.class_weights is {list(weights)}; they must be 0 or more, and not all 0"
            )

    @property
    def _plain(self) -> bool:
        return self == CrossEntropy()

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n]; those of tokens are summed over an example."""
        classes = outputs.shape[-1]
        weight = self._class_weights(outputs)
        if targets.is_floating_point():
            values = functional.cross_entropy(
                outputs,
                targets.to(outputs.dtype),
                weight=weight,
                reduction="none",
                label_smoothing=self.label_smoothing,
            )
        else:
            values = functional.cross_entropy(
                outputs.reshape(-1, classes),
                targets.reshape(-1),
                weight=weight,
                reduction="none",
                label_smoothing=self.label_smoothing,
                ignore_index=-100 if self.ignore_index is None else self.ignore_index,
            ).view(targets.shape)
        return values.flatten(1).sum(1) if values.ndim > 1 else values

    def weights(self, targets: Tensor) -> Tensor | None:
        """Sum [n] of the class weights of the targets of each example that are not ignored; None if all are
        1."""
        if targets.is_floating_point():
            return None
        if targets.ndim == 1 and self.class_weights is None and self.ignore_index is None:
            return None
        counted = targets != (-100 if self.ignore_index is None else self.ignore_index)
        weights = counted.double()
        if self.class_weights is not None:
            table = torch.tensor(self.class_weights, dtype=torch.float64, device=targets.device)
            weights = weights * table[targets.where(counted, 0)]
        return weights.flatten(1).sum(1) if weights.ndim > 1 else weights

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean of the values."""
        if self._plain and targets.ndim == 1:
            return functional.cross_entropy(outputs, targets)
        return self.values(outputs, targets).mean()

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums [k] in float64, for outputs [k, n, ...]."""
        if not self.has_closed_form(targets):
            return super().sums(outputs, targets)
        logs = torch.log_softmax(outputs, dim=-1)
        index = targets[None, :, None].expand(len(outputs), -1, 1)
        return -logs.gather(2, index).double().sum(dim=(1, 2))

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Whether the largest output is that of the target [k, n]; for tokens the fraction of each
        example."""
        classes = targets.argmax(-1) if targets.is_floating_point() else targets
        right = outputs.argmax(-1) == classes
        if self.ignore_index is None or targets.is_floating_point():
            return right if right.ndim == 2 else right.double().flatten(2).mean(2)
        counted = classes != self.ignore_index
        right = right & counted
        if right.ndim == 2:
            return right
        return right.double().flatten(2).sum(2) / counted.flatten(1).sum(1).clamp_min(1)

    def output_size(self, targets: Tensor) -> int:
        """Number of classes.

        Raises:
            ValueError: the targets are not classes or probabilities, or do not fit the options.
        """
        if targets.is_floating_point():
            if targets.ndim < 2:
                raise ValueError(
                    "loss cross_entropy takes class numbers, which are integers, or probabilities of shape "
                    f"[n, classes]; the targets are {str(targets.dtype).removeprefix('torch.')} of shape "
                    f"{tuple(targets.shape)}: make them integers, or let data.labels: map do it"
                )
            return targets.shape[-1]
        counted = targets if self.ignore_index is None else targets[targets != self.ignore_index]
        if not counted.numel():
            raise ValueError("all targets are loss.ignore_index; nothing is left to learn")
        if int(counted.min()) < 0:
            raise ValueError(
                f"the targets hold the class {int(counted.min())}; number classes from 0 (data.labels: map "
                "does it), or name it in loss.ignore_index"
            )
        classes = int(counted.max()) + 1
        weights = self.class_weights
        if weights is not None and len(weights) < classes:
            raise ValueError(
                f"loss.class_weights has {len(weights)} weights and the targets have {classes} classes"
            )
        return classes if weights is None else len(weights)

    def counts_classes(self, targets: Tensor) -> bool:
        """Always true."""
        del targets
        return True

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Check that the shapes of outputs and targets fit, and that there is an output for each class
        weight.

        Raises:
            ValueError: they do not fit.
        """
        axes = targets.shape[:-1] if targets.is_floating_point() else targets.shape
        if outputs.shape[:-1] != axes:
            wanted = (*axes, "classes")
            raise ValueError(
                f"outputs of shape {tuple(outputs.shape)} do not fit targets of shape "
                f"{tuple(targets.shape)}: ({', '.join(map(str, wanted))}) is needed"
            )
        if self.class_weights is not None and outputs.shape[-1] != len(self.class_weights):
            raise ValueError(
                f"loss.class_weights has {len(self.class_weights)} weights and the network "
                f"{outputs.shape[-1]} outputs: give one weight for each"
            )

    def has_closed_form(self, targets: Tensor) -> bool:
        """True for class numbers [n] without options."""
        return self._plain and targets.ndim == 1 and not targets.is_floating_point()

    def column_gradients_(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] of `outputs` [k, c, b] for `targets` [p, b], and their gradient.

        The gradient uses the memory of the outputs. It is not computed by `log_softmax`, which is slow along
        an axis that is not the innermost.
        """
        size = len(outputs) // len(targets)
        index = targets[:, None, None].expand(-1, size, -1, -1).reshape(len(outputs), 1, -1)
        outputs.sub_(outputs.amax(dim=1, keepdim=True))
        chosen = outputs.gather(1, index)
        total = outputs.exp_().sum(dim=1, keepdim=True)
        losses = (total.log() - chosen).mean(dim=(1, 2))
        delta = outputs.div_(total)
        delta.scatter_add_(1, index, delta.new_full((), -1.0).expand(index.shape))
        return losses, delta.div_(index.shape[-1])

    def row_gradients(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The summed loss of `outputs` [b, c] for `targets` [b], and its gradient."""
        logs = torch.log_softmax(outputs, dim=1)
        index = targets[:, None]
        total = -logs.gather(1, index).sum()
        delta = logs.exp_()
        return total, delta.scatter_add_(1, index, delta.new_full((), -1.0).expand(index.shape))

    def column_sums_(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums [k] in float64 of `outputs` [k, c, b] for `targets` [b].

        On a CPU the output of the target is subtracted from all outputs, instead of the maximum, which takes
        less time. If an exponential then overflows, the sum is computed again with the maximum.
        """
        index = targets.expand(len(outputs), 1, -1)
        if outputs.is_cuda:
            chosen = outputs.gather(1, index)[:, 0]
            return (outputs.logsumexp(1) - chosen).sum(1, dtype=torch.float64)
        relative = outputs.sub_(outputs.gather(1, index))
        sums = torch.exp(relative).sum(dim=1).log_().sum(dim=1, dtype=torch.float64)
        if math.isfinite(float(sums.sum())):
            return sums
        return relative.logsumexp(dim=1).sum(dim=1, dtype=torch.float64)

    def _class_weights(self, like: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        return torch.tensor(self.class_weights, dtype=like.dtype, device=like.device)
