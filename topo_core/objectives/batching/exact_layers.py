"""Whether a network is a chain of known layers and nothing else.

A strategy with a hand-written forward pass may be used only if the module computes exactly that. This is not
always so: a subclass may define its own `forward`; a hook, a parametrization or a weight normalisation
changes what a layer computes; tied layers share parameters. Such networks are recognised here and left to the
strategies that call the module's own forward pass.
"""

from collections.abc import Sequence

from torch import nn

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def chain(module: nn.Module) -> list[nn.Module] | None:
    """The layers of a plain `nn.Sequential`, each of which computes what its type says.

    None for any other module, and if a layer has hooks or children or a parameter is shared or frozen.
    """
    if type(module) is not nn.Sequential or not _unchanged(module):
        return None
    layers = list(module)
    if not all(_unchanged(layer) and not list(layer.children()) for layer in layers):
        return None
    if not all(p.requires_grad for p in module.parameters()):
        return None
    own = {id(p) for p in module.parameters()}
    if len(own) != sum(1 for _ in module.named_parameters(remove_duplicate=False)):
        return None
    return layers


def weights_and_biases(layers: Sequence[nn.Module]) -> bool:
    """Whether each layer has a weight and a bias, in this order, and no other parameter or buffer."""
    return all(
        [name for name, p in layer.named_parameters() if p is not None] == ["weight", "bias"]
        and not list(layer.buffers())
        for layer in layers
    )


def _unchanged(module: nn.Module) -> bool:
    """Whether calling the module runs only the `forward` of its type, without hooks or replacements."""
    if "forward" in vars(module) or "_call_impl" in vars(module):
        return False
    return not any(getattr(module, hooks, None) for hooks in _HOOKS)
