"""Tangent rules by name: the values of ``PathSettings.force``."""

from topo_core.paths.tangents.improved import IMPROVED
from topo_core.paths.tangents.paper import PAPER
from topo_core.paths.tangents.protocol import TangentRule
from topo_core.paths.tangents.spring import SPRING
from topo_core.paths.tangents.string_method import STRING
from topo_core.registry import Registry

TANGENTS: Registry[TangentRule] = Registry(
    {"improved": IMPROVED, "paper": PAPER, "string": STRING, "spring": SPRING}
)
