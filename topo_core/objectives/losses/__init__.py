"""Loss functions of a network's outputs, each in a file of its own and known by name in one registry."""

from topo_core.objectives.losses.cross_entropy import CrossEntropy
from topo_core.objectives.losses.protocol import ClosedFormLoss, Loss
from topo_core.objectives.losses.registry import LOSSES
from topo_core.objectives.losses.ridge import Ridge
from topo_core.objectives.losses.user_function import UserFunction

__all__ = ["LOSSES", "ClosedFormLoss", "CrossEntropy", "Loss", "Ridge", "UserFunction"]
