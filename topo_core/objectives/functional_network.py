"""Calls a network with parameters and buffers other than its own.

`torch.func.functional_call` detects tied tensors. But if a module with tied tensors is also shared by two
containers, the call changes the module, and the tie is lost in the next call. Here each attribute of each
module has one name, and ties are passed explicitly.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


class FunctionalNetwork:
    """Calls a network with a given state; tensors that the state leaves out are the network's own.

    Args:
        module: the network.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        first: dict[int, str] = {}
        self._ties: list[tuple[str, str]] = []
        for prefix, part in module.named_modules():
            for attribute, tensor in (*part._parameters.items(), *part._buffers.items()):
                if tensor is None:
                    continue
                name = f"{prefix}.{attribute}" if prefix else attribute
                known = first.setdefault(id(tensor), name)
                if known != name:
                    self._ties.append((name, known))

    def __call__(self, state: Mapping[str, Tensor], inputs: Tensor) -> Any:
        """Outputs for `inputs` with the tensors of `state`, each under the first of its names."""
        tied = {name: state[known] for name, known in self._ties if known in state}
        return functional_call(self._module, {**state, **tied}, (inputs,), tie_weights=False)
