"""Ways to evaluate k copies of one network on one batch; all give the same numbers up to rounding.

A strategy sees flat parameters [k, d] and one batch of data. Which of them is fastest depends on the
network and the device, so it is chosen once for a run, by a timed probe (`topo_core.stacked`).
"""

from topo_core.strategies.parameters import ParameterLayout
from topo_core.strategies.protocol import Strategy

__all__ = ["ParameterLayout", "Strategy"]
