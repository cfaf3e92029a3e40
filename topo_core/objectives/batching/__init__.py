"""Ways to evaluate k copies of one network on one batch; all give the same numbers up to rounding.

A strategy sees flat parameters [k, d] and one batch of data. Which of them is fastest depends on the
network and the device, so it is chosen once for a run, by a timed probe (`network_loss.py`).
"""

from topo_core.objectives.batching.flat_parameters import ParameterLayout
from topo_core.objectives.batching.protocol import Strategy

__all__ = ["ParameterLayout", "Strategy"]
