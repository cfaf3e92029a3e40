"""Loss functions of a network's outputs, each in a file of its own; ``loss_registry`` has their names."""

from topo_core.objectives.losses.cross_entropy import CrossEntropy
from topo_core.objectives.losses.protocol import ClosedFormLoss, Loss
from topo_core.objectives.losses.ridge import Ridge
from topo_core.objectives.losses.user_function import UserLoss

__all__ = ["ClosedFormLoss", "CrossEntropy", "Loss", "Ridge", "UserLoss"]
