"""The parts of a network's state: trainable parameters, batch-norm statistics, and fixed state.

A point holds the trainable parameters. Statistics of batch norm are recomputed at every point. All other
state — frozen parameters, and buffers such as random features, scalers or masks — is fixed: it belongs to
the problem and is equal for all minima of a run. Minima with different fixed state lie on different
landscapes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from topo_core.objectives.batch_norm import STATISTICS, training_norms


@dataclass(frozen=True)
class NetworkState:
    """The names in a network's state dict, by kind.

    Attributes:
        trainable: parameters that a point contains.
        fixed: frozen parameters and persistent buffers.
        statistics: buffers of batch norm that are recomputed at every point.
        ties: for each further name of a tied tensor, its first name.
    """

    trainable: tuple[str, ...]
    fixed: tuple[str, ...]
    statistics: tuple[str, ...]
    ties: Mapping[str, str]

    @classmethod
    def of(cls, module: nn.Module) -> "NetworkState":
        """Classify the names in a network's state dict."""
        trainable = tuple(n for n, p in module.named_parameters() if p.requires_grad)
        recomputed = {
            f"{norm}.{name}" if norm else name
            for norm in training_norms(module)
            for name in STATISTICS
        }
        names = [n for n, value in module.state_dict().items() if isinstance(value, Tensor)]
        ties = _ties(module)
        statistics = tuple(name for name in names if name in recomputed)
        others = {*trainable, *recomputed, *ties}
        return cls(trainable, tuple(n for n in names if n not in others), statistics, ties)

    def complete(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of a state in which every tied tensor has all its names; one of them must be in `state`."""
        complete = dict(state)
        for other, name in self.ties.items():
            if name not in complete and other in complete:
                complete[name] = complete[other]
        for other, name in self.ties.items():
            if name in complete:
                complete.setdefault(other, complete[name])
        return complete

    def digest(self, state: Mapping[str, Tensor]) -> str:
        """SHA-256 of the fixed part of a complete state; empty for a network without one."""
        if not self.fixed:
            return ""
        total = hashlib.sha256()
        for name in self.fixed:
            value = state[name].detach().cpu().contiguous()
            total.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            total.update(value.flatten().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()


def _ties(module: nn.Module) -> dict[str, str]:
    """Further names of tied parameters and buffers, and the first name of each."""
    first: dict[int, str] = {}
    ties = {}
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        known = first.setdefault(id(tensor), name)
        if known != name:
            ties[name] = known
    return ties
