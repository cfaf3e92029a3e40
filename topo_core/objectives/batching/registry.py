"""Evaluation strategies by name, the likely fastest first."""

from collections.abc import Mapping

from topo_core.objectives.batching.channels_last import ChannelsLastStrategy
from topo_core.objectives.batching.convolutional import ConvolutionalStrategy
from topo_core.objectives.batching.cuda_graphs import GraphStrategy
from topo_core.objectives.batching.functional import FunctionalStrategy
from topo_core.objectives.batching.image_patches import Pixels, Planes
from topo_core.objectives.batching.linear import LinearStrategy
from topo_core.objectives.batching.literal import LiteralStrategy
from topo_core.objectives.batching.matrix_products import onednn
from topo_core.objectives.batching.protocol import EvaluationContext, Network, Strategy

_LINEAR = LinearStrategy("linear")
_ALL: tuple[Strategy, ...] = (
    GraphStrategy(_LINEAR),
    _LINEAR,
    LinearStrategy("linear_onednn", product=onednn, cpu_only=True),
    GraphStrategy(ConvolutionalStrategy("convolutional_planes", "cuda", patches=Planes())),
    # Without a suffix, "convolutional" evaluates the whole batch at once on a GPU, and parts of it on a CPU.
    GraphStrategy(ConvolutionalStrategy("convolutional", "cuda")),
    ConvolutionalStrategy("convolutional_pixels", "cpu", micro_batch=32, patches=Pixels()),
    ConvolutionalStrategy("convolutional_pixels_128", "cpu", micro_batch=128, patches=Pixels()),
    ConvolutionalStrategy("convolutional", "cpu", micro_batch=32),
    GraphStrategy(ChannelsLastStrategy()),
    ChannelsLastStrategy(),
    GraphStrategy(FunctionalStrategy()),
    LiteralStrategy(),
    FunctionalStrategy(),
)

STRATEGIES: Mapping[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
"""All strategies, in order of preference among strategies that take about equally long."""


def possible_strategies(network: Network, situation: EvaluationContext) -> tuple[str, ...]:
    """Names of the strategies that a network allows in a situation, the likely fastest first."""
    return tuple(
        name for name, strategy in STRATEGIES.items() if strategy.allows(network, situation)
    )
