"""Insertion criteria by name: the values of ``Insertion.criterion``. Imported when first used."""

from topo_core.paths.criteria.protocol import Criterion
from topo_core.registry import Registry

CRITERIA: Registry[Criterion] = Registry(
    {
        name: f"topo_core.paths.criteria.{name}:{name.upper()}"
        for name in ("distance", "loss", "residual")
    }
)
